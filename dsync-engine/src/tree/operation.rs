//! What the tree merge decides, and the rules it can follow.

use dsync_proto::types::Guid;

/// Which side wins (`spec/brain-and-tree.md` 2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TreeSyncType {
    /// Changes of both sides are joined.
    TwoWay,
    /// The local tree is the source of a one-way run: nothing is done here.
    PreserveLocal,
    /// The local tree is the destination: it becomes like the remote one.
    PreserveRemote,
}

/// How the counterpart of a directory is found (`spec/brain-and-tree.md` 11.3). Both sides of a
/// run must follow the same rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BranchRule {
    /// Dovecot 2.3: the parent of the first mailbox found, however deep.
    V23,
    /// Dovecot 2.4: one parent per level.
    V24,
}

/// What may differ from Dovecot's own algorithm because only this side is concerned
/// (`spec/brain-and-tree.md` 11.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TreeRules {
    /// Counterpart of a directory; follows the peer.
    pub branch: BranchRule,
    /// A mailbox that keeps a temporary name to the end is renamed to its settled name on disk
    /// too. The peer creates it under that name, so both have it after this run; Dovecot needs
    /// another one.
    pub rename_on_final: bool,
    /// If the renames do not come to an end, nothing is renamed at all, and only the rest of the
    /// merge is done. Dovecot executes the renames it got to.
    pub drop_endless_renames: bool,
    /// The destination of a one-way run looks for surplus mailboxes only below equal names.
    /// Dovecot may compare the children of different mailboxes, delete some and create them again.
    pub compare_by_name: bool,
}

impl TreeRules {
    /// Exactly what Dovecot does; for replaying its decisions.
    pub const fn dovecot(branch: BranchRule) -> Self {
        Self {
            branch,
            rename_on_final: false,
            drop_endless_renames: false,
            compare_by_name: false,
        }
    }

    /// What we do; safe with any peer that follows `branch`.
    pub const fn ours(branch: BranchRule) -> Self {
        Self {
            branch,
            rename_on_final: true,
            drop_endless_renames: true,
            compare_by_name: true,
        }
    }
}

/// One change of the local store, to be done in order (`spec/brain-and-tree.md` 12). Names are
/// full names at the moment of the operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TreeOperation {
    /// Create a mailbox, or merge with the one of this name (12.1).
    CreateBox {
        /// Full name.
        name: String,
        /// GUID that the peer has.
        guid: Guid,
        /// UIDVALIDITY that the peer has, 0 if unknown.
        uid_validity: u32,
    },
    /// Create a directory.
    CreateDir {
        /// Full name.
        name: String,
    },
    /// Delete the mailbox with this GUID.
    DeleteBox {
        /// Full name, for messages only.
        name: String,
        /// Which one.
        guid: Guid,
    },
    /// Remove an empty directory.
    DeleteDir {
        /// Full name.
        name: String,
    },
    /// Rename a mailbox or directory with all its children.
    Rename {
        /// Present full name.
        from: String,
        /// New full name.
        to: String,
    },
    /// Subscribe a name, or end its subscription.
    Subscribe {
        /// Full name.
        name: String,
        /// Whether it shall be subscribed.
        subscribed: bool,
    },
}

/// Result of [`super::sync_trees`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MergeResult {
    /// What to do in the local store, in order.
    pub operations: Vec<TreeOperation>,
    /// The renames of the two sides did not come to an end. With
    /// [`TreeRules::drop_endless_renames`] the operations are safe and leave differing names
    /// alone; without, they are what Dovecot executes before it fails the run.
    pub failed: bool,
}
