//! The vectors once more, with stores: our tree, our operations and the stores after the run
//! must be those of Dovecot.

use std::collections::BTreeSet;

use dsync_proto::items::{DeleteEntry, Existence};
use dsync_proto::types::Guid;
use dsync_storage::memory::{MemoryStore, NewMail};
use serde_json::Value;

use super::pair::{Role, SideResult, names, store, tree_phase};
use crate::tree::{BranchRule, TreeRules, TreeSyncType};

const VECTORS: &str = include_str!("../../../../spec/vectors/tree-sync.json");

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// One step of the setup. Records of the mailbox log get the time that the vector says.
fn step(store: &MemoryStore, step: &Value) {
    let user = store.user();
    let arg = |at: usize| text(&step[at]);
    let exists = |name: &str| store.dump().mailboxes.contains_key(name);
    if let Some(time) = step[1].as_i64() {
        user.set_clock(time);
    }
    match arg(0) {
        "create" => user.create(arg(2)).unwrap(),
        "mkdir" => user.create_directory(arg(2)).unwrap(),
        "rename" => user.rename(arg(2), arg(3)).unwrap(),
        "delete" => user.delete(arg(2)).unwrap(),
        "subscribe" => user.subscribe(arg(2)),
        "unsubscribe" => user.unsubscribe(arg(2)),
        "save" => {
            for number in 0..step[2].as_u64().unwrap() {
                let subject = format!("{}{number}", arg(3));
                user.save(arg(1), NewMail::with_subject(&subject)).unwrap();
            }
        }
        "guid" => {
            if !exists(arg(1)) {
                user.create(arg(1)).unwrap();
            }
            let guid = Guid::from_hex(arg(2).as_bytes()).unwrap();
            user.set_guid(arg(1), guid).unwrap();
        }
        "uidvalidity" => {
            let value = step[2].as_u64().unwrap().try_into().unwrap();
            user.set_uid_validity(arg(1), value).unwrap();
        }
        "uidnext" => {
            let value = step[2].as_u64().unwrap().try_into().unwrap();
            user.raise_uid_next(arg(1), value).unwrap();
        }
        other => panic!("step {other}"),
    }
}

fn steps(store: &MemoryStore, list: &Value) {
    for entry in list.as_array().unwrap() {
        step(store, entry);
    }
}

fn prepare(vector: &Value) -> [MemoryStore; 2] {
    let prefix = text(&vector["namespace_prefix"]);
    let kinds = ["a", "b"].map(|side| text(&vector["storage"][side]));
    let a = store(kinds[0], prefix, 1);
    steps(&a, &vector["setup"]["common"]);
    let b = if kinds[0] == kinds[1] {
        a.duplicate(2)
    } else {
        assert!(vector["setup"]["common"].as_array().unwrap().is_empty());
        store(kinds[1], prefix, 2)
    };
    steps(&a, &vector["setup"]["a"]);
    steps(&b, &vector["setup"]["b"]);
    [a, b]
}

fn roles(vector: &Value, rules: [TreeRules; 2]) -> [Role; 2] {
    [("a", rules[0]), ("b", rules[1])].map(|(side, rules)| {
        let sync_type = match text(&vector["tree_sync_type"][side]) {
            "twoway" => TreeSyncType::TwoWay,
            "preserve_local" => TreeSyncType::PreserveLocal,
            "preserve_remote" => TreeSyncType::PreserveRemote,
            other => panic!("{other}"),
        };
        let mut role = Role::new(sync_type, rules);
        let not_applied = vector["result"]["not_applied"].as_array().unwrap();
        role.applies &= !not_applied.iter().any(|other| other == side);
        role
    })
}

/// The tree as it was sent, one line per node.
fn sent(result: &SideResult) -> BTreeSet<String> {
    result
        .items
        .iter()
        .map(|item| {
            format!(
                "{} {} {} uidv {} next {} ts {} sub {} {}",
                bstr::join("/", &item.name)
                    .iter()
                    .map(|b| char::from(*b))
                    .collect::<String>(),
                if item.existence == Existence::Exists {
                    "exists"
                } else {
                    "nonexistent"
                },
                item.mailbox_guid,
                item.uid_validity,
                item.uid_next,
                item.last_renamed_or_created,
                item.subscribed,
                item.last_subscription_change,
            )
        })
        .collect()
}

