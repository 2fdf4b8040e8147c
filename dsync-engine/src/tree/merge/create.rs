//! Steps P, D and E: what must go, what is missing, directories and subscriptions (11.4, 11.5).

use std::cmp::Ordering;

use dsync_proto::items::Existence;

use super::super::node::{NodeId, Tree};
use super::super::operation::{TreeOperation, TreeSyncType};
use super::{Endless, Merge, Side};

impl Merge<'_> {
    /// Step P, one-way only: deletes in the destination what the source does not have.
    pub(super) fn delete_surplus(&mut self, side: Side) {
        let there = self.tree(side.other()).children(Tree::ROOT).to_vec();
        let here = self.tree(side).children(Tree::ROOT).to_vec();
        self.delete_surplus_among(side, &here, &there);
    }

    fn delete_surplus_among(&mut self, side: Side, here: &[NodeId], there: &[NodeId]) {
        let (mut i, mut j) = (0, 0);
        while let Some(id) = here.get(i).copied() {
            let wanted = there.get(j).copied();
            let node = self.tree(side).node(id);
            let order = wanted.map_or(Ordering::Less, |wanted| {
                node.name().cmp(self.tree(side.other()).node(wanted).name())
            });
            let by_name = self.rules.compare_by_name;
            if by_name && order == Ordering::Greater {
                j += 1;
                continue;
            }
            if !node.children.is_empty() {
                let below = match wanted {
                    Some(wanted) if !by_name || order == Ordering::Equal => {
                        self.tree(side.other()).children(wanted).to_vec()
                    }
                    _ => Vec::new(),
                };
                let children = node.children.clone();
                self.delete_surplus_among(side, &children, &below);
            }
            let surplus = match (order, wanted) {
                (Ordering::Equal, Some(wanted)) => self.is_wrong(side, id, wanted),
                (order, _) => order == Ordering::Less,
            };
            if surplus && self.tree(side).node(id).is_mailbox() {
                self.drop_mailbox(side, id);
            }
            i += usize::from(order != Ordering::Greater);
            j += usize::from(order != Ordering::Less);
        }
    }

    fn is_wrong(&self, side: Side, id: NodeId, wanted: NodeId) -> bool {
        let node = self.tree(side).node(id);
        let wanted = self.tree(side.other()).node(wanted);
        !wanted.exists()
            || node.uid_validity != wanted.uid_validity
            || node.uid_next > wanted.uid_next
            || node.guid != wanted.guid
    }

    /// Step D: creates in the other tree the mailboxes of this one that it lacks.
    ///
    /// A mailbox that an earlier pass has created, and that does not have the name any more that
    /// it should, cannot be found by its GUID: Dovecot's index lacks what it has created, and so
    /// must ours. Dovecot creates it again, under one name after the other; such trees do not
    /// come to rest, they only grow. Both sides see that at the same place.
    pub(super) fn create_missing(&mut self, side: Side) -> Result<(), Endless> {
        let to = side.other();
        let ids: Vec<NodeId> = self.tree(side).iter().collect();
        for id in ids {
            let node = self.tree(side).node(id);
            if !node.is_mailbox() || node.unsynced {
                continue;
            }
            let (guid, uid_validity, namespace) = (node.guid, node.uid_validity, node.namespace);
            let target = match self.tree(to).find(guid) {
                Some(target) => target,
                None => self.counterpart(side, id),
            };
            let there = self.tree(to).node(target);
            if there.guid == guid || there.unsynced {
                continue;
            }
            if there.is_dir() {
                if !self.created[to as usize].insert(guid) && self.rules.create_once {
                    return Err(Endless);
                }
                let there = self.tree_mut(to).node_mut(target);
                there.existence = Existence::Exists;
                there.namespace = namespace;
                there.uid_validity = uid_validity;
                there.guid = guid;
            }
            if to == Side::Local {
                let name = self.remote.path(id);
                self.emit(TreeOperation::CreateBox {
                    name,
                    guid,
                    uid_validity,
                });
            }
        }
        Ok(())
    }

    /// The node of the other tree with the same full name.
    fn counterpart(&mut self, side: Side, id: NodeId) -> NodeId {
        let (tree, other): (&Tree, &mut Tree) = match side {
            Side::Local => (self.local, self.remote),
            Side::Remote => (self.remote, self.local),
        };
        other.ensure(tree.levels(id))
    }

    /// Step E: directories and subscriptions below a pair of nodes.
    pub(super) fn sync_directories(&mut self, left: NodeId, right: NodeId) {
        let l_list = self.local.children(left).to_vec();
        let r_list = self.remote.children(right).to_vec();
        let (mut i, mut j) = (0, 0);
        loop {
            let (l, r) = (l_list.get(i).copied(), r_list.get(j).copied());
            let order = match (l, r) {
                (None, None) => return,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(l), Some(r)) => self.local.node(l).name().cmp(self.remote.node(r).name()),
            };
            match (order, l, r) {
                (Ordering::Equal, Some(l), Some(r)) => self.sync_directory(l, r),
                (Ordering::Less, Some(l), _) => self.remove_filler(Side::Local, l),
                (Ordering::Greater, _, Some(r)) => self.remove_filler(Side::Remote, r),
                _ => {}
            }
            i += usize::from(order != Ordering::Greater);
            j += usize::from(order != Ordering::Less);
        }
    }

    /// A name that only one side has is a filler left over; anything else stays as it is.
    fn remove_filler(&mut self, side: Side, id: NodeId) {
        if !self.present(side, id) {
            self.tree_mut(side).detach(id);
        }
    }

    fn sync_directory(&mut self, l: NodeId, r: NodeId) {
        let to_remote = self.sync_type != TreeSyncType::PreserveRemote;
        let to_local = self.sync_type != TreeSyncType::PreserveLocal;
        let existence = |merge: &Self| {
            (
                merge.local.node(l).existence,
                merge.remote.node(r).existence,
            )
        };
        if existence(self) == (Existence::Exists, Existence::Nonexistent) && to_remote {
            self.remote.node_mut(r).existence = Existence::Exists;
        }
        if existence(self) == (Existence::Nonexistent, Existence::Exists)
            && to_local
            && !self.local.node(l).unsynced
        {
            self.local.node_mut(l).existence = Existence::Exists;
            let name = self.local.path(l);
            self.emit(TreeOperation::CreateDir { name });
        }
        self.sync_directories(l, r);
        self.sync_subscription(l, r);
        if existence(self) == (Existence::Deleted, Existence::Exists)
            && to_remote
            && !self.has_real(Side::Local, l, true)
            && !self.has_real(Side::Remote, r, true)
        {
            self.remote.node_mut(r).existence = Existence::Nonexistent;
        }
        if existence(self) == (Existence::Exists, Existence::Deleted)
            && to_local
            && !self.has_real(Side::Remote, r, true)
            && !self.has_real(Side::Local, l, true)
            && !self.local.node(l).unsynced
        {
            self.local.node_mut(l).existence = Existence::Nonexistent;
            let name = self.local.path(l);
            self.emit(TreeOperation::DeleteDir { name });
        }
    }

    fn sync_subscription(&mut self, l: NodeId, r: NodeId) {
        let (left, right) = (self.local.node(l), self.remote.node(r));
        if left.subscribed == right.subscribed {
            return;
        }
        let use_local = match self.sync_type {
            TreeSyncType::PreserveLocal => true,
            TreeSyncType::PreserveRemote => false,
            TreeSyncType::TwoWay => match left
                .last_subscription_change
                .cmp(&right.last_subscription_change)
            {
                Ordering::Greater => true,
                Ordering::Less => false,
                Ordering::Equal => left.subscribed,
            },
        };
        if use_local {
            self.remote.node_mut(r).subscribed = left.subscribed;
        } else {
            let subscribed = right.subscribed;
            self.local.node_mut(l).subscribed = subscribed;
            let name = self.local.path(l);
            self.emit(TreeOperation::Subscribe { name, subscribed });
        }
    }
}
