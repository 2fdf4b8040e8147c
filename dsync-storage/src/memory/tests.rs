//! What a test relies on when it uses the store; the promises of the traits are checked by the
//! conformance suite of `dsync-testkit`.

use dsync_proto::items::AttributeKind;
use dsync_proto::types::{Flags, Guid, MailErrorClass};

use super::*;
use crate::{FlagUpdate, Mailbox, MailboxLogKind, MetadataUpdate, OpenMode, SaveMessage, Store};

fn save_message(uid: u32) -> SaveMessage {
    SaveMessage {
        uid,
        guid: "".into(),
        flags: Flags::SEEN,
        keywords: vec!["Work".into()],
        min_modseq: 40,
        min_pvt_modseq: 0,
        received_date: 5,
        saved_date: 0,
        pop3_uidl: "".into(),
        pop3_order: 0,
    }
}

fn open(store: &MemoryStore, name: &str) -> Box<dyn Mailbox> {
    let mut mailbox = store.clone().open(name, OpenMode::Write).unwrap();
    mailbox.refresh().unwrap();
    mailbox
}

#[test]
fn user_changes_count_one_modseq_per_record() {
    let store = MemoryStore::new(MemoryOptions::dbox(1));
    let user = store.user();
    let uid = user.save("INBOX", NewMail::with_subject("a")).unwrap();
    user.save("INBOX", NewMail::with_subject("b")).unwrap();
    user.add_flags("INBOX", &[uid], Flags::SEEN).unwrap();
    user.add_keywords("INBOX", &[uid], &["x", "y"]).unwrap();
    let dump = store.dump();
    assert_eq!(dump.mailboxes["INBOX"].highest_modseq, 6);
    assert_eq!(dump.mailboxes["INBOX"].messages[&uid].modseq, 6);
    assert_eq!(dump.mailboxes["INBOX"].messages[&2].modseq, 3);
    user.expunge("INBOX", &[1, 2], LogGuid::Unknown).unwrap();
    assert_eq!(store.dump().mailboxes["INBOX"].highest_modseq, 7);
    let changes = open(&store, "INBOX").changes_since(6, 0, 9).unwrap();
    assert_eq!(changes.changes[&2].guid, Guid::ZERO);
}

#[test]
fn what_a_sync_writes_is_no_change_but_an_expunge() {
    let store = MemoryStore::new(MemoryOptions::dbox(1));
    store
        .user()
        .save("INBOX", NewMail::with_subject("a"))
        .unwrap();
    let mut mailbox = open(&store, "INBOX");
    mailbox.save_begin(save_message(9)).unwrap();
    mailbox.save_write(b"x").unwrap();
    mailbox.save_finish().unwrap();
    mailbox.expunge(1).unwrap();
    assert!(mailbox.commit().unwrap().moved.is_empty());
    let changes = mailbox.changes_since(2, 0, u32::MAX).unwrap();
    assert_eq!(changes.changes.keys().copied().collect::<Vec<_>>(), [1]);
    assert_eq!(mailbox.messages().unwrap().by_uid(9).unwrap().modseq, 40);
    assert_eq!(mailbox.status().unwrap().uid_next, 10);
}

#[test]
fn keywords_keep_the_first_spelling() {
    let store = MemoryStore::new(MemoryOptions::dbox(1));
    let user = store.user();
    user.save("INBOX", NewMail::with_subject("a").keywords(["Case"]))
        .unwrap();
    user.save(
        "INBOX",
        NewMail::with_subject("b").keywords(["case", "CASE"]),
    )
    .unwrap();
    let dump = store.dump();
    let keywords = &dump.mailboxes["INBOX"].messages[&2].keywords;
    assert_eq!(keywords.iter().collect::<Vec<_>>(), ["Case"]);
}

#[test]
fn private_flags_have_modseqs_of_their_own() {
    let store = MemoryStore::new(MemoryOptions {
        private_flags: Flags::SEEN,
        ..MemoryOptions::dbox(1)
    });
    let user = store.user();
    user.save("INBOX", NewMail::with_subject("a")).unwrap();
    let mut mailbox = open(&store, "INBOX");
    let update = FlagUpdate {
        add_flags: Flags::SEEN | Flags::FLAGGED,
        ..FlagUpdate::default()
    };
    user.update("INBOX", &[1], &update).unwrap();
    let status = mailbox.refresh().unwrap();
    assert_eq!((status.highest_modseq, status.highest_pvt_modseq), (3, 2));
    let changes = mailbox.changes_since(2, 1, 9).unwrap();
    assert_eq!(changes.changes[&1].add_flags, update.add_flags);
    let messages = mailbox.messages().unwrap();
    assert_eq!(messages.by_uid(1).unwrap().pvt_modseq, 2);
}

