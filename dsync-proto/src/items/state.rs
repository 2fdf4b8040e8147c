//! `S` mailbox_state: what both sides had in common after a sync.

use crate::types::{Guid, ModSeq, Uid};

/// State of one mailbox, both on the wire and in the `-s` string (`spec/wire.md` 7.1, 10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MailboxState {
    /// The mailbox.
    pub mailbox_guid: Guid,
    /// UIDVALIDITY; 0 at the end of a mailbox means that a full resync is needed.
    pub last_uidvalidity: u32,
    /// Highest UID up to which both sides agree.
    pub last_common_uid: Uid,
    /// Modseq of the peer's mailbox up to which its changes were applied.
    pub last_common_modseq: ModSeq,
    /// The same for private flags.
    pub last_common_pvt_modseq: ModSeq,
    /// Number of messages.
    pub last_messages_count: u32,
    /// The sender saw unexpected changes. Not part of the state string.
    pub changes_during_sync: bool,
}
