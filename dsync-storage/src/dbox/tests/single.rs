//! sdbox.

use std::fs;

use dsync_proto::types::{Flags, Guid, MailErrorClass, Uid};

use super::{Account, files, save, uids};
use crate::dbox::identity::INDEX_LOCK_TIMEOUT;
use crate::dbox::unfinished::Unfinished;
use crate::index::{Origin, Transaction};
use crate::permissions::CreateModes;
use crate::{Created, OpenMode};

fn journal(account: &Account, guid: Guid, uids: &[Uid]) {
    Unfinished::new(&account.dir())
        .write(guid, uids, &CreateModes::default(), false)
        .unwrap();
}

#[test]
fn files_of_a_killed_save_go() {
    let account = Account::new("sdbox", "");
    let mut mailbox = account.mailbox();
    save(mailbox.as_mut(), &[1, 2]);
    let guid = mailbox.status().unwrap().guid;
    for uid in [3, 4] {
        fs::copy(
            account.dir().join("u.1"),
            account.dir().join(format!("u.{uid}")),
        )
        .unwrap();
    }
    journal(&account, guid, &[2, 3, 4]);
    assert!(save(mailbox.as_mut(), &[3]).is_empty());
    assert_eq!(uids(mailbox.as_mut()), [1, 2, 3]);
    assert_eq!(account.files(), ["u.1", "u.2", "u.3"]);
}

#[test]
fn files_of_a_killed_expunge_go() {
    let account = Account::new("sdbox", "");
    let mut mailbox = account.mailbox();
    save(mailbox.as_mut(), &[1, 2]);
    let guid = mailbox.status().unwrap().guid;
    journal(&account, guid, &[1]);
    let mut transaction = Transaction::new(Origin::FACT);
    transaction.expunge(1, Guid::ZERO);
    let mut index = account.index();
    let mut locked = index.lock(INDEX_LOCK_TIMEOUT).unwrap();
    locked.append(&transaction).unwrap();
    drop(locked);
    assert_eq!(uids(account.mailbox().as_mut()), [2]);
    assert_eq!(account.files(), ["u.2"]);
}

#[test]
fn a_journal_of_another_mailbox_says_nothing() {
    let account = Account::new("sdbox", "");
    save(account.mailbox().as_mut(), &[1]);
    fs::copy(account.dir().join("u.1"), account.dir().join("u.9")).unwrap();
    journal(&account, Guid([1; 16]), &[1, 9]);
    assert_eq!(uids(account.mailbox().as_mut()), [1]);
    assert_eq!(account.files(), ["u.1", "u.9"]);
}

#[test]
fn files_that_nobody_knows_are_never_touched() {
    let account = Account::new("sdbox", "");
    let mut mailbox = account.mailbox();
    save(mailbox.as_mut(), &[1]);
    for uid in [2, 7] {
        fs::write(account.dir().join(format!("u.{uid}")), "somebody's mail").unwrap();
    }
    assert_eq!(save(mailbox.as_mut(), &[2, 3]), [(2, 8), (3, 9)]);
    assert_eq!(uids(mailbox.as_mut()), [1, 8, 9]);
    for uid in [2, 7] {
        let text = fs::read(account.dir().join(format!("u.{uid}"))).unwrap();
        assert_eq!(text, b"somebody's mail");
    }
}

#[test]
fn requests_of_others_are_carried_out() {
    let account = Account::new("sdbox", "");
    save(account.mailbox().as_mut(), &[1, 2, 3]);
    let mut request = Transaction::new(Origin::REQUEST);
    request.expunge(1, Guid::ZERO);
    request.expunge(2, Guid([9; 16]));
    request.update_flags(3..=3, Flags::SEEN, Flags::NONE);
    let mut index = account.index();
    let mut locked = index.lock(INDEX_LOCK_TIMEOUT).unwrap();
    locked.append(&request).unwrap();
    drop(locked);
    let mut mailbox = account.mailbox();
    assert_eq!(uids(mailbox.as_mut()), [2, 3], "UID 2 is not meant");
    assert_eq!(account.files(), ["u.2", "u.3"]);
    assert!(account.index().pending().unwrap().is_empty());
}

