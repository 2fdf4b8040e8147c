//! Takes the peer's tree and fits its names into the local account
//! (`spec/brain-and-tree.md` 9.5).

use std::collections::{BTreeMap, HashMap, HashSet};

use bstr::{BString, ByteSlice, ByteVec};
use dsync_proto::items::{Existence, TreeNode};
use dsync_proto::types::Guid;
use dsync_storage::{Account, Namespace};

use super::error::TreeError;
use super::local::LocalTree;
use super::names::{escape, plain_levels, separator_byte};
use super::node::{MAX_LEVELS, NodeId, Tree};
use super::select::Selection;

/// Most nodes that a peer may send, parents that it did not send included.
pub const MAX_NODES: usize = 1_000_000;

/// Longest level that is made here, in bytes: the limit of file systems.
const MAX_LEVEL_BYTES: usize = 255;

/// The peer's mailboxes under the names that they have or would have here.
#[derive(Clone, Debug)]
pub struct RemoteTree {
    /// The tree.
    pub tree: Tree,
    /// The peer's levels of names that had to be changed, and of everything below.
    originals: HashMap<NodeId, Vec<BString>>,
    pub(super) alt_char: u8,
}

impl RemoteTree {
    /// The levels of a name as the peer has them.
    pub(super) fn original_levels(&self, id: NodeId) -> Vec<BString> {
        self.originals
            .get(&id)
            .cloned()
            .unwrap_or_else(|| plain_levels(&self.tree, id))
    }
}

/// Collects the peer's `N` items.
///
/// Which of two names that become the same here keeps it must not depend on the order in which
/// they come, so names are only fitted when all are there.
#[derive(Debug)]
pub struct TreeReceiver {
    raw: Vec<Raw>,
}

#[derive(Debug, Default)]
struct Raw {
    children: BTreeMap<BString, usize>,
    item: Option<TreeNode>,
}

impl Default for TreeReceiver {
    fn default() -> Self {
        Self {
            raw: vec![Raw::default()],
        }
    }
}

impl TreeReceiver {
    /// Takes one `N` item.
    pub fn receive(&mut self, mut node: TreeNode) -> Result<(), TreeError> {
        let levels = std::mem::take(&mut node.name);
        if levels.is_empty() {
            return Err(TreeError::EmptyName);
        }
        if levels.len() > MAX_LEVELS {
            return Err(TreeError::TooDeep {
                levels: levels.len(),
            });
        }
        let mut at = 0;
        for level in levels {
            let next = self.raw.len();
            let Some(raw) = self.raw.get_mut(at) else {
                return Ok(());
            };
            at = *raw.children.entry(level).or_insert(next);
            if at == next {
                if next > MAX_NODES {
                    return Err(TreeError::TooManyNodes);
                }
                self.raw.push(Raw::default());
            }
        }
        if let Some(raw) = self.raw.get_mut(at) {
            raw.item = Some(node);
        }
        Ok(())
    }

    /// All items are there: fits the names into the local account and indexes the GUIDs.
    ///
    /// `account` is the one that `local` was built from; `alt_char` replaces what a name cannot
    /// hold here.
    pub fn finish(
        self,
        local: &LocalTree,
        account: &mut Account,
        selection: &Selection,
        alt_char: u8,
    ) -> Result<RemoteTree, TreeError> {
        let separator = local.tree.separator();
        let alt = char::from(alt_char);
        let alt = if alt.is_ascii_graphic() && alt != separator {
            alt
        } else if separator == '_' {
            '-'
        } else {
            '_'
        };
        let mut fit = Fit {
            receiver: &self,
            local,
            account,
            selection,
            alt,
            claimed: HashSet::new(),
            remote: RemoteTree {
                tree: local.tree.empty_peer(),
                originals: HashMap::new(),
                alt_char: separator_byte(alt),
            },
        };
        let mut levels = Vec::new();
        fit.children(0, Tree::ROOT, false, &mut levels)?;
        let mut remote = fit.remote;
        index_guids(&mut remote.tree)?;
        Ok(remote)
    }
}

fn index_guids(tree: &mut Tree) -> Result<(), TreeError> {
    let ids: Vec<NodeId> = tree.iter().collect();
    for id in ids {
        let guid = tree.node(id).guid;
        if let Err(first) = tree.set_guid(id, guid) {
            return Err(TreeError::DuplicateGuid {
                guid,
                first: tree.path(first),
                second: tree.path(id),
            });
        }
    }
    Ok(())
}

