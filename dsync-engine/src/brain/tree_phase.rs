//! Both trees travel, are merged, and this side carries out its part
//! (`spec/brain-and-tree.md` 5.1, 9 to 12).

use std::collections::HashSet;
use std::vec;

use dsync_proto::items::{Deletes, Item};
use dsync_proto::types::{Guid, MailErrorClass};

use super::errors::unexpected;
use super::states::is_stateful;
use super::{Brain, Phase};
use crate::RunError;
use crate::options::{Direction, Mode};
use crate::tree::{
    BranchRule, ExecutionContext, GuidRule, LocalTree, RemoteTree, Selection, TreeError,
    TreeOperation, TreeReceiver, TreeRules, TreeSyncType, WalkEntry, build_local, execute,
    mark_deletes, sync_trees, to_deletes, to_items, walk,
};

/// The trees while they travel.
pub(super) struct TreeExchange {
    local: LocalTree,
    selection: Selection,
    sent: bool,
    receiving: Receiving,
}

enum Receiving {
    Nodes(TreeReceiver),
    Deletes(Box<RemoteTree>),
}

/// The mailboxes of the merged tree, in the order in which they are synced.
#[derive(Default)]
pub(super) struct Walk {
    entries: vec::IntoIter<WalkEntry>,
    guids: HashSet<Guid>,
}

impl Walk {
    fn new(entries: Vec<WalkEntry>) -> Self {
        let guids = entries.iter().map(|entry| entry.guid).collect();
        Self {
            entries: entries.into_iter(),
            guids,
        }
    }

    pub(super) fn next(&mut self) -> Option<WalkEntry> {
        self.entries.next()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entry that comes after so many others.
    pub(super) fn get(&self, index: usize) -> Option<WalkEntry> {
        self.entries.as_slice().get(index).cloned()
    }

    /// What is still to come.
    pub(super) fn rest(&self) -> &[WalkEntry] {
        self.entries.as_slice()
    }

    /// Whether the mailbox is in the merged tree.
    pub(super) fn knows(&self, guid: Guid) -> bool {
        self.guids.contains(&guid)
    }
}

impl Brain {
    /// Reads the own tree. One of ours gets it at once. For a Dovecot it waits until its own is
    /// here, because our name hashes must use its separator; it never waits for ours. A source
    /// with unreadable mailboxes waits too: it says of them what its destination says.
    pub(super) fn start_trees(&mut self) -> Result<(), RunError> {
        let selection = Selection {
            sync_box: self.options.mailbox.clone(),
            sync_box_guid: self.options.mailbox_guid,
            exclude: self.options.exclude.clone(),
        };
        let new_guid = &mut *self.environment.new_guid;
        let local = build_local(&mut self.account, &selection, new_guid).map_err(local_error)?;
        let has_problems = !local.problems.is_empty();
        self.outcome.problems.extend(local.problems.iter().cloned());
        let mut trees = TreeExchange {
            local,
            selection,
            sent: false,
            receiving: Receiving::Nodes(TreeReceiver::default()),
        };
        let must_see_peer_first = self.direction == Direction::Send && has_problems;
        if self.peer_is_ours && !must_see_peer_first {
            let deletes = to_deletes(&trees.local, None);
            self.send_tree(&mut trees, deletes);
        }
        self.phase = Phase::Trees(Box::new(trees));
        Ok(())
    }

    fn send_tree(&mut self, trees: &mut TreeExchange, deletes: Deletes) {
        self.out.extend(to_items(&trees.local).map(Item::Node));
        self.out.push_back(Item::EndOfList);
        self.out.push_back(Item::Deletes(deletes));
        trees.sent = true;
    }

    pub(super) fn receive_tree_item(
        &mut self,
        mut trees: Box<TreeExchange>,
        item: Item,
    ) -> Result<(), RunError> {
        match (&mut trees.receiving, item) {
            (Receiving::Nodes(receiver), Item::Node(node)) => {
                receiver.receive(node).map_err(peer_error)?;
            }
            (Receiving::Nodes(receiver), Item::EndOfList) => {
                let receiver = std::mem::take(receiver);
                let remote = receiver
                    .finish(
                        &trees.local,
                        &mut self.account,
                        &trees.selection,
                        self.options.alt_char,
                    )
                    .map_err(peer_error)?;
                trees.receiving = Receiving::Deletes(Box::new(remote));
            }
            (Receiving::Deletes(_), Item::Deletes(deletes)) => {
                return self.merge_trees(*trees, &deletes);
            }
            (Receiving::Nodes(_), item) => return Err(unexpected(&item, "mailbox_tree_node")),
            (Receiving::Deletes(_), item) => return Err(unexpected(&item, "mailbox_delete")),
        }
        self.phase = Phase::Trees(trees);
        Ok(())
    }

