//! Whole runs of two brains: what a user sees afterwards (`spec/mailbox-sync.md` 17).

#![allow(clippy::print_stderr, clippy::unwrap_used, reason = "these are tests")]

mod common;

use common::{
    assert_same, assert_settled, converge, facts, full, mails, pair, run, run_clean, two_way,
};
use dsync_engine::{Mode, SyncOptions};
use dsync_proto::items::SyncType;
use dsync_proto::types::Flags;
use dsync_storage::memory::{LogGuid, MemoryOptions, MemoryStore, NewMail};
use dsync_testkit::mail::{AccountPlan, AccountSize};
use dsync_testkit::simulator::Simulator;

fn dbox_pair() -> (MemoryStore, MemoryStore) {
    pair(MemoryOptions::dbox(1), MemoryOptions::dbox(2))
}

fn new_mail(store: &MemoryStore, subject: &str) -> u32 {
    let mail = NewMail::with_subject(subject).guid(subject);
    store.user().save("INBOX", mail).unwrap()
}

#[test]
fn a_generated_account_arrives_complete() {
    for (from, to) in [
        (MemoryOptions::dbox(1), MemoryOptions::dbox(2)),
        (MemoryOptions::dbox(1), MemoryOptions::maildir(2)),
        (MemoryOptions::maildir(1), MemoryOptions::dbox(2)),
    ] {
        for seed in 0..5 {
            for (mode, reverse) in [
                (Mode::TwoWay, false),
                (Mode::Backup, false),
                (Mode::OneWay, false),
                (Mode::Backup, true),
                (Mode::OneWay, true),
            ] {
                let full_side = MemoryStore::new(from.clone());
                let empty = MemoryStore::new(to.clone());
                AccountPlan::new(seed, AccountSize::SMALL)
                    .fill(&mut full_side.clone())
                    .unwrap();
                let before = full_side.dump();
                let options = SyncOptions {
                    reverse,
                    ..full(mode)
                };
                let (client, server) = match reverse {
                    false => (&full_side, &empty),
                    true => (&empty, &full_side),
                };
                run_clean(options.clone(), client, server);
                if mode != Mode::TwoWay {
                    assert_eq!(full_side.dump(), before, "the source was changed");
                }
                // A directory becomes a mailbox where there are no directories.
                if from.directories == to.directories || mode == Mode::TwoWay {
                    converge(&options, client, server);
                    assert_settled(&options, client, server);
                }
            }
        }
    }
}

#[test]
fn changes_of_both_sides_are_merged() {
    let (a, b) = dbox_pair();
    a.user().add_flags("INBOX", &[1], Flags::SEEN).unwrap();
    a.user().add_keywords("INBOX", &[2], &["k"]).unwrap();
    b.user().add_flags("INBOX", &[3], Flags::FLAGGED).unwrap();
    b.user().expunge("Work", &[1], LogGuid::Known).unwrap();
    new_mail(&b, "n4");
    a.user().create("New/Box").unwrap();
    let later = b.user().clock() + 10;
    b.user().set_clock(later);
    b.user().unsubscribe("Work");
    a.user()
        .set_attribute("INBOX", "/private/comment", Some("hello"))
        .unwrap();
    run_clean(SyncOptions::default(), &a, &b);
    assert_same(&a, &b);
    assert_eq!(mails(&a, "INBOX"), ["1:m1", "2:m2", "3:m3", "4:n4"]);
    assert_eq!(mails(&a, "Work"), ["2:w2"]);
    let dump = a.dump();
    assert_eq!(dump.mailboxes["INBOX"].messages[&1].flags, Flags::SEEN);
    assert_eq!(dump.mailboxes["INBOX"].messages[&3].flags, Flags::FLAGGED);
    assert_eq!(dump.mailboxes["INBOX"].attributes.len(), 1);
    assert!(dump.subscriptions.is_empty());
    assert!(dump.mailboxes.contains_key("New/Box"));
    assert_settled(&SyncOptions::default(), &a, &b);
}

#[test]
fn colliding_uids_give_both_messages_new_ones() {
    let (a, b) = dbox_pair();
    new_mail(&a, "ffff");
    new_mail(&b, "1111");
    new_mail(&b, "5555");
    run_clean(two_way(), &a, &b);
    assert_same(&a, &b);
    // S04
    assert_eq!(
        mails(&a, "INBOX"),
        ["1:m1", "2:m2", "3:m3", "5:5555", "6:1111", "7:ffff"]
    );
    assert_settled(&two_way(), &a, &b);
}

