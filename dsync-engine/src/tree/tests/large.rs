//! Ten thousand mailboxes: the work must grow with their number, not with its square.

use dsync_proto::items::Existence;
use dsync_proto::types::Guid;
use dsync_storage::Namespace;

use crate::tree::merge::sync_counted;
use crate::tree::{Tree, TreeRules, TreeSyncType};

const COUNT: u32 = 10_000;

fn guid(number: u32) -> Guid {
    let mut guid = [7; 16];
    guid[..4].copy_from_slice(&number.to_be_bytes());
    Guid(guid)
}

/// A tree with one mailbox per number.
fn tree(time: i64, name: impl Fn(u32) -> String) -> Tree {
    let mut tree = Tree::new('/', vec![Namespace::default()], Some(0));
    for number in 0..COUNT {
        let id = tree.ensure_path(&name(number));
        tree.set_guid(id, guid(number)).unwrap();
        let node = tree.node_mut(id);
        node.existence = Existence::Exists;
        node.last_renamed_or_created = time;
        node.namespace = Some(0);
    }
    tree
}

/// Merges and returns the number of operations; the work must be linear.
fn merge(mut local: Tree, mut remote: Tree, sync_type: TreeSyncType) -> usize {
    let rules = TreeRules::with_ours(true);
    let (result, steps) = sync_counted(&mut local, &mut remote, sync_type, rules, false);
    assert!(!result.endless);
    assert!(steps < 20 * u64::from(COUNT), "{steps} steps");
    result.operations.len()
}

#[test]
fn equal_trees() {
    let name = |n| format!("x/{}/{}/{n}", n / 1000, n / 100);
    let operations = merge(tree(0, name), tree(0, name), TreeSyncType::TwoWay);
    assert_eq!(operations, 0);
}

#[test]
fn all_new() {
    let empty = Tree::new('/', vec![Namespace::default()], Some(0));
    let operations = merge(empty, tree(0, |n| format!("a{n:05}")), TreeSyncType::TwoWay);
    assert_eq!(operations, COUNT as usize);
}

#[test]
fn all_renamed() {
    let operations = merge(
        tree(0, |n| format!("b{n:05}")),
        tree(5, |n| format!("a{n:05}")),
        TreeSyncType::TwoWay,
    );
    assert_eq!(operations, COUNT as usize);
}

#[test]
fn a_parent_without_mailbox_renamed() {
    for (local, remote) in [("p", "q"), ("q", "p")] {
        let operations = merge(
            tree(0, |n| format!("{local}/{n:05}")),
            tree(5, |n| format!("{remote}/{n:05}")),
            TreeSyncType::TwoWay,
        );
        assert_eq!(operations, COUNT as usize);
    }
}

#[test]
fn all_swapped_in_pairs() {
    let operations = merge(
        tree(5, |n| format!("{:05}", n ^ 1)),
        tree(0, |n| format!("{n:05}")),
        TreeSyncType::PreserveRemote,
    );
    assert_eq!(operations, COUNT as usize / 2 * 3);
}
