//! Step C, the decisions: which names mean the same object, and which side's name wins (11.3).

use std::cmp::Ordering;

use super::super::node::{NodeId, Tree};
use super::super::operation::{BranchRule, TreeSyncType};
use super::{Endless, MAX_MERGED_LEVELS, MAX_SCAN_STEPS, Merge, Side};

impl Merge<'_> {
    /// Step C. Returns whether a temporary name was settled.
    pub(super) fn rename_all(&mut self) -> Result<bool, Endless> {
        let limit = self.count * 3;
        let mut changes = 0;
        while self.scan(Tree::ROOT, Tree::ROOT, 0)? {
            changes += 1;
            if changes > limit {
                return Err(Endless);
            }
        }
        let local = self.settle(Side::Local, Tree::ROOT);
        let remote = self.settle(Side::Remote, Tree::ROOT);
        Ok(local || remote)
    }

    /// Gives both sides the same names below a pair of nodes, without renaming anything.
    pub(super) fn pair_up(&mut self, left: NodeId, right: NodeId) {
        let mut at = 0;
        while let Some((l, r)) = self.pair(left, right, at) {
            self.pair_up(l, r);
            at += 1;
        }
    }

    /// The pair at this position among the children of two nodes; where one side lacks the name
    /// it gets a filler.
    fn pair(&mut self, left: NodeId, right: NodeId, at: usize) -> Option<(NodeId, NodeId)> {
        let l = self.local.children(left).get(at).copied();
        let r = self.remote.children(right).get(at).copied();
        let order = match (l, r) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(l), Some(r)) => self.local.node(l).name().cmp(self.remote.node(r).name()),
        };
        match (order, l, r) {
            (Ordering::Less, Some(l), _) => {
                Some((l, add_filler(self.remote, right, self.local, l)))
            }
            (Ordering::Greater, _, Some(r)) => {
                Some((add_filler(self.local, left, self.remote, r), r))
            }
            (_, l, r) => l.zip(r),
        }
    }

    /// Looks for the first rename below a pair of nodes and does it.
    fn scan(&mut self, left: NodeId, right: NodeId, depth: usize) -> Result<bool, Endless> {
        if depth > MAX_MERGED_LEVELS {
            return Err(Endless);
        }
        let mut at = 0;
        while let Some((l, r)) = self.pair(left, right, at) {
            self.steps += 1;
            if self.steps > MAX_SCAN_STEPS {
                return Err(Endless);
            }
            if self.decide(l, r) || self.scan(l, r, depth + 1)? {
                return Ok(true);
            }
            at += 1;
        }
        Ok(false)
    }

    /// Decides about one pair of equal names; returns whether something was renamed.
    fn decide(&mut self, l: NodeId, r: NodeId) -> bool {
        let (left, right) = (self.local.node(l), self.remote.node(r));
        if left.guid == right.guid && !left.is_dir() {
            return false;
        }
        if left.is_dir() && right.is_dir() {
            let rule = self.rules.branch;
            let Some(r1) = branch(self.local, self.remote, l, rule) else {
                return false;
            };
            let Some(l2) = branch(self.remote, self.local, r, rule) else {
                return false;
            };
            return !same_path(self.remote, r1, self.local, l2)
                && self.resolve(l, Some(r1), Some(l2), r);
        }
        let r1 = self.remote.find(left.guid);
        let l2 = self.local.find(right.guid);
        let alive = r1.is_some_and(|r1| self.remote.node(r1).exists())
            || l2.is_some_and(|l2| self.local.node(l2).exists());
        alive && self.resolve(l, r1, l2, r)
    }

    /// Two names, two objects: `l1` and `r2` have the name; `r1` is remote's copy of the object
    /// `l1`, `l2` is local's copy of `r2`.
    fn resolve(&mut self, l1: NodeId, r1: Option<NodeId>, l2: Option<NodeId>, r2: NodeId) -> bool {
        let fixed = |side, id| self.is_protected(side, id);
        if r1.is_some_and(|r1| fixed(Side::Remote, r1))
            || fixed(Side::Remote, r2)
            || fixed(Side::Local, l1)
            || l2.is_some_and(|l2| fixed(Side::Local, l2))
        {
            return false;
        }
        let local_wins = self.local_wins(l1, r1, l2, r2);
        let (winner, k1, k2, c1, c2, preserved) = if local_wins {
            (Side::Local, l1, l2, r2, r1, TreeSyncType::PreserveLocal)
        } else {
            (Side::Remote, r2, r1, l1, l2, TreeSyncType::PreserveRemote)
        };
        let loser = winner.other();
        let preserved = self.sync_type == preserved;
        match (k2, c2) {
            (None, None) => return false,
            (_, Some(c2)) if c2 == c1 => return false,
            (_, Some(c2)) => self.rename(loser, c1, c2, k1),
            (Some(k2), None) => {
                let tree = self.tree(winner);
                // The root is protected, so both have parents.
                let (Some(parent1), Some(parent2)) = (tree.parent(k1), tree.parent(k2)) else {
                    return false;
                };
                if tree.is_at_or_below(k1, k2) && !preserved {
                    self.make_temporary(winner, k1, parent2);
                } else if tree.is_at_or_below(k2, k1) && !preserved {
                    self.make_temporary(winner, k2, parent1);
                } else if tree.node(k1).exists() {
                    let Some(parent) = self.tree(loser).parent(c1) else {
                        return false;
                    };
                    self.make_temporary(loser, c1, parent);
                } else {
                    return false;
                }
            }
        }
        true
    }

    fn local_wins(&self, l1: NodeId, r1: Option<NodeId>, l2: Option<NodeId>, r2: NodeId) -> bool {
        match self.sync_type {
            TreeSyncType::PreserveLocal => return true,
            TreeSyncType::PreserveRemote => return false,
            TreeSyncType::TwoWay => {}
        }
        let local = stamp(self.local, Some(l1), l2);
        let remote = stamp(self.remote, r1, Some(r2));
        local
            .cmp(&remote)
            .reverse()
            .then_with(|| tie(self.local, l1, self.remote, r2))
            .is_lt()
    }

    /// Whether the name of a node is fixed: the root, INBOX, the prefix of a namespace, or a
    /// mailbox that could not be read.
    fn is_protected(&self, side: Side, id: NodeId) -> bool {
        let tree = self.tree(side);
        let node = tree.node(id);
        let Some(parent) = tree.parent(id) else {
            return true;
        };
        if node.unsynced || (parent == Tree::ROOT && node.name() == "INBOX") {
            return true;
        }
        let prefix = tree.namespace_of(id).map_or("", |ns| ns.prefix_name());
        !prefix.is_empty() && prefix.ends_with(node.name()) && tree.path(id) == prefix
    }
}