#[test]
fn an_expunge_of_the_last_mail_is_kept_if_its_guid_is_known() {
    let (a, b) = dbox_pair();
    a.user().expunge("INBOX", &[3], LogGuid::Known).unwrap();
    run_clean(two_way(), &a, &b);
    assert_eq!(mails(&b, "INBOX"), ["1:m1", "2:m2"]);
    // S19
    let (a, b) = dbox_pair();
    b.user().expunge("INBOX", &[3], LogGuid::Unknown).unwrap();
    new_mail(&b, "b4");
    run_clean(two_way(), &a, &b);
    assert_same(&a, &b);
    assert_eq!(mails(&a, "INBOX"), ["1:m1", "2:m2", "4:b4", "5:m3"]);
}

#[test]
fn a_copied_message_stays_twice_and_never_thrice() {
    let (a, b) = dbox_pair();
    a.user().copy("INBOX", &[1], "INBOX").unwrap();
    b.user().copy("INBOX", &[1], "INBOX").unwrap();
    converge(&two_way(), &a, &b);
    let copies = mails(&a, "INBOX")
        .iter()
        .filter(|mail| mail.ends_with(":m1"))
        .count();
    assert_eq!(copies, 2);
}

#[test]
fn a_stateful_run_sees_what_was_removed_long_ago() {
    let (a, b) = dbox_pair();
    a.user().add_flags("INBOX", &[1], Flags::SEEN).unwrap();
    let state = run_clean(two_way(), &a, &b).client.state;
    assert!(!state.is_empty());
    let with_state = |state| SyncOptions {
        sync_type: SyncType::State,
        state,
        ..SyncOptions::default()
    };
    // The state of a run is that of its beginning: A's own change of \Seen is behind it until
    // the next run.
    let state = run_clean(with_state(state), &a, &b).client.state;
    // S18c: without state the removal would be lost.
    a.user().add_flags("INBOX", &[1], Flags::FLAGGED).unwrap();
    b.user().remove_flags("INBOX", &[1], Flags::SEEN).unwrap();
    let report = run_clean(with_state(state), &a, &b);
    assert_same(&a, &b);
    let dump = b.dump();
    assert_eq!(dump.mailboxes["INBOX"].messages[&1].flags, Flags::FLAGGED);
    let before = (facts(&a), facts(&b));
    run_clean(with_state(report.client.state), &a, &b);
    assert!(before == (facts(&a), facts(&b)));
}

#[test]
fn a_run_without_changes_sends_no_message_and_no_change() {
    let (a, b) = dbox_pair();
    run_clean(SyncOptions::default(), &a, &b);
    let before = (a.dump(), b.dump());
    let report = Simulator::new(SyncOptions::default(), a.clone(), b.clone())
        .record()
        .run();
    assert!(report.is_clean());
    assert_eq!(before, (a.dump(), b.dump()));
    assert_eq!(report.count("mail"), 0);
    assert_eq!(report.count("mail_change"), 0);
    let state = run_clean(two_way(), &a, &b).client.state;
    let options = SyncOptions {
        sync_type: SyncType::State,
        state,
        ..SyncOptions::default()
    };
    let report = Simulator::new(options, a.clone(), b.clone()).record().run();
    let mailboxes = a.dump().mailboxes.len();
    assert_eq!(report.count("mailbox"), 2 * mailboxes);
    assert_eq!(report.count("mail_change"), 0);
}

#[test]
fn only_mailboxes_that_differ_are_talked_about() {
    let (a, b) = dbox_pair();
    for number in 0..20 {
        a.user().create(&format!("box{number}")).unwrap();
    }
    let state = run_clean(two_way(), &a, &b).client.state;
    b.user().add_flags("INBOX", &[1], Flags::FLAGGED).unwrap();
    let mailboxes = a.dump().mailboxes.len();
    for (sync_type, state) in [(SyncType::State, state), (SyncType::Changed, Vec::new())] {
        let options = SyncOptions {
            sync_type,
            state,
            ..SyncOptions::default()
        };
        let (a, b) = (a.duplicate(1), b.duplicate(2));
        let report = Simulator::new(options, a.clone(), b.clone()).record().run();
        assert!(report.is_clean());
        assert_same(&a, &b);
        // Each side tells of each mailbox, then both of the one that differs.
        assert_eq!(report.count("mailbox"), 2 * mailboxes + 2);
    }
}

