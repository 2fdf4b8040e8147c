//! What Dovecot decided for the trees in `spec/vectors`, decision by decision.

use dsync_proto::items::{DeleteEntry, Deletes, Existence};
use dsync_proto::types::Guid;
use dsync_storage::Namespace;
use serde_json::Value;

use crate::tree::deletes::mark_trees;
use crate::tree::names::PeerNames;
use crate::tree::{
    BranchRule, MergeResult, Tree, TreeOperation, TreeRules, TreeSyncType, sync_trees,
};

const VECTORS: &str = include_str!("../../../../spec/vectors/tree-sync.json");
const RANDOM: &str = include_str!("../../../../spec/vectors/tree-sync-random.jsonl");

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn guid(value: &Value) -> Guid {
    match value.as_str() {
        None | Some("") => Guid::ZERO,
        Some(hex) => Guid::from_hex(hex.as_bytes()).unwrap(),
    }
}

fn sync_type(name: &str) -> TreeSyncType {
    match name {
        "twoway" => TreeSyncType::TwoWay,
        "preserve_local" => TreeSyncType::PreserveLocal,
        "preserve_remote" => TreeSyncType::PreserveRemote,
        other => panic!("sync type {other}"),
    }
}

/// The two empty trees of one side.
fn empty_trees(prefix: &str) -> (Tree, Tree) {
    let mut namespaces = vec![Namespace::default()];
    if !prefix.is_empty() {
        namespaces[0].prefix = prefix.to_owned();
    }
    let root = prefix.is_empty().then_some(0);
    let local = Tree::new('/', namespaces, root);
    let remote = local.empty_peer();
    (local, remote)
}

struct Given<'a> {
    name: &'a str,
    guid: Guid,
    exists: bool,
    renamed: i64,
    subscribed: bool,
    subscription_change: i64,
    uid_validity: i64,
    uid_next: i64,
}

fn add(tree: &mut Tree, given: &Given<'_>) {
    let id = tree.ensure_path(given.name);
    tree.set_guid(id, given.guid).unwrap();
    let node = tree.node_mut(id);
    node.namespace = Some(0);
    node.existence = if given.exists {
        Existence::Exists
    } else {
        Existence::Nonexistent
    };
    node.last_renamed_or_created = given.renamed;
    node.subscribed = given.subscribed;
    node.last_subscription_change = given.subscription_change;
    node.uid_validity = given.uid_validity.try_into().unwrap();
    node.uid_next = given.uid_next.try_into().unwrap();
}

fn deletes() -> Deletes {
    Deletes {
        hierarchy_sep: b'/',
        escape_char: None,
        mailboxes: Vec::new(),
        dirs: Vec::new(),
        unsubscribes: Vec::new(),
    }
}

/// Marks and merges, as one side does.
fn merge(
    (local, remote): (&mut Tree, &mut Tree),
    (own, peer): (&Deletes, &Deletes),
    sync_type: TreeSyncType,
    rules: TreeRules,
) -> MergeResult {
    let form = PeerNames {
        separator: b'/',
        escape_char: None,
        alt_char: b'_',
    };
    mark_trees(local, remote, own, peer, form);
    sync_trees(local, remote, sync_type, rules)
}

/// Runs of deletions in one order, because theirs has no meaning.
fn normal(mut operations: Vec<TreeOperation>) -> Vec<TreeOperation> {
    let is_deletion = |op: &TreeOperation| matches!(op, TreeOperation::DeleteBox { .. });
    for run in operations.chunk_by_mut(|a, b| is_deletion(a) && is_deletion(b)) {
        if run.len() > 1 {
            run.sort_by_key(|op| format!("{op:?}"));
        }
    }
    operations
}

fn existence_name(existence: Existence) -> &'static str {
    match existence {
        Existence::Nonexistent => "n",
        Existence::Exists => "y",
        Existence::Deleted => "d",
    }
}

