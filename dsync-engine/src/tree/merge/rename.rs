//! Step C, the changes: renames, temporary names and what becomes of them (11.3).

use std::fmt::Write as _;

use dsync_proto::items::Existence;
use md5::{Digest, Md5};

use super::super::node::{NodeId, Tree};
use super::super::operation::{TreeOperation, TreeSyncType};
use super::super::remote::cut;
use super::{Merge, Side};

/// Longest start of a name that a temporary name keeps.
const TEMP_BASE: usize = 86;

/// Longest settled name.
const SETTLED: usize = 100;

impl Merge<'_> {
    /// Gives a node a temporary name below `new_parent`.
    pub(super) fn make_temporary(&mut self, side: Side, id: NodeId, new_parent: NodeId) {
        let tree = self.tree_mut(side);
        let node = tree.node(id);
        let mut limit = TEMP_BASE;
        if node.temp
            && let Some(dash) = node.name().rfind('-')
        {
            limit = limit.min(dash);
        }
        let base = cut(node.name(), limit).to_owned();
        let old_parent = tree.parent(id).unwrap_or(Tree::ROOT);
        let mut number = 1_u64;
        let name = loop {
            let name = format!("{base}-temp-{number:x}");
            if tree.child(old_parent, &name).is_none() {
                break name;
            }
            number += 1;
        };
        let old = (side == Side::Local && self.present(side, id)).then(|| self.local.path(id));
        self.steps += number;
        self.relocate(side, id, new_parent, |node| {
            node.name = name;
            node.temp = true;
            node.last_renamed_or_created = 0;
        });
        if let Some(from) = old {
            let to = self.local.path(id);
            self.emit(TreeOperation::Rename { from, to });
        }
    }

    /// Gives the object `id` the place and name of `target` in the other tree; `victim` has the
    /// name now and gets a temporary one.
    pub(super) fn rename(&mut self, side: Side, victim: NodeId, id: NodeId, target: NodeId) {
        let other = self.tree(side.other());
        let wanted = other.node(target);
        let (renamed, temp) = (wanted.last_renamed_or_created, wanted.temp);
        let wanted_name = wanted.name.clone();
        let target_path = other.path(target);
        let levels: Vec<String> = other
            .parent(target)
            .map(|parent| other.levels(parent))
            .unwrap_or_default()
            .into_iter()
            .map(str::to_owned)
            .collect();
        let parent = self
            .tree_mut(side)
            .ensure(levels.iter().map(String::as_str));
        self.touch(side, parent);
        let tree = self.tree(side);
        if tree.is_at_or_below(parent, id) {
            self.make_temporary(side, id, Tree::ROOT);
            return;
        }
        let victim_parent = tree.parent(victim).unwrap_or(Tree::ROOT);
        self.make_temporary(side, victim, victim_parent);
        let old = (side == Side::Local && self.present(side, id)).then(|| self.local.path(id));
        self.relocate(side, id, parent, |node| {
            node.name = wanted_name;
            node.last_renamed_or_created = renamed;
            node.temp = temp;
        });
        if let Some(from) = old {
            self.emit(TreeOperation::Rename {
                from,
                to: target_path,
            });
        }
    }

    /// Ends all temporary names below a node: fillers vanish, mailboxes get a name that the peer
    /// computes too. Returns whether there was one of the latter.
    pub(super) fn settle(&mut self, side: Side, parent: NodeId) -> bool {
        let mut settled = false;
        for id in self.tree(side).children(parent).to_vec() {
            settled |= self.settle(side, id);
            let node = self.tree(side).node(id);
            if !node.temp {
                continue;
            }
            if node.is_dir() && !self.has_real(side, id, false) {
                self.kill(side, id);
            } else {
                self.finalize(side, id);
                settled = true;
            }
        }
        settled
    }

    fn kill(&mut self, side: Side, id: NodeId) {
        for child in self.tree(side).children(id).to_vec() {
            self.kill(side, child);
        }
        let existence = self.tree(side).node(id).existence;
        if side == Side::Local
            && self.sync_type != TreeSyncType::PreserveLocal
            && existence != Existence::Nonexistent
        {
            let name = self.local.path(id);
            self.emit(TreeOperation::DeleteDir { name });
        }
        let node = self.tree_mut(side).node_mut(id);
        node.existence = Existence::Nonexistent;
        node.temp = false;
    }

    fn finalize(&mut self, side: Side, id: NodeId) {
        let tree = self.tree(side);
        let node = tree.node(id);
        let suffix = if node.is_dir() {
            first_existing(tree, id).map_or_else(String::new, |below| {
                let mut hash = Md5::new();
                hash.update(tree.node(below).guid.0);
                hash.update(tree.node(below).name());
                hex(&hash.finalize())
            })
        } else {
            node.guid.to_string()
        };
        let keep = node.name().rfind('-').map_or(0, |dash| dash + 1);
        let keep = keep.min(SETTLED.saturating_sub(suffix.len() + 1));
        let mut name = cut(node.name(), keep).to_owned() + &suffix;
        let parent = tree.parent(id).unwrap_or(Tree::ROOT);
        while tree.child(parent, &name).is_some_and(|other| other != id) {
            increment(&mut name);
        }
        let rename = side == Side::Local && self.rules.rename_on_final && self.present(side, id);
        let old = rename.then(|| self.local.path(id));
        let tree = self.tree_mut(side);
        tree.detach(id);
        let node = tree.node_mut(id);
        node.name = name;
        node.temp = false;
        tree.attach(id, parent);
        if let Some(from) = old {
            let to = self.local.path(id);
            self.emit(TreeOperation::Rename { from, to });
        }
    }
}

/// The first existing node below a directory, a child before what is below it.
fn first_existing(tree: &Tree, id: NodeId) -> Option<NodeId> {
    tree.children(id).iter().find_map(|child| {
        if tree.node(*child).exists() {
            Some(*child)
        } else {
            first_existing(tree, *child)
        }
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// The next hex number; digits that are `f` stay. With no digit left, one is appended.
fn increment(name: &mut String) {
    let digits = name.trim_end_matches('f');
    let at = digits.len();
    let next = match digits.bytes().last() {
        Some(digit @ (b'0'..=b'8' | b'a'..=b'e')) => char::from(digit + 1),
        Some(b'9') => 'a',
        _ => {
            name.push('0');
            return;
        }
    };
    let mut buffer = [0; 4];
    name.replace_range(at - 1..at, next.encode_utf8(&mut buffer));
}
