//! The demo's account: made, edited, and looked at.
//!
//! The edits are what other programs do to a Maildir: deliver into `new`, rename for flags, unlink.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dsync_storage::location::{Location, Variables};
use dsync_storage::{Namespace, OpenMode, Store, StoreSettings, open_store};
use dsync_testkit::mail::{AccountPlan, AccountSize, MailKind, generate};
use dsync_testkit::random::Random;

/// The account is the same in every demo.
const SEED: u64 = 2026;
const SIZE: AccountSize = AccountSize {
    mailboxes: 24,
    messages: 1980,
    ordinary: None,
};
/// Octets of the largest message.
const LARGEST: usize = 5_000_000;

/// The separator is the one that the programs use for a Maildir, too.
fn open(folder: &Path) -> Result<Box<dyn Store>> {
    let location = format!("maildir:{}", folder.display());
    let location = Location::parse(&location, &Variables::default())?;
    let namespace = Namespace {
        separator: '.',
        ..Namespace::default()
    };
    Ok(open_store(&location, namespace, &StoreSettings::default())?)
}

/// Fills a new account.
pub(super) fn make(folder: &Path) -> Result<()> {
    let plan = AccountPlan::new(SEED, SIZE);
    plan.fill(open(folder)?.as_mut())?;
    let mut random = Random::new(SEED);
    for number in 1..=20 {
        let body = generate(MailKind::Plain, number * LARGEST / 20, &mut random);
        deliver(folder, 1000 + number as u32, "attachments", &body)?;
    }
    Ok(())
}

/// Files of all messages in INBOX that have been seen by a mail program or not, by name.
fn inbox_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for part in ["cur", "new"] {
        for entry in fs::read_dir(folder.join(part))? {
            files.push(entry?.path());
        }
    }
    files.sort();
    Ok(files)
}

/// As a mail transport does it: write into `tmp`, rename into `new`.
fn deliver(folder: &Path, number: u32, from: &str, text: &[u8]) -> Result<()> {
    let name = format!("{}.M{number}P1.{from}", 1_795_500_000 + number);
    let temporary = folder.join("tmp").join(&name);
    fs::write(&temporary, text)?;
    Ok(fs::rename(temporary, folder.join("new").join(name))?)
}

fn news(number: u32, from: &str) -> String {
    format!(
        "From: {from}@example.org\nSubject: news {number}\nDate: Tue, 24 Nov 2026 10:00:00 +0000\n\
         Message-ID: <{number}@{from}.example.org>\n\nHello from {from}.\n"
    )
}

/// Sets the flags of a message by its file name.
fn set_flags(file: &Path, flags: &str) -> Result<()> {
    let name = file
        .file_name()
        .and_then(|name| name.to_str())
        .context("odd file name")?;
    let base = name.split(':').next().unwrap_or(name);
    let folder = file.parent().and_then(Path::parent).context("no folder")?;
    Ok(fs::rename(
        file,
        folder.join("cur").join(format!("{base}:2,{flags}")),
    )?)
}

/// New mail, flags, deletions and mailboxes at home.
pub(super) fn edit_home(folder: &Path) -> Result<()> {
    let files = inbox_files(folder)?;
    let [first, second, .., last] = files.as_slice() else {
        bail!("INBOX is too small")
    };
    set_flags(first, "FS")?;
    fs::remove_file(second)?;
    set_flags(last, "S")?;
    for number in 0..20 {
        deliver(folder, number, "home", news(number, "home").as_bytes())?;
    }
    let mut store = open(folder)?;
    store.create_mailbox("Projects.Offsite", None, None)?;
    store.set_subscribed("Projects.Offsite", true)?;
    println!("home: 20 new messages, 2 flagged, 1 deleted, 1 mailbox created");
    Ok(())
}

