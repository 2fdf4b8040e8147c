//! Several handles on one account, one after the other and at once.

use std::time::Duration;

use dsync_proto::types::Flags;
use dsync_storage::{FlagUpdate, MetadataUpdate, OpenMode};

use super::StoreFactory;
use super::support::{body, flags, guid, message, new_mailbox, open, read, save, save_all, uids};

/// Nothing depends on the process that wrote it.
pub fn everything_survives_reopening(factory: &dyn StoreFactory) {
    let account = factory.create();
    let (status, modseqs) = {
        let mut store = account.open();
        let mut mailbox = new_mailbox(store.as_mut());
        save_all(mailbox.as_mut(), &[1, 2, 3, 9]);
        let update = FlagUpdate {
            add_flags: Flags::DRAFT,
            min_modseq: 30,
            ..FlagUpdate::default()
        };
        mailbox.update_flags(2, update).unwrap();
        mailbox.expunge(3).unwrap();
        mailbox.commit().unwrap();
        let messages = mailbox.messages().unwrap();
        let modseqs: Vec<u64> = messages.iter().map(|message| message.modseq).collect();
        (mailbox.status().unwrap(), modseqs)
    };
    for _ in 0..3 {
        let mut store = account.open();
        let mut mailbox = open(store.as_mut(), "box");
        assert_eq!(mailbox.status(), Ok(status));
        assert_eq!(uids(mailbox.as_mut()), [1, 2, 9]);
        let messages = mailbox.messages().unwrap();
        let found: Vec<u64> = messages.iter().map(|message| message.modseq).collect();
        assert_eq!(found, modseqs, "looking must not change modseqs");
    }
    let mut store = account.open();
    let mut mailbox = store.open("box", OpenMode::Read).unwrap();
    assert_eq!(mailbox.status(), Ok(status), "also before refresh");
    assert_eq!(mailbox.refresh(), Ok(status));
    let identity = store.identity("box").unwrap();
    assert_eq!(identity.guid, status.guid);
    assert_eq!(identity.uid_validity, status.uid_validity);
    assert_eq!(identity.uid_next, status.uid_next);
}

/// Whatever was not committed when a mailbox is dropped never was.
pub fn uncommitted_changes_vanish(factory: &dyn StoreFactory) {
    let account = factory.create();
    let mut store = account.open();
    let mut mailbox = new_mailbox(store.as_mut());
    save_all(mailbox.as_mut(), &[1, 2]);
    let before = mailbox.status().unwrap();
    save(mailbox.as_mut(), message(3), &body(3));
    mailbox.copy(1, message(4)).unwrap();
    let update = FlagUpdate {
        add_flags: Flags::SEEN,
        add_keywords: vec!["k".into()],
        ..FlagUpdate::default()
    };
    mailbox.update_flags(1, update).unwrap();
    mailbox.expunge(2).unwrap();
    let metadata = MetadataUpdate {
        uid_validity: Some(5),
        min_uid_next: Some(500),
        ..MetadataUpdate::default()
    };
    mailbox.update_metadata(metadata).unwrap();
    mailbox.reassign_uids(&[1]).unwrap();
    mailbox.save_begin(message(6)).unwrap();
    mailbox.save_write(b"half").unwrap();
    assert_eq!(uids(open(account.open().as_mut(), "box").as_mut()), [1, 2]);
    drop(mailbox);
    let mut mailbox = open(account.open().as_mut(), "box");
    assert_eq!(mailbox.status(), Ok(before));
    assert_eq!(uids(mailbox.as_mut()), [1, 2]);
    assert_eq!(flags(mailbox.as_mut(), 1), (Flags::NONE, Vec::new()));
    assert_eq!(read(mailbox.as_mut(), 2), body(2));
}

/// Another handle's commit is seen after a refresh, not before.
pub fn the_snapshot_stays_until_refresh(factory: &dyn StoreFactory) {
    let account = factory.create();
    let mut store = account.open();
    let mut writer = new_mailbox(store.as_mut());
    save_all(writer.as_mut(), &[1]);
    let mut reader = open(account.open().as_mut(), "box");
    let before = reader.status().unwrap();
    save_all(writer.as_mut(), &[2]);
    let update = FlagUpdate {
        add_flags: Flags::SEEN,
        ..FlagUpdate::default()
    };
    writer.update_flags(1, update).unwrap();
    writer.commit().unwrap();
    assert_eq!(uids(reader.as_mut()), [1]);
    assert_eq!(flags(reader.as_mut(), 1).0, Flags::NONE);
    assert_eq!(reader.status(), Ok(before));
    let after = reader.refresh().unwrap();
    assert_eq!(after, writer.status().unwrap());
    assert_eq!(uids(reader.as_mut()), [1, 2]);
    assert_eq!(flags(reader.as_mut(), 1).0, Flags::SEEN);
    assert_eq!(read(reader.as_mut(), 2), body(2));
}

/// Two handles that want the same UID both save, and both messages stay.
pub fn two_writers_do_not_collide(factory: &dyn StoreFactory) {
    let account = factory.create();
    let mut store = account.open();
    let mut one = new_mailbox(store.as_mut());
    let mut two = open(account.open().as_mut(), "box");
    save(one.as_mut(), message(1), &body(1));
    let mut other = message(1);
    other.guid = "other".into();
    save(two.as_mut(), other, &body(2));
    assert!(one.commit().unwrap().moved.is_empty());
    assert_eq!(two.commit().unwrap().moved, [(1, 2)]);
    one.refresh().unwrap();
    for mailbox in [&mut one, &mut two] {
        assert_eq!(uids(mailbox.as_mut()), [1, 2]);
        assert_eq!(guid(mailbox.as_mut(), 1), "guid-1");
        assert_eq!(guid(mailbox.as_mut(), 2), "other");
        assert_eq!(read(mailbox.as_mut(), 1), body(1));
        assert_eq!(read(mailbox.as_mut(), 2), body(2));
    }
}

/// The sync lock is held until the mailbox is dropped, and keeps nobody from reading or saving.
pub fn a_second_run_waits_for_the_lock(factory: &dyn StoreFactory) {
    let account = factory.create();
    let mut store = account.open();
    let mut first = new_mailbox(store.as_mut());
    first.lock_for_sync(Duration::from_secs(5)).unwrap();
    let mut second = open(account.open().as_mut(), "box");
    let refused = second.lock_for_sync(Duration::from_millis(20));
    assert!(refused.is_err(), "two runs hold one lock");
    save_all(second.as_mut(), &[1]);
    drop(first);
    second.lock_for_sync(Duration::from_secs(5)).unwrap();
    assert_eq!(uids(second.as_mut()), [1]);
}

/// A handle that has seen the old name finds the new one.
pub fn follows_a_rename_by_another(factory: &dyn StoreFactory) {
    let account = factory.create();
    let mut store = account.open();
    drop(new_mailbox(store.as_mut()));
    let guid = store.identity("box").unwrap().guid;
    assert_eq!(store.find_guid(guid), Ok(Some("box".into())));
    account.open().rename("box", "moved").unwrap();
    assert_eq!(store.find_guid(guid), Ok(Some("moved".into())));
    assert_eq!(store.identity("moved").unwrap().guid, guid);
    assert!(store.identity("box").is_err());
}
