//! A mailbox whose index both we and Dovecot read and change.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dsync_proto::types::Flags;
use dsync_storage::index::{Index, IndexSettings, LockedIndex};
use interop_tests::{Side, World};

pub(crate) const WAIT: Duration = Duration::from_secs(30);
pub(crate) const FLAGS: [&str; 5] = ["\\Answered", "\\Flagged", "\\Deleted", "\\Seen", "\\Draft"];
pub(crate) const KEYWORDS: [&str; 4] = ["Work", "$Label1", "$Forwarded", "a-rather-long-keyword"];

/// The same numbers in each run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, end: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as u32 % end
    }

    pub(crate) fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len() as u32) as usize]
    }
}

/// A mailbox whose index we and Dovecot look at.
pub(crate) struct Box<'w> {
    side: &'w Side<'w>,
    pub(crate) dir: PathBuf,
}

/// What both say about a message: flags and keywords sorted, and the modseq if it was asked for.
pub(crate) type Messages = BTreeMap<u32, (Vec<String>, Option<u64>)>;

impl<'w> Box<'w> {
    pub(crate) fn new(side: &'w Side<'w>, format: &str) -> Self {
        let inside = match format {
            "maildir" => "",
            _ => "mailboxes/INBOX/dbox-Mails",
        };
        Self {
            side,
            dir: side.outside_mail_root().join(inside),
        }
    }

    pub(crate) fn open(&self) -> Result<Index> {
        let settings = IndexSettings {
            is_truth: true,
            ..IndexSettings::default()
        };
        Ok(Index::open(&self.dir, "dovecot.index", settings)?)
    }

    pub(crate) fn random_change(&self, random: &mut Random) -> Result<()> {
        let first = 1 + random.below(12);
        let uids = format!("{first}:{}", first + random.below(6));
        let query = ["mailbox", "INBOX", "uid", &uids];
        let flag = match random.below(2) {
            0 => random.of(&FLAGS),
            _ => random.of(&KEYWORDS),
        };
        match random.below(10) {
            0..=2 => self.side.save("INBOX", b"Subject: hello\n\nbody\n")?,
            3..=5 => drop(self.flags("add", flag, &query)?),
            6 | 7 => drop(self.flags("remove", flag, &query)?),
            8 => drop(self.flags("replace", flag, &query)?),
            _ => drop(
                self.side
                    .doveadm("expunge", &["mailbox", "INBOX", "uid", &first.to_string()])?,
            ),
        }
        Ok(())
    }

    pub(crate) fn flags(&self, action: &str, flag: &str, query: &[&str]) -> Result<String> {
        let mut arguments = vec![flag];
        arguments.extend(query);
        self.side.doveadm(&format!("flags {action}"), &arguments)
    }

    /// Messages and counters as Dovecot tells them. Asking for modseqs makes it write them.
    pub(crate) fn by_dovecot(&self, modseqs: bool) -> Result<(Messages, [u64; 4])> {
        let fields = if modseqs {
            "uid flags modseq"
        } else {
            "uid flags"
        };
        let fetched = self.side.doveadm("fetch", &[fields, "mailbox", "INBOX"])?;
        let fetched: Vec<BTreeMap<String, String>> = serde_json::from_str(&fetched)?;
        let mut messages = Messages::new();
        for message in fetched {
            let mut flags: Vec<String> = message["flags"]
                .split_whitespace()
                .filter(|flag| *flag != "\\Recent")
                .map(str::to_owned)
                .collect();
            flags.sort();
            let modseq = message.get("modseq").map(|modseq| modseq.parse());
            messages.insert(message["uid"].parse()?, (flags, modseq.transpose()?));
        }
        let fields = "messages uidnext uidvalidity highestmodseq";
        let status = self.side.doveadm("mailbox status", &[fields, "INBOX"])?;
        let status: Vec<BTreeMap<String, String>> = serde_json::from_str(&status)?;
        let status = status.first().context("no status")?;
        let number = |key: &str| status[key].parse::<u64>();
        Ok((
            messages,
            [
                number("messages")?,
                number("uidnext")?,
                number("uidvalidity")?,
                number("highestmodseq")?,
            ],
        ))
    }

    pub(crate) fn check(&self, modseqs: bool, when: &str) -> Result<()> {
        let (messages, counters) = self.by_dovecot(modseqs)?;
        let index = self.open()?;
        ensure!(index.damage().is_empty(), "{when}: {:?}", index.damage());
        let ours = of_index(&index, modseqs);
        ensure!(
            ours.0 == messages,
            "{when}: messages differ\nours:    {:?}\nDovecot: {messages:?}",
            ours.0
        );
        ensure!(
            ours.1 == counters,
            "{when}: counters differ\nours:    {:?}\nDovecot: {counters:?}",
            ours.1
        );
        Ok(())
    }

    /// Changes the index with our writer and gives the files back to the mail user.
    pub(crate) fn change(
        &self,
        action: impl FnOnce(&mut LockedIndex<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut index = self.open()?;
        let mut locked = index.lock(WAIT)?;
        action(&mut locked)?;
        drop(locked);
        ensure!(index.damage().is_empty(), "{:?}", index.damage());
        let folder = fs::metadata(&self.dir)?;
        for entry in fs::read_dir(&self.dir)? {
            chown(entry?.path(), Some(folder.uid()), Some(folder.gid()))?;
        }
        Ok(())
    }
}

pub(crate) fn of_index(index: &Index, modseqs: bool) -> (Messages, [u64; 4]) {
    let state = index.state();
    let messages = state
        .messages()
        .map(|message| {
            let mut flags: Vec<String> = (message.flags() & Flags::USER)
                .names()
                .map(str::to_owned)
                .collect();
            flags.extend(message.keywords().map(ToString::to_string));
            flags.sort();
            (message.uid(), (flags, modseqs.then(|| message.modseq())))
        })
        .collect();
    let header = state.header();
    let counters = [
        state.len() as u64,
        header.next_uid().into(),
        header.uid_validity().into(),
        state.highest_modseq(),
    ];
    (messages, counters)
}

/// Makes Dovecot write snapshots and rotate logs all the time.
pub(crate) fn tiny_logs(world: &World, name: &str) -> Result<()> {
    let mut config = OpenOptions::new()
        .append(true)
        .open(world.outside(&format!("{name}.conf")))?;
    config.write_all(
        b"mail_index_rewrite_min_log_bytes = 200\nmail_index_rewrite_max_log_bytes = 500\n\
          mail_index_log_rotate_min_size = 600\nmail_index_log_rotate_max_size = 1200\n\
          mail_index_log_rotate_min_age = 1s\n",
    )?;
    Ok(())
}