/// The same in the office, to other messages, and a mailbox renamed.
pub(super) fn edit_office(folder: &Path) -> Result<()> {
    let files = inbox_files(folder)?;
    let [.., third, fourth, _] = files.as_slice() else {
        bail!("INBOX is too small")
    };
    set_flags(third, "RS")?;
    fs::remove_file(fourth)?;
    for number in 100..110 {
        deliver(folder, number, "office", news(number, "office").as_bytes())?;
    }
    let mut store = open(folder)?;
    let plan = AccountPlan::new(SEED, SIZE);
    let leaf = |name: &&String| {
        let below = format!("{name}/");
        *name != "INBOX" && !plan.mailboxes.iter().any(|other| other.starts_with(&below))
    };
    let old = plan
        .mailboxes
        .iter()
        .find(leaf)
        .context("no mailbox to rename")?;
    store.rename(&old.replace('/', "."), "Renamed in the office")?;
    println!("office: 10 new messages, 1 answered, 1 deleted, \"{old}\" renamed");
    Ok(())
}

/// Everything about an account.
#[derive(PartialEq)]
pub(super) struct Snapshot {
    mailboxes: BTreeMap<String, MailboxSnapshot>,
    subscriptions: Vec<String>,
}

#[derive(PartialEq)]
struct MailboxSnapshot {
    identity: String,
    /// UID, GUID, flags, keywords, date, hash of the body; one line each.
    messages: Vec<String>,
    bytes: u64,
}

impl Snapshot {
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let mut store = open(folder)?;
        let mut subscriptions = store.subscriptions()?;
        subscriptions.sort();
        let mut mailboxes = BTreeMap::new();
        for entry in store.list()? {
            if entry.selectable {
                let mailbox = MailboxSnapshot::read(store.as_mut(), &entry.name)?;
                mailboxes.insert(entry.name, mailbox);
            }
        }
        Ok(Self {
            mailboxes,
            subscriptions,
        })
    }

    pub(super) fn summary(&self) -> String {
        let messages: usize = self
            .mailboxes
            .values()
            .map(|mailbox| mailbox.messages.len())
            .sum();
        let bytes: u64 = self.mailboxes.values().map(|mailbox| mailbox.bytes).sum();
        let megabytes = bytes / 1_000_000;
        format!(
            "{} mailboxes, {messages} messages, {megabytes} MB",
            self.mailboxes.len()
        )
    }

    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.subscriptions != other.subscriptions {
            lines.push(format!(
                "{:?} | {:?}",
                self.subscriptions, other.subscriptions
            ));
        }
        let names = self.mailboxes.keys().chain(other.mailboxes.keys());
        for name in names {
            match (self.mailboxes.get(name), other.mailboxes.get(name)) {
                (Some(one), Some(two)) if one != two => {
                    lines.push(format!("{name}: {} | {}", one.identity, two.identity));
                    lines.extend(
                        one.messages
                            .iter()
                            .filter(|m| !two.messages.contains(m))
                            .take(5)
                            .cloned(),
                    );
                }
                (Some(_), Some(_)) => {}
                _ => lines.push(format!("{name}: only on one side")),
            }
        }
        lines
    }
}

impl MailboxSnapshot {
    fn read(store: &mut dyn Store, name: &str) -> Result<Self> {
        let mut mailbox = store.open(name, OpenMode::Read)?;
        let status = mailbox.refresh()?;
        let identity = format!(
            "{} {} {}",
            status.guid, status.uid_validity, status.uid_next
        );
        let table = mailbox.messages()?;
        let mut messages = Vec::with_capacity(table.len());
        let mut bytes = 0;
        for message in table.iter() {
            let keywords: Vec<_> = message
                .keywords
                .iter()
                .map(|k| String::from_utf8_lossy(k))
                .collect();
            let mut open = mailbox
                .open_message(message.uid)?
                .context("message vanished")?;
            let mut body = Vec::new();
            open.body.read_to_end(&mut body)?;
            let body = with_plain_line_ends(&body);
            bytes += body.len() as u64;
            let mut hasher = DefaultHasher::new();
            body.hash(&mut hasher);
            let user_flags = message.flags & dsync_proto::types::Flags::USER;
            messages.push(format!(
                "{} {} {user_flags:?} {keywords:?} {} {:x}",
                message.uid,
                message.guid,
                open.received_date,
                hasher.finish()
            ));
        }
        Ok(Self {
            identity,
            messages,
            bytes,
        })
    }
}

/// A Maildir keeps lines with LF: a CR before it goes when a message is saved, as in Dovecot.
fn with_plain_line_ends(body: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(body.len());
    for byte in body {
        if *byte == b'\n' {
            while out.last() == Some(&b'\r') {
                out.pop();
            }
        }
        out.push(*byte);
    }
    out
}
