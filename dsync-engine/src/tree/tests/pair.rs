//! Two stores in memory that exchange and merge their trees, without a wire.

use dsync_proto::items::{Deletes, TreeNode};
use dsync_proto::types::Guid;
use dsync_storage::memory::{MemoryOptions, MemoryStore};
use dsync_storage::{Account, Store};

use crate::tree::{
    ExecutionContext, ExecutionReport, GuidRule, LocalTree, MergeResult, Selection, TreeReceiver,
    TreeRules, TreeSyncType, build_local, execute, mark_deletes, sync_trees, to_deletes, to_items,
};

/// Account of one store.
pub(super) fn account(store: &MemoryStore) -> Account {
    Account::new(vec![Box::new(store.clone()) as Box<dyn Store>])
}

/// GUIDs that are made here: `next` counts them.
pub(super) fn new_guids(next: &mut u8) -> impl FnMut() -> Guid {
    move || {
        *next += 1;
        Guid([*next; 16])
    }
}

/// Builds the tree of a store.
pub(super) fn build(account: &mut Account, selection: &Selection) -> LocalTree {
    let mut next = 0xe0;
    build_local(account, selection, &mut new_guids(&mut next)).unwrap()
}

/// What a side says and decides.
pub(super) struct SideResult {
    pub(super) items: Vec<TreeNode>,
    pub(super) deletes: Deletes,
    pub(super) merge: MergeResult,
    pub(super) local: LocalTree,
    pub(super) report: ExecutionReport,
}

/// How one side acts.
#[derive(Clone, Copy)]
pub(super) struct Role {
    pub(super) sync_type: TreeSyncType,
    pub(super) rules: TreeRules,
    /// Operations are carried out.
    pub(super) applies: bool,
}

impl Role {
    pub(super) fn new(sync_type: TreeSyncType, rules: TreeRules) -> Self {
        Self {
            sync_type,
            rules,
            applies: sync_type != TreeSyncType::PreserveLocal,
        }
    }
}

/// One tree phase of a run: both read their stores, then both merge and execute.
pub(super) fn tree_phase(stores: [&MemoryStore; 2], roles: [Role; 2]) -> [SideResult; 2] {
    let everything = Selection::default();
    let mut accounts = stores.map(account);
    let locals = accounts
        .each_mut()
        .map(|account| build(account, &everything));
    let items = [0, 1].map(|side| to_items(&locals[side]).collect::<Vec<_>>());
    let deletes = [0, 1].map(|side| to_deletes(&locals[side], None));
    let mut sides = locals.into_iter().zip(roles).zip(accounts);
    [0, 1].map(|side| {
        let ((mut local, role), mut account) = sides.next().unwrap();
        let mut receiver = TreeReceiver::default();
        for item in &items[1 - side] {
            receiver.receive(item.clone()).unwrap();
        }
        let mut remote = receiver
            .finish(&local, &mut account, &everything, b'_')
            .unwrap();
        local.shield(&remote);
        mark_deletes(&mut local, &mut remote, &deletes[1 - side]);
        let merge = sync_trees(
            &mut local.tree,
            &mut remote.tree,
            role.sync_type,
            role.rules,
        );
        let context = ExecutionContext {
            guid_rule: match role.sync_type {
                TreeSyncType::PreserveRemote => GuidRule::TakeWanted,
                _ => GuidRule::HigherWins,
            },
            tree_only: false,
            local: &local,
        };
        let operations = if role.applies {
            &merge.operations[..]
        } else {
            &[]
        };
        let report = execute(&mut account, operations, context);
        SideResult {
            items: items[side].clone(),
            deletes: deletes[side].clone(),
            merge,
            local,
            report,
        }
    })
}

/// An empty store like sdbox or like Maildir++.
pub(super) fn store(kind: &str, prefix: &str, seed: u64) -> MemoryStore {
    let mut options = match kind {
        "sdbox" => MemoryOptions::dbox(seed),
        "maildir" => MemoryOptions::maildir(seed),
        other => panic!("storage {other}"),
    };
    prefix.clone_into(&mut options.namespace.prefix);
    MemoryStore::new(options)
}

/// Names with GUIDs, directories and subscriptions of a store, one line each.
pub(super) fn names(store: &MemoryStore) -> Vec<String> {
    let dump = store.dump();
    let mut out: Vec<String> = dump
        .mailboxes
        .iter()
        .map(|(name, mailbox)| format!("{name} {}", mailbox.guid))
        .collect();
    out.extend(dump.directories.iter().map(|name| format!("{name} dir")));
    out.extend(
        dump.subscriptions
            .iter()
            .map(|name| format!("{name} subscribed")),
    );
    out.sort();
    out
}
