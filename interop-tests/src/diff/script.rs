//! What happens before a sync: random edits, the same for the same seed.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use dsync_testkit::random::Random;

use super::edit::Edit;
use super::mail::{Mail, SHAPES};

const NAMES: [&str; 10] = [
    "INBOX",
    "Work",
    "Work.Deep",
    "Work.Deep.Er",
    "Old",
    "Old.Kid",
    "Name",
    "Grüße",
    "Grüße.Ä",
    "X.Y",
];
const FLAGS: [&str; 9] = [
    "\\Seen",
    "\\Answered",
    "\\Flagged",
    "\\Deleted",
    "\\Draft",
    "work",
    "$Label1",
    "urgent",
    "later",
];
const UID_SETS: [&str; 8] = ["1", "2", "3", "1:2", "2:4", "1,3", "*", "1:*"];
const RECEIVED: [&str; 4] = [
    "",
    "01-Jan-1999 00:00:00 +0000",
    "17-Nov-2024 23:59:59 +0100",
    "03-Mar-2020 12:00:00 -0800",
];
const ATTRIBUTES: [&str; 4] = [
    "/private/comment",
    "/shared/comment",
    "/private/vendor/vendor.x/a/b",
    "/shared/vendor/vendor.y/q",
];

/// Edits on both sides between two syncs.
#[derive(Clone, Debug, Default)]
pub(super) struct Round {
    pub(super) a: Vec<Edit>,
    pub(super) b: Vec<Edit>,
}

/// A history of two accounts.
#[derive(Clone, Debug)]
pub(super) struct Script {
    pub(super) seed: u64,
    /// Makes the common account.
    pub(super) base: Vec<Edit>,
    /// Whether `b` begins as a copy of it, or else from nothing.
    pub(super) copied: bool,
    /// All of them if stateful, else only the first.
    pub(super) rounds: Vec<Round>,
}

impl Script {
    pub(super) fn generate(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let copied = !random.one_in(8);
        let mut common = Author::new(seed);
        let base = common.base(&mut random);
        let mut a = common.clone();
        let mut b = match copied {
            true => common,
            false => Author::new(seed),
        };
        (a.number, b.number) = (1000, 2000);
        let mut rounds = Vec::new();
        for most in [12, 4, 4] {
            let (count_a, count_b) = (random.below(most + 1), random.below(most + 1));
            rounds.push(Round {
                a: a.edits(&mut random, count_a),
                b: b.edits(&mut random, count_b),
            });
        }
        Self {
            seed,
            base,
            copied,
            rounds,
        }
    }

    /// Every list of edits, for one who drops some.
    pub(super) fn lists(&mut self) -> Vec<&mut Vec<Edit>> {
        let mut lists = Vec::new();
        for round in self.rounds.iter_mut().rev() {
            lists.extend([&mut round.b, &mut round.a]);
        }
        lists.push(&mut self.base);
        lists
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = |title: &str, edits: &[Edit]| {
            let mut text = String::new();
            for edit in edits {
                let _ = writeln!(text, "    {edit}");
            }
            match text.is_empty() {
                true => Ok(()),
                false => write!(f, "  {title}:\n{text}"),
            }
        };
        list(
            match self.copied {
                true => "both",
                false => "a alone (b begins empty)",
            },
            &self.base,
        )?;
        for (number, round) in self.rounds.iter().enumerate() {
            list(&format!("round {} a", number + 1), &round.a)?;
            list(&format!("round {} b", number + 1), &round.b)?;
        }
        Ok(())
    }
}

/// Somebody who edits an account and knows roughly what is in it.
#[derive(Clone)]
struct Author {
    seed: u64,
    mailboxes: BTreeSet<String>,
    number: u32,
}

impl Author {
    fn new(seed: u64) -> Self {
        let mailboxes = BTreeSet::from(["INBOX".to_owned()]);
        Self {
            seed,
            mailboxes,
            number: 1,
        }
    }

    fn base(&mut self, random: &mut Random) -> Vec<Edit> {
        let mut edits = Vec::new();
        if !random.one_in(6) {
            edits.push(self.save("INBOX".into(), random, 5));
        }
        for _ in 0..=random.below(4) {
            let name = (*random.pick(&NAMES[1..])).to_owned();
            if !self.mailboxes.contains(&name) {
                edits.push(self.create(&name, random));
            }
            if !random.one_in(3) {
                edits.push(self.save(name, random, 5));
            }
        }
        for _ in 0..random.below(4) {
            edits.extend(self.edit_of_messages(random));
        }
        if random.one_in(3) {
            edits.push(self.attribute(random));
        }
        edits
    }

    fn edits(&mut self, random: &mut Random, count: usize) -> Vec<Edit> {
        let mut edits = Vec::new();
        while edits.len() < count {
            match random.below(10) {
                0..=5 => edits.extend(self.edit_of_messages(random)),
                6..=8 => edits.extend(self.edit_of_tree(random)),
                _ => edits.extend(self.edit_of_properties(random)),
            }
        }
        edits
    }

