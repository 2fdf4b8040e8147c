//! What must hold for any trees, however absurd.

use std::collections::BTreeSet;

use dsync_proto::items::{DeleteEntry, Deletes, Existence};
use dsync_proto::types::Guid;
use dsync_storage::Namespace;
use proptest::prelude::*;

use crate::tree::deletes::mark_trees;
use crate::tree::merge::sync_counted;
use crate::tree::names::PeerNames;
use crate::tree::{BranchRule, Tree, TreeOperation, TreeRules, TreeSyncType, sync_trees};

/// One node of an arbitrary tree.
#[derive(Clone, Debug)]
struct Given {
    name: String,
    guid: u8,
    existence: Existence,
    time: i64,
    subscribed: bool,
    subscription_time: i64,
    counters: (u32, u32),
    unsynced: bool,
}

fn any_name() -> impl Strategy<Value = String> {
    let level = prop_oneof![
        8 => "[0-3]",
        1 => Just("INBOX".to_owned()),
        1 => Just("0-temp-1".to_owned()),
        1 => Just("ä".repeat(60)),
    ];
    prop::collection::vec(level, 1..4).prop_map(|levels| levels.join("/"))
}

fn any_node() -> impl Strategy<Value = Given> {
    let existence = prop_oneof![
        1 => Just(Existence::Nonexistent),
        6 => Just(Existence::Exists),
        1 => Just(Existence::Deleted),
    ];
    (
        any_name(),
        0_u8..10,
        existence,
        prop_oneof![Just(0), 1_i64..6, Just(i64::MAX), Just(-7)],
        any::<bool>(),
        0_i64..4,
        (1_u32..3, 1_u32..3),
        prop::bool::weighted(0.05),
    )
        .prop_map(
            |(name, guid, existence, time, subscribed, subscription_time, counters, unsynced)| {
                Given {
                    name,
                    guid,
                    existence,
                    time,
                    subscribed,
                    subscription_time,
                    counters,
                    unsynced,
                }
            },
        )
}

fn any_nodes() -> impl Strategy<Value = Vec<Given>> {
    prop::collection::vec(any_node(), 0..14)
}

fn any_deletes() -> impl Strategy<Value = Deletes> {
    let time = || prop_oneof![0_i64..6, Just(i64::MAX)];
    let by_guid = (1_u8..10, time()).prop_map(|(guid, time)| DeleteEntry {
        guid: Guid([guid; 16]),
        time,
    });
    let by_name = || {
        let entry = (any_name(), time()).prop_map(|(name, time)| DeleteEntry {
            guid: Guid::of_mailbox_name(name.as_bytes()),
            time,
        });
        prop::collection::vec(entry, 0..3)
    };
    (prop::collection::vec(by_guid, 0..3), by_name(), by_name()).prop_map(
        |(mailboxes, dirs, unsubscribes)| Deletes {
            hierarchy_sep: b'/',
            escape_char: None,
            mailboxes,
            dirs,
            unsubscribes,
        },
    )
}

fn tree(nodes: &[Given], is_local: bool) -> Tree {
    let local = Tree::new('/', vec![Namespace::default()], Some(0));
    let mut tree = if is_local { local } else { local.empty_peer() };
    for given in nodes {
        let id = tree.ensure_path(&given.name);
        // A GUID that is taken stays where it is.
        let _ = tree.set_guid(id, Guid([given.guid; 16]));
        let node = tree.node_mut(id);
        node.namespace = Some(0);
        node.existence = given.existence;
        node.last_renamed_or_created = given.time;
        node.subscribed = given.subscribed;
        node.last_subscription_change = given.subscription_time;
        (node.uid_validity, node.uid_next) = given.counters;
        node.unsynced = is_local && given.unsynced;
    }
    tree
}

fn any_type() -> impl Strategy<Value = TreeSyncType> {
    prop_oneof![
        2 => Just(TreeSyncType::TwoWay),
        1 => Just(TreeSyncType::PreserveLocal),
        1 => Just(TreeSyncType::PreserveRemote),
    ]
}

fn any_rules() -> impl Strategy<Value = TreeRules> {
    prop_oneof![
        Just(TreeRules::dovecot(BranchRule::V23)),
        Just(TreeRules::dovecot(BranchRule::V24)),
        Just(TreeRules::with_dovecot(BranchRule::V23)),
        Just(TreeRules::with_dovecot(BranchRule::V24)),
        Just(TreeRules::with_ours(true)),
        Just(TreeRules::with_ours(false)),
    ]
}

const NAMES: PeerNames = PeerNames {
    separator: b'/',
    escape_char: None,
    alt_char: b'_',
};

fn shape(tree: &Tree) -> Vec<(String, Guid, Existence, bool)> {
    tree.paths()
        .map(|(id, path)| {
            let node = tree.node(id);
            (path, node.guid, node.existence, node.subscribed)
        })
        .collect()
}

/// Names of an operation.
fn names(operation: &TreeOperation) -> Vec<&str> {
    match operation {
        TreeOperation::CreateBox { name, .. }
        | TreeOperation::CreateDir { name }
        | TreeOperation::DeleteBox { name, .. }
        | TreeOperation::DeleteDir { name }
        | TreeOperation::Subscribe { name, .. } => vec![name],
        TreeOperation::Rename { from, to } => vec![from, to],
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3000) })]

    /// It ends without a panic; what is remembered between renames changes no decision; the
    /// source of a one-way run does nothing; unreadable mailboxes are left alone.
    #[test]
    fn any_trees(
        nodes in (any_nodes(), any_nodes()),
        deletes in (any_deletes(), any_deletes()),
        sync_type in any_type(),
        rules in any_rules(),
    ) {
        let mut local = tree(&nodes.0, true);
        let mut remote = tree(&nodes.1, false);
        mark_trees(&mut local, &mut remote, &deletes.0, &deletes.1, NAMES);
        let mut unreadable: BTreeSet<String> = local
            .paths()
            .filter(|(id, _)| local.node(*id).unsynced)
            .map(|(_, path)| path)
            .collect();
        let (mut plain_local, mut plain_remote) = (local.clone(), remote.clone());
        let result = sync_trees(&mut local, &mut remote, sync_type, rules);
        let (plain, _) =
            sync_counted(&mut plain_local, &mut plain_remote, sync_type, rules, true);
        // Endless renames are cut off by the number of steps, which differs.
        if !result.endless && !plain.endless {
            prop_assert_eq!(&result, &plain);
            prop_assert_eq!(shape(&local), shape(&plain_local));
            prop_assert_eq!(shape(&remote), shape(&plain_remote));
        }
        if sync_type == TreeSyncType::PreserveLocal {
            prop_assert!(result.operations.is_empty());
        }
        for operation in &result.operations {
            let is_subscription = matches!(operation, TreeOperation::Subscribe { .. });
            for name in names(operation) {
                prop_assert!(is_subscription || !unreadable.contains(name), "{:?}", operation);
            }
            if let TreeOperation::Rename { from, to } = operation {
                // It goes along with a parent.
                unreadable = unreadable.iter().map(|name| moved(name, from, to)).collect();
            }
        }
    }
}

fn moved(name: &str, from: &str, to: &str) -> String {
    match name.strip_prefix(from) {
        Some(rest) if rest.starts_with('/') => format!("{to}{rest}"),
        _ => name.to_owned(),
    }
}
