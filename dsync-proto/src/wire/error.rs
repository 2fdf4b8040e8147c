//! What can be wrong with a peer's bytes.

use bstr::{BString, ByteSlice};
use thiserror::Error;

use crate::limits;

/// The peer sent something that the protocol does not allow; always the peer's fault, or that of
/// whatever wrote into the stream between the peer and us.
///
/// The text is the one that Dovecot logs after `dsync(<peer>): ` (`spec/wire.md` 12.1), where
/// Dovecot has one. [`DecodeError::hint`] says what to do about it. Every error ends the session.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The first line is not the banner of a protocol that we know.
    #[error("Remote dsync doesn't use compatible protocol")]
    IncompatibleProtocol {
        /// Beginning of what came instead.
        got: BString,
    },
    /// A header line lacks a key that every item of this type needs.
    #[error("Remote sent invalid handshake for {item}: Header missing required field {key}")]
    HeaderMissingKey {
        /// Name of the item type.
        item: &'static str,
        /// The key.
        key: &'static str,
    },
    /// The header line of an item type is missing.
    #[error("Remote didn't handshake deserializer for {item}")]
    HeaderMissing {
        /// Name of the item type.
        item: &'static str,
    },
    /// End of list instead of the handshake item.
    #[error("Unexpected input in handshake")]
    UnexpectedHandshakeInput,
    /// A line of another type than can come now.
    #[error("Received unexpected input {}{}", Letter(*got), Expected(*expected))]
    UnexpectedInput {
        /// First byte of the line; `None` for an empty line.
        got: Option<u8>,
        /// Letter of the item that had to come, if there is only one.
        expected: Option<u8>,
    },
    /// A required key is absent in an item.
    #[error("{}: Missing required field {key}", InvalidInput(item))]
    MissingField {
        /// Name of the item type.
        item: &'static str,
        /// The key.
        key: &'static str,
    },
    /// A value cannot be read.
    #[error("{item}: {}", InvalidText { key, value })]
    InvalidValue {
        /// Name of the item type.
        item: &'static str,
        /// The key.
        key: &'static str,
        /// Beginning of the value, for the keys where Dovecot repeats it.
        value: Option<BString>,
    },
    /// A line contains a NUL byte, which would end it early for Dovecot.
    #[error("Remote sent a NUL byte in a line")]
    NulInLine,
    /// A limit of [`crate::limits`] was exceeded.
    #[error("Remote sent too much: {what} is limited to {limit}")]
    LimitExceeded {
        /// What is limited.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}

impl DecodeError {
    /// What the person who runs this can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::IncompatibleProtocol { .. } => {
                "check that the other side is a dsync server of Dovecot 2.2 or later or ours, and \
                 that nothing else writes to its output, such as a login message or a shell profile"
            }
            Self::LimitExceeded { .. } => {
                "the other side is broken or hostile; if its data is really that large, raise the \
                 limit"
            }
            _ => {
                "the other side broke the protocol; nothing of this item was applied; check the \
                 log of the other side and that both programs are up to date"
            }
        }
    }

    pub(crate) fn incompatible(line: &[u8]) -> Self {
        Self::IncompatibleProtocol { got: excerpt(line) }
    }
}

/// The beginning of a peer's bytes, short enough for a log line.
pub(crate) fn excerpt(bytes: &[u8]) -> BString {
    bytes
        .get(..limits::ERROR_EXCERPT)
        .unwrap_or(bytes)
        .to_vec()
        .into()
}

struct Letter(Option<u8>);

impl std::fmt::Display for Letter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            None => f.write_str("(empty line)"),
            Some(byte) => write!(f, "{}", byte.escape_ascii()),
        }
    }
}

struct Expected(Option<u8>);

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            None => Ok(()),
            Some(byte) => write!(f, " != {}", byte.escape_ascii()),
        }
    }
}

struct InvalidInput<'a>(&'a str);

impl std::fmt::Display for InvalidInput<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            "mailbox_cache_field" => f.write_str("mailbox: cache_field: Invalid input"),
            item => write!(f, "Invalid input to {item}"),
        }
    }
}

/// Dovecot words a few of these differently; keep its words so that known log searches work.
struct InvalidText<'a> {
    key: &'a str,
    value: &'a Option<BString>,
}

impl std::fmt::Display for InvalidText<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.key, self.value) {
            ("name", None) => f.write_str("Empty name"),
            ("value", None) => f.write_str("Neither value, stream nor deleted"),
            ("sync_type", Some(value)) => write!(f, "Unknown sync_type: {}", printable(value)),
            ("escape_char", Some(value)) => write!(f, "Invalid escape_char '{}'", printable(value)),
            (key, Some(value)) => write!(f, "Invalid {key}: {}", printable(value)),
            (key, None) => write!(f, "Invalid {key}"),
        }
    }
}

/// Control characters of a hostile peer must not reach a terminal.
fn printable(value: &BString) -> String {
    value
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}
