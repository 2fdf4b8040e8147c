//! Commits while others are at work, several changes in one commit, requests of others.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use bstr::ByteSlice;
use dsync_proto::types::{Flags, MailGuid};

use super::*;
use crate::MetadataUpdate;
use crate::index::{Origin, Transaction};
use crate::maildir::filename;
use crate::maildir::scan::ENTRIES_READ;

/// Renames a message file as a program without lock does, within one tick of the clock: the
/// directory looks as it did before.
fn rename_unseen(root: &Path, from: &str, to: &str) {
    let cur = root.join("cur");
    let modified = cur.metadata().unwrap().modified().unwrap();
    fs::rename(cur.join(from), cur.join(to)).unwrap();
    let times = fs::FileTimes::new().set_modified(modified);
    File::open(&cur).unwrap().set_times(times).unwrap();
}

#[test]
fn changes_reach_files_that_were_renamed_meanwhile() {
    let root = tempfile::tempdir().unwrap();
    let mut mailbox = open_fresh(root.path());
    save_range(mailbox.as_mut(), 1..=3);
    let cur = names(root.path(), "cur");
    assert_eq!(cur.len(), 2, "{cur:?}");
    for name in &cur {
        rename_unseen(root.path(), name, &name.replace(":2,S", ":2,FS"));
    }
    let update = FlagUpdate {
        add_flags: Flags::ANSWERED,
        ..FlagUpdate::default()
    };
    mailbox.update_flags(1, update).unwrap();
    mailbox.expunge(3).unwrap();
    mailbox.commit().unwrap();
    drop(mailbox);
    let mut again = open_fresh(root.path());
    let found = contents(again.as_mut());
    let expected = Flags::ANSWERED | Flags::FLAGGED | Flags::SEEN;
    assert_eq!(found.get(&guid(1)), Some(&(1, expected)), "{found:?}");
    assert_eq!(found.len(), 2, "an expunged message came back: {found:?}");
}

#[test]
fn another_instance_is_one_of_the_last_save() {
    let root = tempfile::tempdir().unwrap();
    let mut mailbox = open_fresh(root.path());
    save_range(mailbox.as_mut(), 1..=1);
    save(mailbox.as_mut(), message(2, &guid(2)));
    assert!(mailbox.copy(1, message(3, &guid(1))).unwrap());
    mailbox.save_another(message(4, &guid(2))).unwrap();
    mailbox.commit().unwrap();
    let mut opened = mailbox.open_message(4).unwrap().unwrap();
    let mut body = String::new();
    opened.body.read_to_string(&mut body).unwrap();
    assert_eq!(body, format!("body of {}\n", guid(2)));
}

#[test]
fn uid_validity_is_never_zero() {
    let root = tempfile::tempdir().unwrap();
    let mut mailbox = open_fresh(root.path());
    save_range(mailbox.as_mut(), 1..=2);
    let before = mailbox.status().unwrap().uid_validity;
    let update = MetadataUpdate {
        uid_validity: Some(0),
        ..MetadataUpdate::default()
    };
    let _ = mailbox.update_metadata(update);
    let _ = mailbox.commit();
    drop(mailbox);
    let mut again = open_fresh(root.path());
    assert_eq!(again.status().unwrap().uid_validity, before);
}

#[test]
fn moved_messages_take_flags_of_the_same_commit_along() {
    let root = tempfile::tempdir().unwrap();
    let mut mailbox = open_fresh(root.path());
    save_range(mailbox.as_mut(), 1..=2);
    let end = mailbox.status().unwrap().highest_modseq;
    let update = FlagUpdate {
        add_flags: Flags::FLAGGED,
        ..FlagUpdate::default()
    };
    mailbox.update_flags(1, update).unwrap();
    mailbox.reassign_uids(&[1]).unwrap();
    mailbox.commit().unwrap();
    let flags = |mailbox: &mut dyn Mailbox| contents(mailbox)[&guid(1)];
    assert_eq!(flags(mailbox.as_mut()), (3, Flags::SEEN | Flags::FLAGGED));
    drop(mailbox);
    let mut again = open_fresh(root.path());
    assert_eq!(flags(again.as_mut()), (3, Flags::SEEN | Flags::FLAGGED));
    let log = again.changes_since(end, 0, Uid::MAX).unwrap();
    let told = log.changes.values().any(|c| c.kind == LoggedKind::Flags);
    assert!(!told, "our own change counts as a local one: {log:?}");
}

/// What another program asks for in the index log.
fn request(root: &Path, fill: impl FnOnce(&mut Transaction)) {
    let mut index = Index::open(root, INDEX_PREFIX, IndexSettings::default()).unwrap();
    let mut requests = Transaction::new(Origin::REQUEST);
    fill(&mut requests);
    let mut locked = index.lock(Duration::from_secs(5)).unwrap();
    locked.append(&requests).unwrap();
    locked.finish().unwrap();
}

