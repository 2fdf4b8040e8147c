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

/// What becomes of renames that go round in circles: one in ten thousand histories in which both
/// sides moved mailboxes below each other's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndlessRenames {
    /// What was decided until then is done. So does Dovecot before it fails the run; the next one
    /// starts from other trees. With a Dovecot nothing else comes to an end: all renames of the
    /// circle may be ours to do, and it would wait for them in every run.
    Partial,
    /// The same two-way. One-way only this side acts: each mailbox by itself gets the name that the
    /// source has for it.
    PartialTwoWay,
    /// Each mailbox by itself gets the name that the client has for it; two of ours agree at once.
    Client {
        /// This side is the client.
        is_local: bool,
    },
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
    /// What is done if the renames of the two sides do not come to an end.
    pub endless: EndlessRenames,
    /// The destination of a one-way run looks for surplus mailboxes only below equal names.
    /// Dovecot may compare the children of different mailboxes, delete some and create them again.
    pub compare_by_name: bool,
    /// A mailbox that was created and then moved away by a later pass is not created again;
    /// renames that come to that are taken for endless.
    pub create_once: bool,
}

impl TreeRules {
    /// Exactly what Dovecot does; for replaying its decisions.
    pub const fn dovecot(branch: BranchRule) -> Self {
        Self {
            branch,
            rename_on_final: false,
            endless: EndlessRenames::Partial,
            compare_by_name: false,
            create_once: false,
        }
    }

    /// With a Dovecot: what it cannot notice is done better, the rest alike.
    pub const fn with_dovecot(branch: BranchRule) -> Self {
        Self {
            branch,
            rename_on_final: true,
            endless: EndlessRenames::PartialTwoWay,
            compare_by_name: true,
            create_once: true,
        }
    }

    /// With one of ours.
    pub const fn with_ours(is_client: bool) -> Self {
        Self {
            branch: BranchRule::V24,
            rename_on_final: true,
            endless: EndlessRenames::Client {
                is_local: is_client,
            },
            compare_by_name: true,
            create_once: true,
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
    /// The renames of the two sides did not come to an end, and no other way was found, see
    /// [`EndlessRenames`]. The operations are safe all the same; the run should be repeated.
    pub endless: bool,
}
