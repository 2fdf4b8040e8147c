//! Dovecot's classes of mail errors, their wire numbers and exit codes.

/// Class of an error in a mail store, as in the `mail_error` key of `F` (`spec/wire.md` 12.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MailErrorClass {
    /// Everything that may go away by itself: I/O errors, timeouts.
    #[default]
    Temporary,
    /// The storage is not available now.
    Unavailable,
    /// The storage cannot do this at all.
    NotPossible,
    /// Bad parameters.
    Params,
    /// Permission denied.
    Permission,
    /// Over quota, or the disk is full.
    Quota,
    /// No such mailbox or message.
    NotFound,
    /// The name is taken.
    Exists,
    /// The message was expunged meanwhile.
    Expunged,
    /// Locked by somebody else.
    InUse,
    /// Conversion failed.
    Conversion,
    /// Data on disk is invalid.
    InvalidData,
    /// A limit was exceeded.
    Limit,
    /// A lookup was aborted to save time.
    LookupAborted,
}

impl MailErrorClass {
    const ALL: [Self; 14] = [
        Self::Temporary,
        Self::Unavailable,
        Self::NotPossible,
        Self::Params,
        Self::Permission,
        Self::Quota,
        Self::NotFound,
        Self::Exists,
        Self::Expunged,
        Self::InUse,
        Self::Conversion,
        Self::InvalidData,
        Self::Limit,
        Self::LookupAborted,
    ];

    /// The number on the wire, 1 to 14; 0 would mean "no error".
    pub fn to_wire(self) -> u32 {
        Self::ALL
            .iter()
            .position(|class| *class == self)
            .map_or(1, |index| index as u32 + 1)
    }

    /// The class for a number on the wire; `None` for 0 and for unknown numbers.
    pub fn from_wire(number: u32) -> Option<Self> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        Self::ALL.get(index).copied()
    }

    /// The exit code of a run that failed with this class (`spec/brain-and-tree.md` 8).
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Temporary | Self::Unavailable | Self::Expunged | Self::LookupAborted => 75,
            Self::NotPossible
            | Self::Exists
            | Self::Conversion
            | Self::InvalidData
            | Self::Limit
            | Self::InUse => 65,
            Self::Params => 64,
            Self::Permission => 77,
            Self::Quota => 73,
            Self::NotFound => 68,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_numbers_round_trip() {
        for class in MailErrorClass::ALL {
            assert_eq!(MailErrorClass::from_wire(class.to_wire()), Some(class));
        }
        assert_eq!(MailErrorClass::from_wire(0), None);
        assert_eq!(MailErrorClass::from_wire(15), None);
        assert_eq!(MailErrorClass::from_wire(u32::MAX), None);
        assert_eq!(MailErrorClass::Limit.to_wire(), 13);
    }
}
