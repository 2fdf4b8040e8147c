//! `C` mail_change.

use bstr::BString;

use crate::types::{Flags, KeywordChange, MailGuid, ModSeq, Uid};

/// What a change item is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// `s`: a message above the last common UID.
    Save,
    /// `f`: flags of a common message changed.
    Flags,
    /// `e`: a message was expunged.
    Expunge,
}

/// A message, or what happened to it; sent strictly by rising UID (`spec/wire.md` 7.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What it is about.
    pub kind: ChangeKind,
    /// UID in the sender's mailbox.
    pub uid: Uid,
    /// GUID. Saves: always present, empty if the storage has none. Expunges: 128-bit form as hex.
    pub guid: Option<MailGuid>,
    /// Header hash in hash mode; empty if the peer's mailbox is empty.
    pub hdr_hash: Option<BString>,
    /// Modseq of the message, 0 if unknown.
    pub modseq: ModSeq,
    /// Modseq of its private flags, 0 if there are none.
    pub pvt_modseq: ModSeq,
    /// Flags added since the last sync.
    pub add_flags: Flags,
    /// Flags removed since the last sync; never overlaps with `add_flags`.
    pub remove_flags: Flags,
    /// The flags it has now.
    pub final_flags: Flags,
    /// The log contained a reset of all keywords.
    pub keywords_reset: bool,
    /// What happened to keywords; all present ones are listed as `=` or `&`.
    pub keyword_changes: Vec<KeywordChange>,
    /// INTERNALDATE in seconds since the epoch, only when a date filter is active.
    pub received_timestamp: Option<u64>,
    /// Size with CRLF line ends in octets; `u64::MAX` if it was not asked for.
    pub virtual_size: Option<u64>,
}

impl Change {
    /// A change of this kind with everything else absent.
    pub fn new(kind: ChangeKind, uid: Uid) -> Self {
        Self {
            kind,
            uid,
            guid: None,
            hdr_hash: None,
            modseq: 0,
            pvt_modseq: 0,
            add_flags: Flags::NONE,
            remove_flags: Flags::NONE,
            final_flags: Flags::NONE,
            keywords_reset: false,
            keyword_changes: Vec::new(),
            received_timestamp: None,
            virtual_size: None,
        }
    }
}