struct Fit<'a> {
    receiver: &'a TreeReceiver,
    local: &'a LocalTree,
    account: &'a mut Account,
    selection: &'a Selection,
    alt: char,
    /// Nodes that stand for a received name.
    claimed: HashSet<NodeId>,
    remote: RemoteTree,
}

impl Fit<'_> {
    /// Fits all children of a received node. `changed`: the name above was changed.
    fn children(
        &mut self,
        raw: usize,
        parent: NodeId,
        changed: bool,
        levels: &mut Vec<BString>,
    ) -> Result<(), TreeError> {
        let receiver = self.receiver;
        let Some(node) = receiver.raw.get(raw) else {
            return Ok(());
        };
        // Names that stay as they are come first, so that no other takes their place.
        let mut fitted = Vec::with_capacity(node.children.len());
        for (level, child) in &node.children {
            levels.push(level.clone());
            let (name, namespace) = self.fit(*child, parent, levels)?;
            levels.pop();
            let same = matches!(&name, Name::Level(name) if name.as_bytes() == level.as_bytes());
            fitted.push((!same, level, *child, name, namespace));
        }
        fitted.sort_by_key(|(altered, ..)| *altered);
        for (altered, level, child, name, namespace) in fitted {
            levels.push(level.clone());
            let id = self.place(child, parent, name, namespace);
            if altered || changed {
                self.remote.originals.insert(id, levels.clone());
            }
            self.children(child, id, altered || changed, levels)?;
            levels.pop();
        }
        Ok(())
    }

    /// The local name of one received level, and its namespace.
    fn fit(
        &mut self,
        raw: usize,
        parent: NodeId,
        levels: &[BString],
    ) -> Result<(Name, Option<usize>), TreeError> {
        let tree = &self.remote.tree;
        let separator = tree.separator();
        let found = namespace_of(tree.namespaces(), levels);
        let item = self.receiver.raw.get(raw).and_then(|raw| raw.item.as_ref());
        let Some((index, in_prefix)) = found else {
            if item.is_some() {
                return Err(TreeError::NoNamespace {
                    name: bstr::join(separator.to_string(), levels).into(),
                });
            }
            let level = levels.last().map(|level| level.to_str_lossy().into_owned());
            return Ok((Name::Level(level.unwrap_or_default()), None));
        };
        let level = levels.last().cloned().unwrap_or_default();
        if in_prefix {
            return Ok((Name::Level(level.to_str_lossy().into_owned()), Some(index)));
        }
        let Some(namespace) = tree.namespaces().get(index) else {
            return Ok((Name::Level(String::new()), None));
        };
        let clean = clean_level(&level, namespace, self.alt);
        let prefix = match parent {
            Tree::ROOT => String::new(),
            parent => tree.path(parent) + separator.encode_utf8(&mut [0; 4]),
        };
        let whole_name = || {
            let guid = item.map_or(Guid::ZERO, |item| item.mailbox_guid);
            let own = if guid.is_zero() {
                Guid::of_mailbox_name(&bstr::join([0], levels))
            } else {
                guid
            };
            Name::Whole(format!("{}{own}", namespace.prefix))
        };
        let name = self.valid_level(index, &prefix, clean, namespace.separator);
        Ok((name.map_or_else(whole_name, Name::Level), Some(index)))
    }

    /// Changes a level until the store accepts it; `None` if it never does.
    fn valid_level(
        &self,
        index: usize,
        prefix: &str,
        mut level: String,
        separator: char,
    ) -> Option<String> {
        let store = self.account.stores().nth(index)?;
        let accepts = |level: &str| {
            let name = format!("{prefix}{level}");
            self.local.tree.lookup(&name).is_some() || store.check_new_name(&name).is_ok()
        };
        let mut alt = [0; 4];
        let alt = &*self.alt.encode_utf8(&mut alt);
        let on_disk = store.storage_separator().filter(|c| *c != separator);
        if accepts(&level) {
            return Some(level);
        }
        if let Some(on_disk) = on_disk {
            level = level.replace(on_disk, alt);
            if accepts(&level) {
                return Some(level);
            }
        }
        if separator != '/' && on_disk != Some('/') {
            level = level.replace('/', alt);
            if accepts(&level) {
                return Some(level);
            }
        }
        level.insert(0, '_');
        accepts(&level).then_some(level)
    }

    /// Puts the data of a received node at its local name.
    fn place(
        &mut self,
        raw: usize,
        parent: NodeId,
        name: Name,
        namespace: Option<usize>,
    ) -> NodeId {
        let item = self.receiver.raw.get(raw).and_then(|raw| raw.item.as_ref());
        let tree = &mut self.remote.tree;
        let (parent, level) = match name {
            Name::Level(level) => (parent, level),
            Name::Whole(name) => {
                let mut levels: Vec<&str> = name.split(tree.separator()).collect();
                let level = levels.pop().unwrap_or_default().to_owned();
                (tree.ensure(levels), level)
            }
        };
        let child = |tree: &mut Tree, level: &str| {
            tree.child(parent, level)
                .unwrap_or_else(|| tree.add_child(parent, level))
        };
        let mut id = child(tree, &level);
        let mailbox = item.filter(|item| !item.mailbox_guid.is_zero());
        if let Some(item) = mailbox
            && self.claimed.contains(&id)
            && !tree.node(id).is_dir()
        {
            let suffix = format!("-{}", item.mailbox_guid);
            let name = cut(&level, MAX_LEVEL_BYTES - suffix.len()).to_owned() + &suffix;
            tracing::warn!(
                "two of the peer's mailboxes would have the name {} here, one becomes {name}",
                tree.path(id),
            );
            id = child(tree, &name);
        }
        let merged = !self.claimed.insert(id);
        tree.node_mut(id).namespace = namespace.or(tree.node(id).namespace);
        if let Some(item) = item {
            self.fill(id, item, merged);
        }
        id
    }

    fn fill(&mut self, id: NodeId, item: &TreeNode, merged: bool) {
        let tree = &mut self.remote.tree;
        let path = tree.path(id);
        let special = self.local.special_use.get(&path);
        let separator = tree.separator();
        let accepted = self
            .selection
            .accepts(&path, separator, special.map_or(&[], Vec::as_slice))
            && (item.mailbox_guid.is_zero() || self.selection.accepts_guid(item.mailbox_guid));
        let node = tree.node_mut(id);
        if accepted && (!merged || !item.mailbox_guid.is_zero()) {
            node.existence = item.existence;
            node.guid = item.mailbox_guid;
            node.uid_validity = item.uid_validity;
            node.uid_next = item.uid_next;
        } else if accepted && item.existence == Existence::Exists {
            node.existence = Existence::Exists;
        }
        if accepted {
            node.last_renamed_or_created = node
                .last_renamed_or_created
                .max(item.last_renamed_or_created);
        }
        if self.selection.accepts_subscription(&path, separator) {
            node.subscribed |= item.subscribed;
            node.last_subscription_change = node
                .last_subscription_change
                .max(item.last_subscription_change);
        }
    }
}

