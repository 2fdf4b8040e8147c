//! The tree itself: nodes in an arena, siblings in byte order, an index by GUID.

use std::collections::HashMap;
use std::sync::Arc;

use dsync_proto::items::Existence;
use dsync_proto::types::{Guid, Uid};
use dsync_storage::{Account, Namespace};

/// Deepest mailbox name, in levels. No file system path can hold much more than this, and it
/// bounds the recursion of everything that walks a tree.
pub const MAX_LEVELS: usize = 256;

/// Handle of a node; valid only in the tree that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);

impl NodeId {
    /// Position in tables beside the tree.
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// One hierarchy level of one name (`spec/brain-and-tree.md` 9.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    pub(super) name: String,
    pub(super) parent: Option<NodeId>,
    pub(super) children: Vec<NodeId>,
    /// GUID of the mailbox; zero for a directory or for nothing.
    pub guid: Guid,
    /// UIDVALIDITY, 0 if unknown.
    pub uid_validity: u32,
    /// UIDNEXT, 0 if unknown.
    pub uid_next: Uid,
    /// Whether it exists; with [`Existence::Exists`] and no GUID it is a directory.
    pub existence: Existence,
    /// Last rename, or creation as a directory: seconds since the epoch, 0 if unknown.
    pub last_renamed_or_created: i64,
    /// Whether the name is subscribed, independent of its existence.
    pub subscribed: bool,
    /// Last (un)subscription: seconds since the epoch, 0 if unknown.
    pub last_subscription_change: i64,
    /// Position in [`Account`] of the store that serves it.
    pub namespace: Option<usize>,
    /// A mailbox is there but could not be read in this run: nobody may touch it.
    pub unsynced: bool,
    /// It has a temporary name of the rename algorithm.
    pub(super) temp: bool,
}

impl Node {
    /// Name of this level.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this is no mailbox: a directory, a filler, a carrier of a subscription.
    pub fn is_dir(&self) -> bool {
        self.guid.is_zero()
    }

    /// Whether this is an existing mailbox.
    pub fn is_mailbox(&self) -> bool {
        self.exists() && !self.is_dir()
    }

    /// Whether it exists as mailbox or directory.
    pub fn exists(&self) -> bool {
        self.existence == Existence::Exists
    }
}

/// The mailboxes, directories and subscriptions of one side.
///
/// Siblings are always in byte order of their names.
#[derive(Clone, Debug)]
pub struct Tree {
    nodes: Vec<Node>,
    by_guid: HashMap<Guid, NodeId>,
    separator: char,
    namespaces: Arc<[Namespace]>,
}

impl Tree {
    /// The root: a node without a name that stands for no mailbox.
    pub const ROOT: NodeId = NodeId(0);

    /// An empty tree. `root_namespace` is the position of the namespace without prefix; `None`
    /// in a received tree.
    pub fn new(
        separator: char,
        namespaces: impl Into<Arc<[Namespace]>>,
        root_namespace: Option<usize>,
    ) -> Self {
        let root = Node {
            namespace: root_namespace,
            ..Node::default()
        };
        Self {
            nodes: vec![root],
            by_guid: HashMap::new(),
            separator,
            namespaces: namespaces.into(),
        }
    }

    /// An empty tree with the namespaces of an account. They all use one separator; the caller
    /// has seen to that.
    pub fn for_account(account: &Account) -> Self {
        let namespaces: Vec<Namespace> = account
            .stores()
            .map(|store| store.namespace().clone())
            .collect();
        let separator = namespaces.first().map_or('/', |first| first.separator);
        let root = namespaces.iter().position(|ns| ns.prefix.is_empty());
        Self::new(separator, namespaces, root)
    }

    /// An empty tree for the peer's names, with the namespaces of this one.
    pub fn empty_peer(&self) -> Self {
        Self::new(self.separator, Arc::clone(&self.namespaces), None)
    }

    /// The hierarchy separator in full names.
    pub fn separator(&self) -> char {
        self.separator
    }

    /// The namespaces that [`Node::namespace`] points into.
    pub fn namespaces(&self) -> &[Namespace] {
        &self.namespaces
    }

    /// The namespace of a node.
    pub fn namespace_of(&self, id: NodeId) -> Option<&Namespace> {
        self.namespaces.get(self.node(id).namespace?)
    }