#[test]
fn requests_in_the_log_are_carried_out() {
    let root = tempfile::tempdir().unwrap();
    save_range(open_fresh(root.path()).as_mut(), 1..=9);
    let short = |uid: Uid| MailGuid::from(&*guid(uid)).short();
    request(root.path(), |requests| {
        requests.expunge(1, short(1));
        requests.expunge(2, short(9)); // meant another message
        requests.update_flags(4..=5, Flags::FLAGGED, Flags::NONE);
        requests.update_flags(8..=4_000_000_000, Flags::FLAGGED, Flags::NONE);
        requests.add_keyword(b"k", 3..=4);
    });
    let mut mailbox = open_fresh(root.path());
    let found = contents(mailbox.as_mut());
    let uids: Vec<Uid> = found.values().map(|(uid, _)| *uid).collect();
    assert_eq!(uids, [2, 3, 4, 5, 6, 7, 8, 9]);
    let files = [names(root.path(), "cur"), names(root.path(), "new")].concat();
    for uid in uids {
        let list = UidList::parse(&fs::read(root.path().join("dovecot-uidlist")).unwrap());
        let base = list.get(list.position(uid).unwrap()).unwrap().base;
        let name = files.iter().find(|name| name.as_bytes().starts_with(base));
        let flags = filename::flags(name.unwrap().as_bytes());
        let flagged = [4, 5, 8, 9].contains(&uid);
        assert_eq!(flags.flags.contains(Flags::FLAGGED), flagged, "{uid}");
        assert_eq!(flags.letters, u32::from([3, 4].contains(&uid)), "{uid}");
    }
    let pending = Index::open(root.path(), INDEX_PREFIX, IndexSettings::default())
        .unwrap()
        .pending()
        .unwrap();
    assert!(pending.is_empty(), "{pending:?}");
}

/// A commit that cannot change a flag leaves none of its messages behind.
#[test]
fn saves_are_taken_back_if_flags_cannot_be_changed() {
    let root = tempfile::tempdir().unwrap();
    let mut mailbox = open_fresh(root.path());
    save_range(mailbox.as_mut(), 1..=2);
    let name = names(root.path(), "cur").pop().unwrap();
    let target = filename::with_flags(
        name.as_bytes(),
        filename::NameFlags {
            flags: Flags::FLAGGED | Flags::SEEN,
            letters: 0,
        },
    );
    // A directory stands where the file shall go.
    let target = root.path().join("cur").join(target.to_str().unwrap());
    fs::create_dir(&target).unwrap();
    mailbox.refresh().unwrap();
    save(mailbox.as_mut(), message(3, &guid(3)));
    let update = FlagUpdate {
        add_flags: Flags::FLAGGED,
        ..FlagUpdate::default()
    };
    mailbox.update_flags(1, update).unwrap();
    assert!(mailbox.commit().is_err());
    fs::remove_dir(&target).unwrap();
    drop(mailbox);
    let mut again = open_fresh(root.path());
    assert_eq!(contents(again.as_mut()).len(), 2);
    save_range(again.as_mut(), 3..=3);
    assert_eq!(contents(again.as_mut()).len(), 3);
}

/// A long run commits now and then. Our own changes are no reason to read the directories again.
#[test]
fn commits_cost_only_what_they_do() {
    const COMMITS: u32 = 20;
    const MESSAGES: u32 = 10;
    let root = tempfile::tempdir().unwrap();
    // Time passes between the commits, but the directories always look as if just changed.
    let seconds = Arc::new(AtomicU64::new(0));
    let clock = {
        let (start, seconds) = (SystemTime::now(), Arc::clone(&seconds));
        let start = start - Duration::from_secs(10_000);
        Clock::new(move || start + Duration::from_secs(seconds.load(Ordering::Relaxed)))
    };
    let settings = StoreSettings {
        clock,
        ..StoreSettings::default()
    };
    let mut mailbox = open(root.path(), &settings);
    mailbox.refresh().unwrap();
    let before = ENTRIES_READ.get();
    for commit in 0..COMMITS {
        let first = commit * MESSAGES + 1;
        save_range(mailbox.as_mut(), first..=first + MESSAGES - 1);
        seconds.fetch_add(10, Ordering::Relaxed);
    }
    assert_eq!(ENTRIES_READ.get() - before, 0, "entries read by commits");
    // Mail from elsewhere is one.
    fs::write(root.path().join("new/delivered"), "body of delivered\n").unwrap();
    save_range(mailbox.as_mut(), 1001..=1001);
    assert_eq!(
        contents(mailbox.as_mut())["delivered"].0,
        COMMITS * MESSAGES + 1
    );
    assert!(ENTRIES_READ.get() > before);
}

/// A file name that tells wrong sizes makes the message unreadable for Dovecot; a copy tells
/// only what can be right.
#[test]
fn a_copy_does_not_inherit_wrong_sizes() {
    for (sizes, are_right) in [
        (",S=14,W=17", true),
        (",S=9,W=17", false),
        (",S=14,W=5", false),
        (",S=14,W=500", false),
        (",W=17", false),
    ] {
        let root = tempfile::tempdir().unwrap();
        drop(open_fresh(root.path()));
        let original = format!("100.a{sizes}");
        let path = root.path().join("cur").join(format!("{original}:2,"));
        fs::write(path, "Subject: x\n\nb\n").unwrap();
        let mut mailbox = open_fresh(root.path());
        for (uid, guid) in [(5, original.as_str()), (6, "other"), (7, "100.b,S=14,W=17")] {
            assert_eq!(mailbox.copy(1, message(uid, guid)), Ok(true));
        }
        mailbox.commit().unwrap();
        let guids: Vec<_> = mailbox
            .messages()
            .unwrap()
            .iter()
            .map(|m| m.guid.to_string())
            .collect();
        assert_eq!(guids, [&original, &original, "other", "100.b,S=14,W=17"]);
        let mut copies = [names(root.path(), "cur"), names(root.path(), "new")].concat();
        copies.retain(|name| !name.starts_with(&original));
        let (right, any): (Vec<_>, Vec<_>) = copies
            .iter()
            .filter(|name| name.contains('='))
            .partition(|name| name.contains(",S=14,W=17"));
        assert_eq!(right.len(), if are_right { 3 } else { 0 }, "{copies:?}");
        assert!(any.is_empty(), "{copies:?}");
    }
}