    fn edit_of_messages(&mut self, random: &mut Random) -> Vec<Edit> {
        let mailbox = self.existing(random);
        let uids = *random.pick(&UID_SETS);
        let query = ["mailbox", &mailbox, "uid", uids];
        let edit = match random.below(12) {
            0..=3 => self.save(mailbox, random, 3),
            4..=7 => {
                let how = *random.pick(&["flags add", "flags remove", "flags replace"]);
                let mut flags = random_flags(random);
                if flags.is_empty() {
                    flags = "\\Seen".into();
                }
                Edit::doveadm(how, &[&[flags.as_str()], &query[..]].concat())
            }
            8 | 9 => Edit::doveadm("expunge", &query),
            10 => {
                let to = self.existing(random);
                Edit::doveadm("copy", &[&[to.as_str()], &query[..]].concat())
            }
            _ => {
                let to = self.existing(random);
                Edit::doveadm("move", &[&[to.as_str()], &query[..]].concat())
            }
        };
        vec![edit]
    }

    fn edit_of_tree(&mut self, random: &mut Random) -> Vec<Edit> {
        let name = self.existing(random);
        match random.below(12) {
            0..=2 => {
                let name = (*random.pick(&NAMES[1..])).to_owned();
                if self.mailboxes.contains(&name) {
                    return Vec::new();
                }
                let mut edits = vec![self.create(&name, random)];
                if random.one_in(2) {
                    edits.push(self.save(name, random, 2));
                }
                edits
            }
            3..=5 => {
                let to = (*random.pick(&NAMES[1..])).to_owned();
                vec![self.rename(&name, &to)]
            }
            6 => {
                let other = self.existing(random);
                vec![
                    self.rename(&name, "swap"),
                    self.rename(&other, &name),
                    self.rename("swap", &other),
                ]
            }
            7 => vec![self.delete(&name)],
            8 => {
                let mut edits = vec![self.delete(&name)];
                if name != "INBOX" {
                    edits.push(self.create(&name, random));
                }
                if random.one_in(2) {
                    edits.push(self.save(name, random, 2));
                }
                edits
            }
            9 | 10 => vec![Edit::doveadm("mailbox subscribe", &[&name])],
            _ => vec![Edit::doveadm("mailbox unsubscribe", &[&name])],
        }
    }

    fn edit_of_properties(&mut self, random: &mut Random) -> Vec<Edit> {
        let name = self.existing(random);
        vec![match random.below(6) {
            0 => {
                let value = (1_700_000_000 + random.below(200_000_000)).to_string();
                Edit::doveadm("mailbox update", &["--uid-validity", &value, &name])
            }
            1 => {
                let value = (1 + random.below(30)).to_string();
                Edit::doveadm("mailbox update", &["--min-next-uid", &value, &name])
            }
            _ => self.attribute(random),
        }]
    }

    fn attribute(&mut self, random: &mut Random) -> Edit {
        let name = self.existing(random);
        let key = *random.pick(&ATTRIBUTES);
        match random.one_in(4) {
            true => Edit::doveadm("mailbox metadata unset", &[&name, key]),
            false => {
                self.number += 1;
                let value = format!("value {}", self.number);
                Edit::doveadm("mailbox metadata set", &[&name, key, &value])
            }
        }
    }

    /// Mostly a mailbox that is there.
    fn existing(&self, random: &mut Random) -> String {
        let names: Vec<&String> = self.mailboxes.iter().collect();
        match random.one_in(12) || names.is_empty() {
            true => (*random.pick(&NAMES)).to_owned(),
            false => (*random.pick(&names)).clone(),
        }
    }

    fn save(&mut self, mailbox: String, random: &mut Random, most: usize) -> Edit {
        let mails = (0..=random.below(most))
            .map(|_| {
                self.number += 1;
                Mail {
                    shape: *random.pick(&SHAPES),
                    number: self.number,
                    flags: match random.one_in(2) {
                        true => random_flags(random),
                        false => String::new(),
                    },
                    received: random.pick::<&str>(&RECEIVED),
                }
            })
            .collect();
        Edit::Save(mailbox, mails)
    }

    /// Of a new name, since Dovecot changes the GUID of a mailbox that is there, which no client
    /// can do. With a GUID of its own choice: which of two is higher must not change from run to run.
    fn create(&mut self, name: &str, random: &mut Random) -> Edit {
        self.mailboxes.insert(name.to_owned());
        let guid = format!("{:016x}{:016x}", random.next_u64(), self.seed);
        match random.one_in(3) {
            true => Edit::doveadm("mailbox create", &["-s", "-g", &guid, name]),
            false => Edit::doveadm("mailbox create", &["-g", &guid, name]),
        }
    }

    fn rename(&mut self, from: &str, to: &str) -> Edit {
        let inside = format!("{from}.");
        let names: Vec<String> = self.mailboxes.iter().cloned().collect();
        for name in names {
            let Some(rest) = name.strip_prefix(from) else {
                continue;
            };
            if (rest.is_empty() || name.starts_with(&inside)) && name != "INBOX" {
                self.mailboxes.remove(&name);
                self.mailboxes.insert(format!("{to}{rest}"));
            }
        }
        Edit::doveadm("mailbox rename", &[from, to])
    }

    fn delete(&mut self, name: &str) -> Edit {
        if name != "INBOX" {
            self.mailboxes.remove(name);
        }
        Edit::doveadm("mailbox delete", &[name])
    }
}

fn random_flags(random: &mut Random) -> String {
    let mut flags: Vec<&str> = (0..random.below(4)).map(|_| *random.pick(&FLAGS)).collect();
    flags.sort_unstable();
    flags.dedup();
    flags.join(" ")
}