/// A fitted name.
enum Name {
    /// A level below the parent's local name.
    Level(String),
    /// A full name, because the level is impossible here in any form.
    Whole(String),
}

/// Position of the namespace with the longest prefix that fits, and whether the name is a part
/// of the prefix itself.
fn namespace_of(namespaces: &[Namespace], levels: &[BString]) -> Option<(usize, bool)> {
    if let [only] = levels
        && *only == "INBOX"
        && let Some(index) = namespaces.iter().position(|ns| ns.inbox)
    {
        return Some((index, true));
    }
    namespaces
        .iter()
        .enumerate()
        .filter_map(|(index, namespace)| {
            let prefix = namespace.prefix_name();
            if prefix.is_empty() {
                return Some((0, index, false));
            }
            let parts = prefix.split(namespace.separator);
            let count = parts.clone().count();
            let fits = count <= levels.len()
                && parts
                    .zip(levels)
                    .all(|(part, level)| *level == part.as_bytes());
            fits.then_some((count, index, levels.len() == count))
        })
        .max()
        .map(|(_, index, in_prefix)| (index, in_prefix))
}

/// Steps 2 and 3 of 9.5: separators, control characters, invalid UTF-8.
fn clean_level(level: &[u8], namespace: &Namespace, alt: char) -> String {
    let separator = separator_byte(namespace.separator);
    let mut bytes: BString = match namespace.escape_char {
        Some(escape_char) => escape(level, separator_byte(escape_char), separator),
        None => level.into(),
    };
    for byte in bytes.iter_mut() {
        if *byte < 0x20 || *byte == separator {
            *byte = separator_byte(alt);
        }
    }
    if bytes.is_empty() {
        bytes.push_char(alt);
    }
    let mut out = String::with_capacity(bytes.len());
    let mut in_invalid = false;
    for chunk in bytes.utf8_chunks() {
        in_invalid &= chunk.valid().is_empty();
        out.push_str(chunk.valid());
        if !chunk.invalid().is_empty() && !in_invalid {
            out.push(char::REPLACEMENT_CHARACTER);
            in_invalid = true;
        }
    }
    out
}

/// The longest start of `text` with at most `max` bytes.
pub(super) fn cut(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or(text)
}
