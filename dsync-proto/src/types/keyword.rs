//! Keywords (user-defined flags) and their changes.

use bstr::BString;

/// What a change item says about one keyword (`spec/wire.md` 7.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeywordOp {
    /// `+`: added since the last sync, not known to be present now.
    Add,
    /// `-`: removed since the last sync.
    Remove,
    /// `=`: present now, not changed.
    Final,
    /// `&`: added since the last sync and present now.
    AddFinal,
}

/// One keyword with what happened to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeywordChange {
    /// What happened.
    pub op: KeywordOp,
    /// The keyword, in the sender's spelling; compared ASCII case-insensitively in a mailbox.
    pub name: BString,
}

impl KeywordChange {
    /// Shorthand for a value of this type.
    pub fn new(op: KeywordOp, name: impl Into<BString>) -> Self {
        Self {
            op,
            name: name.into(),
        }
    }
}
