//! Counters of a mailbox, and UIDs given anew.

use dsync_proto::types::{Flags, MailGuid, Uid};
use dsync_storage::{FlagUpdate, LoggedKind, MetadataUpdate};

use super::StoreFactory;
use super::support::{body, flags, guid, new_mailbox, open, read, save_all, uids};

/// UIDNEXT, HIGHESTMODSEQ and the first recent UID never go down.
pub fn raises_counters_only(factory: &dyn StoreFactory) {
    let account = factory.create();
    let mut store = account.open();
    let mut mailbox = new_mailbox(store.as_mut());
    save_all(mailbox.as_mut(), &[1, 2]);
    let update = |uid_next, modseq, recent| MetadataUpdate {
        min_uid_next: Some(uid_next),
        min_highest_modseq: Some(modseq),
        min_first_recent_uid: Some(recent),
        ..MetadataUpdate::default()
    };
    mailbox.update_metadata(update(50, 700, 3)).unwrap();
    mailbox.commit().unwrap();
    mailbox.update_metadata(update(5, 7, 1)).unwrap();
    mailbox.commit().unwrap();
    assert_eq!(account.open().identity("box").unwrap().uid_next, 50);
    for mut mailbox in [mailbox, open(account.open().as_mut(), "box")] {
        let status = mailbox.status().unwrap();
        assert_eq!(status.uid_next, 50);
        assert_eq!(status.first_recent_uid, 3);
        assert!((700..710).contains(&status.highest_modseq));
        assert_eq!(uids(mailbox.as_mut()), [1, 2]);
    }
}

/// Everything else stays.
pub fn changes_uid_validity(factory: &dyn StoreFactory) {
    let account = factory.create();
    let mut store = account.open();
    let mut mailbox = new_mailbox(store.as_mut());
    save_all(mailbox.as_mut(), &[1, 5]);
    let update = FlagUpdate {
        add_flags: Flags::FLAGGED,
        add_keywords: vec!["k".into()],
        ..FlagUpdate::default()
    };
    mailbox.update_flags(5, update).unwrap();
    mailbox.commit().unwrap();
    let guid_before = mailbox.status().unwrap().guid;
    let metadata = MetadataUpdate {
        uid_validity: Some(2_000_000_000),
        ..MetadataUpdate::default()
    };
    mailbox.update_metadata(metadata).unwrap();
    mailbox.commit().unwrap();
    assert_eq!(
        account.open().identity("box").unwrap().uid_validity,
        2_000_000_000
    );
    for mut mailbox in [mailbox, open(account.open().as_mut(), "box")] {
        let status = mailbox.status().unwrap();
        assert_eq!(status.uid_validity, 2_000_000_000);
        assert_eq!((status.guid, status.uid_next), (guid_before, 6));
        assert_eq!(uids(mailbox.as_mut()), [1, 5]);
        assert_eq!(
            flags(mailbox.as_mut(), 5),
            (Flags::FLAGGED, vec!["k".into()])
        );
        assert_eq!(guid(mailbox.as_mut(), 5), "guid-5");
        assert_eq!(read(mailbox.as_mut(), 5), body(5));
    }
}

/// Messages move behind all others with everything they have.
pub fn reassigns_uids(factory: &dyn StoreFactory) {
    let account = factory.create();
    let mut store = account.open();
    let mut mailbox = new_mailbox(store.as_mut());
    save_all(mailbox.as_mut(), &[1, 2, 3, 4]);
    let update = FlagUpdate {
        add_flags: Flags::SEEN,
        add_keywords: vec!["k".into()],
        ..FlagUpdate::default()
    };
    mailbox.update_flags(2, update).unwrap();
    mailbox.commit().unwrap();
    mailbox.reassign_uids(&[2, 1, 77]).unwrap();
    mailbox.commit().unwrap();
    for mut mailbox in [mailbox, open(account.open().as_mut(), "box")] {
        assert_eq!(uids(mailbox.as_mut()), [3, 4, 5, 6]);
        assert_eq!(guid(mailbox.as_mut(), 5), "guid-2");
        assert_eq!(guid(mailbox.as_mut(), 6), "guid-1");
        assert_eq!(flags(mailbox.as_mut(), 5), (Flags::SEEN, vec!["k".into()]));
        assert_eq!(read(mailbox.as_mut(), 5), body(2));
        assert_eq!(read(mailbox.as_mut(), 6), body(1));
        assert_eq!(mailbox.status().unwrap().uid_next, 7);
        let log = mailbox.changes_since(0, 0, Uid::MAX).unwrap();
        for (uid, change) in log.changes {
            assert!(
                uid <= 2 && change.kind == LoggedKind::Expunge,
                "{uid}: {change:?}"
            );
            let old = MailGuid::from(&*format!("guid-{uid}")).short();
            assert!(change.guid.is_zero() || change.guid == old);
        }
    }
}