type Row = (String, String, &'static str, bool);

/// What is left of a tree: name, GUID, existence, subscription.
fn rows(tree: &Tree) -> Vec<Row> {
    let mut out: Vec<Row> = tree
        .paths()
        .filter(|(id, _)| {
            let node = tree.node(*id);
            node.existence != Existence::Nonexistent || node.subscribed
        })
        .map(|(id, path)| {
            let node = tree.node(id);
            let guid = if node.guid.is_zero() {
                String::new()
            } else {
                node.guid.to_string()
            };
            (path, guid, existence_name(node.existence), node.subscribed)
        })
        .collect();
    out.sort();
    out
}

/// An operation; what it is about stands in `object`: a GUID, or the new name.
fn operation(kind: &Value, name: &Value, object: &Value, uid_validity: &Value) -> TreeOperation {
    let name = text(name).to_owned();
    match text(kind) {
        "create_box" => TreeOperation::CreateBox {
            name,
            guid: guid(object),
            uid_validity: uid_validity.as_u64().unwrap().try_into().unwrap(),
        },
        "create_dir" => TreeOperation::CreateDir { name },
        "delete_box" => TreeOperation::DeleteBox {
            name,
            guid: guid(object),
        },
        "delete_dir" => TreeOperation::DeleteDir { name },
        "rename" => TreeOperation::Rename {
            from: name,
            to: text(object).to_owned(),
        },
        "subscribe" => TreeOperation::Subscribe {
            name,
            subscribed: true,
        },
        "unsubscribe" => TreeOperation::Subscribe {
            name,
            subscribed: false,
        },
        other => panic!("operation {other}"),
    }
}

mod json {
    use super::*;

    fn input(side: &Value, tree: &mut Tree) -> Deletes {
        for node in side["nodes"].as_array().unwrap() {
            add(
                tree,
                &Given {
                    name: text(&node["name"]),
                    guid: guid(&node["guid"]),
                    exists: node["existence"] == "exists",
                    renamed: node["last_renamed_or_created"].as_i64().unwrap(),
                    subscribed: node["subscribed"].as_bool().unwrap(),
                    subscription_change: node["last_subscription_change"].as_i64().unwrap(),
                    uid_validity: node["uid_validity"].as_i64().unwrap(),
                    uid_next: node["uid_next"].as_i64().unwrap(),
                },
            );
        }
        let list = |kind: &str| {
            side["deletes"][kind]
                .as_array()
                .unwrap()
                .iter()
                .map(|pair| DeleteEntry {
                    guid: guid(&pair[0]),
                    time: pair[1].as_i64().unwrap(),
                })
                .collect()
        };
        Deletes {
            mailboxes: list("mailboxes"),
            dirs: list("dirs"),
            unsubscribes: list("unsubscribes"),
            ..deletes()
        }
    }

    fn operation(value: &Value) -> TreeOperation {
        let key = match text(&value["op"]) {
            "rename" => "to",
            _ => "guid",
        };
        super::operation(
            &value["op"],
            &value["name"],
            &value[key],
            &value["uid_validity"],
        )
    }

    fn expected_rows(list: &Value) -> Vec<Row> {
        let mut out: Vec<Row> = list
            .as_array()
            .unwrap()
            .iter()
            .map(|node| {
                let existence = match text(&node["existence"]) {
                    "exists" => "y",
                    "nonexistent" => "n",
                    "deleted" => "d",
                    other => panic!("existence {other}"),
                };
                (
                    text(&node["name"]).to_owned(),
                    node["guid"].as_str().unwrap_or("").to_owned(),
                    existence,
                    node["subscribed"].as_bool().unwrap(),
                )
            })
            .collect();
        out.sort();
        out
    }

    /// One side of one run: input trees and what came out. Returns the number of checks made.
    fn check(id: &str, vector: &Value, run: &Value, side: &str, other: &str) {
        let prefix = text(&vector["namespace_prefix"]);
        let (mut local, mut remote) = empty_trees(prefix);
        let own = input(&run["input"][side], &mut local);
        let peer = input(&run["input"][other], &mut remote);
        let kind = sync_type(text(&vector["tree_sync_type"][side]));
        let result = &run["result"];
        let status = text(&result["status"][side]);
        let exact = TreeRules::dovecot(BranchRule::V23);
        let got = merge((&mut local, &mut remote), (&own, &peer), kind, exact);
        assert_eq!(got.endless, status == "rename-loop", "{id} {side}");
        if status == "panic" {
            assert!(kind != TreeSyncType::PreserveLocal || got.operations.is_empty());
            return;
        }
        let expected = result["operations"][side].as_array().unwrap();
        let expected: Vec<TreeOperation> = expected.iter().map(operation).collect();
        assert_eq!(normal(got.operations), normal(expected), "{id} {side}");
        if let Some(tree) = result["tree"].get(side).filter(|tree| !tree.is_null()) {
            assert_eq!(rows(&local), expected_rows(tree), "{id} {side}");
        }
    }

    #[test]
    fn all_vectors() {
        let file: Value = serde_json::from_str(VECTORS).unwrap();
        let vectors = file["vectors"].as_array().unwrap();
        assert_eq!(vectors.len(), 88);
        for vector in vectors {
            let id = text(&vector["id"]);
            check(id, vector, vector, "a", "b");
            check(id, vector, vector, "b", "a");
        }
    }
}

mod random {
    use super::*;

    fn input(list: &Value, tree: &mut Tree) {
        for node in list.as_array().unwrap() {
            add(
                tree,
                &Given {
                    name: text(&node[0]),
                    guid: guid(&node[1]),
                    exists: node[2] == "y",
                    renamed: node[3].as_i64().unwrap(),
                    subscribed: node[4] == 1,
                    subscription_change: node[5].as_i64().unwrap(),
                    uid_validity: node[6].as_i64().unwrap(),
                    uid_next: node[7].as_i64().unwrap(),
                },
            );
        }
    }

    fn list(value: &Value) -> Deletes {
        let mut out = deletes();
        for entry in value.as_array().unwrap() {
            let list = match text(&entry[0]) {
                "mailbox" => &mut out.mailboxes,
                "dir" => &mut out.dirs,
                "unsubscribe" => &mut out.unsubscribes,
                other => panic!("kind {other}"),
            };
            list.push(DeleteEntry {
                guid: guid(&entry[1]),
                time: entry[2].as_i64().unwrap(),
            });
        }
        out
    }

    fn operation(value: &Value) -> TreeOperation {
        super::operation(&value[0], &value[1], &value[2], &value[3])
    }

    fn expected_rows(list: &Value) -> Vec<Row> {
        let mut out: Vec<Row> = list
            .as_array()
            .unwrap()
            .iter()
            .map(|node| {
                let existence = match text(&node[2]) {
                    "n" => "n",
                    "y" => "y",
                    "d" => "d",
                    other => panic!("existence {other}"),
                };
                (
                    text(&node[0]).to_owned(),
                    text(&node[1]).to_owned(),
                    existence,
                    node[3] == 1,
                )
            })
            .collect();
        out.sort();
        out
    }

    #[test]
    fn all_cases() {
        let (mut cases, mut panics) = (0, 0);
        for line in RANDOM.lines() {
            let case: Value = serde_json::from_str(line).unwrap();
            cases += 1;
            let (mut local, mut remote) = empty_trees("");
            input(&case["local"], &mut local);
            input(&case["remote"], &mut remote);
            let own = list(&case["local_deletes"]);
            let peer = list(&case["remote_deletes"]);
            let kind = sync_type(text(&case["type"]));
            let exact = TreeRules::dovecot(BranchRule::V23);
            let got = merge((&mut local, &mut remote), (&own, &peer), kind, exact);
            let status = text(&case["status"]);
            assert_eq!(got.endless, status == "rename_loop", "case {cases}");
            if status == "panic" {
                // Dovecot gave no answer; ours only has to be one.
                panics += 1;
                continue;
            }
            let expected = case["operations"].as_array().unwrap();
            let expected: Vec<TreeOperation> = expected.iter().map(operation).collect();
            assert_eq!(
                normal(got.operations),
                normal(expected),
                "case {cases}: {line}"
            );
            assert_eq!(
                rows(&local),
                expected_rows(&case["final_local"]),
                "case {cases}"
            );
            assert_eq!(
                rows(&remote),
                expected_rows(&case["final_remote"]),
                "case {cases}"
            );
        }
        assert_eq!((cases, panics), (1400, 11));
    }
}
