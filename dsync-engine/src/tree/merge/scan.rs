//! Step C, the decisions: which names mean the same object, and which side's name wins (11.3).

use std::cmp::Ordering;

use super::super::node::{NodeId, Tree};
use super::super::operation::BranchRule;
use super::{Endless, MAX_MERGED_LEVELS, Merge, Side};

/// What came of the look at one pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    /// Something was renamed.
    Changed,
    /// Nothing to rename, and that stays so until one of the nodes concerned moves.
    Stable,
    /// Nothing to rename now.
    Open,
}

impl Merge<'_> {
    /// Step C. Returns whether a temporary name was settled.
    pub(super) fn rename_all(&mut self) -> Result<bool, Endless> {
        let limit = self.count * 3;
        let mut changes = 0;
        self.stable.reset(self.local, self.remote);
        while self.scan(Tree::ROOT, Tree::ROOT, 0)? {
            changes += 1;
            if self.plain {
                self.stable.forget();
            }
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
        while let Some((l, r)) = self.pair(left, right, (at, at)) {
            self.pair_up(l, r);
            at += 1;
        }
    }

    /// The pair at these positions among the children of two nodes; where one side lacks the
    /// name it gets a filler.
    fn pair(
        &mut self,
        left: NodeId,
        right: NodeId,
        (l_at, r_at): (usize, usize),
    ) -> Option<(NodeId, NodeId)> {
        let l = self.local.children(left).get(l_at).copied();
        let r = self.remote.children(right).get(r_at).copied();
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

    /// The first name after `name` among the children of two nodes.
    pub(super) fn next_name<'t>(
        &'t self,
        left: NodeId,
        right: NodeId,
        name: Option<&str>,
    ) -> Option<&'t str> {
        let first = |tree: &'t Tree, parent| {
            let children = tree.children(parent);
            let at = name.map_or(0, |name| {
                children.partition_point(|child| tree.node(*child).name() <= name)
            });
            children.get(at).map(|child| tree.node(*child).name())
        };
        let (l, r) = (first(self.local, left), first(self.remote, right));
        match (l, r) {
            (Some(l), Some(r)) => Some(l.min(r)),
            (l, r) => l.or(r),
        }
    }

    /// Looks for the first rename below a pair of nodes and does it.
    fn scan(&mut self, left: NodeId, right: NodeId, depth: usize) -> Result<bool, Endless> {
        if depth > MAX_MERGED_LEVELS {
            return Err(Endless);
        }
        if self.local.children(left).is_empty() && self.remote.children(right).is_empty() {
            return Ok(false);
        }
        self.stable.enter(left, right);
        let mut cursor: Option<String> = None;
        loop {
            let upto = self.stable.upto(left);
            let name = match self.stable.next_open(left, cursor.as_deref()) {
                Some(name) => name,
                None => match self.next_name(left, right, upto.as_deref()) {
                    Some(name) => name.to_owned(),
                    None => return Ok(false),
                },
            };
            self.stable.open(left, &name);
            if self.scan_name(left, right, &name, depth)? {
                return Ok(true);
            }
            cursor = Some(name);
        }
    }

    /// The same for one name. Moves can give siblings the same name, in trees that no store has.
    fn scan_name(
        &mut self,
        left: NodeId,
        right: NodeId,
        name: &str,
        depth: usize,
    ) -> Result<bool, Endless> {
        let start = |tree: &Tree, parent| {
            tree.children(parent)
                .partition_point(|child| tree.node(*child).name() < name)
        };
        let has_name = |tree: &Tree, parent, at: usize| {
            tree.children(parent)
                .get(at)
                .is_some_and(|child| tree.node(*child).name() == name)
        };
        let mut at = (start(self.local, left), start(self.remote, right));
        let mut stable = true;
        while has_name(self.local, left, at.0) || has_name(self.remote, right, at.1) {
            let Some((l, r)) = self.pair(left, right, at) else {
                break;
            };
            self.steps += 1;
            if self.steps > self.max_steps {
                return Err(Endless);
            }
            let decision = self.decide(l, r);
            if decision == Decision::Changed || self.scan(l, r, depth + 1)? {
                return Ok(true);
            }
            stable &= decision == Decision::Stable && self.is_stable_below(l, r);
            at = (at.0 + 1, at.1 + 1);
        }
        if stable {
            self.stable.close(left, name);
        }
        Ok(false)
    }

    /// Decides about one pair of equal names, and renames if they mean different objects.
    fn decide(&mut self, l: NodeId, r: NodeId) -> Decision {
        let (left, right) = (self.local.node(l), self.remote.node(r));
        if left.guid == right.guid && !left.is_dir() {
            return Decision::Stable;
        }
        if left.is_dir() && right.is_dir() {
            // Counterparts are found through mailboxes below; looking for them costs more.
            if self.mailboxes_only
                || self.stable.mailboxes(Side::Local, l) == 0
                || self.stable.mailboxes(Side::Remote, r) == 0
            {
                return Decision::Stable;
            }
            let (Some(r1), Some(l2)) = (self.branch(Side::Local, l), self.branch(Side::Remote, r))
            else {
                return Decision::Stable;
            };
            if !same_path(self.remote, r1, self.local, l2) {
                return self.resolve(l, Some(r1), Some(l2), r);
            }
            return if self.remote.is_at_or_below(r1, r) && self.local.is_at_or_below(l2, l) {
                Decision::Stable
            } else {
                Decision::Open
            };
        }
        let r1 = self.remote.find(left.guid);
        let l2 = self.local.find(right.guid);
        let alive = r1.is_some_and(|r1| self.remote.node(r1).exists())
            || l2.is_some_and(|l2| self.local.node(l2).exists());
        if alive {
            self.resolve(l, r1, l2, r)
        } else {
            Decision::Stable
        }
    }

    /// Two names, two objects: `l1` and `r2` have the name; `r1` is remote's copy of the object
    /// `l1`, `l2` is local's copy of `r2`.
    fn resolve(
        &mut self,
        l1: NodeId,
        r1: Option<NodeId>,
        l2: Option<NodeId>,
        r2: NodeId,
    ) -> Decision {
        let fixed = |side, id| self.is_protected(side, id);
        if r1.is_some_and(|r1| fixed(Side::Remote, r1))
            || fixed(Side::Remote, r2)
            || fixed(Side::Local, l1)
            || l2.is_some_and(|l2| fixed(Side::Local, l2))
        {
            return Decision::Open;
        }
        let local_wins = self.local_wins(l1, r1, l2, r2);
        let (winner, k1, k2, c1, c2) = if local_wins {
            (Side::Local, l1, l2, r2, r1)
        } else {
            (Side::Remote, r2, r1, l1, l2)
        };
        let loser = winner.other();
        let Some(c2) = c2 else {
            return k2.map_or(Decision::Open, |k2| self.make_room(winner, k1, k2, c1));
        };
        if c2 == c1 {
            return Decision::Open;
        }
        self.rename(loser, c1, c2, k1);
        Decision::Changed
    }

    /// The winner's name `k1` has no object that the loser knows, but the loser's object `c1` of
    /// that name is `k2` in the winner's tree: one of them must get out of the way.
    fn make_room(&mut self, winner: Side, k1: NodeId, k2: NodeId, c1: NodeId) -> Decision {
        let preserved = self.names_of().is_some();
        let tree = self.tree(winner);
        let loser = self.tree(winner.other());
        // Roots are protected, so all have parents.
        let (Some(parent1), Some(parent2), Some(loser_parent)) =
            (tree.parent(k1), tree.parent(k2), loser.parent(c1))
        else {
            return Decision::Open;
        };
        if tree.is_at_or_below(k1, k2) && !preserved {
            self.make_temporary(winner, k1, parent2);
        } else if tree.is_at_or_below(k2, k1) && !preserved {
            self.make_temporary(winner, k2, parent1);
        } else if tree.node(k1).exists() {
            self.make_temporary(winner.other(), c1, loser_parent);
        } else if tree.children(k1).is_empty() && loser.node(c1).exists() {
            // The stamps decided, for a tie would have gone to the side that has something; and
            // they change only with one of the four nodes.
            return Decision::Stable;
        } else {
            return Decision::Open;
        }
        Decision::Changed
    }

    /// The node of the other tree that corresponds to the directory `dir`, found through the
    /// first mailbox below that exists in both.
    fn branch(&self, side: Side, dir: NodeId) -> Option<NodeId> {
        if self.stable.mailboxes(side, dir) == 0 {
            return None;
        }
        let (tree, other) = (self.tree(side), self.tree(side.other()));
        tree.children(dir).iter().find_map(|child| {
            let node = tree.node(*child);
            if !node.is_dir() {
                return other.parent(other.find(node.guid)?);
            }
            let found = self.branch(side, *child)?;
            match self.rules.branch {
                BranchRule::V23 => Some(found),
                BranchRule::V24 => other.parent(found),
            }
        })
    }

    fn local_wins(&self, l1: NodeId, r1: Option<NodeId>, l2: Option<NodeId>, r2: NodeId) -> bool {
        if let Some(side) = self.names_of() {
            return side == Side::Local;
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
