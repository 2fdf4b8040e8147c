//! The merge of two mailbox trees (`spec/brain-and-tree.md` 11).
//!
//! The peer runs the same algorithm with the two trees exchanged; nothing tells it what was
//! decided here. So every comparison is symmetric, and the order of siblings, the ties and the
//! temporary names are exactly those of Dovecot. Names of functions and steps are those of the
//! specification.

mod create;
mod rename;
mod scan;
mod stable;

use std::collections::HashSet;

use dsync_proto::items::Existence;
use dsync_proto::types::Guid;

use super::node::{NodeId, Tree};
use super::operation::{EndlessRenames, MergeResult, TreeOperation, TreeRules, TreeSyncType};
use stable::Stable;

/// Pairs of nodes that may be looked at for renames, for any trees. Moves can make trees grow, and
/// the limits of the algorithm with them; absurd trees would keep it busy for ever.
const MIN_STEPS: u64 = 100_000;

/// The same for each node and each parent: after the move of a parent all is looked at again.
const STEPS_PER_PAIR: u64 = 4;

/// The same for each node without regard to parents.
const STEPS_PER_NODE: u64 = 200;

/// The same for the largest trees.
const MAX_STEPS: u64 = 1_000_000_000;

/// Most passes over the trees; a second one only settles what the first one has moved.
const MAX_PASSES: usize = 50;

/// Deepest level that renames may produce, above which they count as endless.
const MAX_MERGED_LEVELS: usize = 2 * super::MAX_LEVELS;

/// Brings both trees to the same state and returns what that means for the local store.
///
/// Both trees must have been marked with [`super::mark_deletes`]. Never panics, whatever the
/// trees are.
pub fn sync_trees(
    local: &mut Tree,
    remote: &mut Tree,
    sync_type: TreeSyncType,
    rules: TreeRules,
) -> MergeResult {
    sync_counted(local, remote, sync_type, rules, false).0
}

/// [`sync_trees`], with the number of pairs that were looked at. `plain`: all pairs are looked at
/// again after each rename, as the specification has it.
pub(super) fn sync_counted(
    local: &mut Tree,
    remote: &mut Tree,
    sync_type: TreeSyncType,
    rules: TreeRules,
    plain: bool,
) -> (MergeResult, u64) {
    let two_way = sync_type == TreeSyncType::TwoWay;
    let (again, forced) = match rules.endless {
        EndlessRenames::Partial => (false, None),
        EndlessRenames::PartialTwoWay => (!two_way, None),
        EndlessRenames::Client { is_local: true } => (true, Some(Side::Local)),
        EndlessRenames::Client { is_local: false } => (true, Some(Side::Remote)),
    };
    let saved = again.then(|| (local.clone(), remote.clone()));
    let mut merge = Merge::new(local, remote, sync_type, rules);
    merge.plain = plain;
    let mut ended = merge.run(true);
    let steps = merge.steps;
    let mut operations = std::mem::take(&mut merge.operations);
    if let (false, Some((saved_local, saved_remote))) = (ended, saved) {
        // With one side's names for every mailbox there are no circles; should there be, then
        // nothing is renamed.
        for renames in [true, false] {
            local.clone_from(&saved_local);
            remote.clone_from(&saved_remote);
            let mut merge = Merge::new(local, remote, sync_type, rules);
            merge.plain = plain;
            merge.forced = forced;
            merge.mailboxes_only = true;
            let all = merge.run(renames);
            operations = merge.operations;
            if all {
                ended = renames;
                break;
            }
        }
    }
    let result = MergeResult {
        operations,
        endless: !ended,
    };
    (result, steps)
}

/// One of the two trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Local,
    Remote,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Local => Self::Remote,
            Self::Remote => Self::Local,
        }
    }
}

/// The renames do not come to an end.
struct Endless;

struct Merge<'a> {
    local: &'a mut Tree,
    remote: &'a mut Tree,
    sync_type: TreeSyncType,
    rules: TreeRules,
    operations: Vec<TreeOperation>,
    /// Nodes in both trees at the begin of this pass.
    count: usize,
    steps: u64,
    max_steps: u64,
    /// Nothing is remembered between two renames.
    plain: bool,
    /// Side whose names win although the run is two-way.
    forced: Option<Side>,
    /// Directories follow their mailboxes; their counterparts, which are guesses, do not matter.
    mailboxes_only: bool,
    stable: Stable,
    /// Mailboxes that step D has created in the local and in the remote tree, and that are there.
    created: [HashSet<Guid>; 2],
}

impl<'a> Merge<'a> {
    fn new(
        local: &'a mut Tree,
        remote: &'a mut Tree,
        sync_type: TreeSyncType,
        rules: TreeRules,
    ) -> Self {
        let nodes = (local.len() + remote.len()) as u64;
        let parents = local.parents() + remote.parents();
        let max_steps = nodes
            .saturating_mul(STEPS_PER_PAIR * parents as u64 + STEPS_PER_NODE)
            .clamp(MIN_STEPS, MAX_STEPS);
        Self {
            local,
            remote,
            max_steps,
            sync_type,
            rules,
            operations: Vec::new(),
            count: 0,
            steps: 0,
            plain: false,
            forced: None,
            mailboxes_only: false,
            stable: Stable::default(),
            created: [HashSet::new(), HashSet::new()],
        }
    }

