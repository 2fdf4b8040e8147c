//! `B` mailbox, and the `c` cache fields inside it.

use bstr::BString;

use crate::types::{Guid, ModSeq, Uid};

/// Whether a header or other field is kept in Dovecot's message cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CacheDecision {
    /// `n`: not cached.
    No,
    /// `t`: cached while the message is recent.
    Temp,
    /// `y`: cached.
    Yes,
}

/// A field of Dovecot's message cache with its decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheField {
    /// Field name such as `hdr.subject`.
    pub name: BString,
    /// Whether it is cached.
    pub decision: CacheDecision,
    /// The decision was forced by the administrator.
    pub forced: bool,
    /// Seconds since the epoch, 0 if unknown.
    pub last_used: i64,
}

/// Counters and abilities of a mailbox (`spec/wire.md` 7.4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailboxInfo {
    /// The mailbox.
    pub mailbox_guid: Guid,
    /// UIDVALIDITY.
    pub uid_validity: u32,
    /// UIDNEXT.
    pub uid_next: Uid,
    /// Number of messages.
    pub messages_count: u32,
    /// Lowest UID with `\Recent`, at least 1.
    pub first_recent_uid: Uid,
    /// HIGHESTMODSEQ, 0 if modseqs are not permanent.
    pub highest_modseq: ModSeq,
    /// The same for private flags, 0 without private index.
    pub highest_pvt_modseq: ModSeq,
    /// From a server: the mailbox is gone, or cannot be synced incrementally.
    pub mailbox_lost: bool,
    /// From a server: skip this mailbox silently.
    pub mailbox_ignore: bool,
    /// Cache fields; Dovecot always sends the key.
    pub cache_fields: Vec<CacheField>,
    /// The storage has GUIDs for messages.
    pub have_guids: bool,
    /// The storage can keep a given GUID.
    pub have_save_guids: bool,
    /// The storage keeps only the 128-bit form of GUIDs.
    pub have_only_guid128: bool,
    /// Between two of ours only: digest of UIDs, GUIDs, flags and keywords; 0 if it was not
    /// computed. Equal counters do not mean equal mailboxes (`spec/brain-and-tree.md` 6.4).
    pub digest: u64,
    /// Between two of ours only: the saved state of this mailbox fits one side no longer, so both
    /// compare all of it (`spec/brain-and-tree.md` 6.5).
    pub ignore_state: bool,
}
