//! `D` mailbox_delete: what was deleted or unsubscribed, exactly once per direction.

use crate::types::Guid;

/// Something that was deleted, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeleteEntry {
    /// Mailbox GUID, or hash of a full mailbox name ([`Guid::of_mailbox_name`]).
    pub guid: Guid,
    /// Seconds since the epoch.
    pub time: i64,
}

/// Deletions, each list in the order of the sender's mailbox log (`spec/wire.md` 7.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletes {
    /// The sender's hierarchy separator, used in the name hashes.
    pub hierarchy_sep: u8,
    /// The sender's escape character, normally `%`.
    pub escape_char: Option<u8>,
    /// Deleted mailboxes by GUID.
    pub mailboxes: Vec<DeleteEntry>,
    /// Deleted names by hash.
    pub dirs: Vec<DeleteEntry>,
    /// Unsubscribed names that no longer exist, by hash.
    pub unsubscribes: Vec<DeleteEntry>,
}
