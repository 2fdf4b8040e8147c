//! Crashes, foreign programs and damage.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bstr::{BString, ByteSlice};
use dsync_proto::types::{Flags, MailGuid};

use super::*;
use crate::index::{IndexSettings, Origin, Transaction};
use crate::location::{Location, Variables};
use crate::maildir::uidlist::UidList;
use crate::settings::Clock;
use crate::{FlagUpdate, LoggedKind, Mailbox, Namespace, open_store};

mod commits;

fn open(root: &Path, settings: &StoreSettings) -> Box<dyn Mailbox> {
    let text = format!("maildir:{}", root.display());
    let location = Location::parse(&text, &Variables::default()).unwrap();
    let mut store = open_store(&location, Namespace::default(), settings).unwrap();
    store.create_mailbox("INBOX", None, None).unwrap();
    store.open("INBOX", OpenMode::Write).unwrap()
}

fn open_fresh(root: &Path) -> Box<dyn Mailbox> {
    let mut mailbox = open(root, &StoreSettings::default());
    mailbox.refresh().unwrap();
    mailbox
}

fn message(uid: Uid, guid: &str) -> SaveMessage {
    SaveMessage {
        uid,
        guid: MailGuid::from(guid),
        flags: if uid.is_multiple_of(2) {
            Flags::RECENT
        } else {
            Flags::SEEN
        },
        keywords: Vec::new(),
        min_modseq: 0,
        min_pvt_modseq: 0,
        received_date: 1_000_000_000,
        saved_date: 0,
        pop3_uidl: BString::default(),
        pop3_order: 0,
    }
}

fn save(mailbox: &mut dyn Mailbox, message: SaveMessage) {
    let body = format!("body of {}\n", message.guid);
    mailbox.save_begin(message).unwrap();
    mailbox.save_write(body.as_bytes()).unwrap();
    mailbox.save_finish().unwrap();
}

/// A GUID as an sdbox has it.
fn guid(uid: Uid) -> String {
    format!("{uid:032x}")
}

fn save_range(mailbox: &mut dyn Mailbox, uids: std::ops::RangeInclusive<Uid>) {
    for uid in uids {
        save(mailbox, message(uid, &guid(uid)));
    }
    mailbox.commit().unwrap();
}