    /// The node with this handle.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// The node with this handle. GUIDs are changed with [`Tree::set_guid`] while building.
    pub fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }

    /// Parent; `None` only for the root.
    pub fn parent(&self, id: NodeId) -> Option<NodeId> {
        self.node(id).parent
    }

    /// Children in byte order of their names.
    pub fn children(&self, id: NodeId) -> &[NodeId] {
        &self.node(id).children
    }

    /// Number of nodes ever made, the root included.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Number of nodes that have children.
    pub(super) fn parents(&self) -> usize {
        let is_parent = |node: &&Node| !node.children.is_empty();
        self.nodes.iter().filter(is_parent).count()
    }

    /// Whether there is nothing but the root.
    pub fn is_empty(&self) -> bool {
        self.children(Self::ROOT).is_empty()
    }

    /// Full name with separators; empty for the root.
    pub fn path(&self, id: NodeId) -> String {
        let mut levels = self.levels(id);
        let mut out = String::new();
        if let Some(first) = levels.first() {
            out.push_str(first);
        }
        for level in levels.drain(..).skip(1) {
            out.push(self.separator);
            out.push_str(level);
        }
        out
    }

    /// The levels of the full name, outermost first.
    pub fn levels(&self, id: NodeId) -> Vec<&str> {
        let mut levels: Vec<&str> = self
            .upwards(id)
            .filter(|at| *at != Self::ROOT)
            .map(|at| self.node(at).name())
            .collect();
        levels.reverse();
        levels
    }

    /// The node, its parent, and so on up to the root.
    pub fn upwards(&self, id: NodeId) -> impl Iterator<Item = NodeId> {
        std::iter::successors(Some(id), |at| self.parent(*at))
    }

    /// Whether `above` is `id` or an ancestor of it.
    pub fn is_at_or_below(&self, id: NodeId, above: NodeId) -> bool {
        self.upwards(id).any(|at| at == above)
    }

    /// The child with this name.
    pub fn child(&self, parent: NodeId, name: &str) -> Option<NodeId> {
        let children = self.children(parent);
        let at = children.partition_point(|child| self.node(*child).name() < name);
        let found = *children.get(at)?;
        (self.node(found).name() == name).then_some(found)
    }

    /// The node with this full name.
    pub fn lookup(&self, path: &str) -> Option<NodeId> {
        path.split(self.separator)
            .try_fold(Self::ROOT, |parent, level| self.child(parent, level))
    }

    /// The node with these levels, made if missing; new nodes do not exist and belong to the
    /// namespace of their parent.
    pub fn ensure<'a>(&mut self, levels: impl IntoIterator<Item = &'a str>) -> NodeId {
        levels.into_iter().fold(Self::ROOT, |parent, level| {
            self.child(parent, level)
                .unwrap_or_else(|| self.add_child(parent, level))
        })
    }

    /// Like [`Tree::ensure`] for a full name.
    pub fn ensure_path(&mut self, path: &str) -> NodeId {
        self.ensure(path.split(self.separator))
    }

    /// A new child, even if there is one of this name.
    pub(super) fn add_child(&mut self, parent: NodeId, name: &str) -> NodeId {
        // More than four billion nodes cannot be: the limits of the wire come long before.
        let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.nodes.push(Node {
            name: name.to_owned(),
            namespace: self.node(parent).namespace,
            ..Node::default()
        });
        self.attach(id, parent);
        id
    }

    /// Takes a node out of its parent's children.
    pub(super) fn detach(&mut self, id: NodeId) {
        let Some(parent) = self.node_mut(id).parent.take() else {
            return;
        };
        if let Some(at) = self.position(parent, id) {
            self.node_mut(parent).children.remove(at);
        }
    }

    /// Puts a detached node among the children of `parent`.
    pub(super) fn attach(&mut self, id: NodeId, parent: NodeId) {
        let name = self.node(id).name();
        let children = self.children(parent);
        let at = match children.last() {
            Some(last) if self.node(*last).name() > name => {
                children.partition_point(|child| self.node(*child).name() <= name)
            }
            _ => children.len(),
        };
        self.node_mut(id).parent = Some(parent);
        self.node_mut(parent).children.insert(at, id);
    }

    /// Where a child stands among its siblings.
    pub(super) fn position(&self, parent: NodeId, id: NodeId) -> Option<usize> {
        let name = self.node(id).name();
        let children = self.children(parent);
        let from = children.partition_point(|child| self.node(*child).name() < name);
        let offset = children
            .get(from..)?
            .iter()
            .position(|child| *child == id)?;
        Some(from + offset)
    }

    /// The node with this GUID according to the index.
    pub fn find(&self, guid: Guid) -> Option<NodeId> {
        self.by_guid.get(&guid).copied()
    }

    /// Sets the GUID of a node and enters it into the index. If another node has this GUID
    /// already, nothing changes and that node is returned.
    pub fn set_guid(&mut self, id: NodeId, guid: Guid) -> Result<(), NodeId> {
        if let Some(other) = self.find(guid)
            && other != id
        {
            return Err(other);
        }
        self.unindex(id);
        self.node_mut(id).guid = guid;
        if !guid.is_zero() {
            self.by_guid.insert(guid, id);
        }
        Ok(())
    }

    /// Removes the GUID of a node from the index, if the index means this node.
    pub(super) fn unindex(&mut self, id: NodeId) {
        let guid = self.node(id).guid;
        if self.find(guid) == Some(id) {
            self.by_guid.remove(&guid);
        }
    }

    /// All nodes but the root, depth first, parents before children, siblings in byte order.
    pub fn iter(&self) -> impl Iterator<Item = NodeId> {
        let mut stack: Vec<NodeId> = self.children(Self::ROOT).iter().rev().copied().collect();
        std::iter::from_fn(move || {
            let id = stack.pop()?;
            stack.extend(self.children(id).iter().rev());
            Some(id)
        })
    }

    /// Like [`Tree::iter`], with full names that are built without going up for each node.
    pub fn paths(&self) -> impl Iterator<Item = (NodeId, String)> {
        let mut stack: Vec<(NodeId, String)> = Vec::new();
        let push = |stack: &mut Vec<(NodeId, String)>, parent: NodeId, prefix: &str| {
            for child in self.children(parent).iter().rev() {
                let mut path = String::with_capacity(prefix.len() + 16);
                path.push_str(prefix);
                if parent != Self::ROOT {
                    path.push(self.separator);
                }
                path.push_str(self.node(*child).name());
                stack.push((*child, path));
            }
        };
        push(&mut stack, Self::ROOT, "");
        std::iter::from_fn(move || {
            let (id, path) = stack.pop()?;
            push(&mut stack, id, &path);
            Some((id, path))
        })
    }
}
