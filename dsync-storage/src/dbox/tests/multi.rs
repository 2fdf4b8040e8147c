//! mdbox.

use std::fs;
use std::io::Read;
use std::os::unix::fs::FileExt;

use dsync_proto::types::{Guid, MailErrorClass, Uid};

use super::{Account, files, message, save, uids};
use crate::dbox::identity::{INDEX_LOCK_TIMEOUT, index_settings};
use crate::dbox::references::{map_uid, records};
use crate::dbox::storage::{self, MapRecord, owner, write_references};
use crate::dbox::unfinished::Unfinished;
use crate::index::{Index, Origin, Transaction};
use crate::lock::try_lock_file;
use crate::permissions::CreateModes;
use crate::settings::LockMethod;
use crate::{Mailbox, OpenMode};

impl Account {
    fn storage(&self) -> std::path::PathBuf {
        self.home.path().join("mail/storage")
    }

    fn map(&self) -> Index {
        let settings = index_settings(&Self::settings());
        Index::open(&self.storage(), "dovecot.map.index", settings).unwrap()
    }

    /// Map UID, file and references of all records.
    fn records(&self) -> Vec<(Uid, u32, u16)> {
        records(self.map().state())
            .map(|(map_uid, record)| (map_uid, record.file_id, record.references))
            .collect()
    }

    fn change_map(&self, transaction: &Transaction) {
        let mut map = self.map();
        let mut locked = map.lock(INDEX_LOCK_TIMEOUT).unwrap();
        locked.append(transaction).unwrap();
    }

    fn journal(&self, ids: &[u32]) {
        let owner = owner(self.map().state());
        Unfinished::new(&self.storage())
            .write(owner, ids, &CreateModes::default(), false)
            .unwrap();
    }

    fn purge(&self) {
        self.open().purge().unwrap();
    }
}

fn read(mailbox: &mut dyn Mailbox, uid: Uid) -> String {
    let mut text = String::new();
    let opened = mailbox.open_message(uid).unwrap().unwrap();
    opened.body.take(1000).read_to_string(&mut text).unwrap();
    text
}

fn expunge(mailbox: &mut dyn Mailbox, uids: &[Uid]) {
    for uid in uids {
        mailbox.expunge(*uid).unwrap();
    }
    mailbox.commit().unwrap();
}

#[test]
fn copies_share_what_is_stored() {
    let account = Account::new("mdbox", "");
    let mut mailbox = account.mailbox();
    save(mailbox.as_mut(), &[1, 2]);
    let mut copy = message(5);
    copy.guid = "guid-1".into();
    assert!(mailbox.copy(1, copy.clone()).unwrap());
    copy.uid = 6;
    assert!(mailbox.copy(1, copy).unwrap());
    assert!(mailbox.copy(2, message(7)).unwrap());
    mailbox.commit().unwrap();
    assert_eq!(account.records(), [(1, 1, 3), (2, 1, 1), (3, 2, 1)]);
    expunge(mailbox.as_mut(), &[1, 5]);
    assert_eq!(account.records(), [(1, 1, 1), (2, 1, 1), (3, 2, 1)]);
    assert_eq!(read(mailbox.as_mut(), 6), read(mailbox.as_mut(), 2));
}

/// A copy refers to its source only from the commit on.
#[test]
fn copies_of_what_others_expunge_are_not_made() {
    for purged in [false, true] {
        let account = Account::new("mdbox", "");
        let mut mailbox = account.mailbox();
        save(mailbox.as_mut(), &[1, 2, 3]);
        for uid in [1, 2] {
            let mut copy = message(10 + uid);
            copy.guid = message(uid).guid;
            assert!(mailbox.copy(uid, copy).unwrap());
            mailbox.expunge(uid).unwrap();
        }
        expunge(account.mailbox().as_mut(), &[1]);
        if purged {
            account.purge();
        }
        let report = mailbox.commit().unwrap();
        assert_eq!((report.gone, report.moved), (vec![11], vec![]));
        assert_eq!(uids(mailbox.as_mut()), [3, 12]);
        assert_eq!(uids(account.mailbox().as_mut()), [3, 12]);
        assert!(read(mailbox.as_mut(), 12).contains("body"));
    }
}

