//! 345 random runs that were made with real Dovecot: two brains must end with the same
//! (`spec/vectors/mailbox-sync.README.md`).

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "these are tests"
)]

mod common;

use dsync_engine::{Filters, SyncOptions};
use dsync_proto::items::SyncType;
use dsync_proto::types::{Flags, Guid, MailGuid};
use dsync_storage::memory::{LoadMailbox, LoadMessage, MemoryOptions, MemoryStore};
use dsync_testkit::simulator::Simulator;
use dsync_testkit::vectors::{Row, hex, list, mode, number, record, rows, state, strings, uid};
use serde_json::Value;

const RUNS: &str = include_str!("../../spec/vectors/mailbox-sync-random.jsonl");
const MAILBOX: Guid = Guid([0x11; 16]);

/// A message whose size with CRLF line ends is `size`; Dovecot's own was as long.
fn body(guid: &str, size: u64) -> String {
    let mut body = format!("Subject: {guid}\r\n\r\n");
    body.extend(std::iter::repeat_n(
        'x',
        (size as usize).saturating_sub(body.len()),
    ));
    body
}

fn load(store: &MemoryStore, side: &Value) {
    let messages = list(&side["mails"]).iter().map(|mail| {
        let guid = mail[1].as_str().unwrap();
        LoadMessage {
            uid: uid(&mail[0]),
            guid: MailGuid::from(guid),
            flags: Flags(hex(&mail[2])),
            keywords: strings(&mail[3]).into_iter().map(Into::into).collect(),
            modseq: number(&mail[4]),
            received_date: 1_704_103_200,
            saved_date: 1_704_103_200,
            body: body(guid, number(&mail[5])).into(),
        }
    });
    let mailbox = LoadMailbox {
        guid: MAILBOX,
        uid_validity: uid(&side["uidvalidity"]),
        uid_next: uid(&side["uidnext"]),
        first_recent_uid: 1,
        highest_modseq: number(&side["highest_modseq"]),
        messages: messages.collect(),
        initial_modseq: number(&side["log"]["initial_modseq"]),
        records: list(&side["log"]["records"]).iter().map(record).collect(),
        ..LoadMailbox::default()
    };
    store.user().load("INBOX", mailbox).unwrap();
}

fn options(run: &Value) -> SyncOptions {
    let mut options = mode(run["mode"].as_str().unwrap());
    let words = strings(&run["options"]);
    let after = |name| words.iter().skip_while(move |word| *word != name).nth(1);
    options.filters = Filters {
        max_size: after("-I").map_or(0, |size| size.parse().unwrap()),
        flag: after("-O").map(|flag| flag.as_str().into()),
        ..Filters::default()
    };
    if run["state"].is_object() {
        options.sync_type = SyncType::State;
        options.state = vec![state(MAILBOX, &run["state"])];
    } else if !words.iter().any(|word| word == "-f") {
        options.sync_type = SyncType::Changed;
    }
    options
}

fn expected_rows(side: &Value) -> Vec<Row> {
    list(&side["mails"])
        .iter()
        .map(|mail| {
            let mut keywords = strings(&mail[3]);
            keywords.sort();
            let guid = mail[1].as_str().unwrap().to_owned();
            (uid(&mail[0]), guid, hex(&mail[2]) & Flags::USER.0, keywords)
        })
        .collect()
}

/// What differs from Dovecot's result, if anything.
fn difference(run: &Value) -> Option<String> {
    let stores = [1, 2].map(|seed| MemoryStore::new(MemoryOptions::dbox(seed)));
    for (store, side) in stores.iter().zip(["A", "B"]) {
        load(store, &run[side]);
    }
    let [a, b] = &stores;
    let report = Simulator::new(options(run), a.clone(), b.clone()).run();
    let expect = &run["expect"];
    for (store, side) in stores.iter().zip(["A", "B"]) {
        let dump = store.dump();
        let Some(found) = dump.mailboxes.get("INBOX") else {
            return Some(format!("{side}: no INBOX"));
        };
        // Where Dovecot deletes the destination and needs another run, ours fills it at once.
        let other = if side == "A" { "B" } else { "A" };
        let wanted = if expect[side].is_null() {
            &expect[other]
        } else {
            &expect[side]
        };
        let found = (found.uid_next, rows(found));
        let wanted = (uid(&wanted["uidnext"]), expected_rows(wanted));
        if found != wanted {
            return Some(format!(
                "{side}:\n  ours    {found:?}\n  Dovecot {wanted:?}\n  {:?}\n  {:?}",
                report.client, report.server
            ));
        }
    }
    let code = report.client.exit_code();
    let deleted = expect["A"].is_null() || expect["B"].is_null();
    let wanted = if deleted {
        0
    } else {
        number(&expect["exit_code"])
    };
    (u64::from(code) != wanted).then(|| {
        format!(
            "exit code {code}, not {wanted}\n  {:?}\n  {:?}",
            report.client, report.server
        )
    })
}

/// Runs whose result is another one on purpose, and why; sections of `spec/mailbox-sync.md`.
const BETTER: &[(&str, &str)] = &[
    (
        "R9005.1",
        "what a filter refused is not taken for expunged (8)",
    ),
    (
        "R9006.1 R9006.2 R9110.2 R9114.1 R9171.1",
        "a stateful run sees by the server's UIDNEXT that it has new mail (11.4)",
    ),
];

#[test]
fn random_runs_end_as_with_dovecot() {
    let mut differences = Vec::new();
    let mut runs = 0;
    for line in RUNS.lines() {
        let run: Value = serde_json::from_str(line).unwrap();
        runs += 1;
        let id = run["id"].as_str().unwrap();
        let known = BETTER
            .iter()
            .any(|(known, _)| known.split(' ').any(|known| known == id));
        let difference = difference(&run);
        assert!(
            !known || difference.is_some(),
            "{id} is no longer different"
        );
        if let Some(difference) = difference.filter(|_| !known) {
            let words = format!("{} {} {}", run["id"], run["mode"], run["options"]);
            differences.push(format!("{words} {}: {difference}", run["state"]));
        }
    }
    assert_eq!(runs, 345);
    assert!(
        differences.is_empty(),
        "{} of {runs} runs end differently:\n{}",
        differences.len(),
        differences.join("\n")
    );
}
