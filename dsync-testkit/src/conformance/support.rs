//! Short words for what the checks do again and again.

use std::io::Read;

use dsync_proto::types::{Flags, Uid};
use dsync_storage::{CommitReport, Mailbox, OpenMode, SaveMessage, Store};

/// A received date that no clock of a test has.
pub(super) const RECEIVED: i64 = 1_234_567_890;

/// A message to save with this UID, a GUID made of it, and nothing else.
pub(super) fn message(uid: Uid) -> SaveMessage {
    SaveMessage {
        uid,
        guid: format!("guid-{uid}").as_str().into(),
        flags: Flags::RECENT,
        received_date: RECEIVED,
        ..SaveMessage::default()
    }
}

pub(super) fn body(uid: Uid) -> Vec<u8> {
    format!("Subject: mail {uid}\n\nbody {uid}\n").into_bytes()
}

/// A new mailbox, open for writing and refreshed.
pub(super) fn new_mailbox(store: &mut dyn Store) -> Box<dyn Mailbox> {
    store.create_mailbox("box", None, None).expect("create");
    open(store, "box")
}

pub(super) fn open(store: &mut dyn Store, name: &str) -> Box<dyn Mailbox> {
    let mut mailbox = store.open(name, OpenMode::Write).expect("open");
    mailbox.refresh().expect("refresh");
    mailbox
}

pub(super) fn save(mailbox: &mut dyn Mailbox, message: SaveMessage, body: &[u8]) {
    mailbox.save_begin(message).expect("save_begin");
    mailbox.save_write(body).expect("save_write");
    mailbox.save_finish().expect("save_finish");
}

/// Saves messages of [`message`] with these UIDs and commits.
pub(super) fn save_all(mailbox: &mut dyn Mailbox, uids: &[Uid]) -> CommitReport {
    for uid in uids {
        save(mailbox, message(*uid), &body(*uid));
    }
    mailbox.commit().expect("commit")
}

pub(super) fn uids(mailbox: &mut dyn Mailbox) -> Vec<Uid> {
    let messages = mailbox.messages().expect("messages");
    messages.iter().map(|message| message.uid).collect()
}

pub(super) fn guid(mailbox: &mut dyn Mailbox, uid: Uid) -> String {
    let messages = mailbox.messages().expect("messages");
    messages.by_uid(uid).expect("a message").guid.to_string()
}

/// User flags and sorted keywords.
pub(super) fn flags(mailbox: &mut dyn Mailbox, uid: Uid) -> (Flags, Vec<String>) {
    let messages = mailbox.messages().expect("messages");
    let message = messages.by_uid(uid).expect("a message");
    let mut keywords: Vec<String> = message
        .keywords
        .iter()
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect();
    keywords.sort();
    (message.flags & Flags::USER, keywords)
}

pub(super) fn modseq(mailbox: &mut dyn Mailbox, uid: Uid) -> u64 {
    let messages = mailbox.messages().expect("messages");
    messages.by_uid(uid).expect("a message").modseq
}

pub(super) fn read(mailbox: &mut dyn Mailbox, uid: Uid) -> Vec<u8> {
    let message = mailbox.open_message(uid).expect("open_message");
    let mut body = Vec::new();
    let mut stream = message.expect("a message").body;
    stream.read_to_end(&mut body).expect("a readable body");
    body
}

/// Selectable names without INBOX, sorted.
pub(super) fn mailboxes(store: &mut dyn Store) -> Vec<String> {
    let entries = store.list().expect("list");
    let mut names: Vec<String> = entries
        .into_iter()
        .filter(|entry| entry.selectable && entry.name != "INBOX")
        .map(|entry| entry.name)
        .collect();
    names.sort();
    names
}

/// Names without mailbox, sorted.
pub(super) fn directories(store: &mut dyn Store) -> Vec<String> {
    let entries = store.list().expect("list");
    let mut names: Vec<String> = entries
        .into_iter()
        .filter(|entry| !entry.selectable)
        .map(|entry| entry.name)
        .collect();
    names.sort();
    names
}
