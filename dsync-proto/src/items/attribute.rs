//! `A` mailbox_attribute.

use bstr::BString;

use crate::types::ModSeq;

/// Whose attribute it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AttributeKind {
    /// `p`: `/private/`
    Private,
    /// `s`: `/shared/`
    Shared,
}

/// Value of an attribute item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeValue {
    /// The value itself; no NUL possible.
    Inline(BString),
    /// A body with the value follows.
    Stream,
    /// The attribute was deleted.
    Deleted,
}

/// An attribute of a mailbox, or of the account if on INBOX (`spec/wire.md` 7.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Private or shared.
    pub kind: AttributeKind,
    /// Name without `/private/` or `/shared/`.
    pub key: BString,
    /// The value.
    pub value: AttributeValue,
    /// Seconds since the epoch, 0 if unknown.
    pub last_change: i64,
    /// Modseq of the change, 0 if it is not in the log any more.
    pub modseq: ModSeq,
}
