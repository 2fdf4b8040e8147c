//! Identifiers, flags and error classes that every layer shares.

mod error_class;
mod flags;
mod guid;
mod keyword;

pub use error_class::MailErrorClass;
pub use flags::Flags;
pub use guid::{Guid, MailGuid};
pub use keyword::{KeywordChange, KeywordOp};

/// IMAP unique identifier of a message in its mailbox; 0 means "none".
pub type Uid = u32;

/// IMAP modification sequence (RFC 7162); 0 means "unknown" or "not tracked".
pub type ModSeq = u64;

/// Highest UID that Dovecot can save; higher ones make it abort (`spec/mailbox-sync.md` 16).
pub const MAX_UID: Uid = 4_294_967_293;
