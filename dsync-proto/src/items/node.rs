//! `N` mailbox_tree_node.

use bstr::BString;

use crate::types::{Guid, Uid};

/// Whether the node stands for something that exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Existence {
    /// `n`: only a parent of other nodes, or only subscribed.
    #[default]
    Nonexistent,
    /// `y`: a mailbox (with GUID) or a directory (without).
    Exists,
    /// `d`: was deleted.
    Deleted,
}

/// One mailbox, directory or subscription (`spec/wire.md` 7.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeNode {
    /// The levels of the full name, namespace prefix included, without separators. Never empty.
    pub name: Vec<BString>,
    /// Whether it exists.
    pub existence: Existence,
    /// GUID of a selectable mailbox; zero for a directory.
    pub mailbox_guid: Guid,
    /// UIDVALIDITY, 0 if unknown.
    pub uid_validity: u32,
    /// UIDNEXT, 0 if unknown.
    pub uid_next: Uid,
    /// Seconds since the epoch, 0 if unknown.
    pub last_renamed_or_created: i64,
    /// Whether the name is subscribed.
    pub subscribed: bool,
    /// Seconds since the epoch, 0 if unknown.
    pub last_subscription_change: i64,
}