fn expected_sent(input: &Value) -> BTreeSet<String> {
    input["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| {
            format!(
                "{} {} {} uidv {} next {} ts {} sub {} {}",
                text(&node["name"]),
                text(&node["existence"]),
                node["guid"]
                    .as_str()
                    .unwrap_or("00000000000000000000000000000000"),
                node["uid_validity"],
                node["uid_next"],
                node["last_renamed_or_created"],
                node["subscribed"],
                node["last_subscription_change"],
            )
        })
        .collect()
}

fn pairs(list: &[DeleteEntry]) -> Vec<(String, i64)> {
    list.iter().map(|e| (e.guid.to_string(), e.time)).collect()
}

fn expected_pairs(list: &Value) -> Vec<(String, i64)> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|pair| (text(&pair[0]).to_owned(), pair[1].as_i64().unwrap()))
        .collect()
}

/// What the vector says is on disk, in the form of [`names`]; GUIDs made by chance are `random`.
///
/// Maildir++ has no directories; the vectors list parents as such all the same.
fn expected_names(disk: &Value, storage: &Value) -> Vec<String> {
    let mut out = Vec::new();
    for entry in disk.as_array().unwrap() {
        if storage == "maildir" && entry["kind"] == "dir" {
            continue;
        }
        let name = text(&entry["name"]);
        match text(&entry["kind"]) {
            "mailbox" => out.push(format!("{name} {}", text(&entry["guid"]))),
            "dir" => out.push(format!("{name} dir")),
            "none" => {}
            other => panic!("{other}"),
        }
        if entry["subscribed"] == true {
            out.push(format!("{name} subscribed"));
        }
    }
    out.sort();
    out
}

/// The names of a store, with GUIDs as the vector writes them.
fn real_names(store: &MemoryStore, expected: &[String], vector: &Value) -> Vec<String> {
    let input = vector["input"].to_string();
    names(store)
        .into_iter()
        .filter(|line| !line.starts_with("INBOX ") || input.contains("\"INBOX\""))
        .map(|line| {
            let name = line.split(' ').next().unwrap_or_default();
            let random = format!("{name} random");
            if expected.contains(&random) && !line.ends_with("subscribed") {
                random
            } else {
                line
            }
        })
        .collect()
}

/// Sets the clock of the runs: later than everything in the setup.
fn start_run(stores: &[MemoryStore; 2], run: i64) {
    for store in stores {
        store.user().set_clock(1_800_000_000 + run);
    }
}

/// Differences of all vectors, so that one look shows them all.
#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn equal<T: PartialEq + std::fmt::Debug>(&mut self, ours: T, theirs: T, place: &str) {
        if ours != theirs {
            self.0
                .push(format!("{place}\n  ours   {ours:?}\n  theirs {theirs:?}"));
        }
    }

    fn none(&self) {
        assert!(self.0.is_empty(), "{}", self.0.join("\n"));
    }
}

fn each(mut check: impl FnMut(&str, &Value)) {
    let file: Value = serde_json::from_str(VECTORS).unwrap();
    for vector in file["vectors"].as_array().unwrap() {
        check(text(&vector["id"]), vector);
    }
}

#[test]
fn trees_and_deletes_are_those_of_dovecot() {
    let mut differences = Differences::default();
    each(|id, vector| {
        let stores = prepare(vector);
        start_run(&stores, 0);
        let exact = [TreeRules::dovecot(BranchRule::V23); 2];
        let results = tree_phase([&stores[0], &stores[1]], roles(vector, exact));
        for (side, result) in ["a", "b"].into_iter().zip(&results) {
            let input = &vector["input"][side];
            differences.equal(sent(result), expected_sent(input), &format!("{id} {side}"));
            let deletes = &input["deletes"];
            for (ours, list) in [
                (&result.deletes.mailboxes, "mailboxes"),
                (&result.deletes.dirs, "dirs"),
                (&result.deletes.unsubscribes, "unsubscribes"),
            ] {
                let place = format!("{id} {side} {list}");
                differences.equal(pairs(ours), expected_pairs(&deletes[list]), &place);
            }
        }
    });
    differences.none();
}

