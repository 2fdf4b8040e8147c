//! Saving, copying and expunging messages.

use std::collections::BTreeSet;

use dsync_proto::types::Flags;

use super::StoreFactory;
use super::support::{
    RECEIVED, body, flags, guid, message, new_mailbox, open, read, save, save_all, uids,
};

/// A message comes back with everything that was given.
pub fn saves_and_reads_back(factory: &dyn StoreFactory) {
    let features = factory.features();
    let account = factory.create();
    let mut store = account.open();
    let mut mailbox = new_mailbox(store.as_mut());
    let mut wanted = message(7);
    wanted.guid = "1795447200.M2P2.client,S=194".into();
    wanted.flags = Flags::USER | Flags::RECENT;
    wanted.keywords = vec!["$Forwarded".into(), "work".into()];
    wanted.saved_date = RECEIVED + 5;
    wanted.pop3_uidl = "uidl-1".into();
    wanted.pop3_order = 3;
    save(mailbox.as_mut(), wanted, b"Subject: x\n\nhello\n");
    assert!(mailbox.commit().unwrap().moved.is_empty());
    for mut mailbox in [mailbox, open(account.open().as_mut(), "box")] {
        assert_eq!(uids(mailbox.as_mut()), [7]);
        assert_eq!(guid(mailbox.as_mut(), 7), "1795447200.M2P2.client,S=194");
        let (system, keywords) = flags(mailbox.as_mut(), 7);
        assert_eq!(system, Flags::USER);
        assert_eq!(keywords, ["$Forwarded", "work"]);
        assert_eq!(read(mailbox.as_mut(), 7), b"Subject: x\n\nhello\n");
        let opened = mailbox.open_message(7).unwrap().unwrap();
        assert_eq!(opened.received_date, RECEIVED);
        if features.saved_dates {
            assert_eq!(opened.saved_date, RECEIVED + 5);
        }
        if features.pop3 {
            assert_eq!(opened.pop3_uidl, "uidl-1");
            assert_eq!(opened.pop3_order, 3);
        }
        let status = mailbox.status().unwrap();
        assert_eq!((status.messages, status.uid_next), (1, 8));
    }
}

/// UIDs may have gaps and come in any order.
pub fn keeps_uid_order_and_gaps(factory: &dyn StoreFactory) {
    let mut store = factory.create().open();
    let mut mailbox = new_mailbox(store.as_mut());
    assert!(save_all(mailbox.as_mut(), &[5, 3, 100]).moved.is_empty());
    assert!(
        save_all(mailbox.as_mut(), &[101, 4_000_000_000])
            .moved
            .is_empty()
    );
    assert_eq!(uids(mailbox.as_mut()), [3, 5, 100, 101, 4_000_000_000]);
    for uid in [3, 5, 100, 101, 4_000_000_000] {
        assert_eq!(guid(mailbox.as_mut(), uid), format!("guid-{uid}"));
        assert_eq!(read(mailbox.as_mut(), uid), body(uid));
    }
    assert_eq!(mailbox.status().unwrap().uid_next, 4_000_000_001);
}

/// A UID below UIDNEXT is replaced by a free one, and the caller is told.
pub fn moves_a_taken_uid(factory: &dyn StoreFactory) {
    let mut store = factory.create().open();
    let mut mailbox = new_mailbox(store.as_mut());
    save_all(mailbox.as_mut(), &[4]);
    let mut late = message(2);
    late.guid = "late".into();
    save(mailbox.as_mut(), late, &body(2));
    save(mailbox.as_mut(), message(9), &body(9));
    let report = mailbox.commit().unwrap();
    let [(2, real)] = report.moved[..] else {
        panic!("one message must have moved: {report:?}");
    };
    assert!(real > 4 && real != 9, "UID {real} was not free");
    assert_eq!(guid(mailbox.as_mut(), real), "late");
    assert_eq!(read(mailbox.as_mut(), real), body(2));
    assert_eq!(guid(mailbox.as_mut(), 9), "guid-9");
    assert_eq!(uids(mailbox.as_mut()).len(), 3);
}

