//! What the comparison with Dovecot has found (`interop-tests/src/diff`), where it can be shown
//! without one.

#![allow(clippy::print_stderr, clippy::unwrap_used, reason = "these are tests")]

mod common;

use common::{assert_same, full, mails, pair, run, run_clean};
use dsync_engine::{Mode, SyncOptions};
use dsync_proto::items::{MailboxState, SyncType};
use dsync_proto::types::{Flags, Guid};
use dsync_storage::memory::{LogGuid, MemoryOptions, MemoryStore, NewMail};

fn maildir_pair() -> (MemoryStore, MemoryStore) {
    pair(MemoryOptions::maildir(1), MemoryOptions::maildir(2))
}

fn save(store: &MemoryStore, mailbox: &str, subject: &str) {
    let mail = NewMail::with_subject(subject).guid(subject);
    store.user().save(mailbox, mail).unwrap();
}

#[test]
fn backup_of_an_empty_inbox_keeps_its_uid_validity() {
    let (a, b) = maildir_pair();
    a.user()
        .expunge("INBOX", &[1, 2, 3], LogGuid::Known)
        .unwrap();
    a.user().set_uid_validity("INBOX", 1_000).unwrap();
    save(&b, "INBOX", "extra");
    let before = a.dump();
    run_clean(full(Mode::Backup), &a, &b);
    assert_eq!(a.dump(), before, "the source was changed");
    assert_same(&a, &b);
}

#[test]
fn a_mailbox_made_again_takes_the_uid_validity_of_its_source() {
    for reverse in [false, true] {
        let (a, b) = maildir_pair();
        a.user().delete("Work").unwrap();
        a.user().create("Work").unwrap();
        a.user().set_guid("Work", Guid([0x11; 16])).unwrap();
        // Lower than that of the mailbox with more mail, which would win.
        a.user().set_uid_validity("Work", 1_000).unwrap();
        save(&a, "Work", "w3");
        let before = a.dump();
        let options = SyncOptions {
            reverse,
            ..full(Mode::OneWay)
        };
        let (client, server) = if reverse { (&b, &a) } else { (&a, &b) };
        run_clean(options, client, server);
        assert_eq!(a.dump(), before, "the source was changed");
        let copy = &b.dump().mailboxes["Work"];
        assert_eq!(copy.guid, Guid([0x11; 16]));
        assert_eq!(copy.uid_validity, 1_000);
        assert_eq!(copy.messages.len(), 3, "what the destination had stays");
    }
}

/// A run that goes on from the state of an earlier one.
fn stateful(mode: Mode, state: Vec<MailboxState>) -> SyncOptions {
    SyncOptions {
        sync_type: SyncType::State,
        state,
        ..full(mode)
    }
}

/// Syncs two equal accounts, lets `change` happen to them, and goes on from the state: whatever
/// happened, one run must make them equal again, and the next one must have nothing to do.
fn heals(what: &str, change: impl Fn(&MemoryStore, &MemoryStore)) {
    let (a, b) = maildir_pair();
    let first = run_clean(stateful(Mode::TwoWay, Vec::new()), &a, &b);
    change(&a, &b);
    save(&a, "INBOX", "from a");
    save(&b, "INBOX", "from b");
    let second = run_clean(stateful(Mode::TwoWay, first.client.state), &a, &b);
    assert_same(&a, &b);
    assert_eq!(mails(&a, "INBOX").len(), 5, "{what}");
    let before = (a.dump(), b.dump());
    run_clean(stateful(Mode::TwoWay, second.client.state), &a, &b);
    assert!(before == (a.dump(), b.dump()), "{what}: a run too many");
}

#[test]
fn a_state_that_fits_no_longer_is_ignored_in_the_same_run() {
    let forget = |store: &MemoryStore| {
        store.user().add_flags("INBOX", &[1], Flags::SEEN).unwrap();
        store.user().forget_log_up_to("INBOX", 50).unwrap();
    };
    heals("nothing", |_, _| {});
    heals("the client's log is gone", |a, _| forget(a));
    heals("the server's log is gone", |_, b| forget(b));
    heals("both logs are gone", |a, b| {
        forget(a);
        forget(b);
    });
    for value in [1_000, 2_000_000_000] {
        heals("UIDVALIDITY of the client", |a, _| {
            a.user().set_uid_validity("INBOX", value).unwrap();
        });
        heals("UIDVALIDITY of the server", |_, b| {
            b.user().set_uid_validity("INBOX", value).unwrap();
        });
    }
}