    fn merge_trees(&mut self, mut trees: TreeExchange, peer: &Deletes) -> Result<(), RunError> {
        let Receiving::Deletes(remote) = std::mem::replace(
            &mut trees.receiving,
            Receiving::Nodes(TreeReceiver::default()),
        ) else {
            return Ok(());
        };
        let mut remote = *remote;
        let open = trees.local.shield(&remote);
        if let (Some(name), Direction::Send, Mode::Backup) =
            (open.first(), self.direction, self.options.mode)
        {
            return Err(RunError::local(
                MailErrorClass::Temporary,
                format!(
                    "mailbox {name} cannot be read, and the destination might delete its copy; \
                     repair it first, or leave it out with -x"
                ),
            ));
        }
        if !trees.sent {
            let deletes = to_deletes(&trees.local, Some((&remote, peer)));
            self.send_tree(&mut trees, deletes);
        }
        let mut local = trees.local;
        mark_deletes(&mut local, &mut remote, peer);
        let merge_type = match (self.direction, self.options.mode) {
            (Direction::Send, Mode::Backup) => TreeSyncType::PreserveLocal,
            (Direction::Receive, Mode::Backup) => TreeSyncType::PreserveRemote,
            _ => TreeSyncType::TwoWay,
        };
        let rules = match (self.peer_is_ours, self.peer.has_commit_interval) {
            (true, _) => TreeRules::with_ours(self.is_client),
            (false, true) => TreeRules::with_dovecot(BranchRule::V23),
            (false, false) => TreeRules::with_dovecot(BranchRule::V24),
        };
        let unwritten = (self.direction == Direction::Send).then(|| local.tree.clone());
        let merged = sync_trees(&mut local.tree, &mut remote.tree, merge_type, rules);
        if merged.endless {
            self.run_again("mailboxes were renamed on both sides in a circle".into());
        }
        if self.direction != Direction::Send {
            self.execute(&local, &merged.operations)?;
        }
        let names = unwritten.as_ref().unwrap_or(&local.tree);
        // What the merge has deleted is not there for the peer.
        let is_merged = |entry: &WalkEntry| {
            local.tree.find(entry.guid).is_some()
                || local.tree.lookup(&entry.name).is_some_and(|twin| {
                    let twin = local.tree.node(twin);
                    twin.is_mailbox() && names.find(twin.guid).is_none()
                })
        };
        self.walk = Walk::new(walk(names, &remote).filter(is_merged).collect());
        self.environment
            .progress
            .mailboxes_total
            .set(self.walk.len() as u64);
        self.phase = match self.has_survey() {
            true => Phase::Survey(Box::default()),
            false => Phase::Mailboxes,
        };
        if self.is_client && self.options.tree_only {
            self.out.push_back(Item::EndOfList);
            self.phase = Phase::AwaitFinish;
        }
        Ok(())
    }

    fn execute(&mut self, local: &LocalTree, operations: &[TreeOperation]) -> Result<(), RunError> {
        let guid_rule = match (self.direction, self.peer_is_ours) {
            (Direction::Receive, _) => GuidRule::TakeWanted,
            (_, true) => GuidRule::HigherWins,
            (_, false) => GuidRule::KeepOwn,
        };
        let context = ExecutionContext {
            guid_rule,
            tree_only: self.options.tree_only,
            local,
        };
        // A Dovecot client goes by its state and may not talk about what is new and empty here.
        // It is told to give up the state, so that its next run fills it.
        self.has_unfilled |= operations.iter().any(|operation| match operation {
            TreeOperation::CreateBox { guid, .. } => is_stateful(&self.states.get(*guid)),
            _ => false,
        });
        let report = execute(&mut self.account, operations, context);
        let counts = report.counts;
        let changes = counts.created + counts.deleted + counts.renamed + counts.subscriptions;
        self.environment
            .progress
            .tree_changes
            .add((changes + counts.guids) as u64);
        self.guid_aliases = report.aliases;
        self.renewed = report.renewed;
        if let Some(conflict) = report.conflicts.into_iter().next() {
            self.run_again(conflict);
        }
        match report.error {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }
}

fn local_error(error: TreeError) -> RunError {
    RunError::local(error.class(), error.to_string())
}

fn peer_error(error: TreeError) -> RunError {
    RunError {
        class: error.class(),
        ..RunError::peer(error.to_string())
    }
}