/// Messages without GUID get one.
pub fn makes_guids(factory: &dyn StoreFactory) {
    let account = factory.create();
    let mut store = account.open();
    let mut mailbox = new_mailbox(store.as_mut());
    for uid in 1..=3 {
        let mut new = message(uid);
        new.guid = "".into();
        save(mailbox.as_mut(), new, &body(uid));
    }
    mailbox.commit().unwrap();
    let mut again = open(account.open().as_mut(), "box");
    let mut guids = BTreeSet::new();
    for uid in 1..=3 {
        let made = guid(mailbox.as_mut(), uid);
        assert!(!made.is_empty());
        assert_eq!(guid(again.as_mut(), uid), made, "it stays");
        guids.insert(made);
    }
    assert_eq!(guids.len(), 3);
}

/// Several instances of a message in one mailbox are normal.
pub fn one_guid_can_stand_for_several_messages(factory: &dyn StoreFactory) {
    let account = factory.create();
    let mut store = account.open();
    let mut mailbox = new_mailbox(store.as_mut());
    for uid in [1, 2, 5] {
        let mut new = message(uid);
        new.guid = "same".into();
        save(mailbox.as_mut(), new, &body(uid));
        if uid == 2 {
            mailbox.commit().unwrap();
        }
    }
    mailbox.commit().unwrap();
    let mut again = open(account.open().as_mut(), "box");
    assert_eq!(uids(again.as_mut()), [1, 2, 5]);
    for uid in [1, 2, 5] {
        assert_eq!(guid(again.as_mut(), uid), "same");
        assert_eq!(read(again.as_mut(), uid), body(uid));
    }
}

/// A copy has the metadata that was asked for, and body and date of its source.
pub fn copies_messages(factory: &dyn StoreFactory) {
    let mut store = factory.create().open();
    let mut mailbox = new_mailbox(store.as_mut());
    save_all(mailbox.as_mut(), &[1]);
    let mut copy = message(6);
    copy.guid = "guid-1".into();
    copy.flags = Flags::SEEN | Flags::RECENT;
    copy.keywords = vec!["kw".into()];
    copy.received_date = 5;
    assert_eq!(mailbox.copy(1, copy), Ok(true));
    assert_eq!(mailbox.copy(77, message(8)), Ok(false));
    mailbox.expunge(1).unwrap();
    assert!(mailbox.commit().unwrap().moved.is_empty());
    assert_eq!(uids(mailbox.as_mut()), [6]);
    assert_eq!(guid(mailbox.as_mut(), 6), "guid-1");
    assert_eq!(flags(mailbox.as_mut(), 6), (Flags::SEEN, vec!["kw".into()]));
    assert_eq!(read(mailbox.as_mut(), 6), body(1));
    assert_eq!(mailbox.received_date(6), Ok(Some(RECEIVED)));
}

/// One body, several messages.
pub fn saves_another_instance(factory: &dyn StoreFactory) {
    let account = factory.create();
    let mut store = account.open();
    let mut mailbox = new_mailbox(store.as_mut());
    assert!(
        mailbox.save_another(message(1)).is_err(),
        "nothing was saved yet"
    );
    save(mailbox.as_mut(), message(3), &body(3));
    let mut second = message(4);
    second.guid = "guid-3".into();
    second.flags = Flags::FLAGGED | Flags::RECENT;
    mailbox.save_another(second).unwrap();
    save(mailbox.as_mut(), message(5), &body(5));
    mailbox.commit().unwrap();
    let mut again = open(account.open().as_mut(), "box");
    assert_eq!(uids(again.as_mut()), [3, 4, 5]);
    assert_eq!(read(again.as_mut(), 4), body(3));
    assert_eq!(guid(again.as_mut(), 4), "guid-3");
    assert_eq!(flags(again.as_mut(), 4).0, Flags::FLAGGED);
    assert_eq!(flags(again.as_mut(), 3).0, Flags::NONE);
    again.expunge(3).unwrap();
    again.commit().unwrap();
    assert_eq!(read(again.as_mut(), 4), body(3));
}

