//! What must be in the account, and what Dovecot sees there.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use anyhow::{Context, Result, ensure};
use dsync_testkit::random::Random;
use serde::Deserialize;

use super::step::{FLAGS, Step, body};
use crate::Side;

/// More mails than that in a mailbox, and some go.
const MANY: usize = 40;

/// A mail as both sides must have it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Mail {
    name: String,
    flags: BTreeSet<String>,
    /// Known and fixed once both sides have had it.
    uid: Option<u32>,
}

/// What must be there.
#[derive(Debug)]
pub(super) struct Account {
    boxes: BTreeMap<String, Vec<Mail>>,
    /// UIDVALIDITY and GUID of mailboxes that both sides have had.
    identities: BTreeMap<String, [String; 2]>,
    /// Mailboxes that were made, renamed or deleted in this round.
    restless: BTreeSet<String>,
    /// Mails and mailboxes that have got a number.
    number: u32,
}

/// A mailbox as Dovecot sees it: UIDVALIDITY, GUID, and mails by UID.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct SeenBox {
    identity: [String; 2],
    mails: BTreeMap<u32, (String, BTreeSet<String>)>,
}

/// What Dovecot sees of one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen(BTreeMap<String, SeenBox>);

impl Default for Account {
    fn default() -> Self {
        Self {
            boxes: [("INBOX".to_owned(), Vec::new())].into(),
            identities: BTreeMap::new(),
            restless: BTreeSet::new(),
            number: 0,
        }
    }
}

/// Who changes what in one round.
struct Round<'a> {
    random: &'a mut Random,
    /// Mails that somebody has changed: nobody else may.
    changed: BTreeSet<(String, u32)>,
    /// Mailboxes with changed mails: nobody may rename or delete them.
    busy: BTreeSet<String>,
}

impl Account {
    /// Changes for both sides that do not contradict each other.
    pub(super) fn plan(&mut self, random: &mut Random) -> [Vec<Step>; 2] {
        let mut steps = [Vec::new(), Vec::new()];
        let (first, both) = (random.below(2), random.one_in(3));
        let mut round = Round {
            random,
            changed: BTreeSet::new(),
            busy: BTreeSet::new(),
        };
        for _ in 0..3 + round.random.below(8) {
            let side = if both { round.random.below(2) } else { first };
            // The tree changes on one side only.
            let tree = side == first && round.random.one_in(5);
            let step = match tree {
                true => self.change_tree(&mut round),
                false => self.change_mail(&mut round, !both || side == first),
            };
            steps[side].extend(step);
        }
        steps
    }

    fn change_tree(&mut self, round: &mut Round<'_>) -> Option<Step> {
        let quiet = |name: &&String| {
            *name != "INBOX" && !round.busy.contains(*name) && !self.restless.contains(*name)
        };
        let quiet: Vec<String> = self.boxes.keys().filter(quiet).cloned().collect();
        self.number += 1;
        let new = format!("box{}", self.number);
        if quiet.len() < 3 || round.random.one_in(3) {
            self.restless.insert(new.clone());
            self.boxes.insert(new.clone(), Vec::new());
            return Some(Step::Create(new));
        }
        let old = round.random.pick(&quiet).clone();
        self.restless.extend([old.clone(), new.clone()]);
        let mails = self.boxes.remove(&old)?;
        let identity = self.identities.remove(&old);
        if round.random.one_in(2) {
            return Some(Step::Delete(old));
        }
        self.boxes.insert(new.clone(), mails);
        self.identities
            .extend(identity.map(|identity| (new.clone(), identity)));
        Some(Step::Rename(old, new))
    }

    /// `knows_new`: this side knows the mailboxes that were made in this round.
    fn change_mail(&mut self, round: &mut Round<'_>, knows_new: bool) -> Option<Step> {
        let may = |name: &&String| knows_new || !self.restless.contains(*name);
        let names: Vec<String> = self.boxes.keys().filter(may).cloned().collect();
        // Half of it happens in INBOX.
        let name = match round.random.one_in(2) {
            true => "INBOX".to_owned(),
            false => round.random.pick(&names).clone(),
        };
        round.busy.insert(name.clone());
        let mails = self.boxes.get_mut(&name)?;
        let free = |mail: &&Mail| {
            let uid = mail.uid.unwrap_or(0);
            uid != 0 && !round.changed.contains(&(name.clone(), uid))
        };
        let free: Vec<u32> = mails
            .iter()
            .filter(free)
            .filter_map(|mail| mail.uid)
            .collect();
        let kind = match mails.len() > MANY {
            true => 3,
            false => round.random.below(6),
        };
        if kind > 3 || free.is_empty() {
            let count = 1 + round.random.below(5);
            let mut new = Vec::new();
            for _ in 0..count {
                self.number += 1;
                let flags = FLAGS.iter().filter(|_| round.random.one_in(6)).copied();
                new.push((format!("mail{}", self.number), flags.collect::<Vec<_>>()));
            }
            mails.extend(new.iter().map(|(name, flags)| Mail {
                name: name.clone(),
                flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
                uid: None,
            }));
            return Some(Step::Save(name, new));
        }
        let uid = *round.random.pick(&free);
        round.changed.insert((name.clone(), uid));
        let at = mails.iter().position(|mail| mail.uid == Some(uid))?;
        match kind {
            0 => {
                let copy = Mail {
                    name: mails[at].name.clone(),
                    flags: BTreeSet::new(),
                    uid: None,
                };
                mails.push(copy);
                Some(Step::Copy(name, uid))
            }
            1 | 2 => {
                let flag = *round.random.pick(&FLAGS);
                let flags = &mut mails[at].flags;
                match flags.remove(flag) {
                    true => Some(Step::Unflag(name, uid, flag)),
                    false => {
                        flags.insert(flag.to_owned());
                        Some(Step::Flag(name, uid, flag))
                    }
                }
            }
            _ => {
                mails.remove(at);
                Some(Step::Expunge(name, uid))
            }
        }
    }