#[test]
fn purge_removes_garbage_only() {
    let account = Account::new("mdbox", "");
    let mut mailbox = account.mailbox();
    save(mailbox.as_mut(), &[1, 2, 3]);
    save(mailbox.as_mut(), &[4]);
    save(mailbox.as_mut(), &[5]);
    account.purge();
    assert_eq!(files(&account.storage()), ["m.1", "m.2", "m.3"]);
    expunge(mailbox.as_mut(), &[2, 5]);
    assert_eq!(account.records().len(), 5);
    account.purge();
    assert_eq!(account.records(), [(1, 4, 1), (3, 4, 1), (4, 2, 1)]);
    assert_eq!(files(&account.storage()), ["m.2", "m.4"]);
    // One who read before sees it, and one who reads now.
    for mailbox in [&mut mailbox, &mut account.mailbox()] {
        assert_eq!(uids(mailbox.as_mut()), [1, 3, 4]);
        for uid in [1, 3, 4] {
            assert!(read(mailbox.as_mut(), uid).contains("body"));
        }
    }
    account.purge();
    assert_eq!(files(&account.storage()), ["m.2", "m.4"]);
}

#[test]
fn purge_leaves_what_somebody_works_on_or_nobody_knows() {
    let account = Account::new("mdbox", "");
    let mut mailbox = account.mailbox();
    save(mailbox.as_mut(), &[1, 2]);
    expunge(mailbox.as_mut(), &[1]);
    let path = account.storage().join("m.1");
    let file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    assert!(try_lock_file(&file, LockMethod::Flock).unwrap());
    account.purge();
    assert_eq!(account.records(), [(1, 1, 0), (2, 1, 1)]);
    drop(file);
    let length = fs::metadata(&path).unwrap().len();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"more", length).unwrap();
    let error = account.open().purge().unwrap_err();
    assert_eq!(error.class, MailErrorClass::InvalidData, "{error}");
    assert_eq!(files(&account.storage()), ["m.1"]);
    file.set_len(length).unwrap();
    account.purge();
    assert_eq!(account.records(), [(2, 2, 1)]);
}

#[test]
fn files_of_a_killed_save_go() {
    let account = Account::new("mdbox", "");
    let mut mailbox = account.mailbox();
    save(mailbox.as_mut(), &[1]);
    fs::copy(account.storage().join("m.1"), account.storage().join("m.2")).unwrap();
    account.journal(&[1, 2]);
    assert!(save(mailbox.as_mut(), &[2]).is_empty());
    assert_eq!(files(&account.storage()), ["m.1", "m.2"]);
    assert_eq!(account.records(), [(1, 1, 1), (2, 2, 1)]);
    // A file that nobody knows stays.
    fs::write(account.storage().join("m.3"), "somebody's").unwrap();
    save(mailbox.as_mut(), &[3]);
    assert_eq!(files(&account.storage()), ["m.1", "m.2", "m.3", "m.4"]);
}

#[test]
fn references_are_counted_again() {
    let account = Account::new("mdbox", "");
    let mut store = account.open();
    let mut mailbox = account.mailbox();
    save(mailbox.as_mut(), &[1, 2]);
    store.create_mailbox("Par/Kid", None, None).unwrap();
    let mut kid = store.open("Par/Kid", OpenMode::Write).unwrap();
    save(kid.as_mut(), &[1]);
    // Killed between the map and the mailbox: in a save, and in an expunge.
    let mut killed = Transaction::new(Origin::REQUEST);
    let record = MapRecord {
        references: 1,
        ..MapRecord::find(account.map().state(), 1).unwrap()
    };
    storage::append(&mut killed, 4, record);
    write_references(&mut killed, 2, 0);
    write_references(&mut killed, 3, 0);
    account.change_map(&killed);
    assert!(!account.map().is_synced());
    let modseq = mailbox.status().unwrap().highest_modseq;
    assert_eq!(account.mailbox().status().unwrap().highest_modseq, modseq);
    assert!(account.map().is_synced());
    assert_eq!(
        account.records(),
        [(1, 1, 1), (2, 1, 1), (3, 2, 1), (4, 1, 0)]
    );
}

#[test]
fn a_mailbox_that_cannot_be_read_stops_the_counting() {
    let account = Account::new("mdbox", "");
    save(account.mailbox().as_mut(), &[1]);
    let mut store = account.open();
    store.create_mailbox("x", None, None).unwrap();
    let mut other = store.open("x", OpenMode::Write).unwrap();
    save(other.as_mut(), &[1]);
    let mut killed = Transaction::new(Origin::REQUEST);
    write_references(&mut killed, 1, 0);
    account.change_map(&killed);
    let dir = account.home.path().join("mail/mailboxes/x/dbox-Mails");
    fs::write(dir.join("dovecot.index"), "rubbish").unwrap();
    fs::write(dir.join("dovecot.index.log"), "rubbish").unwrap();
    let mut mailbox = store.open("INBOX", OpenMode::Write).unwrap();
    let error = mailbox.refresh().unwrap_err();
    assert_eq!(error.class, MailErrorClass::InvalidData, "{error}");
    assert!(error.message.contains("mailbox x"), "{error}");
    let error = store.purge().unwrap_err();
    assert_eq!(error.class, MailErrorClass::InvalidData, "{error}");
    assert_eq!(files(&account.storage()), ["m.1", "m.2"]);
}

