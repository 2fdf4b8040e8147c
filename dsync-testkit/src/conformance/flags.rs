//! Flags, keywords and modseqs.

use bstr::BString;
use dsync_proto::types::Flags;
use dsync_storage::{FlagUpdate, Mailbox, MetadataUpdate};

use super::StoreFactory;
use super::support::{body, flags, message, modseq, new_mailbox, open, save, save_all, uids};

fn add(flags: Flags) -> FlagUpdate {
    FlagUpdate {
        add_flags: flags,
        ..FlagUpdate::default()
    }
}

fn keywords(add: &[&str], remove: &[&str]) -> FlagUpdate {
    let names = |list: &[&str]| list.iter().map(|name| BString::from(*name)).collect();
    FlagUpdate {
        add_keywords: names(add),
        remove_keywords: names(remove),
        ..FlagUpdate::default()
    }
}

fn update(mailbox: &mut dyn Mailbox, uid: u32, update: FlagUpdate) {
    mailbox.update_flags(uid, update).expect("update_flags");
    mailbox.commit().expect("commit");
}

/// Each flag can be set and cleared alone.
pub fn changes_flags(factory: &dyn StoreFactory) {
    let account = factory.create();
    let mut store = account.open();
    let mut mailbox = new_mailbox(store.as_mut());
    save_all(mailbox.as_mut(), &[1, 2]);
    let all = [
        Flags::ANSWERED,
        Flags::FLAGGED,
        Flags::DELETED,
        Flags::SEEN,
        Flags::DRAFT,
    ];
    for flag in all {
        update(mailbox.as_mut(), 1, add(flag));
        assert_eq!(flags(mailbox.as_mut(), 1).0, flag);
        let mut other = open(account.open().as_mut(), "box");
        assert_eq!(flags(other.as_mut(), 1).0, flag);
        update(
            other.as_mut(),
            1,
            FlagUpdate {
                remove_flags: flag,
                ..FlagUpdate::default()
            },
        );
        mailbox.refresh().unwrap();
        assert_eq!(flags(mailbox.as_mut(), 1).0, Flags::NONE);
    }
    update(mailbox.as_mut(), 2, add(Flags::SEEN | Flags::DRAFT));
    update(
        mailbox.as_mut(),
        2,
        FlagUpdate {
            add_flags: Flags::FLAGGED,
            remove_flags: Flags::DRAFT,
            ..FlagUpdate::default()
        },
    );
    assert_eq!(flags(mailbox.as_mut(), 2).0, Flags::SEEN | Flags::FLAGGED);
    assert_eq!(flags(mailbox.as_mut(), 1).0, Flags::NONE);
}

/// Keywords are added and removed by name.
pub fn changes_keywords(factory: &dyn StoreFactory) {
    let account = factory.create();
    let mut store = account.open();
    let mut mailbox = new_mailbox(store.as_mut());
    save_all(mailbox.as_mut(), &[1, 2]);
    update(mailbox.as_mut(), 1, keywords(&["a", "b"], &[]));
    update(
        mailbox.as_mut(),
        2,
        keywords(&["$MDNSent"], &["never there"]),
    );
    update(mailbox.as_mut(), 1, keywords(&["c"], &["a"]));
    for mut mailbox in [mailbox, open(account.open().as_mut(), "box")] {
        assert_eq!(flags(mailbox.as_mut(), 1).1, ["b", "c"]);
        assert_eq!(flags(mailbox.as_mut(), 2).1, ["$MDNSent"]);
    }
}

/// There is no limit on their number.
pub fn keeps_hundreds_of_keywords(factory: &dyn StoreFactory) {
    let account = factory.create();
    let mut store = account.open();
    let mut mailbox = new_mailbox(store.as_mut());
    let names: Vec<String> = (0..300).map(|number| format!("kw{number:03}")).collect();
    let mut first = message(1);
    first.keywords = names.iter().map(|name| name.as_str().into()).collect();
    save(mailbox.as_mut(), first, &body(1));
    let mut second = message(2);
    second.keywords = vec!["kw299".into(), "kw007".into()];
    save(mailbox.as_mut(), second, &body(2));
    mailbox.commit().unwrap();
    for mut mailbox in [mailbox, open(account.open().as_mut(), "box")] {
        assert_eq!(flags(mailbox.as_mut(), 1).1, names);
        assert_eq!(flags(mailbox.as_mut(), 2).1, ["kw007", "kw299"]);
    }
}

/// Two spellings are one keyword; the first one stays.
pub fn keywords_differ_by_more_than_case(factory: &dyn StoreFactory) {
    let mut store = factory.create().open();
    let mut mailbox = new_mailbox(store.as_mut());
    save_all(mailbox.as_mut(), &[1, 2]);
    update(mailbox.as_mut(), 1, keywords(&["Case"], &[]));
    update(mailbox.as_mut(), 2, keywords(&["cASE"], &[]));
    assert_eq!(flags(mailbox.as_mut(), 2).1, ["Case"]);
    update(mailbox.as_mut(), 1, keywords(&["case"], &[]));
    assert_eq!(flags(mailbox.as_mut(), 1).1, ["Case"]);
    update(mailbox.as_mut(), 1, keywords(&[], &["CASE"]));
    assert_eq!(flags(mailbox.as_mut(), 1).1, [""; 0]);
}

