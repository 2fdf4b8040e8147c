//! What scenario tests share: runs, comparisons, and what must never happen to mail.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "several test files use this, none of them all of it"
)]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "these are tests"
)]

use std::collections::{BTreeMap, BTreeSet};

use dsync_engine::{Mode, SyncOptions};
use dsync_proto::items::SyncType;
use dsync_proto::types::{Guid, MailGuid};
use dsync_storage::memory::{Dump, MemoryOptions, MemoryStore, NewMail};
use dsync_testkit::simulator::{Report, Simulator};

/// A run that compares everything.
pub fn full(mode: Mode) -> SyncOptions {
    SyncOptions {
        mode,
        sync_type: SyncType::Full,
        ..SyncOptions::default()
    }
}

pub fn two_way() -> SyncOptions {
    full(Mode::TwoWay)
}

pub fn run(options: SyncOptions, a: &MemoryStore, b: &MemoryStore) -> Report {
    Simulator::new(options, a.clone(), b.clone()).run()
}

/// A run that must end well on both sides.
pub fn run_clean(options: SyncOptions, a: &MemoryStore, b: &MemoryStore) -> Report {
    let report = run(options, a, b);
    assert!(
        report.is_clean(),
        "{:?}\n{:?}",
        report.client,
        report.server
    );
    report
}

/// What must be equal on both sides after a sync, whatever the layout.
pub fn facts(store: &MemoryStore) -> Dump {
    let mut dump = store.dump().without_modseqs();
    dump.directories.clear();
    for mailbox in dump.mailboxes.values_mut() {
        mailbox.first_recent_uid = 0;
    }
    dump
}

#[track_caller]
pub fn assert_same(a: &MemoryStore, b: &MemoryStore) {
    let (a, b) = (facts(a), facts(b));
    if a == b {
        return;
    }
    assert_eq!(a.subscriptions, b.subscriptions, "subscriptions differ");
    let names = |dump: &Dump| dump.mailboxes.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&a), names(&b), "mailboxes differ");
    for (name, mailbox) in &a.mailboxes {
        pretty_same(name, mailbox, &b.mailboxes[name]);
    }
    panic!("the sides differ");
}

#[track_caller]
fn pretty_same<T: PartialEq + std::fmt::Debug>(name: &str, a: &T, b: &T) {
    assert!(a == b, "mailbox {name} differs\n A: {a:#?}\n B: {b:#?}");
}

/// Two copies of an account with some mail in it.
pub fn pair(options_a: MemoryOptions, options_b: MemoryOptions) -> (MemoryStore, MemoryStore) {
    let a = MemoryStore::new(options_a);
    let user = a.user();
    for number in 1..=3 {
        let subject = format!("m{number}");
        let mail = NewMail::with_subject(&subject)
            .guid(&*subject)
            .received(1_600_000_000);
        user.save("INBOX", mail).unwrap();
    }
    user.create("Work").unwrap();
    user.save("Work", NewMail::with_subject("w1").guid("w1"))
        .unwrap();
    user.save("Work", NewMail::with_subject("w2").guid("w2"))
        .unwrap();
    user.subscribe("Work");
    let b = MemoryStore::new(options_b);
    run_clean(two_way(), &a, &b);
    assert_same(&a, &b);
    (a, b)
}

/// Two accounts with the same mailboxes and no message.
pub fn empty_pair(
    options_a: MemoryOptions,
    options_b: MemoryOptions,
) -> (MemoryStore, MemoryStore) {
    let a = MemoryStore::new(options_a);
    a.user().create("INBOX").unwrap();
    a.user().create("Work").unwrap();
    a.user().subscribe("Work");
    let b = MemoryStore::new(options_b);
    run_clean(two_way(), &a, &b);
    assert_same(&a, &b);
    (a, b)
}

/// UIDs and GUIDs of a mailbox.
pub fn mails(store: &MemoryStore, name: &str) -> Vec<String> {
    let dump = store.dump();
    let messages = &dump.mailboxes[name].messages;
    messages
        .iter()
        .map(|(uid, mail)| format!("{uid}:{}", mail.guid))
        .collect()
}

