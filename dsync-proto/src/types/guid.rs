//! Globally unique identifiers of mailboxes and messages.

use std::fmt;

use bstr::{BStr, ByteSlice};
use sha1::{Digest, Sha1};

/// A 128-bit GUID: a mailbox, the hash of a mailbox name, or the short form of a message GUID.
///
/// All zero means "none". The text form is 32 lower-case hex digits.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// The GUID that means "none".
    pub const ZERO: Self = Self([0; 16]);

    /// Whether this is [`Guid::ZERO`].
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    /// Reads exactly 32 hex digits of either case.
    pub fn from_hex(text: &[u8]) -> Option<Self> {
        if text.len() != 32 {
            return None;
        }
        let mut out = [0; 16];
        for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
            let high = char::from(pair[0]).to_digit(16)?;
            let low = char::from(pair[1]).to_digit(16)?;
            *byte = u8::try_from(high << 4 | low).ok()?;
        }
        Some(Self(out))
    }

    /// Hash of a full mailbox name as used in `D` items and in the mailbox log:
    /// the first 16 bytes of its SHA-1 (`spec/wire.md` 7.3).
    pub fn of_mailbox_name(vname: &[u8]) -> Self {
        let mut out = [0; 16];
        out.copy_from_slice(&Sha1::digest(vname)[..16]);
        Self(out)
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The textual GUID of a message, any bytes; empty means that the storage has none.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailGuid(Box<[u8]>);

impl MailGuid {
    /// Wraps the text as it is.
    pub fn new(text: impl Into<Box<[u8]>>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether the storage has no GUID for this message.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The 128-bit form, see [`MailGuid::short_of`].
    pub fn short(&self) -> Guid {
        Self::short_of(&self.0)
    }

    /// The 128-bit form that expunge records use: the bytes themselves if the text is 32 hex
    /// digits, else the last 16 bytes of its SHA-1 (`spec/wire.md` 7.6).
    pub fn short_of(text: &[u8]) -> Guid {
        Guid::from_hex(text).unwrap_or_else(|| {
            let mut out = [0; 16];
            out.copy_from_slice(&Sha1::digest(text)[4..]);
            Guid(out)
        })
    }
}

impl From<Guid> for MailGuid {
    fn from(guid: Guid) -> Self {
        Self(guid.to_string().into_bytes().into())
    }
}

impl From<&str> for MailGuid {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().into())
    }
}

impl fmt::Display for MailGuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.0.as_bstr(), f)
    }
}

impl fmt::Debug for MailGuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(BStr::new(&self.0), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_form_of_a_maildir_name() {
        let guid = MailGuid::from("1795447200.M2P2.client,S=194");
        assert_eq!(guid.short().to_string(), "b015785e37c2b4c34547d2aeb3961da5");
    }

    #[test]
    fn short_form_of_hex_is_itself() {
        let guid = MailGuid::from("D5EA513AD65A046B1F59000083ECC375");
        assert_eq!(guid.short().to_string(), "d5ea513ad65a046b1f59000083ecc375");
    }

    #[test]
    fn hash_of_a_mailbox_name() {
        assert_eq!(
            Guid::of_mailbox_name("Grüße".as_bytes()).to_string(),
            "f649751d6e1bb46f8c86a8e0300237c3"
        );
    }

    #[test]
    fn hex_must_be_exact() {
        assert_eq!(Guid::from_hex(b"0"), None);
        assert_eq!(Guid::from_hex(&[b'g'; 32]), None);
        assert_eq!(Guid::from_hex(&[b'F'; 32]), Some(Guid([0xff; 16])));
    }
}