#[test]
fn a_killed_purge_is_ended() {
    let account = Account::new("mdbox", "");
    let mut mailbox = account.mailbox();
    save(mailbox.as_mut(), &[1, 2]);
    // Killed behind the map: the old file is still there.
    fs::copy(account.storage().join("m.1"), account.storage().join("m.2")).unwrap();
    let mut moved = Transaction::new(Origin::FACT);
    for map_uid in [1, 2] {
        let record = MapRecord::find(account.map().state(), map_uid).unwrap();
        let record = MapRecord {
            file_id: 2,
            ..record
        };
        record.write_place(&mut moved, map_uid);
    }
    account.change_map(&moved);
    account.journal(&[2, 1]);
    let mut mailbox = account.mailbox();
    assert!(read(mailbox.as_mut(), 2).contains("body"));
    assert_eq!(files(&account.storage()), ["m.2"]);
}

#[test]
fn a_lost_map_is_refused() {
    let account = Account::new("mdbox", "");
    save(account.mailbox().as_mut(), &[1]);
    for file in ["dovecot.map.index", "dovecot.map.index.log"] {
        fs::remove_file(account.storage().join(file)).unwrap();
    }
    let mut store = account.open();
    let mut mailbox = store.open("INBOX", OpenMode::Write).unwrap();
    let error = mailbox.open_message(1).err().unwrap();
    assert_eq!(error.class, MailErrorClass::InvalidData, "{error}");
    mailbox.save_begin(message(2)).unwrap_err();
    // Another map, made by somebody else.
    fs::rename(account.storage().join("m.1"), account.home.path().join("m")).unwrap();
    let mut map = account.map();
    let mut first = Transaction::new(Origin::FACT);
    first.set_uid_validity(77);
    first.mark_synced();
    map.create(&first).unwrap();
    let mut mailbox = store.open("INBOX", OpenMode::Write).unwrap();
    mailbox.refresh().unwrap();
    mailbox.save_begin(message(2)).unwrap();
    mailbox.save_finish().unwrap();
    let error = mailbox.commit().unwrap_err();
    assert_eq!(error.class, MailErrorClass::InvalidData, "{error}");
    assert_eq!(account.records(), []);
}

#[test]
fn messages_in_alternative_storage_are_read() {
    let account = Account::new("mdbox", ":ALT=~/alt");
    let mut mailbox = account.mailbox();
    save(mailbox.as_mut(), &[1, 2]);
    let alt = account.home.path().join("alt/storage");
    fs::create_dir_all(&alt).unwrap();
    fs::rename(account.storage().join("m.1"), alt.join("m.1")).unwrap();
    let mut mailbox = account.mailbox();
    assert!(read(mailbox.as_mut(), 1).contains("body"));
    // The number of a file there is not used again, and a purge leaves it alone.
    expunge(mailbox.as_mut(), &[1]);
    save(mailbox.as_mut(), &[3]);
    account.purge();
    assert_eq!(files(&alt), ["m.1"]);
    assert_eq!(account.records(), [(1, 1, 0), (2, 1, 1), (3, 2, 1)]);
    assert_eq!(uids(mailbox.as_mut()), [2, 3]);
}

#[test]
fn requests_of_others_are_carried_out() {
    let account = Account::new("mdbox", "");
    save(account.mailbox().as_mut(), &[1, 2, 3]);
    let mut request = Transaction::new(Origin::REQUEST);
    request.expunge(1, Guid::ZERO);
    request.expunge(2, Guid([9; 16]));
    let mut index = account.index();
    let mut locked = index.lock(INDEX_LOCK_TIMEOUT).unwrap();
    locked.append(&request).unwrap();
    drop(locked);
    assert_eq!(
        uids(account.mailbox().as_mut()),
        [2, 3],
        "UID 2 is not meant"
    );
    assert_eq!(account.records(), [(1, 1, 0), (2, 1, 1), (3, 1, 1)]);
    let index = account.index();
    let first = index.state().messages().next().unwrap();
    assert_eq!(map_uid(&first), Some(2));
}

#[test]
fn a_deleted_mailbox_gives_up_what_it_refers_to() {
    let account = Account::new("mdbox", "");
    let mut mailbox = account.mailbox();
    save(mailbox.as_mut(), &[1, 2]);
    let guid = mailbox.status().unwrap().guid;
    drop(mailbox);
    account.open().delete_mailbox(guid).unwrap();
    assert_eq!(account.records(), [(1, 1, 0), (2, 1, 0)]);
    account.purge();
    assert_eq!(files(&account.storage()), [""; 0]);
}
