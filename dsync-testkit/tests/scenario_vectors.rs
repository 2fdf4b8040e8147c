//! 99 scenarios that were played with real Dovecot: from each state before a run two brains must
//! come to the state after it (`spec/vectors/mailbox-sync.README.md`).

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "these are tests"
)]

mod common;

use std::collections::BTreeMap;

use common::vectors::{
    self, Row, attribute_name, flags, guid, list, mode, number, rows, state, strings, uid,
};
use dsync_engine::{Filters, SyncOptions};
use dsync_proto::items::SyncType;
use dsync_proto::types::MailGuid;
use dsync_storage::memory::{LoadMailbox, LoadMessage, MailboxDump, MemoryOptions, MemoryStore};
use dsync_storage::{AttributeData, Capabilities};
use dsync_testkit::simulator::Simulator;
use serde_json::Value;

const SCENARIOS: &str = include_str!("../../spec/vectors/mailbox-sync.json");

/// Runs whose result is another one on purpose, and why; sections of `spec/mailbox-sync.md`.
const BETTER: &[(&str, &str)] = &[
    (
        "S41.3 S41.4",
        "between two of ours equal counters do not hide different messages (10)",
    ),
    (
        "S12.2 S12.3",
        "an invalid keyword does not take the valid ones of the message with it (6.4)",
    ),
    (
        "S24.4 S26.3 S53.3 S53.4 S54.3 S57.3 S58.3",
        "between two of ours a state that fits one side no longer is ignored (5.9, 19.12)",
    ),
    (
        "S31.3 S32.3 S34.3 S68.3",
        "a backup destination is emptied and filled in the same run (9.2)",
    ),
    (
        "S31m.3 S31m.4 S31m.5 S32m.3 S32m.4 S33m.3 S33m.4 S33m.5 S33m.6 S34m.3 S34m.4 S34m.5 S36m.3 S36m.4 S36m.5",
        "an INBOX that cannot be deleted is emptied in place and filled (9.4)",
    ),
    (
        "S50.5",
        "a stateful run sees by the server's UIDNEXT that it has new mail (11.4)",
    ),
    (
        "S63.2 S66.2 S67.2",
        "what a filter refused is not taken for expunged (8)",
    ),
    ("S65.1 S65.2 S65.3", "-e sends its own value (8)"),
    (
        "S72.4 S72.5 S73.2",
        "the vectors do not tell which attributes their log records are about",
    ),
];

/// Seconds since the epoch of `2024-01-31` or `2024-01-31 10:00:00`.
fn time(text: &str) -> i64 {
    let digits = |range| {
        text.get(range)
            .map_or(0, |part: &str| part.parse::<i64>().unwrap())
    };
    let (year, month, day) = (digits(0..4), digits(5..7), digits(8..10));
    // Days since 1970-03-01, counted in years that begin in March.
    let (year, month) = if month < 3 {
        (year - 1, month + 9)
    } else {
        (year, month - 3)
    };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day;
    let seconds = digits(11..13) * 3600 + digits(14..16) * 60 + digits(17..19);
    (days - 719_469) * 86_400 + seconds
}

fn store(kind: &str, seed: u64) -> MemoryStore {
    let mut options = match kind {
        "maildir" => MemoryOptions::maildir(seed),
        _ => MemoryOptions::dbox(seed),
    };
    if kind == "mbox" {
        options.capabilities = Capabilities {
            have_guids: true,
            have_save_guids: false,
            have_only_guid128: false,
        };
    }
    MemoryStore::new(options)
}

fn body(subject: &str, octets: usize) -> String {
    let filler = "x".repeat(octets);
    format!(
        "From: a@example.org\r\nTo: b@example.org\r\nSubject: {subject}\r\n\
         Date: Mon, 01 Jan 2024 10:00:00 +0000\r\nMessage-ID: <{subject}@example.org>\r\n\r\n\
         body of {subject}{filler}\r\n"
    )
}

/// Puts the mailboxes of one side into the store; `sizes` are extra octets by subject.
fn load(store: &MemoryStore, side: &Value, sizes: &BTreeMap<String, usize>) {
    for (name, mailbox) in side.as_object().unwrap() {
        if mailbox.is_null() {
            continue;
        }
        let messages = list(&mailbox["mails"]).iter().map(|mail| {
            let subject = mail["subject"].as_str().unwrap_or_default();
            let received = time(mail["received"].as_str().unwrap());
            LoadMessage {
                uid: uid(&mail["uid"]),
                guid: MailGuid::from(mail["guid"].as_str().unwrap()),
                flags: flags(&mail["flags"]),
                keywords: strings(&mail["keywords"])
                    .into_iter()
                    .map(Into::into)
                    .collect(),
                modseq: number(&mail["modseq"]),
                received_date: received,
                saved_date: received,
                body: body(subject, sizes.get(subject).copied().unwrap_or(0)).into(),
            }
        });
        let loaded = LoadMailbox {
            attributes: attributes(mailbox),
            ..vectors::mailbox(mailbox, messages.collect())
        };
        store.user().load(name, loaded).unwrap();
    }
}

fn attributes(mailbox: &Value) -> BTreeMap<dsync_storage::AttributeName, AttributeData> {
    let Some(attributes) = mailbox["attributes"].as_object() else {
        return BTreeMap::new();
    };
    let attribute = |(name, value): (&String, &Value)| {
        let data = AttributeData {
            value: value.as_str().unwrap().into(),
            stream: false,
            last_change: 0,
        };
        (attribute_name(name), data)
    };
    attributes.iter().map(attribute).collect()
}

