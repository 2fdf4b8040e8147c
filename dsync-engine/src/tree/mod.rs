//! The mailbox tree: what exists here, what exists there, and what has to be done about it.
//!
//! In the order of a run:
//!
//! 1. [`build_local`] reads the account; [`to_items`] and [`to_deletes`] say it to the peer.
//! 2. [`TreeReceiver`] collects the peer's nodes and makes a [`RemoteTree`] of them.
//! 3. [`LocalTree::shield`] and [`mark_deletes`] prepare both trees, [`sync_trees`] merges them:
//!    a pure function of two trees, with a list of [`TreeOperation`]s as its result.
//! 4. [`execute`] carries the operations out; [`walk`] gives the mailboxes to sync.

mod deletes;
mod error;
mod execute;
mod local;
mod merge;
mod names;
mod node;
mod operation;
mod remote;
mod select;
mod walk;
mod wire;

#[cfg(test)]
mod tests;

pub use deletes::mark_deletes;
pub use error::TreeError;
pub use execute::{
    ExecutionContext, ExecutionCounts, ExecutionReport, GuidAlias, GuidRule, adopt, execute,
};
pub(crate) use local::is_absent;
pub use local::{LocalTree, build_local};
pub use merge::sync_trees;
pub use node::{MAX_LEVELS, Node, NodeId, Tree};
pub use operation::{
    BranchRule, EndlessRenames, MergeResult, TreeOperation, TreeRules, TreeSyncType,
};
pub use remote::{MAX_NODES, RemoteTree, TreeReceiver};
pub use select::Selection;
pub use walk::{RemoteCounters, WalkEntry, walk};
pub use wire::{to_deletes, to_items};
