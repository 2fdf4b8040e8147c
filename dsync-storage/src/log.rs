//! What a change log says about a mailbox since a modseq (`spec/mailbox-sync.md` 3.2).

use std::collections::BTreeMap;

use bstr::BString;
use dsync_proto::items::AttributeKind;
use dsync_proto::types::{Flags, Guid, KeywordOp, ModSeq, Uid};

/// Kind of a logged change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoggedKind {
    /// Flags, keywords or modseq of a message changed.
    Flags,
    /// A message was expunged.
    Expunge,
}

/// Net result of all records about one UID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedChange {
    /// What happened at last.
    pub kind: LoggedKind,
    /// 128-bit GUID of an expunged message; zero if the log does not know it.
    pub guid: Guid,
    /// Flags added.
    pub add_flags: Flags,
    /// Flags removed; an added and removed flag stands only here.
    pub remove_flags: Flags,
    /// Keywords added ([`KeywordOp::Add`]) or removed ([`KeywordOp::Remove`]), exact spelling,
    /// in the order of their last change.
    pub keywords: Vec<(KeywordOp, BString)>,
    /// All keywords were reset (only in very old logs).
    pub keywords_reset: bool,
    /// Highest explicit modseq update; 0 if none.
    pub modseq: ModSeq,
}

impl LoggedChange {
    /// Nothing but a kind.
    pub fn new(kind: LoggedKind) -> Self {
        Self {
            kind,
            guid: Guid::ZERO,
            add_flags: Flags::NONE,
            remove_flags: Flags::NONE,
            keywords: Vec::new(),
            keywords_reset: false,
            modseq: 0,
        }
    }
}

/// A logged change of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedAttribute {
    /// Private or shared.
    pub kind: AttributeKind,
    /// Name without `/private/` or `/shared/`.
    pub key: BString,
    /// Deleted, not set.
    pub deleted: bool,
    /// Modseq of the record.
    pub modseq: ModSeq,
}

/// Result of [`crate::Mailbox::changes_since`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeLog {
    /// Everything since the asked modseq is in here, or 0 was asked. If not set, an incremental
    /// sync is impossible.
    pub covered: bool,
    /// Everything that exists was scanned, because 0 was asked or the log is younger.
    pub complete: bool,
    /// Changes by UID, up to the asked highest UID.
    pub changes: BTreeMap<Uid, LoggedChange>,
    /// Changed attributes: one entry, the last one, per kind and key.
    pub attributes: Vec<LoggedAttribute>,
}