/// Modseqs are at least what was asked for, and HIGHESTMODSEQ follows.
pub fn raises_modseqs_as_asked(factory: &dyn StoreFactory) {
    let account = factory.create();
    let mut store = account.open();
    let mut mailbox = new_mailbox(store.as_mut());
    let mut new = message(1);
    new.min_modseq = 1000;
    save(mailbox.as_mut(), new, &body(1));
    save(mailbox.as_mut(), message(2), &body(2));
    mailbox.commit().unwrap();
    assert!(modseq(mailbox.as_mut(), 1) >= 1000);
    let mut change = add(Flags::SEEN);
    change.min_modseq = 5000;
    update(mailbox.as_mut(), 2, change);
    let only_modseq = FlagUpdate {
        min_modseq: 6000,
        ..FlagUpdate::default()
    };
    update(mailbox.as_mut(), 1, only_modseq);
    let lower = FlagUpdate {
        min_modseq: 2,
        ..FlagUpdate::default()
    };
    update(mailbox.as_mut(), 1, lower);
    for mut mailbox in [mailbox, open(account.open().as_mut(), "box")] {
        assert!(modseq(mailbox.as_mut(), 2) >= 5000);
        assert!(modseq(mailbox.as_mut(), 1) >= 6000);
        assert!(mailbox.status().unwrap().highest_modseq >= 6000);
    }
}

/// A changed message has a higher modseq than before; others keep theirs.
pub fn modseqs_rise_with_every_change(factory: &dyn StoreFactory) {
    let mut store = factory.create().open();
    let mut mailbox = new_mailbox(store.as_mut());
    let mut highest = mailbox.status().unwrap().highest_modseq;
    assert!(highest >= 1);
    save_all(mailbox.as_mut(), &[1, 2]);
    let changes = [
        add(Flags::SEEN),
        keywords(&["k"], &[]),
        keywords(&[], &["k"]),
    ];
    let untouched = modseq(mailbox.as_mut(), 2);
    assert!(untouched > highest);
    for change in changes {
        highest = mailbox.status().unwrap().highest_modseq;
        update(mailbox.as_mut(), 1, change);
        let status = mailbox.status().unwrap();
        assert!(modseq(mailbox.as_mut(), 1) > highest);
        assert!(modseq(mailbox.as_mut(), 1) <= status.highest_modseq);
        assert_eq!(modseq(mailbox.as_mut(), 2), untouched);
    }
    highest = mailbox.status().unwrap().highest_modseq;
    mailbox.expunge(1).unwrap();
    mailbox.commit().unwrap();
    assert!(mailbox.status().unwrap().highest_modseq > highest);
    assert_eq!(modseq(mailbox.as_mut(), 2), untouched);
}

/// A message that is gone is no error.
pub fn ignores_flags_of_missing_messages(factory: &dyn StoreFactory) {
    let mut store = factory.create().open();
    let mut mailbox = new_mailbox(store.as_mut());
    save_all(mailbox.as_mut(), &[3]);
    update(mailbox.as_mut(), 1, add(Flags::SEEN));
    update(mailbox.as_mut(), 99, keywords(&["a"], &[]));
    assert_eq!(uids(mailbox.as_mut()), [3]);
    assert_eq!(flags(mailbox.as_mut(), 3), (Flags::NONE, Vec::new()));
    assert_eq!(mailbox.status().unwrap().uid_next, 4);
}

/// `\Recent` goes by the first recent UID and is not lost by flag changes.
pub fn keeps_recent(factory: &dyn StoreFactory) {
    let account = factory.create();
    let mut store = account.open();
    let mut mailbox = new_mailbox(store.as_mut());
    save_all(mailbox.as_mut(), &[1, 2, 3, 4]);
    assert_eq!(mailbox.status().unwrap().first_recent_uid, 1);
    update(mailbox.as_mut(), 1, add(Flags::SEEN));
    update(mailbox.as_mut(), 4, add(Flags::SEEN));
    assert_eq!(mailbox.status().unwrap().first_recent_uid, 1);
    let metadata = MetadataUpdate {
        min_first_recent_uid: Some(3),
        ..MetadataUpdate::default()
    };
    mailbox.update_metadata(metadata).unwrap();
    mailbox.commit().unwrap();
    for mut mailbox in [mailbox, open(account.open().as_mut(), "box")] {
        assert_eq!(mailbox.status().unwrap().first_recent_uid, 3);
        let messages = mailbox.messages().unwrap();
        let recent: Vec<u32> = messages
            .iter()
            .filter(|message| message.flags.contains(Flags::RECENT))
            .map(|message| message.uid)
            .collect();
        assert_eq!(recent, [3, 4]);
    }
}