#[test]
fn fs_layout_keeps_directories() {
    let store = MemoryStore::new(MemoryOptions::dbox(1));
    let user = store.user();
    user.create("a/b/c").unwrap();
    user.create("a").unwrap();
    assert_eq!(
        store.dump().directories.into_iter().collect::<Vec<_>>(),
        ["a/b"]
    );
    user.delete("a").unwrap();
    user.rename("a/b/c", "x/y").unwrap();
    let dump = store.dump();
    assert_eq!(dump.mailboxes.into_keys().collect::<Vec<_>>(), ["x/y"]);
    assert_eq!(dump.directories.into_iter().collect::<Vec<_>>(), ["x"]);
    let kinds: Vec<_> = store
        .clone()
        .mailbox_log()
        .unwrap()
        .iter()
        .map(|r| r.kind)
        .collect();
    assert_eq!(
        kinds,
        [MailboxLogKind::DeleteMailbox, MailboxLogKind::Rename]
    );
}

#[test]
fn maildir_layout_has_none() {
    let store = MemoryStore::new(MemoryOptions::maildir(1));
    let user = store.user();
    user.create("a").unwrap();
    user.rename("a", "a/b").unwrap();
    assert_eq!(
        store.dump().mailboxes.into_keys().collect::<Vec<_>>(),
        ["a/b"]
    );
    user.create("a").unwrap();
    user.create("n/b").unwrap();
    user.rename("a", "n").unwrap();
    let names: Vec<_> = store.dump().mailboxes.into_keys().collect();
    assert_eq!(
        names,
        ["a/b", "n", "n/b"],
        "a child whose new name exists stays"
    );
    assert_eq!(
        user.create("a.b").unwrap_err().class,
        MailErrorClass::Params
    );
}

#[test]
fn an_inbox_that_cannot_be_deleted_gets_a_new_identity() {
    let store = MemoryStore::new(MemoryOptions::maildir(1));
    let user = store.user();
    user.save("INBOX", NewMail::with_subject("a")).unwrap();
    let before = store.clone().identity("INBOX").unwrap();
    user.delete("INBOX").unwrap();
    let after = store.clone().identity("INBOX").unwrap();
    assert_ne!(before.guid, after.guid);
    assert_ne!(before.uid_validity, after.uid_validity);
    assert_eq!(after.uid_next, 1);
}

#[test]
fn a_copy_of_the_store_is_independent() {
    let store = MemoryStore::new(MemoryOptions::dbox(1));
    store
        .user()
        .save("INBOX", NewMail::with_subject("a"))
        .unwrap();
    let copy = store.duplicate(2);
    assert_eq!(store.dump(), copy.dump());
    copy.user()
        .save("INBOX", NewMail::with_subject("b"))
        .unwrap();
    assert_eq!(store.dump().mailboxes["INBOX"].messages.len(), 1);
    assert_eq!(copy.dump().mailboxes["INBOX"].messages.len(), 2);
}

#[test]
fn attributes_are_ordered_and_can_be_off() {
    let store = MemoryStore::new(MemoryOptions::dbox(1));
    let user = store.user();
    user.create("INBOX").unwrap();
    for name in [
        "/shared/a",
        "/private/x/sieve/default",
        "/private/x/sieve/files/s",
    ] {
        user.set_attribute("INBOX", name, Some("v")).unwrap();
    }
    let mut mailbox = open(&store, "INBOX");
    let keys: Vec<_> = mailbox
        .attributes()
        .unwrap()
        .into_iter()
        .map(|n| n.key)
        .collect();
    assert_eq!(keys, ["x/sieve/files/s", "x/sieve/default", "a"]);
    assert_eq!(mailbox.changes_since(3, 0, 9).unwrap().attributes.len(), 1);

    let store = MemoryStore::new(MemoryOptions {
        attributes: false,
        ..MemoryOptions::dbox(1)
    });
    store.user().create("INBOX").unwrap();
    let name = crate::AttributeName {
        kind: AttributeKind::Private,
        key: "comment".into(),
    };
    let error = open(&store, "INBOX").attribute(&name).unwrap_err();
    assert_eq!(error.class, MailErrorClass::NotPossible);
}

#[test]
fn loads_a_complete_state() {
    let store = MemoryStore::new(MemoryOptions::dbox(1));
    let mailbox = LoadMailbox {
        uid_validity: 7,
        uid_next: 9,
        highest_modseq: 12,
        initial_modseq: 4,
        messages: vec![LoadMessage {
            uid: 3,
            guid: "g".into(),
            modseq: 5,
            ..LoadMessage::default()
        }],
        records: vec![LogRecord {
            modseq: 5,
            by_sync: false,
            change: RecordChange::Append(vec![3..=3]),
        }],
        ..LoadMailbox::default()
    };
    store.user().load("INBOX", mailbox).unwrap();
    let mut mailbox = open(&store, "INBOX");
    let status = mailbox.status().unwrap();
    assert_eq!(
        (status.uid_validity, status.uid_next, status.highest_modseq),
        (7, 9, 12)
    );
    assert!(!mailbox.changes_since(3, 0, 9).unwrap().covered);
    assert!(mailbox.changes_since(4, 0, 9).unwrap().covered);
    mailbox
        .update_metadata(MetadataUpdate {
            min_highest_modseq: Some(20),
            ..MetadataUpdate::default()
        })
        .unwrap();
    mailbox.commit().unwrap();
    assert_eq!(mailbox.status().unwrap().highest_modseq, 20);
}