#[test]
fn a_mailbox_that_the_tree_makes_anew_is_filled_though_its_state_says_nothing_changed() {
    for reverse in [false, true] {
        let (a, b) = maildir_pair();
        let options = |state| SyncOptions {
            reverse,
            ..stateful(Mode::Backup, state)
        };
        let (client, server) = if reverse { (&b, &a) } else { (&a, &b) };
        let first = run_clean(options(Vec::new()), client, server);
        // The destination is alone in having changed.
        b.user().set_uid_validity("Work", 2_000_000_000).unwrap();
        save(&b, "INBOX", "extra");
        let second = run_clean(options(first.client.state), client, server);
        assert_same(&a, &b);
        let before = (a.dump(), b.dump());
        run_clean(options(second.client.state), client, server);
        assert!(before == (a.dump(), b.dump()), "a run too many");
    }
}

#[test]
fn attributes_stay_with_a_mailbox_that_takes_another_guid() {
    let (a, b) = maildir_pair();
    let set = |store: &MemoryStore, key: &str| {
        store.user().set_attribute("Work", key, Some("x")).unwrap();
    };
    set(&b, "/private/of the destination");
    a.user().set_guid("Work", Guid([0xff; 16])).unwrap();
    set(&a, "/shared/of the source");
    run_clean(full(Mode::OneWay), &a, &b);
    let copy = &b.dump().mailboxes["Work"];
    assert_eq!(copy.guid, Guid([0xff; 16]));
    assert_eq!(copy.attributes.len(), 2, "{:?}", copy.attributes);
}

#[test]
fn a_stateful_backup_that_cannot_be_made_equal_asks_for_a_whole_one() {
    let (a, b) = maildir_pair();
    let first = run_clean(stateful(Mode::Backup, Vec::new()), &a, &b);
    // The same UID for two messages, below the same UIDNEXT.
    save(&a, "INBOX", "from a");
    save(&b, "INBOX", "from b");
    a.user().raise_uid_next("INBOX", 9).unwrap();
    b.user().raise_uid_next("INBOX", 9).unwrap();
    let second = run(stateful(Mode::Backup, first.client.state), &a, &b);
    assert_eq!(second.client.exit_code(), 2, "{:?}", second.client);
    assert!(second.client.require_full_resync);
    run_clean(stateful(Mode::Backup, Vec::new()), &a, &b);
    assert_same(&a, &b);
}

#[test]
fn a_source_is_known_by_guid_where_the_other_side_has_renamed() {
    for sync_type in [SyncType::Changed, SyncType::Full, SyncType::State] {
        for reverse in [false, true] {
            let (a, b) = maildir_pair();
            a.user().create("Old").unwrap();
            let options = || SyncOptions {
                reverse,
                sync_type,
                ..full(Mode::OneWay)
            };
            let (client, server) = if reverse { (&b, &a) } else { (&a, &b) };
            run_clean(options(), client, server);
            for (from, to) in [("Old", "swap"), ("Work", "Old"), ("swap", "Work")] {
                b.user().rename(from, to).unwrap();
            }
            save(&a, "Work", "new");
            let before = a.dump();
            run_clean(options(), client, server);
            assert_eq!(a.dump(), before, "the source was changed");
            assert!(
                mails(&b, "Old") == mails(&a, "Work"),
                "new mail of the renamed mailbox, {sync_type:?}"
            );
        }
    }
}

#[test]
fn a_stateful_backup_brings_back_what_its_destination_has_expunged() {
    for reverse in [false, true] {
        let (a, b) = maildir_pair();
        let options = |state| SyncOptions {
            reverse,
            ..stateful(Mode::Backup, state)
        };
        let (client, server) = if reverse { (&b, &a) } else { (&a, &b) };
        let first = run_clean(options(Vec::new()), client, server);
        b.user().expunge("INBOX", &[1], LogGuid::Known).unwrap();
        let second = run_clean(options(first.client.state), client, server);
        assert_same(&a, &b);
        let before = (a.dump(), b.dump());
        run_clean(options(second.client.state), client, server);
        assert!(before == (a.dump(), b.dump()), "a run too many");
    }
}