/// Copies of each message per mailbox GUID.
type Instances = BTreeMap<(Guid, MailGuid), usize>;

fn instances(dump: &Dump) -> Instances {
    let mut found = Instances::new();
    for mailbox in dump.mailboxes.values() {
        for message in mailbox.messages.values() {
            *found
                .entry((mailbox.guid, message.guid.clone()))
                .or_default() += 1;
        }
    }
    found
}

/// What a sync may lose and must not double: taken before the run from both sides and from what
/// they had in common.
pub struct Oracle {
    must_survive: BTreeSet<MailGuid>,
    most: BTreeMap<MailGuid, usize>,
}

impl Oracle {
    pub fn new(common: &Dump, a: &Dump, b: &Dump) -> Self {
        let (before, in_a, in_b) = (instances(common), instances(a), instances(b));
        let guids = |dump: &Dump| -> BTreeSet<Guid> {
            dump.mailboxes
                .values()
                .map(|mailbox| mailbox.guid)
                .collect()
        };
        let deleted: BTreeSet<Guid> = guids(common)
            .into_iter()
            .filter(|guid| !guids(a).contains(guid) || !guids(b).contains(guid))
            .collect();
        let survives = |key: &(Guid, MailGuid)| {
            let count = |instances: &Instances| instances.get(key).copied().unwrap_or(0);
            // Of several instances each side may have expunged another one.
            let kept = count(&in_a) + count(&in_b) > count(&before);
            !deleted.contains(&key.0) && kept
        };
        let all: BTreeSet<&(Guid, MailGuid)> = in_a.keys().chain(in_b.keys()).collect();
        let mut most: BTreeMap<MailGuid, usize> = BTreeMap::new();
        for key in &all {
            let count = |instances: &Instances| instances.get(*key).copied().unwrap_or(0);
            *most.entry(key.1.clone()).or_default() += count(&in_a).max(count(&in_b));
        }
        Self {
            must_survive: all
                .into_iter()
                .filter(|key| survives(key))
                .map(|key| key.1.clone())
                .collect(),
            most,
        }
    }

    /// The same for a pair that had nothing but itself in common.
    pub fn of(a: &MemoryStore, b: &MemoryStore, common: &Dump) -> Self {
        Self::new(common, &a.dump(), &b.dump())
    }

    #[track_caller]
    pub fn check(&self, store: &MemoryStore) {
        let mut counts: BTreeMap<MailGuid, usize> = BTreeMap::new();
        for ((_, guid), count) in instances(&store.dump()) {
            *counts.entry(guid).or_default() += count;
        }
        for guid in &self.must_survive {
            assert!(counts.contains_key(guid), "mail {guid} was lost");
        }
        for (guid, count) in counts {
            let most = self.most.get(&guid).copied().unwrap_or(0);
            assert!(
                count <= most,
                "mail {guid} exists {count} times, not {most}"
            );
        }
    }
}

/// Runs until both sides are equal and content; five runs must be enough.
#[track_caller]
pub fn converge(options: &SyncOptions, a: &MemoryStore, b: &MemoryStore) {
    let mut last = None;
    for _ in 0..5 {
        let report = run(options.clone(), a, b);
        if report.is_clean() && facts(a) == facts(b) {
            return;
        }
        last = Some(report);
    }
    let report = last.unwrap();
    eprintln!("{:?}\n{:?}", report.client, report.server);
    assert_same(a, b);
    panic!("the sides are equal, but the runs do not end well");
}

/// A further run changes no fact and, after one run that may still level modseqs, no modseq.
#[track_caller]
pub fn assert_settled(options: &SyncOptions, a: &MemoryStore, b: &MemoryStore) {
    let before = (facts(a), facts(b));
    run_clean(options.clone(), a, b);
    assert!(
        before == (facts(a), facts(b)),
        "a second run changed something"
    );
    let before = (a.dump(), b.dump());
    run_clean(options.clone(), a, b);
    assert!(
        before == (a.dump(), b.dump()),
        "a third run changed modseqs"
    );
}
