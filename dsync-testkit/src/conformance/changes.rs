//! The change log.

use dsync_proto::types::{Flags, MailGuid, Uid};
use dsync_storage::{FlagUpdate, LoggedKind};

use super::StoreFactory;
use super::support::{new_mailbox, open, save_all};

/// A sync must not see its own changes as changes of the user.
pub fn own_changes_are_not_logged_as_changes(factory: &dyn StoreFactory) {
    let account = factory.create();
    let mut store = account.open();
    let mut mailbox = new_mailbox(store.as_mut());
    save_all(mailbox.as_mut(), &[1, 2]);
    let before = mailbox.status().unwrap().highest_modseq;
    let update = FlagUpdate {
        add_flags: Flags::SEEN,
        add_keywords: vec!["k".into()],
        min_modseq: before + 10,
        ..FlagUpdate::default()
    };
    mailbox.update_flags(1, update).unwrap();
    mailbox.commit().unwrap();
    for mut mailbox in [mailbox, open(account.open().as_mut(), "box")] {
        let all = mailbox.changes_since(0, 0, Uid::MAX).unwrap();
        assert!(all.covered && all.complete);
        assert!(all.changes.is_empty(), "{:?}", all.changes);
        let highest = mailbox.status().unwrap().highest_modseq;
        let none = mailbox.changes_since(highest, 0, Uid::MAX).unwrap();
        assert!(none.covered && none.changes.is_empty());
        assert!(!none.complete);
    }
}

/// Expunges are, so that the other side learns about them without a saved state.
pub fn expunges_are_logged_with_guid(factory: &dyn StoreFactory) {
    let account = factory.create();
    let mut store = account.open();
    let mut mailbox = new_mailbox(store.as_mut());
    save_all(mailbox.as_mut(), &[1, 2, 3]);
    let before = mailbox.status().unwrap().highest_modseq;
    mailbox.expunge(2).unwrap();
    mailbox.expunge(3).unwrap();
    mailbox.commit().unwrap();
    let after = mailbox.status().unwrap().highest_modseq;
    for mut mailbox in [mailbox, open(account.open().as_mut(), "box")] {
        for modseq in [0, before] {
            let log = mailbox.changes_since(modseq, 0, Uid::MAX).unwrap();
            assert!(log.covered);
            assert_eq!(log.changes.keys().copied().collect::<Vec<_>>(), [2, 3]);
            for (uid, change) in log.changes {
                assert_eq!(change.kind, LoggedKind::Expunge);
                assert_eq!(change.guid, MailGuid::from(&*format!("guid-{uid}")).short());
            }
        }
        let log = mailbox.changes_since(after, 0, Uid::MAX).unwrap();
        assert!(log.covered && log.changes.is_empty());
    }
}

/// From 0 everything is there; a log never claims more than it has.
pub fn an_unknown_past_is_not_covered(factory: &dyn StoreFactory) {
    let account = factory.create();
    let mut store = account.open();
    let mut mailbox = new_mailbox(store.as_mut());
    save_all(mailbox.as_mut(), &[1, 2]);
    let mut mailbox = open(account.open().as_mut(), "box");
    let highest = mailbox.status().unwrap().highest_modseq;
    for modseq in 1..=highest {
        let log = mailbox.changes_since(modseq, 0, Uid::MAX).unwrap();
        assert_ne!(log.covered, log.complete, "modseq {modseq}");
    }
}

/// Later messages are none of its business.
pub fn logs_only_up_to_the_asked_uid(factory: &dyn StoreFactory) {
    let mut store = factory.create().open();
    let mut mailbox = new_mailbox(store.as_mut());
    save_all(mailbox.as_mut(), &[1, 2, 3]);
    for uid in 1..=3 {
        mailbox.expunge(uid).unwrap();
    }
    mailbox.commit().unwrap();
    let log = mailbox.changes_since(0, 0, 2).unwrap();
    assert_eq!(log.changes.keys().copied().collect::<Vec<_>>(), [1, 2]);
}
