//! The scenarios with two stores of `spec/vectors/mailbox-sync.json`: what every run starts from
//! and what it left with real Dovecot.

use std::collections::BTreeMap;

use bstr::BString;
use dsync_engine::{Filters, SyncOptions};
use dsync_proto::items::SyncType;
use dsync_proto::types::MailGuid;
use dsync_storage::memory::{LoadMailbox, LoadMessage, MailboxDump, MemoryOptions, MemoryStore};
use dsync_storage::{AttributeData, AttributeName, Capabilities};
use serde_json::Value;

use super::{Row, attribute_name, flags, guid, list, mode, number, rows, state, strings, uid};
use crate::simulator::Simulator;

const FILE: &str = include_str!("../../../spec/vectors/mailbox-sync.json");

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
];

/// Runs that cannot be simulated: the vectors do not tell which attributes their log records are
/// about.
const UNTOLD: &str = "S72.4 S72.5 S73.2";

/// Two accounts and what happens to them.
pub struct Scenario(Value);

/// A sync of a scenario.
#[derive(Clone, Copy)]
pub struct Sync<'s> {
    scenario: &'s Scenario,
    step: &'s Value,
    number: usize,
}

/// A mailbox after a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// UIDVALIDITY.
    pub uid_validity: u32,
    /// UIDNEXT.
    pub uid_next: u32,
    /// Messages by UID.
    pub rows: Vec<Row>,
    /// Values by name; `None` where the scenario does not look at them.
    pub attributes: Option<BTreeMap<AttributeName, BString>>,
}

/// What a run leaves: the exit code, and on A and B the mailboxes that the scenario looks at;
/// `None` is one that does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Of the command on A.
    pub exit_code: u64,
    /// A and B.
    pub sides: [BTreeMap<String, Option<Contents>>; 2],
}

/// All of them, in the order of the file.
pub fn all() -> Vec<Scenario> {
    let file: Value = serde_json::from_str(FILE).expect("the vectors are JSON");
    let scenarios = list(&file["scenarios"]).iter();
    scenarios
        .filter(|scenario| scenario["kind"] != "scripted_peer")
        .map(|scenario| Scenario(scenario.clone()))
        .collect()
}