#[test]
fn a_lost_index_hides_no_mail() {
    let account = Account::new("sdbox", "");
    save(account.mailbox().as_mut(), &[1, 2]);
    for file in ["dovecot.index", "dovecot.index.log"] {
        fs::remove_file(account.dir().join(file)).unwrap();
    }
    let mut store = account.open();
    for error in [
        store.open("INBOX", OpenMode::Read).err().unwrap(),
        store.identity("INBOX").unwrap_err(),
        store.create_mailbox("INBOX", None, None).unwrap_err(),
    ] {
        assert_eq!(error.class, MailErrorClass::InvalidData, "{error}");
        assert!(error.message.contains("force-resync"), "{error}");
    }
    assert_eq!(account.files(), ["u.1", "u.2"]);
}

#[test]
fn a_lost_file_is_not_an_expunge() {
    let account = Account::new("sdbox", "");
    save(account.mailbox().as_mut(), &[1, 2]);
    fs::remove_file(account.dir().join("u.1")).unwrap();
    let mut mailbox = account.mailbox();
    // The others can be read as long as the cache knows the GUID of this one.
    assert_eq!(uids(mailbox.as_mut()), [1, 2]);
    let error = mailbox.open_message(1).err().unwrap();
    assert_eq!(error.class, MailErrorClass::InvalidData, "{error}");
    fs::remove_file(account.dir().join("dovecot.index.cache")).unwrap();
    let error = account.mailbox().messages().unwrap_err();
    assert_eq!(error.class, MailErrorClass::InvalidData, "{error}");
    fs::write(account.dir().join("u.1"), "2 M1e C1\nrubbish").unwrap();
    let error = mailbox.open_message(1).err().unwrap();
    assert_eq!(error.class, MailErrorClass::InvalidData, "{error}");
    assert!(mailbox.open_message(2).unwrap().is_some());
}

#[test]
fn guids_that_had_to_be_read_are_cached() {
    let account = Account::new("sdbox", "");
    let all: Vec<Uid> = (1..=20).collect();
    save(account.mailbox().as_mut(), &all);
    fs::remove_file(account.dir().join("dovecot.index.cache")).unwrap();
    let mut mailbox = account.mailbox();
    let before = mailbox.status().unwrap();
    assert_eq!(uids(mailbox.as_mut()), all);
    assert_eq!(mailbox.refresh(), Ok(before));
    fs::remove_file(account.dir().join("u.7")).unwrap();
    assert_eq!(uids(account.mailbox().as_mut()), all, "nobody looks at it");
    assert_eq!(account.mailbox().status(), Ok(before));
}

#[test]
fn messages_in_alternative_storage_are_read_and_expunged() {
    let account = Account::new("sdbox", ":ALT=~/alt");
    let mut mailbox = account.mailbox();
    save(mailbox.as_mut(), &[1, 2, 3]);
    let alt = account.home.path().join("alt/mailboxes/INBOX/dbox-Mails");
    fs::create_dir_all(&alt).unwrap();
    for file in ["u.1", "u.2"] {
        fs::rename(account.dir().join(file), alt.join(file)).unwrap();
    }
    let mut mailbox = account.mailbox();
    assert_eq!(uids(mailbox.as_mut()), [1, 2, 3]);
    mailbox.expunge(1).unwrap();
    mailbox.reassign_uids(&[2]).unwrap();
    mailbox.commit().unwrap();
    assert_eq!(uids(mailbox.as_mut()), [3, 4]);
    assert_eq!(
        (files(&alt), account.files()),
        (vec!["u.4".into()], vec!["u.3".into()])
    );
}

#[test]
fn a_deletion_that_was_not_completed_is_taken_back() {
    let account = Account::new("sdbox", "");
    save(account.mailbox().as_mut(), &[1]);
    let mut mark = Transaction::new(Origin::FACT);
    mark.mark_deleted();
    let mut index = account.index();
    let mut locked = index.lock(INDEX_LOCK_TIMEOUT).unwrap();
    locked.append(&mark).unwrap();
    drop(locked);
    let mut store = account.open();
    assert_eq!(
        store.create_mailbox("INBOX", None, None),
        Ok(Created::Existed)
    );
    assert_eq!(uids(account.mailbox().as_mut()), [1]);
    assert!(!account.index().state().is_deleted());
}