fn options(step: &Value) -> SyncOptions {
    let mut options = mode(
        step["command"]
            .as_str()
            .unwrap()
            .trim_start_matches("doveadm "),
    );
    let words = strings(&step["options"]);
    let after = |name| words.iter().skip_while(move |word| *word != name).nth(1);
    options.filters = Filters {
        since: after("-t").map_or(0, |date| time(date)),
        until: after("-e").map_or(0, |date| time(date)),
        max_size: after("-I").map_or(0, |size| size.parse().unwrap()),
        flag: after("-O").map(|flag| flag.as_str().into()),
    };
    if words.iter().any(|word| word == "-f") {
        return options;
    }
    options.sync_type = SyncType::Changed;
    if let Some(states) = step["state_in"]["mailboxes"].as_array() {
        options.sync_type = SyncType::State;
        let states = states
            .iter()
            .map(|one| state(guid(&one["mailbox_guid"]), one));
        options.state = states.collect();
    }
    options
}

fn expected_rows(side: &Value) -> Vec<Row> {
    let row = |mail: &Value| {
        let mut keywords = strings(&mail["keywords"]);
        keywords.sort();
        let guid = mail["guid"].as_str().unwrap().to_owned();
        (uid(&mail["uid"]), guid, flags(&mail["flags"]).0, keywords)
    };
    list(&side["mails"]).iter().map(row).collect()
}

fn compare(name: &str, found: Option<&MailboxDump>, wanted: &Value) -> Option<String> {
    let Some(found) = found else {
        return (!wanted.is_null()).then(|| format!("{name} is missing"));
    };
    if wanted.is_null() {
        return Some(format!("{name} exists: {:?}", rows(found)));
    }
    let attributes = attributes(wanted);
    let ours = (found.uid_validity, found.uid_next, rows(found));
    let theirs = (
        uid(&wanted["uidvalidity"]),
        uid(&wanted["uidnext"]),
        expected_rows(wanted),
    );
    let same = ours == theirs && (wanted["attributes"].is_null() || attributes == found.attributes);
    (!same).then(|| {
        format!(
            "{name}\n  ours    {ours:?} {:?}\n  Dovecot {theirs:?} {attributes:?}",
            found.attributes
        )
    })
}

/// What differs from Dovecot's result of one run, if anything.
fn difference(scenario: &Value, step: &Value) -> Option<String> {
    let mut sizes = BTreeMap::new();
    for save in list(&scenario["steps"]) {
        if let (Some(subject), Some(octets)) =
            (save["subject"].as_str(), save["body_bytes"].as_u64())
        {
            sizes.insert(subject.to_owned(), octets as usize);
        }
    }
    let kind = |side| scenario["storage"][side].as_str().unwrap_or("sdbox");
    let (a, b) = (store(kind("A"), 1), store(kind("B"), 2));
    load(&a, &step["before"]["A"], &sizes);
    load(&b, &step["before"]["B"], &sizes);
    let report = Simulator::new(options(step), a.clone(), b.clone()).run();
    let mut differences = Vec::new();
    for (side, store) in [("A", &a), ("B", &b)] {
        let dump = store.dump();
        for (name, wanted) in step["after"][side].as_object().unwrap() {
            if let Some(difference) = compare(name, dump.mailboxes.get(name), wanted) {
                differences.push(format!("{side} {difference}"));
            }
        }
    }
    let code = u64::from(report.client.exit_code());
    let wanted = number(&step["exit_code"]);
    if code != wanted {
        differences.push(format!("exit code {code}, not {wanted}"));
    }
    (!differences.is_empty()).then(|| {
        let differences = differences.join("\n");
        format!(
            "{differences}\n  {:?}\n  {:?}",
            report.client, report.server
        )
    })
}

#[test]
fn scenarios_end_as_with_dovecot() {
    let file: Value = serde_json::from_str(SCENARIOS).unwrap();
    let mut found = Vec::new();
    let mut runs = 0;
    for scenario in list(&file["scenarios"]) {
        let id = scenario["id"].as_str().unwrap();
        let syncs = list(&scenario["steps"])
            .iter()
            .filter(|step| step["op"] == "sync");
        for (number, step) in (1..).zip(syncs) {
            if step["before"].is_null() || scenario["kind"] == "scripted_peer" {
                continue;
            }
            runs += 1;
            let run = format!("{id}.{number}");
            let known = BETTER
                .iter()
                .any(|(known, _)| known.split(' ').any(|known| known == run));
            match (difference(scenario, step), known) {
                (Some(difference), false) => {
                    let words = format!("{} {}", step["command"], step["options"]);
                    found.push(format!(
                        "{run} {words} state {}: {difference}",
                        step["state_in"]
                    ));
                }
                (None, true) => found.push(format!("{run} is no longer different")),
                _ => {}
            }
        }
    }
    assert_eq!(runs, 273);
    assert!(
        found.is_empty(),
        "{} of {runs} runs end differently:\n{}",
        found.len(),
        found.join("\n")
    );
}

#[test]
fn reads_times() {
    assert_eq!(time("1970-01-01"), 0);
    assert_eq!(time("2024-01-01 10:00:00"), 1_704_103_200);
    assert_eq!(time("2024-12-31 23:59:59"), 1_735_689_599);
}