/// Seconds since the epoch of `2024-01-31` or `2024-01-31 10:00:00`.
pub fn time(text: &str) -> i64 {
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

impl Scenario {
    /// `S01`.
    pub fn id(&self) -> &str {
        self.0["id"].as_str().expect("an id")
    }

    /// `sdbox`, `maildir` or `mbox` of side A and B.
    pub fn formats(&self) -> [&str; 2] {
        ["A", "B"].map(|side| self.0["storage"][side].as_str().unwrap_or("sdbox"))
    }

    /// What happens, in order: edits as they stand in the file, and syncs.
    pub fn steps(&self) -> &[Value] {
        list(&self.0["steps"])
    }

    /// The syncs, with the place of each among the steps.
    pub fn syncs(&self) -> impl Iterator<Item = (usize, Sync<'_>)> {
        let syncs = self
            .steps()
            .iter()
            .enumerate()
            .filter(|(_, step)| step["op"] == "sync");
        (1..).zip(syncs).map(|(number, (place, step))| {
            let sync = Sync {
                scenario: self,
                step,
                number,
            };
            (place, sync)
        })
    }

    /// Text of a message that a scenario saves.
    pub fn body(&self, subject: &str) -> String {
        let is_its_save = |step: &&Value| step["subject"] == subject && step["op"] == "save";
        let save = self.steps().iter().find(is_its_save);
        let octets = save.and_then(|save| save["body_bytes"].as_u64());
        let filler = "x".repeat(octets.unwrap_or(0) as usize);
        format!(
            "From: a@example.org\r\nTo: b@example.org\r\nSubject: {subject}\r\n\
             Date: Mon, 01 Jan 2024 10:00:00 +0000\r\nMessage-ID: <{subject}@example.org>\r\n\r\n\
             body of {subject}{filler}\r\n"
        )
    }

    /// Puts the mailboxes of one side into a store.
    fn load(&self, store: &MemoryStore, side: &Value) {
        for (name, mailbox) in side.as_object().unwrap() {
            if mailbox.is_null() {
                continue;
            }
            let messages = list(&mailbox["mails"]).iter();
            let loaded = LoadMailbox {
                attributes: attributes(mailbox).unwrap_or_default(),
                ..super::mailbox(mailbox, messages.map(|mail| self.message(mail)).collect())
            };
            store.user().load(name, loaded).unwrap();
        }
    }

    fn message(&self, mail: &Value) -> LoadMessage {
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
            body: self
                .body(mail["subject"].as_str().unwrap_or_default())
                .into(),
        }
    }
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

fn attributes(mailbox: &Value) -> Option<BTreeMap<AttributeName, AttributeData>> {
    let attribute = |(name, value): (&String, &Value)| {
        let data = AttributeData {
            value: value.as_str().unwrap().into(),
            stream: false,
            last_change: 0,
        };
        (attribute_name(name), data)
    };
    let attributes = mailbox["attributes"].as_object()?;
    Some(attributes.iter().map(attribute).collect())
}

impl<'s> Sync<'s> {
    /// `S01.2`.
    pub fn id(&self) -> String {
        format!("{}.{}", self.scenario.id(), self.number)
    }

    /// The step in the file.
    pub fn step(&self) -> &'s Value {
        self.step
    }

    /// Whether two of ours end in another way on purpose.
    pub fn is_better(&self) -> bool {
        BETTER.iter().any(|(runs, _)| self.is_one_of(runs))
    }

    /// Whether [`Self::simulate`] starts from less than Dovecot had.
    pub fn is_untold(&self) -> bool {
        self.is_one_of(UNTOLD)
    }

    /// Whether its ID is among these, with spaces between them.
    pub fn is_one_of(&self, runs: &str) -> bool {
        let id = self.id();
        runs.split(' ').any(|run| run == id)
    }

    /// What both brains are told.
    pub fn options(&self) -> SyncOptions {
        let command = self.step["command"].as_str().unwrap();
        let mut options = mode(command.trim_start_matches("doveadm "));
        let words = strings(&self.step["options"]);
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
        if let Some(states) = self.step["state_in"]["mailboxes"].as_array() {
            options.sync_type = SyncType::State;
            let states = states
                .iter()
                .map(|one| state(guid(&one["mailbox_guid"]), one));
            options.state = states.collect();
        }
        options
    }

    /// What Dovecot left.
    pub fn expected(&self) -> Ending {
        let sides = ["A", "B"].map(|side| {
            let mailboxes = self.step["after"][side].as_object().unwrap().iter();
            let wanted = |value: &Value| (!value.is_null()).then(|| Contents::of_vector(value));
            mailboxes
                .map(|(name, value)| (name.clone(), wanted(value)))
                .collect()
        });
        Ending {
            exit_code: number(&self.step["exit_code"]),
            sides,
        }
    }

    /// What two brains make of the same mailboxes in memory, and what they said.
    pub fn simulate(&self) -> (Ending, String) {
        let [a, b] = self.scenario.formats();
        let (a, b) = (store(a, 1), store(b, 2));
        self.scenario.load(&a, &self.step["before"]["A"]);
        self.scenario.load(&b, &self.step["before"]["B"]);
        let report = Simulator::new(self.options(), a.clone(), b.clone()).run();
        let dumps = [a.dump(), b.dump()];
        let mut ending = self.expected();
        ending.exit_code = u64::from(report.client.exit_code());
        for (side, dump) in ending.sides.iter_mut().zip(&dumps) {
            for (name, contents) in side {
                let with_attributes = contents.as_ref().is_some_and(|c| c.attributes.is_some());
                let found = dump.mailboxes.get(name);
                *contents = found.map(|found| Contents::of_dump(found, with_attributes));
            }
        }
        (
            ending,
            format!("{:?}\n  {:?}", report.client, report.server),
        )
    }
}

impl Contents {
    fn of_vector(value: &Value) -> Self {
        let row = |mail: &Value| {
            let mut keywords = strings(&mail["keywords"]);
            keywords.sort();
            let guid = mail["guid"].as_str().unwrap().to_owned();
            (uid(&mail["uid"]), guid, flags(&mail["flags"]).0, keywords)
        };
        Self {
            uid_validity: uid(&value["uidvalidity"]),
            uid_next: uid(&value["uidnext"]),
            rows: list(&value["mails"]).iter().map(row).collect(),
            attributes: attributes(value).map(values),
        }
    }

    fn of_dump(dump: &MailboxDump, with_attributes: bool) -> Self {
        Self {
            uid_validity: dump.uid_validity,
            uid_next: dump.uid_next,
            rows: rows(dump),
            attributes: with_attributes.then(|| values(dump.attributes.clone())),
        }
    }
}

fn values(attributes: BTreeMap<AttributeName, AttributeData>) -> BTreeMap<AttributeName, BString> {
    let value = |(name, data): (AttributeName, AttributeData)| (name, data.value);
    attributes.into_iter().map(value).collect()
}

impl Ending {
    /// Without a look at attributes.
    #[must_use]
    pub fn without_attributes(mut self) -> Self {
        let mailboxes = self.sides.iter_mut().flat_map(BTreeMap::values_mut);
        mailboxes
            .flatten()
            .for_each(|contents| contents.attributes = None);
        self
    }

    /// Each difference as a line.
    pub fn differences(&self, wanted: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for (side, (found, wanted)) in ["A", "B"].iter().zip(self.sides.iter().zip(&wanted.sides)) {
            for (name, wanted) in wanted {
                let found = found.get(name).unwrap_or(&None);
                if found != wanted {
                    lines.push(format!("{side} {name}\n  {found:?}\n  wanted {wanted:?}"));
                }
            }
        }
        if self.exit_code != wanted.exit_code {
            lines.push(format!(
                "exit code {}, wanted {}",
                self.exit_code, wanted.exit_code
            ));
        }
        lines
    }
}
