//! The order in which the client goes through the mailboxes (`spec/brain-and-tree.md` 6.1).

use dsync_proto::types::{Guid, Uid};

use super::node::Tree;
use super::remote::RemoteTree;

/// A mailbox whose messages are to be synced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalkEntry {
    /// Full local name.
    pub name: String,
    /// GUID in the same tree.
    pub guid: Guid,
    /// UIDVALIDITY here before the run, 0 if the mailbox was created in it.
    pub uid_validity: u32,
    /// What the peer's tree said of the mailbox with this GUID; `None` if it had none, or if the
    /// merge makes it anew.
    pub remote: Option<RemoteCounters>,
    /// The peer has a mailbox of this name with another GUID, which becomes this one.
    pub apart: bool,
}

/// Counters from the peer's `N` item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteCounters {
    /// UIDVALIDITY.
    pub uid_validity: u32,
    /// UIDNEXT.
    pub uid_next: Uid,
}

/// The mailboxes of a tree, depth first, siblings in byte order. Those that could not be read are
/// left out.
///
/// The tree is the merged one, or that from before where this side is not written: there the
/// mailboxes keep their names whatever the merge says.
pub fn walk(tree: &Tree, remote: &RemoteTree) -> impl Iterator<Item = WalkEntry> {
    tree.paths().filter_map(move |(id, name)| {
        let node = tree.node(id);
        (node.is_mailbox() && !node.unsynced).then(|| WalkEntry {
            apart: remote.tree.lookup(&name).is_some_and(|twin| {
                let twin = remote.tree.node(twin);
                twin.is_mailbox() && twin.guid != node.guid
            }),
            name,
            guid: node.guid,
            uid_validity: node.uid_validity,
            remote: remote.tree.find(node.guid).map(|there| {
                let there = remote.tree.node(there);
                RemoteCounters {
                    uid_validity: there.uid_validity,
                    uid_next: there.uid_next,
                }
            }),
        })
    })
}
