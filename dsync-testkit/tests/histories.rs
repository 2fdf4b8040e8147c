//! Random histories on two sides: they become equal, nothing is lost, nothing doubled.

#![allow(clippy::print_stderr, clippy::unwrap_used, reason = "these are tests")]

mod common;

use std::ops::Range;

use common::{Oracle, assert_settled, converge, empty_pair, pair, run, two_way};
use dsync_engine::SyncOptions;
use dsync_proto::items::{MailboxState, SyncType};
use dsync_proto::types::Flags;
use dsync_storage::memory::{LogGuid, MemoryOptions, MemoryStore, NewMail};
use dsync_testkit::random::Random;

/// Kinds of acts, by their number in [`act`].
const MESSAGES: Range<usize> = 0..10;
const TREES: Range<usize> = 10..16;
const EVERYTHING: Range<usize> = 0..17;

const NAMES: [&str; 7] = ["INBOX", "Work", "A", "A/B", "A/B/C", "Grüße", "Z"];
const FLAGS: [Flags; 4] = [Flags::SEEN, Flags::FLAGGED, Flags::DELETED, Flags::ANSWERED];
const KEYWORDS: [&str; 3] = ["k1", "k2", "k3"];

/// One thing that a user does. What is not possible just fails.
fn act(store: &MemoryStore, random: &mut Random, kinds: &Range<usize>, number: &mut u32) {
    let user = store.user();
    user.set_clock(user.clock() + random.below(3) as i64);
    let dump = store.dump();
    let boxes: Vec<&String> = dump.mailboxes.keys().collect();
    let name = random.pick(&boxes).as_str();
    let other = random.pick(&boxes).as_str();
    let uids: Vec<u32> = dump.mailboxes[name].messages.keys().copied().collect();
    let some: Vec<u32> = uids.iter().copied().filter(|_| random.one_in(3)).collect();
    let target = *random.pick(&NAMES);
    let what = kinds.start + random.below(kinds.len());
    // Errors are what a user would see, too.
    let _ = match what {
        0..=2 => {
            *number += 1;
            let subject = format!("{:04x}-{number}", random.below(0x1_0000));
            let mail = NewMail::with_subject(&subject).guid(&*subject);
            user.save(name, mail).map(drop)
        }
        3 => user.add_flags(name, &some, *random.pick(&FLAGS)),
        4 => user.remove_flags(name, &some, *random.pick(&FLAGS)),
        5 => user.add_keywords(name, &some, &[*random.pick(&KEYWORDS)]),
        6 => user.remove_keywords(name, &some, &[*random.pick(&KEYWORDS)]),
        7 => user.expunge(name, &some, LogGuid::Known),
        8 => user.copy(name, &some[..some.len().min(2)], other).map(drop),
        9 if name != other => user.move_to(name, &some, other).map(drop),
        10 | 11 => user.create(target),
        12 if name != "INBOX" => user.rename(name, target),
        13 if name != "INBOX" && random.one_in(2) => user.delete(name),
        14 => {
            user.subscribe(target);
            Ok(())
        }
        15 => {
            user.unsubscribe(target);
            Ok(())
        }
        16 => {
            let value = random.below(9).to_string();
            let value = (value != "0").then_some(value.as_str());
            user.set_attribute(name, "/private/comment", value)
        }
        _ => Ok(()),
    };
}

struct History {
    a: MemoryStore,
    b: MemoryStore,
    random: Random,
    number: u32,
    kinds: Range<usize>,
}

impl History {
    fn new(seed: u64, (a, b): (MemoryStore, MemoryStore), kinds: Range<usize>) -> Self {
        Self {
            a,
            b,
            random: Random::new(seed),
            number: 0,
            kinds,
        }
    }

    fn act(&mut self) {
        for _ in 0..self.random.below(12) {
            let store = if self.random.one_in(2) {
                &self.a
            } else {
                &self.b
            };
            act(store, &mut self.random, &self.kinds, &mut self.number);
        }
    }

    /// Changes on both sides, then runs until they are equal.
    fn round(&mut self, options: &SyncOptions) {
        let common = self.a.dump();
        self.act();
        let oracle = Oracle::of(&self.a, &self.b, &common);
        run(options.clone(), &self.a, &self.b);
        oracle.check(&self.a);
        oracle.check(&self.b);
        converge(&two_way(), &self.a, &self.b);
        oracle.check(&self.a);
        oracle.check(&self.b);
    }
}

fn stateless(kinds: &Range<usize>, a: fn(u64) -> MemoryOptions, b: fn(u64) -> MemoryOptions) {
    for seed in 0..150 {
        let stores = match *kinds == TREES {
            true => empty_pair(a(1), b(2)),
            false => pair(a(1), b(2)),
        };
        let mut history = History::new(seed, stores, kinds.clone());
        for round in 0..4 {
            let options = SyncOptions {
                sync_type: SyncType::Full,
                ..two_way()
            };
            eprintln!("seed {seed} round {round}");
            history.round(&options);
        }
        assert_settled(&two_way(), &history.a, &history.b);
    }
}

#[test]
fn trees_dbox_dbox() {
    stateless(&TREES, MemoryOptions::dbox, MemoryOptions::dbox);
}

#[test]
fn trees_maildir_maildir() {
    stateless(&TREES, MemoryOptions::maildir, MemoryOptions::maildir);
}

#[test]
fn trees_dbox_maildir() {
    stateless(&TREES, MemoryOptions::dbox, MemoryOptions::maildir);
}

#[test]
fn messages_dbox_dbox() {
    stateless(&MESSAGES, MemoryOptions::dbox, MemoryOptions::dbox);
}

#[test]
fn messages_maildir_dbox() {
    stateless(&MESSAGES, MemoryOptions::maildir, MemoryOptions::dbox);
}

#[test]
fn everything_dbox_dbox() {
    stateless(&EVERYTHING, MemoryOptions::dbox, MemoryOptions::dbox);
}

#[test]
fn everything_maildir_maildir() {
    stateless(&EVERYTHING, MemoryOptions::maildir, MemoryOptions::maildir);
}

#[test]
fn everything_dbox_maildir() {
    stateless(&EVERYTHING, MemoryOptions::dbox, MemoryOptions::maildir);
}

#[test]
fn messages_with_state() {
    for seed in 0..150 {
        let mut history = History::new(
            seed,
            pair(MemoryOptions::dbox(1), MemoryOptions::dbox(2)),
            MESSAGES,
        );
        let mut state: Vec<MailboxState> = Vec::new();
        for round in 0..6 {
            eprintln!("seed {seed} round {round}");
            let common = history.a.dump();
            history.act();
            // A run sees changes of the server only where the client or UIDNEXT changed, too.
            let oracle = Oracle::of(&history.a, &history.b, &common);
            let options = SyncOptions {
                sync_type: if state.is_empty() {
                    SyncType::Full
                } else {
                    SyncType::State
                },
                state: std::mem::take(&mut state),
                ..SyncOptions::default()
            };
            let report = run(options, &history.a, &history.b);
            oracle.check(&history.a);
            oracle.check(&history.b);
            if report.is_clean() {
                state = report.client.state;
            } else {
                converge(&two_way(), &history.a, &history.b);
            }
        }
        converge(&two_way(), &history.a, &history.b);
    }
}