/// GUID to UID and user flags; every GUID must be there once, with its own body.
fn contents(mailbox: &mut dyn Mailbox) -> BTreeMap<String, (Uid, Flags)> {
    let mut all = BTreeMap::new();
    for message in mailbox.messages().unwrap().iter() {
        let guid = message.guid.to_string();
        let mut body = String::new();
        let mut opened = mailbox.open_message(message.uid).unwrap().unwrap();
        std::io::Read::read_to_string(&mut opened.body, &mut body).unwrap();
        assert_eq!(body, format!("body of {guid}\n"));
        let value = (message.uid, message.flags & Flags::USER);
        assert_eq!(all.insert(guid, value), None, "a message is there twice");
    }
    all
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Names of files in one directory of a mailbox.
fn names(root: &Path, dir: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(root.join(dir))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A mailbox with four messages before and after four more are committed.
fn before_and_after(root: &Path) {
    let mut mailbox = open_fresh(&root.join("before"));
    save_range(mailbox.as_mut(), 1..=4);
    drop(mailbox);
    copy_tree(&root.join("before"), &root.join("after"));
    save_range(open_fresh(&root.join("after")).as_mut(), 5..=8);
}

/// The state at a crash is opened, and the same messages are saved again, as the next run does.
fn recovers(state: &Path, expected: &BTreeMap<String, (Uid, Flags)>) {
    let mut mailbox = open_fresh(state);
    let found = contents(mailbox.as_mut());
    for (guid, (uid, flags)) in &found {
        let (old_uid, old_flags) = expected[guid];
        assert_eq!(*flags, old_flags);
        assert!(
            *uid == old_uid || old_uid > 4,
            "an old message has a new UID"
        );
    }
    for (guid, (uid, _)) in expected
        .iter()
        .filter(|(guid, _)| !found.contains_key(*guid))
    {
        save(mailbox.as_mut(), message(*uid, guid));
    }
    mailbox.commit().unwrap();
    assert!(contents(mailbox.as_mut()).keys().eq(expected.keys()));
    drop(mailbox);
    assert!(
        contents(open_fresh(state).as_mut())
            .keys()
            .eq(expected.keys())
    );
}

#[test]
fn a_commit_can_be_killed_between_any_two_renames() {
    let root = tempfile::tempdir().unwrap();
    before_and_after(root.path());
    let (before, after) = (root.path().join("before"), root.path().join("after"));
    let expected = contents(open_fresh(&after).as_mut());
    assert_eq!(expected.len(), 8);
    for renamed in 0..=4 {
        let state = root.path().join(format!("renamed{renamed}"));
        copy_tree(&before, &state);
        let mut left = renamed;
        for dir in ["new", "cur"] {
            for name in names(&after, dir) {
                let is_new = !before.join(dir).join(&name).exists();
                if is_new && left > 0 {
                    left -= 1;
                    fs::copy(after.join(dir).join(&name), state.join(dir).join(&name)).unwrap();
                } else if is_new {
                    let tmp = state.join("tmp").join(&name);
                    fs::copy(after.join(dir).join(&name), tmp).unwrap();
                }
            }
        }
        recovers(&state, &expected);
    }
}

#[test]
fn a_commit_can_be_killed_at_any_byte_of_uidlist_and_log() {
    let root = tempfile::tempdir().unwrap();
    before_and_after(root.path());
    let (before, after) = (root.path().join("before"), root.path().join("after"));
    let expected = contents(open_fresh(&after).as_mut());
    for (file, then_old) in [
        ("dovecot-uidlist", Some("dovecot.index.log")),
        ("dovecot.index.log", None),
    ] {
        let old = fs::read(before.join(file)).unwrap();
        let new = fs::read(after.join(file)).unwrap();
        assert!(new.starts_with(&old), "{file} was written anew");
        for end in (old.len()..=new.len()).step_by(5) {
            let state = root.path().join("state");
            copy_tree(&after, &state);
            fs::write(state.join(file), &new[..end]).unwrap();
            for snapshot in ["dovecot.index"].into_iter().chain(then_old) {
                let _ = fs::remove_file(state.join(snapshot));
                if before.join(snapshot).exists() {
                    fs::copy(before.join(snapshot), state.join(snapshot)).unwrap();
                }
            }
            recovers(&state, &expected);
            fs::remove_dir_all(&state).unwrap();
        }
    }
}

#[test]
fn flags_and_expunges_can_be_killed_before_the_log() {
    let root = tempfile::tempdir().unwrap();
    let (before, after) = (root.path().join("before"), root.path().join("after"));
    let mut mailbox = open_fresh(&before);
    save_range(mailbox.as_mut(), 1..=4);
    drop(mailbox);
    copy_tree(&before, &after);
    let mut mailbox = open_fresh(&after);
    let update = FlagUpdate {
        add_flags: Flags::FLAGGED,
        ..FlagUpdate::default()
    };
    mailbox.update_flags(1, update).unwrap();
    mailbox.expunge(3).unwrap();
    mailbox.commit().unwrap();
    let expected = contents(mailbox.as_mut());
    drop(mailbox);
    for file in ["dovecot.index.log", "dovecot.index", "dovecot-uidlist"] {
        let _ = fs::copy(before.join(file), after.join(file));
    }
    let mut mailbox = open_fresh(&after);
    assert_eq!(contents(mailbox.as_mut()), expected);
    let log = mailbox.changes_since(0, 0, Uid::MAX).unwrap();
    assert_eq!(log.changes[&3].kind, LoggedKind::Expunge);
    assert_eq!(log.changes[&3].guid.to_string(), guid(3));
}

#[test]
fn a_delivery_does_not_hide_behind_a_commit() {
    let root = tempfile::tempdir().unwrap();
    let late = Arc::new(AtomicU64::new(0));
    let delivery = Arc::new(Mutex::new(None::<PathBuf>));
    let clock = {
        let (late, delivery) = (Arc::clone(&late), Arc::clone(&delivery));
        Clock::new(move || {
            let now = SystemTime::now() + Duration::from_secs(late.load(Ordering::Relaxed));
            // The clock is asked in the middle of the commit: mail comes, then time passes.
            if let Some(path) = delivery.lock().unwrap().take() {
                fs::write(path, "body of delivered\n").unwrap();
                late.store(10, Ordering::Relaxed);
            }
            now
        })
    };
    let settings = StoreSettings {
        clock,
        ..StoreSettings::default()
    };
    let mut mailbox = open(root.path(), &settings);
    mailbox.refresh().unwrap();
    save_range(mailbox.as_mut(), 1..=2);
    save(mailbox.as_mut(), message(4, &guid(4)));
    *delivery.lock().unwrap() = Some(root.path().join("new/delivered"));
    mailbox.commit().unwrap();
    late.store(20, Ordering::Relaxed);
    mailbox.refresh().unwrap();
    assert!(contents(mailbox.as_mut()).contains_key("delivered"));
}

#[test]
fn files_seen_twice_are_no_duplicates() {
    let root = tempfile::tempdir().unwrap();
    let mut mailbox = open_fresh(root.path());
    save_range(mailbox.as_mut(), 1..=2);
    let name = names(root.path(), "cur").pop().unwrap();
    let path = root.path().join("cur").join(&name);
    // Another name of one file, and another message under the same base name.
    fs::hard_link(&path, root.path().join("new").join(guid(1))).unwrap();
    fs::write(root.path().join("cur").join(guid(2) + ":2,F"), "another\n").unwrap();
    fs::create_dir(root.path().join("cur/directory")).unwrap();
    drop(mailbox);
    let mut mailbox = open_fresh(root.path());
    let table = mailbox.messages().unwrap();
    let uids: Vec<Uid> = table.iter().map(|message| message.uid).collect();
    assert_eq!(uids, [1, 2, 3]);
    let guids: Vec<String> = table
        .iter()
        .map(|message| message.guid.to_string())
        .collect();
    assert_eq!(guids[..2], [guid(1), guid(2)]);
    assert!(mailbox.open_message(3).unwrap().is_some());
}

#[test]
fn packed_files_are_unpacked() {
    let root = tempfile::tempdir().unwrap();
    let mut mailbox = open_fresh(root.path());
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(&[b'x'; 400]).unwrap();
    for (name, content) in [
        ("1.gz,S=400,W=400:2,", &packed.finish().unwrap()[..]),
        ("2.looks,S=14:2,", b"\x1f\x8b\x08\0compressed"),
        ("3.wrong,S=400:2,", b"plain\n"),
        ("4.xz,S=400:2,", b"\xfd7zXZ\0compressed"),
        ("5.broken,S=400:2,", b"\x1f\x8b\x08\0compressed"),
    ] {
        let mut file = File::create(root.path().join("cur").join(name)).unwrap();
        file.write_all(content).unwrap();
    }
    mailbox.refresh().unwrap();
    mailbox.copy(1, message(6, "copy")).unwrap();
    mailbox.commit().unwrap();
    let mut read = |uid| {
        let mut bytes = Vec::new();
        let mut opened = mailbox.open_message(uid).unwrap().unwrap();
        opened.body.read_to_end(&mut bytes).map(|_| bytes)
    };
    assert_eq!(read(1).unwrap(), [b'x'; 400]);
    assert_eq!(read(6).unwrap(), [b'x'; 400]);
    assert!(read(2).unwrap().starts_with(b"\x1f\x8b"));
    assert_eq!(read(3).unwrap(), b"plain\n");
    assert!(read(5).is_err());
    let error = mailbox.open_message(4).err().unwrap();
    assert_eq!(error.class, MailErrorClass::NotPossible);
    assert!(error.message.contains("xz"), "{error}");
}

#[test]
fn messages_are_found_after_a_rename() {
    let root = tempfile::tempdir().unwrap();
    let mut mailbox = open_fresh(root.path());
    save_range(mailbox.as_mut(), 1..=2);
    assert_eq!(contents(mailbox.as_mut()).len(), 2);
    let old = root.path().join("new").join(guid(2));
    fs::rename(old, root.path().join("cur").join(guid(2) + ":2,S")).unwrap();
    assert!(mailbox.open_message(2).unwrap().is_some());
    fs::remove_file(root.path().join("cur").join(guid(2) + ":2,S")).unwrap();
    assert!(mailbox.open_message(2).unwrap().is_none());
}

#[test]
fn a_27th_keyword_lives_in_the_index() {
    let root = tempfile::tempdir().unwrap();
    let mut mailbox = open_fresh(root.path());
    let mut many = message(1, &guid(1));
    many.keywords = (0..28).map(|number| format!("k{number}").into()).collect();
    save(mailbox.as_mut(), many);
    mailbox.commit().unwrap();
    drop(mailbox);
    // The file changes behind our back: the index-only keywords stay.
    let name = names(root.path(), "cur").pop().unwrap();
    let path = root.path().join("cur");
    fs::rename(path.join(&name), path.join(guid(1) + ":2,Sa")).unwrap();
    let mut mailbox = open_fresh(root.path());
    let table = mailbox.messages().unwrap();
    let row = table.by_uid(1).unwrap();
    let mut keywords: Vec<&[u8]> = row.keywords.iter().map(AsRef::as_ref).collect();
    keywords.sort_unstable();
    assert_eq!(keywords, [&b"k0"[..], b"k26", b"k27"]);
}

#[test]
fn a_failed_save_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let mut mailbox = open_fresh(root.path());
    save_range(mailbox.as_mut(), 1..=2);
    save(mailbox.as_mut(), message(3, &guid(3)));
    save(mailbox.as_mut(), message(Uid::MAX, &guid(4)));
    assert!(mailbox.commit().is_err());
    mailbox.refresh().unwrap();
    assert_eq!(contents(mailbox.as_mut()).len(), 2);
    assert!(names(root.path(), "tmp").is_empty());
    save_range(mailbox.as_mut(), 3..=3);
    assert_eq!(contents(mailbox.as_mut())[&guid(3)].0, 3);
}

#[test]
fn moves_can_be_killed_anywhere() {
    kill_moves([11, 12], |mailbox| {
        for uid in [1, 2] {
            assert!(mailbox.copy(uid, message(10 + uid, &guid(uid))).unwrap());
            mailbox.expunge(uid).unwrap();
        }
    });
    kill_moves([5, 6], |mailbox| mailbox.reassign_uids(&[1, 2]).unwrap());
}

/// Messages 1 and 2 move to these UIDs; every state in between must come to a good end.
fn kill_moves(to: [Uid; 2], change: impl Fn(&mut dyn Mailbox)) {
    let root = tempfile::tempdir().unwrap();
    let (before, after) = (root.path().join("before"), root.path().join("after"));
    let mut mailbox = open_fresh(&before);
    save_range(mailbox.as_mut(), 1..=4);
    let mailbox_guid = mailbox.status().unwrap().guid;
    drop(mailbox);
    copy_tree(&before, &after);
    let mut mailbox = open_fresh(&after);
    change(mailbox.as_mut());
    mailbox.commit().unwrap();
    let expected = contents(mailbox.as_mut());
    drop(mailbox);
    assert!(!after.join("dovecot-uidlist.dsync").exists());
    let uids = expected.values().map(|(uid, _)| *uid);
    assert!(uids.eq([to[0], to[1], 3, 4]), "{expected:?}");
    let list = UidList::parse(&fs::read(after.join("dovecot-uidlist")).unwrap());
    let base = |uid| {
        list.get(list.position(uid).unwrap())
            .unwrap()
            .base
            .to_str()
            .unwrap()
    };
    let journal = format!(
        "{mailbox_guid}\n1 {}\n2 {}\nend\n",
        base(to[0]),
        base(to[1])
    );
    let states = [
        (false, 0, false),
        (true, 0, false),
        (true, 1, false),
        (true, 2, false),
        (true, 2, true),
    ];
    for (has_records, removed, has_log) in states {
        let state = root.path().join("state");
        copy_tree(&after, &state);
        for dir in ["new", "cur"] {
            for name in names(&before, dir) {
                let is_gone = (1..=removed).any(|uid| name.starts_with(&guid(uid)));
                if !is_gone {
                    fs::copy(before.join(dir).join(&name), state.join(dir).join(&name)).unwrap();
                }
            }
        }
        let mut old = Vec::new();
        old.extend((!has_records).then_some("dovecot-uidlist"));
        old.extend(
            (!has_log)
                .then_some(["dovecot.index.log", "dovecot.index"])
                .into_iter()
                .flatten(),
        );
        for file in old {
            fs::copy(before.join(file), state.join(file)).unwrap();
        }
        fs::write(state.join("dovecot-uidlist.dsync"), &journal).unwrap();
        let mut mailbox = open_fresh(&state);
        let found = contents(mailbox.as_mut());
        assert!(
            found.keys().eq(expected.keys()),
            "{has_records} {removed}: {found:?}"
        );
        assert!(!state.join("dovecot-uidlist.dsync").exists());
        save_range(mailbox.as_mut(), 20..=21);
        drop(mailbox);
        assert_eq!(contents(open_fresh(&state).as_mut()).len(), 6);
        fs::remove_dir_all(&state).unwrap();
    }
}

/// Somebody deletes the mailbox, or has died doing so.
#[test]
fn a_mailbox_that_is_being_deleted_is_left_alone() {
    for origin in [Origin::FACT, Origin::REQUEST] {
        let root = tempfile::tempdir().unwrap();
        let mut mailbox = open_fresh(root.path());
        save_range(mailbox.as_mut(), 1..=2);
        let before = contents(mailbox.as_mut());
        save(mailbox.as_mut(), message(3, &guid(3)));
        let mut index = Index::open(root.path(), INDEX_PREFIX, IndexSettings::default()).unwrap();
        let mut mark = Transaction::new(origin);
        mark.mark_deleted();
        index.lock(Duration::ZERO).unwrap().append(&mark).unwrap();

        let log = root.path().join("dovecot.index.log");
        let bytes = fs::read(&log).unwrap();
        let error = mailbox.commit().unwrap_err();
        assert_eq!(error.class, MailErrorClass::InUse, "{error}");
        let error = open(root.path(), &StoreSettings::default())
            .refresh()
            .unwrap_err();
        assert_eq!(error.class, MailErrorClass::InUse, "{error}");
        assert_eq!(
            fs::read(&log).unwrap(),
            bytes,
            "written while it is deleted"
        );

        let file = File::options().append(true).open(&log).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(31))
            .unwrap();
        assert_eq!(contents(open_fresh(root.path()).as_mut()), before);
        index.refresh().unwrap();
        assert!(!index.state().is_deleted());
        assert_eq!(index.pending().unwrap(), []);
    }
}