#[test]
fn backup_makes_the_destination_equal() {
    for (options, dir) in [
        (MemoryOptions::dbox(2), false),
        (MemoryOptions::maildir(2), false),
        (MemoryOptions::dbox(2), true),
    ] {
        let (a, b) = pair(MemoryOptions::dbox(1), options);
        a.user().add_flags("INBOX", &[3], Flags::FLAGGED).unwrap();
        b.user().add_flags("INBOX", &[1], Flags::SEEN).unwrap();
        b.user().expunge("Work", &[1], LogGuid::Known).unwrap();
        new_mail(&b, "extra");
        b.user().create("Only on B").unwrap();
        b.user().subscribe("Only on B");
        let before = a.dump();
        let options = SyncOptions {
            reverse: dir,
            ..full(Mode::Backup)
        };
        let (client, server) = match dir {
            false => (&a, &b),
            true => (&b, &a),
        };
        converge(&options, client, server);
        assert_eq!(a.dump(), before, "the source was changed");
        assert_settled(&options, client, server);
    }
}

#[test]
fn one_way_keeps_what_the_destination_has() {
    let (a, b) = dbox_pair();
    new_mail(&a, "aaaa");
    new_mail(&b, "bbbb");
    b.user().add_flags("INBOX", &[1], Flags::FLAGGED).unwrap();
    a.user().add_flags("INBOX", &[1], Flags::SEEN).unwrap();
    a.user().expunge("INBOX", &[3], LogGuid::Known).unwrap();
    let before = a.dump();
    run_clean(full(Mode::OneWay), &a, &b);
    assert_eq!(a.dump(), before, "the source was changed");
    let guids: Vec<String> = mails(&b, "INBOX");
    for guid in ["m1", "m2", "aaaa", "bbbb"] {
        let found = guids.iter().filter(|mail| mail.ends_with(guid)).count();
        assert_eq!(found, 1, "{guid} in {guids:?}");
    }
    assert_eq!(guids.len(), 4);
    let dump = b.dump();
    assert_eq!(
        dump.mailboxes["INBOX"].messages[&1].flags,
        Flags::SEEN | Flags::FLAGGED
    );
    let settled = b.dump().without_modseqs();
    run_clean(full(Mode::OneWay), &a, &b);
    assert_eq!(b.dump().without_modseqs(), settled);
}

#[test]
fn mailboxes_are_renamed_and_deleted_on_the_other_side() {
    let (a, b) = dbox_pair();
    a.user().create("Old/Child").unwrap();
    run_clean(two_way(), &a, &b);
    a.user().set_clock(1_700_000_100);
    a.user().rename("Work", "Arbeit").unwrap();
    b.user().set_clock(1_700_000_100);
    b.user().delete("Old/Child").unwrap();
    converge(&two_way(), &a, &b);
    let names: Vec<String> = a.dump().mailboxes.into_keys().collect();
    assert_eq!(names, ["Arbeit", "INBOX"]);
    assert_eq!(mails(&b, "Arbeit"), ["1:w1", "2:w2"]);
    assert_settled(&two_way(), &a, &b);
}

#[test]
fn different_uid_validity_is_settled_by_the_larger_side() {
    let (a, b) = dbox_pair();
    b.user().set_uid_validity("INBOX", 2_000_000_000).unwrap();
    new_mail(&b, "b4");
    converge(&two_way(), &a, &b);
    assert_eq!(a.dump().mailboxes["INBOX"].uid_validity, 2_000_000_000);
}

#[test]
fn a_store_without_attributes_loses_no_mail() {
    let without = MemoryOptions {
        attributes: false,
        ..MemoryOptions::dbox(2)
    };
    let (a, b) = pair(MemoryOptions::dbox(1), without);
    a.user()
        .set_attribute("INBOX", "/private/comment", Some("x"))
        .unwrap();
    new_mail(&a, "n4");
    run(two_way(), &a, &b);
    assert_eq!(mails(&b, "INBOX").len(), 4);
}

#[test]
fn any_order_of_arrival_gives_one_result() {
    let mut results = Vec::new();
    for seed in 0..30 {
        let (a, b) = dbox_pair();
        new_mail(&a, "aaaa");
        new_mail(&b, "bbbb");
        b.user().expunge("INBOX", &[2], LogGuid::Known).unwrap();
        a.user().create("New").unwrap();
        let report = Simulator::new(two_way(), a.clone(), b.clone())
            .schedule(seed)
            .run();
        assert!(report.is_clean(), "{seed}: {report:?}");
        assert_same(&a, &b);
        results.push(facts(&a));
    }
    assert!(results.windows(2).all(|two| two[0] == two[1]));
}