fn add_filler(to: &mut Tree, parent: NodeId, from: &Tree, like: NodeId) -> NodeId {
    let like = from.node(like);
    let id = to.add_child(parent, like.name());
    let node = to.node_mut(id);
    node.namespace = like.namespace;
    node.temp = like.temp;
    id
}

/// The node of `other` that corresponds to the directory `dir` of `tree`, found through the
/// first mailbox below that exists in both.
fn branch(tree: &Tree, other: &Tree, dir: NodeId, rule: BranchRule) -> Option<NodeId> {
    tree.children(dir).iter().find_map(|child| {
        let node = tree.node(*child);
        if !node.is_dir() {
            return other.parent(other.find(node.guid)?);
        }
        let found = branch(tree, other, *child, rule)?;
        match rule {
            BranchRule::V23 => Some(found),
            BranchRule::V24 => other.parent(found),
        }
    })
}

fn same_path(tree: &Tree, id: NodeId, other: &Tree, other_id: NodeId) -> bool {
    tree.upwards(id)
        .map(|id| tree.node(id).name())
        .eq(other.upwards(other_id).map(|id| other.node(id).name()))
}

/// The newest time of those of two nodes that were not given by the algorithm itself, plus one.
fn stamp(tree: &Tree, a: Option<NodeId>, b: Option<NodeId>) -> i64 {
    [a, b]
        .into_iter()
        .flatten()
        .map(|id| tree.node(id))
        .filter(|node| !node.temp)
        .map(|node| node.last_renamed_or_created.saturating_add(1))
        .max()
        .unwrap_or(0)
}

/// Compares two nodes with all their following siblings and everything below: first by
/// existence and GUID, then by name. Equal (Dovecot aborts) cannot be symmetric; it means that
/// the remote name is taken, and happens only in trees that no store has.
fn tie(local: &Tree, a: NodeId, remote: &Tree, b: NodeId) -> Ordering {
    let a = following(local, a);
    let b = following(remote, b);
    compare(local, a, remote, b, &|x, y| {
        y.exists()
            .cmp(&x.exists())
            .then_with(|| x.guid.cmp(&y.guid))
    })
    .then_with(|| compare(local, a, remote, b, &|x, y| x.name().cmp(y.name())))
}

fn following(tree: &Tree, id: NodeId) -> &[NodeId] {
    let Some(parent) = tree.parent(id) else {
        return &[];
    };
    let at = tree.position(parent, id).unwrap_or(0);
    tree.children(parent).get(at..).unwrap_or_default()
}

type Compare<'a> = &'a dyn Fn(&super::super::Node, &super::super::Node) -> Ordering;

fn compare(
    left: &Tree,
    mut a: &[NodeId],
    right: &Tree,
    mut b: &[NodeId],
    nodes: Compare<'_>,
) -> Ordering {
    loop {
        match (a, b) {
            ([], []) => return Ordering::Equal,
            // The list that still has nodes is the smaller one.
            ([], _) => return Ordering::Greater,
            (_, []) => return Ordering::Less,
            ([x, rest_a @ ..], [y, rest_b @ ..]) => {
                let order = nodes(left.node(*x), right.node(*y)).then_with(|| {
                    compare(left, left.children(*x), right, right.children(*y), nodes)
                });
                if order.is_ne() {
                    return order;
                }
                (a, b) = (rest_a, rest_b);
            }
        }
    }
}
