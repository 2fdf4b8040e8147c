//! Applies the lists of deleted and unsubscribed names (`spec/brain-and-tree.md` 10).

use dsync_proto::items::{DeleteEntry, Deletes, Existence};

use super::local::LocalTree;
use super::names::{NameIndex, PeerNames, separator_byte};
use super::node::{NodeId, Tree};
use super::remote::RemoteTree;

/// Marks in each tree what its side deleted and the other still has.
///
/// `peer` is the `D` item that was received. Times and messages are not looked at for mailboxes:
/// what one side deleted goes, even if it was renamed or got mail on the other.
pub fn mark_deletes(local: &mut LocalTree, remote: &mut RemoteTree, peer: &Deletes) {
    let form = PeerNames {
        separator: peer.hierarchy_sep,
        escape_char: peer.escape_char,
        alt_char: remote.alt_char,
    };
    mark_trees(
        &mut local.tree,
        &mut remote.tree,
        &local.deletes,
        peer,
        form,
    );
}

/// [`mark_deletes`] on plain trees.
pub(super) fn mark_trees(
    local: &mut Tree,
    remote: &mut Tree,
    own: &Deletes,
    peer: &Deletes,
    form: PeerNames,
) {
    // The hashes of the local tree are those before any marking.
    if has_names(peer) {
        let names = NameIndex::new(local, Some(form));
        mark_all(peer, local, remote, Some(&names));
    } else {
        mark_all(peer, local, remote, None);
    }
    let names = has_names(own).then(|| NameIndex::new(remote, None));
    mark_all(own, remote, local, names.as_ref());
}

fn has_names(list: &Deletes) -> bool {
    !list.dirs.is_empty() || !list.unsubscribes.is_empty()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Mailbox,
    Dir,
    Unsubscribe,
}

fn mark_all(list: &Deletes, holder: &Tree, deleter: &mut Tree, names: Option<&NameIndex>) {
    for entry in &list.mailboxes {
        if let Some(held) = holder.find(entry.guid) {
            mark(Kind::Mailbox, entry, holder, held, deleter);
        }
    }
    let Some(names) = names else {
        return;
    };
    for entry in &list.dirs {
        if let Some(held) = names.directory(entry.guid) {
            mark(Kind::Dir, entry, holder, held, deleter);
        }
    }
    for entry in &list.unsubscribes {
        if let Some(held) = names.name(entry.guid) {
            mark(Kind::Unsubscribe, entry, holder, held, deleter);
        }
    }
}

fn mark(kind: Kind, entry: &DeleteEntry, holder: &Tree, held: NodeId, deleter: &mut Tree) {
    let found = holder.node(held);
    let newer = match kind {
        Kind::Mailbox => found.unsynced,
        Kind::Dir => entry.time <= found.last_renamed_or_created || found.unsynced,
        Kind::Unsubscribe => entry.time <= found.last_subscription_change,
    };
    if newer {
        return;
    }
    let id = deleter.ensure(holder.levels(held));
    let node = deleter.node(id);
    // The name is in use again: the deletion is void, and the object comes back.
    if node.exists() && (!node.is_dir() || kind != Kind::Mailbox) {
        return;
    }
    match kind {
        Kind::Unsubscribe => {
            let node = deleter.node_mut(id);
            node.last_subscription_change = entry.time;
            node.subscribed = false;
            return;
        }
        Kind::Mailbox => {
            if node.unsynced {
                return;
            }
            if node.namespace.is_some() && node.namespace != found.namespace {
                return;
            }
            // A correct peer never deletes what it has.
            if deleter.set_guid(id, found.guid).is_err() {
                return;
            }
            deleter.node_mut(id).namespace = found.namespace;
        }
        Kind::Dir => {}
    }
    deleter.node_mut(id).existence = Existence::Deleted;
}

impl LocalTree {
    /// Lends mailboxes that could not be read the peer's data, so that both trees agree on them
    /// and nothing is done about them on either side.
    ///
    /// Two-way, the worst that can happen to a missing mailbox is that the peer wants to create
    /// it. But for the destination of a backup a mailbox that its source does not show is to be
    /// deleted. So a source calls this before it sends its tree, which it can because a Dovecot
    /// peer sends its own without waiting; every side calls it before the merge.
    ///
    /// Returns the names of unreadable mailboxes for which that was not possible, because the
    /// peer has no mailbox of that name: it may have the mailbox under another one, or not at
    /// all. A source must not let such a run delete mailboxes in the destination.
    pub fn shield(&mut self, remote: &RemoteTree) -> Vec<String> {
        let ids: Vec<(NodeId, String)> = self
            .tree
            .paths()
            .filter(|(id, _)| self.tree.node(*id).unsynced)
            .collect();
        let mut open = Vec::new();
        for (id, path) in ids {
            let there = remote
                .tree
                .lookup(&path)
                .map(|there| remote.tree.node(there));
            let lent = there.filter(|there| there.is_mailbox());
            match lent {
                Some(there) if self.tree.set_guid(id, there.guid).is_ok() => {
                    let node = self.tree.node_mut(id);
                    node.existence = Existence::Exists;
                    node.uid_validity = there.uid_validity;
                    node.uid_next = there.uid_next;
                    node.last_renamed_or_created = there.last_renamed_or_created;
                }
                _ => open.push(path),
            }
        }
        open
    }

    /// The form of the local separator in `D`.
    pub fn separator_byte(&self) -> u8 {
        separator_byte(self.tree.separator())
    }
}