/// Aborting forgets this message and nothing else.
pub fn forgets_an_aborted_save(factory: &dyn StoreFactory) {
    let mut store = factory.create().open();
    let mut mailbox = new_mailbox(store.as_mut());
    save(mailbox.as_mut(), message(1), &body(1));
    mailbox.save_begin(message(2)).unwrap();
    mailbox.save_write(b"half").unwrap();
    mailbox.save_abort();
    save(mailbox.as_mut(), message(3), &body(3));
    mailbox.commit().unwrap();
    assert_eq!(uids(mailbox.as_mut()), [1, 3]);
    assert_eq!(read(mailbox.as_mut(), 3), body(3));
    mailbox.save_abort();
    assert!(mailbox.save_write(b"x").is_err());
    assert!(mailbox.save_finish().is_err());
}

/// Several hundred messages in several commits.
pub fn saves_many_messages(factory: &dyn StoreFactory) {
    let account = factory.create();
    let mut store = account.open();
    let mut mailbox = new_mailbox(store.as_mut());
    let all: Vec<u32> = (1..=600).collect();
    for group in all.chunks(250) {
        assert!(save_all(mailbox.as_mut(), group).moved.is_empty());
    }
    let mut again = open(account.open().as_mut(), "box");
    assert_eq!(uids(again.as_mut()), all);
    for uid in [1, 250, 251, 600] {
        assert_eq!(guid(again.as_mut(), uid), format!("guid-{uid}"));
        assert_eq!(read(again.as_mut(), uid), body(uid));
    }
    assert_eq!(again.status().unwrap().messages, 600);
}

/// For every handle, and expunging twice is no error.
pub fn an_expunged_message_is_gone(factory: &dyn StoreFactory) {
    let account = factory.create();
    let mut store = account.open();
    let mut mailbox = new_mailbox(store.as_mut());
    save_all(mailbox.as_mut(), &[1, 2, 3]);
    let mut other = open(account.open().as_mut(), "box");
    for uid in [2, 2, 99] {
        mailbox.expunge(uid).unwrap();
    }
    assert_eq!(uids(mailbox.as_mut()), [1, 2, 3], "not before the commit");
    mailbox.commit().unwrap();
    assert_eq!(uids(mailbox.as_mut()), [1, 3]);
    assert!(mailbox.open_message(2).unwrap().is_none());
    assert_eq!(mailbox.virtual_size(2), Ok(None));
    assert_eq!(mailbox.received_date(2), Ok(None));

    assert!(
        other.open_message(2).unwrap().is_none(),
        "expunged meanwhile"
    );
    other.expunge(2).unwrap();
    other.commit().unwrap();
    assert_eq!(uids(other.as_mut()), [1, 3]);
    assert_eq!(read(other.as_mut(), 3), body(3));
}

/// UIDNEXT stays when the last message goes.
pub fn an_expunge_does_not_free_its_uid(factory: &dyn StoreFactory) {
    let account = factory.create();
    let mut store = account.open();
    let mut mailbox = new_mailbox(store.as_mut());
    save_all(mailbox.as_mut(), &[1, 2, 8]);
    for uid in [1, 2, 8] {
        mailbox.expunge(uid).unwrap();
    }
    mailbox.commit().unwrap();
    assert_eq!(mailbox.status().unwrap().uid_next, 9);
    assert_eq!(account.open().identity("box").unwrap().uid_next, 9);
    assert_eq!(save_all(mailbox.as_mut(), &[8]).moved, [(8, 9)]);
}

/// Received dates of all ages, and sizes with CRLF line ends.
pub fn reads_dates_and_sizes(factory: &dyn StoreFactory) {
    let mut store = factory.create().open();
    let mut mailbox = new_mailbox(store.as_mut());
    let dates = [1, 946_684_800, 1_700_000_000, 4_102_444_800];
    for (uid, date) in (1..).zip(dates) {
        let mut new = message(uid);
        new.received_date = date;
        save(mailbox.as_mut(), new, b"a\n\nb\r\nc\rd\n\ne");
    }
    mailbox.commit().unwrap();
    for (uid, date) in (1..).zip(dates) {
        assert_eq!(mailbox.received_date(uid), Ok(Some(date)));
        assert_eq!(mailbox.virtual_size(uid), Ok(Some(16)));
        assert_eq!(
            mailbox.open_message(uid).unwrap().unwrap().received_date,
            date
        );
    }
}