    /// Everything is there exactly once, and old mails have their UIDs.
    pub(super) fn expect(&self, seen: &Seen) -> Result<()> {
        ensure!(
            self.boxes.keys().eq(seen.0.keys()),
            "mailboxes {:?} instead of {:?}",
            seen.0.keys(),
            self.boxes.keys()
        );
        self.expect_old(seen)?;
        for (name, mails) in &self.boxes {
            let mut expected: Vec<_> = mails.iter().map(|mail| (&mail.name, &mail.flags)).collect();
            let mut found: Vec<_> = seen.0[name]
                .mails
                .values()
                .map(|(name, flags)| (name, flags))
                .collect();
            expected.sort();
            found.sort();
            let less: Vec<_> = expected
                .iter()
                .filter(|mail| !found.contains(mail))
                .collect();
            let more: Vec<_> = found
                .iter()
                .filter(|mail| !expected.contains(mail))
                .collect();
            ensure!(
                expected == found,
                "{name}: {} mails instead of {}; missing: {less:?}; too many: {more:?}\n{:?}",
                found.len(),
                expected.len(),
                seen.0[name]
            );
        }
        Ok(())
    }

    /// Mails that both sides have had before this round, and that nobody has expunged in it, have
    /// the UIDs that they had.
    pub(super) fn expect_old(&self, seen: &Seen) -> Result<()> {
        let empty = SeenBox::default();
        for (name, mails) in &self.boxes {
            let found = seen.0.get(name);
            if found.is_none() && self.restless.contains(name) {
                continue;
            }
            let found = found.unwrap_or(&empty);
            if let Some(identity) = self.identities.get(name) {
                ensure!(
                    found.identity == *identity,
                    "{name} is {:?} now, and was {identity:?}",
                    found.identity
                );
            }
            for mail in mails {
                if let Some(uid) = mail.uid {
                    let now = found.mails.get(&uid).map(|(name, _)| name);
                    ensure!(
                        now == Some(&mail.name),
                        "{name}: UID {uid} was {} and is {now:?}\n{found:?}",
                        mail.name
                    );
                }
            }
        }
        Ok(())
    }

    /// Both sides have this now.
    pub(super) fn learn(&mut self, seen: Seen) {
        self.restless.clear();
        self.boxes.clear();
        for (name, found) in seen.0 {
            let mails = found.mails.into_iter().map(|(uid, (name, flags))| Mail {
                name,
                flags,
                uid: Some(uid),
            });
            self.boxes.insert(name.clone(), mails.collect());
            self.identities.insert(name, found.identity);
        }
        let boxes = &self.boxes;
        self.identities.retain(|name, _| boxes.contains_key(name));
    }
}

impl Seen {
    /// The other side has the same.
    pub(super) fn expect_equal(&self, other: &Self) -> Result<()> {
        for (name, found) in &self.0 {
            let there = other.0.get(name);
            ensure!(
                there == Some(found),
                "{name}: a has {found:?}\nb has {there:?}"
            );
        }
        ensure!(self.0.keys().eq(other.0.keys()), "{:?}", other.0.keys());
        Ok(())
    }
}

#[derive(Deserialize)]
struct Status {
    mailbox: String,
    guid: String,
    uidvalidity: String,
}

#[derive(Deserialize)]
struct Fetched {
    mailbox: String,
    uid: String,
    flags: String,
    #[serde(rename = "hdr.message-id")]
    id: String,
    body: String,
}

/// What Dovecot sees, without a word about it.
pub(super) fn seen(side: &Side<'_>) -> Result<Seen> {
    let mut boxes: BTreeMap<String, SeenBox> = BTreeMap::new();
    let status = side.doveadm("mailbox status", &["guid uidvalidity", "*"])?;
    for status in serde_json::from_str::<Vec<Status>>(&status).context(status.clone())? {
        let found = boxes.entry(status.mailbox).or_default();
        found.identity = [status.uidvalidity, status.guid];
    }
    let text = side.doveadm("fetch", &["mailbox uid flags hdr.message-id body", "all"])?;
    let fetched = match text.trim() {
        "" => Vec::new(),
        text => serde_json::from_str::<Vec<Fetched>>(text)?,
    };
    for mut mail in fetched {
        let name = mail.id.trim_matches(['<', '>']).to_owned();
        let text = mem::take(&mut mail.body);
        ensure!(
            text.lines().eq(body(&name).lines()),
            "{} UID {}: not the body of {name}: {text}",
            mail.mailbox,
            mail.uid
        );
        let flags = mail.flags.split(' ').filter(|flag| !flag.is_empty());
        let flags = flags.filter(|flag| *flag != "\\Recent").map(str::to_owned);
        let found = boxes.entry(mail.mailbox).or_default();
        found
            .mails
            .insert(mail.uid.parse()?, (name, flags.collect()));
    }
    Ok(Seen(boxes))
}
