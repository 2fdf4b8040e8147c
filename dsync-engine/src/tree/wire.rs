//! The local tree as items (`spec/brain-and-tree.md` 9.4).

use dsync_proto::items::{DeleteEntry, Deletes, TreeNode};
use dsync_proto::types::Guid;

use super::local::LocalTree;
use super::names::{NameIndex, PeerNames, joined, plain_levels};
use super::node::NodeId;
use super::remote::RemoteTree;

/// The `N` items of a tree: parents before children, siblings in byte order.
pub fn to_items(local: &LocalTree) -> impl Iterator<Item = TreeNode> {
    let tree = &local.tree;
    tree.iter()
        .filter(|id| tree.node(*id).namespace.is_some())
        .map(move |id| {
            let node = tree.node(id);
            TreeNode {
                name: plain_levels(tree, id),
                existence: node.existence,
                mailbox_guid: node.guid,
                uid_validity: node.uid_validity,
                uid_next: node.uid_next,
                last_renamed_or_created: node.last_renamed_or_created,
                subscribed: node.subscribed,
                last_subscription_change: node.last_subscription_change,
            }
        })
}

/// The `D` item: with the local separator, or with that of the peer if its tree and `D` are known.
///
/// A Dovecot 2.3 loops for ever over name hashes with another separator than its own
/// (`spec/wire.md` 13 rule 2), so its own is announced. Our log holds only hashes with our
/// separator; but a deletion matters only if the peer still has the name, and then we know it:
/// it is hashed again as the peer writes it. Entries that match nothing are left out; with
/// another separator they could match only by accident.
pub fn to_deletes(local: &LocalTree, peer: Option<(&RemoteTree, &Deletes)>) -> Deletes {
    let own = &local.deletes;
    let (remote, peer) = match peer {
        Some((remote, peer)) if peer.hierarchy_sep != own.hierarchy_sep => (remote, peer),
        _ => return own.clone(),
    };
    let names = PeerNames {
        separator: peer.hierarchy_sep,
        escape_char: peer.escape_char,
        alt_char: remote.alt_char,
    };
    let index = NameIndex::new(&remote.tree, None);
    let again = |list: &[DeleteEntry], find: &dyn Fn(Guid) -> Option<NodeId>| {
        list.iter()
            .filter_map(|entry| {
                let levels = remote.original_levels(find(entry.guid)?);
                // Among equal separators a Dovecot hashes its names as it holds them: escaped.
                Some(DeleteEntry {
                    guid: Guid::of_mailbox_name(&joined(&levels, names, true)),
                    time: entry.time,
                })
            })
            .collect()
    };
    Deletes {
        hierarchy_sep: peer.hierarchy_sep,
        escape_char: peer.escape_char,
        mailboxes: own.mailboxes.clone(),
        dirs: again(&own.dirs, &|hash| index.directory(hash)),
        unsubscribes: again(&own.unsubscribes, &|hash| index.name(hash)),
    }
}