    fn tree(&self, side: Side) -> &Tree {
        match side {
            Side::Local => self.local,
            Side::Remote => self.remote,
        }
    }

    fn tree_mut(&mut self, side: Side) -> &mut Tree {
        match side {
            Side::Local => self.local,
            Side::Remote => self.remote,
        }
    }

    /// Side whose names win in any case.
    fn names_of(&self) -> Option<Side> {
        match self.sync_type {
            TreeSyncType::TwoWay => self.forced,
            TreeSyncType::PreserveLocal => Some(Side::Local),
            TreeSyncType::PreserveRemote => Some(Side::Remote),
        }
    }

    /// 11.2. Returns whether the renames came to an end; without `renames` none are done.
    fn run(&mut self, renames: bool) -> bool {
        let mut again = 0;
        loop {
            self.count = 0;
            self.delete_marked(Side::Remote);
            self.delete_marked(Side::Local);
            self.steps += self.count as u64;
            if self.steps > self.max_steps {
                return false;
            }
            self.inherit_times(Side::Local);
            self.inherit_times(Side::Remote);
            let settled = if renames {
                match self.rename_all() {
                    Ok(settled) => settled,
                    Err(Endless) => return false,
                }
            } else {
                self.pair_up(Tree::ROOT, Tree::ROOT);
                false
            };
            match self.sync_type {
                TreeSyncType::TwoWay => {}
                TreeSyncType::PreserveLocal => self.delete_surplus(Side::Remote),
                TreeSyncType::PreserveRemote => self.delete_surplus(Side::Local),
            }
            if self.create_all().is_err() {
                return false;
            }
            if !settled || again > self.count * 3 || again > MAX_PASSES {
                break;
            }
            again += 1;
        }
        self.sync_directories(Tree::ROOT, Tree::ROOT);
        true
    }

    /// Step D, for both trees.
    fn create_all(&mut self) -> Result<(), Endless> {
        if self.sync_type != TreeSyncType::PreserveLocal {
            self.create_missing(Side::Remote)?;
        }
        if self.sync_type != TreeSyncType::PreserveRemote {
            self.create_missing(Side::Local)?;
        }
        Ok(())
    }

    /// Step A: mailboxes that were marked as deleted go on the other side too.
    fn delete_marked(&mut self, side: Side) {
        let mut level: Vec<NodeId> = self.tree(side).children(Tree::ROOT).to_vec();
        while !level.is_empty() {
            self.count += level.len();
            for id in &level {
                let node = self.tree(side).node(*id);
                if node.existence != Existence::Deleted || node.is_dir() {
                    continue;
                }
                if self.sync_type == TreeSyncType::TwoWay {
                    let other = side.other();
                    if let Some(held) = self.tree(other).find(node.guid) {
                        self.drop_mailbox(other, held);
                    }
                    self.drop_mailbox(side, *id);
                } else {
                    self.forget(side, *id);
                }
            }
            let tree = self.tree(side);
            level = level
                .iter()
                .flat_map(|id| tree.children(*id))
                .copied()
                .collect();
        }
    }

    /// Step B: a child is at least as new as its parent.
    fn inherit_times(&mut self, side: Side) {
        let tree = self.tree_mut(side);
        let mut stack = vec![(Tree::ROOT, 0)];
        while let Some((id, time)) = stack.pop() {
            let node = tree.node_mut(id);
            node.last_renamed_or_created = node.last_renamed_or_created.max(time);
            let time = node.last_renamed_or_created;
            stack.extend(node.children.iter().map(|child| (*child, time)));
        }
    }

    /// Appends an operation for the local store.
    fn emit(&mut self, operation: TreeOperation) {
        // The source of a one-way run never changes; no step should get here.
        if self.sync_type != TreeSyncType::PreserveLocal {
            self.operations.push(operation);
        }
    }

    /// The mailbox of a node is gone.
    fn forget(&mut self, side: Side, id: NodeId) {
        let tree = self.tree_mut(side);
        tree.unindex(id);
        let node = tree.node_mut(id);
        node.existence = Existence::Deleted;
        let guid = std::mem::replace(&mut node.guid, Guid::ZERO);
        node.uid_validity = 0;
        self.created[side as usize].remove(&guid);
    }

    /// Deletes the mailbox of a node.
    fn drop_mailbox(&mut self, side: Side, id: NodeId) {
        let node = self.tree(side).node(id);
        if node.unsynced {
            return;
        }
        if side == Side::Local && node.existence != Existence::Deleted {
            let operation = TreeOperation::DeleteBox {
                name: self.local.path(id),
                guid: node.guid,
            };
            self.emit(operation);
        }
        self.forget(side, id);
    }

    /// Some descendant exists: any, or with `dirs` not set a mailbox. One that could not be read
    /// counts always.
    fn has_real(&self, side: Side, id: NodeId, dirs: bool) -> bool {
        let tree = self.tree(side);
        let mut stack: Vec<NodeId> = tree.children(id).to_vec();
        while let Some(id) = stack.pop() {
            let node = tree.node(id);
            if node.unsynced || (node.exists() && (dirs || !node.is_dir())) {
                return true;
            }
            stack.extend(tree.children(id));
        }
        false
    }

    /// Whether there is something on disk at or below a node.
    fn present(&self, side: Side, id: NodeId) -> bool {
        let node = self.tree(side).node(id);
        node.exists() || node.unsynced || self.has_real(side, id, true)
    }
}