/// Runs in which Dovecot gets nowhere, so that its stores say nothing about ours.
fn is_hopeless(vector: &Value) -> bool {
    let status = &vector["result"]["status"];
    // A Maildir INBOX cannot be deleted: Dovecot empties it and fails, ours replaces it.
    status["a"] == "panic" || vector["id"] == "mp-backup-inbox"
}

#[test]
fn stores_are_those_of_dovecot() {
    let mut differences = Differences::default();
    each(|id, vector| {
        if is_hopeless(vector) {
            return;
        }
        let result = &vector["result"];
        let stores = prepare(vector);
        let exact = [TreeRules::dovecot(BranchRule::V23); 2];
        let further = result["further_runs"].as_array().unwrap();
        for (run, expected) in std::iter::once(result).chain(further).enumerate() {
            start_run(&stores, run as i64);
            tree_phase([&stores[0], &stores[1]], roles(vector, exact));
            for (side, store) in ["a", "b"].into_iter().zip(&stores) {
                let storage = &vector["storage"][side];
                let expected = expected_names(&expected["disk"][side], storage);
                let place = format!("{id} {side} run {}", run + 1);
                differences.equal(real_names(store, &expected, vector), expected, &place);
            }
        }
    });
    differences.none();
}

/// A temporary name ends in a number on the side that made it, in a GUID on the other, and after
/// the next run of Dovecot in the number on both. Ours ends in the GUID in the first run.
fn without_temporary(lines: Vec<String>) -> Vec<String> {
    let mut out: Vec<String> = lines
        .into_iter()
        .map(|line| match line.split_once(' ') {
            Some((name, rest)) if name.contains("-temp-") || name.ends_with(rest) => {
                format!("{}-temp {rest}", &name[..1])
            }
            _ => line,
        })
        .collect();
    out.sort();
    out
}

/// Repeats runs until nothing changes, and compares with what Dovecot came to.
fn comes_to_the_same_end(rules: [TreeRules; 2], skip: &str) {
    let mut differences = Differences::default();
    each(|id, vector| {
        if is_hopeless(vector) || id == skip {
            return;
        }
        let stores = prepare(vector);
        let result = &vector["result"];
        let further = result["further_runs"].as_array().unwrap();
        let last = &further.last().unwrap_or(result)["disk"];
        let mut runs = 0;
        loop {
            start_run(&stores, runs);
            runs += 1;
            let before = [names(&stores[0]), names(&stores[1])];
            tree_phase([&stores[0], &stores[1]], roles(vector, rules));
            // Renames to and fro leave nothing but newer times, and these decide the next run.
            let at_rest = before == [names(&stores[0]), names(&stores[1])];
            if at_rest && runs as usize > further.len() {
                break;
            }
            assert!(runs < 5, "{id} does not come to rest");
        }
        for (side, store) in ["a", "b"].into_iter().zip(&stores) {
            let expected = expected_names(&last[side], &vector["storage"][side]);
            let real = without_temporary(real_names(store, &expected, vector));
            differences.equal(real, without_temporary(expected), &format!("{id} {side}"));
        }
    });
    differences.none();
}

#[test]
fn two_of_ours_end_where_dovecot_ends() {
    // In the circle of this one all names become those of A at once, and an empty directory of B
    // stays.
    comes_to_the_same_end([true, false].map(TreeRules::with_ours), "fail-rename-loop");
}

#[test]
fn ours_with_dovecot_ends_where_dovecot_ends() {
    let dovecot = TreeRules::dovecot(BranchRule::V23);
    let ours = TreeRules::with_dovecot(BranchRule::V23);
    comes_to_the_same_end([ours, dovecot], "");
    comes_to_the_same_end([dovecot, ours], "");
}
