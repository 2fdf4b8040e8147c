//! Remembers which pairs of nodes need no second look.
//!
//! The algorithm starts its scan anew after each rename. Thousands of renames among thousands of
//! mailboxes (a parent without a mailbox of its own was renamed) would make that quadratic. But
//! most pairs stay decided: what is said about them depends only on nodes that did not move. So
//! each pair of parents has a [`Record`] of the names that still have to be looked at, and a
//! move enters names again where it could matter:
//!
//! * the place that a node leaves and the one where it goes, and everything above;
//! * the place of the node with the same GUID in the other tree, and everything above;
//! * if the node has children, all names, because many change at once.
//!
//! The names that are looked at come in the same order as in a full scan, so the result is the
//! same; that is proved by the vectors, and by a test against the plain algorithm.

use std::collections::BTreeSet;

use super::super::node::{Node, NodeId, Tree};
use super::{Merge, Side};

/// What is known about the children of a pair of nodes.
#[derive(Debug, Default)]
struct Record {
    /// Valid only in this epoch; epochs begin with 1.
    epoch: u64,
    /// The remote node of the pair.
    partner: Option<NodeId>,
    /// All names up to this one were looked at.
    upto: Option<String>,
    /// Names up to there that must be looked at again.
    open: BTreeSet<String>,
}

/// Records of all pairs, and numbers of mailboxes below nodes.
#[derive(Debug, Default)]
pub(super) struct Stable {
    epoch: u64,
    /// By local node.
    records: Vec<Record>,
    /// Local node of the pair, by remote node.
    partners: Vec<Option<NodeId>>,
    /// Mailboxes at and below each local and remote node.
    mailboxes: [Vec<usize>; 2],
}

fn slot<T: Default>(list: &mut Vec<T>, id: NodeId) -> &mut T {
    let at = id.index();
    if at >= list.len() {
        list.resize_with(at + 1, T::default);
    }
    &mut list[at]
}

impl Stable {
    /// Starts anew.
    pub(super) fn reset(&mut self, local: &Tree, remote: &Tree) {
        self.epoch += 1;
        self.mailboxes = [local, remote].map(|tree| {
            let mut counts = vec![0; tree.len()];
            for id in tree.iter().filter(|id| !tree.node(*id).is_dir()) {
                for at in tree.upwards(id) {
                    counts[at.index()] += 1;
                }
            }
            counts
        });
    }

    /// All names must be looked at again.
    pub(super) fn forget(&mut self) {
        self.epoch += 1;
    }

    /// Mailboxes at and below a node.
    pub(super) fn mailboxes(&self, side: Side, id: NodeId) -> usize {
        let counts = &self.mailboxes[side as usize];
        counts.get(id.index()).copied().unwrap_or(0)
    }

    /// Makes sure that there is a record of this pair.
    pub(super) fn enter(&mut self, left: NodeId, right: NodeId) {
        let epoch = self.epoch;
        let partner = slot(&mut self.partners, right);
        let same = *partner == Some(left);
        *partner = Some(left);
        let record = slot(&mut self.records, left);
        if !same || record.epoch != epoch || record.partner != Some(right) {
            *record = Record {
                epoch,
                partner: Some(right),
                upto: None,
                open: BTreeSet::new(),
            };
        }
    }

    fn record(&mut self, side: Side, id: NodeId) -> Option<&mut Record> {
        let (left, right) = match side {
            Side::Local => (id, None),
            Side::Remote => ((*self.partners.get(id.index())?)?, Some(id)),
        };
        let epoch = self.epoch;
        self.records
            .get_mut(left.index())
            .filter(|record| record.epoch == epoch)
            .filter(|record| right.is_none() || record.partner == right)
    }

    /// The first name after `cursor` that was looked at and must be again.
    pub(super) fn next_open(&mut self, left: NodeId, cursor: Option<&str>) -> Option<String> {
        let open = &self.record(Side::Local, left)?.open;
        match cursor {
            None => open.first().cloned(),
            Some(cursor) => open
                .range::<str, _>((
                    std::ops::Bound::Excluded(cursor),
                    std::ops::Bound::Unbounded,
                ))
                .next()
                .cloned(),
        }
    }

    /// Up to which name all were looked at.
    pub(super) fn upto(&mut self, left: NodeId) -> Option<String> {
        self.record(Side::Local, left)?.upto.clone()
    }

    /// This name is looked at now; until it is closed it counts as open.
    pub(super) fn open(&mut self, left: NodeId, name: &str) {
        if let Some(record) = self.record(Side::Local, left) {
            record.open.insert(name.to_owned());
            if record.upto.as_deref().is_none_or(|upto| upto < name) {
                record.upto = Some(name.to_owned());
            }
        }
    }

    /// This name needs no second look.
    pub(super) fn close(&mut self, left: NodeId, name: &str) {
        if let Some(record) = self.record(Side::Local, left) {
            record.open.remove(name);
        }
    }

    /// A node at this place comes or goes, or must be looked at again.
    fn touch(&mut self, side: Side, tree: &Tree, id: NodeId) {
        for node in tree.upwards(id) {
            let Some(parent) = tree.parent(node) else {
                return;
            };
            let name = tree.node(node).name();
            if let Some(record) = self.record(side, parent)
                && record.upto.as_deref().is_some_and(|upto| name <= upto)
                && !record.open.contains(name)
            {
                record.open.insert(name.to_owned());
            }
        }
    }
}

impl Merge<'_> {
    /// Whether all below a pair is decided for good.
    pub(super) fn is_stable_below(&mut self, l: NodeId, r: NodeId) -> bool {
        if self.local.children(l).is_empty() && self.remote.children(r).is_empty() {
            return true;
        }
        self.stable.enter(l, r);
        let upto = self.stable.upto(l);
        self.stable.next_open(l, None).is_none() && self.next_name(l, r, upto.as_deref()).is_none()
    }

    /// Marks the place of a node as changed.
    pub(super) fn touch(&mut self, side: Side, id: NodeId) {
        let tree: &Tree = match side {
            Side::Local => self.local,
            Side::Remote => self.remote,
        };
        self.stable.touch(side, tree, id);
    }

    /// Moves a node: out of its place, changed by `change`, below `parent`.
    pub(super) fn relocate(
        &mut self,
        side: Side,
        id: NodeId,
        parent: NodeId,
        change: impl FnOnce(&mut Node),
    ) {
        self.touch(side, id);
        self.count_mailboxes(side, id, false);
        let tree = self.tree_mut(side);
        tree.detach(id);
        change(tree.node_mut(id));
        tree.attach(id, parent);
        let guid = tree.node(id).guid;
        if !tree.children(id).is_empty() {
            self.stable.forget();
        }
        self.count_mailboxes(side, id, true);
        self.touch(side, id);
        if let Some(same) = self.tree(side.other()).find(guid) {
            self.touch(side.other(), same);
        }
    }

    /// Counts the mailboxes of a node for all nodes above it, or no longer.
    fn count_mailboxes(&mut self, side: Side, id: NodeId, present: bool) {
        let moved = self.stable.mailboxes(side, id);
        if moved == 0 {
            return;
        }
        let tree: &Tree = match side {
            Side::Local => self.local,
            Side::Remote => self.remote,
        };
        for above in tree.upwards(id).skip(1) {
            let count = slot(&mut self.stable.mailboxes[side as usize], above);
            *count = if present {
                *count + moved
            } else {
                count.saturating_sub(moved)
            };
        }
    }
}
