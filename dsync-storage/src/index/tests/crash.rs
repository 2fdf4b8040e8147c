//! Killed between two steps: the next one who opens the index sees the old or the new state.

use std::fs;

use dsync_proto::types::{Flags, Guid};

use super::*;

fn filled(dir: &tempfile::TempDir) -> Index {
    let mut index = open(dir);
    let mut first = Transaction::new(Origin::FACT);
    first.set_uid_validity(77);
    first.enable_modseqs();
    for uid in 1..=4 {
        first.append(uid, Flags::SEEN);
    }
    append(&mut index, &first);
    index.lock(WAIT).unwrap().write_snapshot().unwrap();
    let mut more = Transaction::new(Origin::DSYNC_FACT);
    more.add_keyword(b"Work", 2..=3);
    more.expunge(1, Guid([1; 16]));
    append(&mut index, &more);
    index
}

/// Names and contents of all files.
fn files(dir: &tempfile::TempDir) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

#[test]
fn rotation() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = filled(&dir);
    let before = index.state().clone();
    let snapshot = fs::read(file(&dir, "")).unwrap();
    // Behind the link of the old log: `.log.2` is the log itself.
    fs::hard_link(file(&dir, ".log"), file(&dir, ".log.2")).unwrap();
    assert_eq!(open(&dir).state(), &before);
    // Behind the rename of the new log: the snapshot is the old one.
    index.lock(WAIT).unwrap().rotate().unwrap();
    fs::write(file(&dir, ""), snapshot).unwrap();
    let mut again = open(&dir);
    assert!(again.damage().is_empty(), "{:?}", again.damage());
    assert_eq!(again.state(), &before);
    let log = again.changes_since(2, 10).unwrap();
    assert_eq!(log.changes[&1].guid, Guid([1; 16]));
}

#[test]
fn reset() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = filled(&dir);
    let old_files = files(&dir);
    let mut first = Transaction::new(Origin::FACT);
    first.set_uid_validity(78);
    index.lock(WAIT).unwrap().reset(&first, 0).unwrap();
    let new_log = fs::read(file(&dir, ".log")).unwrap();
    // Behind the rename of the new log: old snapshot, old log as `.log.2`.
    for (path, bytes) in old_files {
        fs::write(path, bytes).unwrap();
    }
    fs::rename(file(&dir, ".log"), file(&dir, ".log.2")).unwrap();
    fs::write(file(&dir, ".log"), new_log).unwrap();
    let mut again = open(&dir);
    assert!(again.damage().is_empty(), "{:?}", again.damage());
    assert_eq!(again.state().header().uid_validity(), 78);
    assert!(again.state().is_empty());
    assert!(again.changes_since(0, 10).unwrap().changes.is_empty());
}

#[test]
fn salvage() {
    let dir = tempfile::tempdir().unwrap();
    let index = filled(&dir);
    let mut bad_log = fs::read(file(&dir, ".log")).unwrap();
    bad_log[4..8].fill(0);
    fs::write(file(&dir, ".log"), &bad_log).unwrap();
    open(&dir).lock(WAIT).unwrap().finish().unwrap();
    // Behind the new snapshot, before the new log.
    fs::write(file(&dir, ".log"), &bad_log).unwrap();
    let mut again = open(&dir);
    again.lock(WAIT).unwrap().finish().unwrap();
    let last = open(&dir);
    assert!(last.damage().is_empty(), "{:?}", last.damage());
    let uids = |index: &Index| -> Vec<u32> {
        index
            .state()
            .messages()
            .map(|message| message.uid())
            .collect()
    };
    assert_eq!(uids(&last), uids(&index));
    assert!(last.state().highest_modseq() >= index.state().highest_modseq());
}

#[test]
fn stale_temporary_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = filled(&dir);
    fs::write(file(&dir, ".tmp"), b"half").unwrap();
    index.lock(WAIT).unwrap().write_snapshot().unwrap();
    let new_log = fs::File::create(file(&dir, ".log.newlock")).unwrap();
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(1000);
    new_log.set_modified(long_ago).unwrap();
    index.lock(WAIT).unwrap().rotate().unwrap();
    assert_eq!(open(&dir).state(), index.state());
    assert!(!file(&dir, ".log.newlock").exists());
}

/// Killed before the snapshot of a rotation, and in the next one again.
#[test]
fn rotations_killed_one_after_the_other() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(&dir));
    for round in ["one", "two", "three"] {
        let mut index = open(&dir);
        let mut locked = index.lock(WAIT).unwrap();
        let mut transaction = Transaction::new(Origin::FACT);
        transaction.add_keyword(round.as_bytes(), 4..=4);
        locked.append(&transaction).unwrap();
        assert!(locked.start_next_log().unwrap());
    }
    let index = open(&dir);
    assert!(index.damage().is_empty(), "{:?}", index.damage());
    let message = index.state().message(4).unwrap();
    let keywords: Vec<_> = message.keywords().map(ToString::to_string).collect();
    assert_eq!(keywords, ["one", "two", "three"]);
}
