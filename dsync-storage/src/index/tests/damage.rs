//! Damaged and missing files (`spec/dovecot-index.md` 14).

use std::fs;

use dsync_proto::types::{Flags, Guid};

use super::*;

fn add(index: &mut Index, uid: u32) {
    let mut changes = Transaction::new(Origin::FACT);
    if uid == 1 {
        changes.set_uid_validity(77);
    }
    changes.enable_modseqs();
    changes.append(uid, Flags::SEEN);
    changes.add_keyword(b"Work", uid..=uid);
    append(index, &changes);
}

/// Two messages in a snapshot, and a third one in the log.
fn filled(dir: &tempfile::TempDir) -> Index {
    let settings = IndexSettings {
        is_truth: true,
        ..IndexSettings::default()
    };
    let mut index = Index::open(dir.path(), "dovecot.index", settings).unwrap();
    add(&mut index, 1);
    index.lock(WAIT).unwrap().write_snapshot().unwrap();
    add(&mut index, 2);
    index.lock(WAIT).unwrap().rotate().unwrap();
    add(&mut index, 3);
    index
}

fn uids(index: &Index) -> Vec<u32> {
    index
        .state()
        .messages()
        .map(|message| message.uid())
        .collect()
}

/// Locks once, so that damage is mended, and checks that nothing is wrong afterwards.
fn mended(dir: &tempfile::TempDir) -> Index {
    let mut index = open(dir);
    index.lock(WAIT).unwrap().finish().unwrap();
    let again = open(dir);
    assert!(again.damage().is_empty(), "{:?}", again.damage());
    assert_eq!(again.state(), index.state());
    index
}

#[test]
fn torn_tail_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let before = filled(&dir);
    let log = fs::read(file(&dir, ".log")).unwrap();
    for garbage in [
        vec![0_u8; 4],
        vec![0; 64],
        vec![0x80, 0x80, 0x80],
        vec![255; 9],
    ] {
        let mut torn = log.clone();
        torn.extend_from_slice(&garbage);
        fs::write(file(&dir, ".log"), torn).unwrap();
        let index = mended(&dir);
        assert_eq!(index.state(), before.state());
        assert!(matches!(index.damage(), [Damage::TornTail { .. }]));
        assert_eq!(fs::read(file(&dir, ".log")).unwrap(), log);
    }
}

#[test]
fn every_cut_keeps_the_state_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = filled(&dir);
    let before = index.state().clone();
    let start = index.log_size() as usize;
    let mut changes = Transaction::new(Origin::DSYNC_REQUEST);
    changes.append(9, Flags::DRAFT);
    changes.update_flags(1..=3, Flags::FLAGGED, Flags::SEEN);
    changes.add_keyword(b"$Forwarded", 2..=9);
    changes.min_modseq(9, 500);
    changes.expunge(1, Guid([1; 16]));
    append(&mut index, &changes);
    let log = fs::read(file(&dir, ".log")).unwrap();
    for end in start..log.len() {
        fs::write(file(&dir, ".log"), &log[..end]).unwrap();
        assert_eq!(open(&dir).state(), &before, "cut at {end}");
    }
    fs::write(file(&dir, ".log"), &log).unwrap();
    assert_eq!(open(&dir).state(), index.state());
}

#[test]
fn missing_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut before = filled(&dir);
    before.lock(WAIT).unwrap().write_snapshot().unwrap();
    fs::remove_file(file(&dir, ".log")).unwrap();
    let read = open(&dir);
    assert_eq!(read.damage(), [Damage::LogMissing]);
    assert_eq!(uids(&read), [1, 2, 3]);
    let mut index = mended(&dir);
    assert_eq!(uids(&index), [1, 2, 3]);
    assert_eq!(
        index.state().highest_modseq(),
        before.state().highest_modseq()
    );
    add(&mut index, 4);
    assert_eq!(uids(&open(&dir)), [1, 2, 3, 4]);
}

#[test]
fn log_marked_as_corrupted_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let before = filled(&dir);
    let mut log = fs::read(file(&dir, ".log")).unwrap();
    log[4..8].fill(0);
    fs::write(file(&dir, ".log"), log).unwrap();
    let index = mended(&dir);
    assert_eq!(uids(&index), [1, 2, 3]);
    assert_eq!(
        index.state().highest_modseq(),
        before.state().highest_modseq()
    );
    assert!(index.log_header().unwrap().index_id != 0);
}

#[test]
fn bad_snapshot_is_replaced_by_its_backup() {
    let dir = tempfile::tempdir().unwrap();
    let before = filled(&dir);
    fs::write(file(&dir, ""), b"garbage").unwrap();
    // The backup was taken in `.log.2`, which still exists.
    let index = mended(&dir);
    assert_eq!(index.state(), before.state());
}

#[test]
fn missing_snapshot_is_rebuilt_from_logs() {
    let dir = tempfile::tempdir().unwrap();
    let before = filled(&dir);
    fs::remove_file(file(&dir, "")).unwrap();
    fs::remove_file(file(&dir, ".backup")).unwrap();
    let index = mended(&dir);
    assert_eq!(uids(&index), [1, 2, 3]);
    assert_eq!(
        index.state().highest_modseq(),
        before.state().highest_modseq()
    );
}

#[test]
fn lost_history_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let before = filled(&dir);
    for suffix in ["", ".backup", ".log.2"] {
        fs::remove_file(file(&dir, suffix)).unwrap();
    }
    let mut index = open(&dir);
    assert!(index.needs_rebuild());
    let mut first = Transaction::new(Origin::FACT);
    first.set_uid_validity(77);
    first.min_next_uid(50);
    index.lock(WAIT).unwrap().reset(&first, 0).unwrap();
    assert!(!index.needs_rebuild());
    assert!(index.state().highest_modseq() > before.state().highest_modseq());
    assert_eq!(open(&dir).state(), index.state());
}

#[test]
fn foreign_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let before = filled(&dir);
    let mut snapshot = fs::read(file(&dir, "")).unwrap();
    snapshot[16] ^= 1;
    fs::write(file(&dir, ""), snapshot).unwrap();
    assert_eq!(uids(&mended(&dir)), uids(&before));
}

#[test]
fn snapshot_beyond_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut before = filled(&dir);
    before.lock(WAIT).unwrap().write_snapshot().unwrap();
    let log = fs::read(file(&dir, ".log")).unwrap();
    fs::write(file(&dir, ".log"), &log[..40]).unwrap();
    let index = mended(&dir);
    assert_eq!(uids(&index), [1, 2, 3]);
    assert_eq!(
        index.state().highest_modseq(),
        before.state().highest_modseq()
    );
}

#[test]
fn gap_between_snapshot_and_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = filled(&dir);
    let old = fs::read(file(&dir, "")).unwrap();
    index.lock(WAIT).unwrap().rotate().unwrap();
    add(&mut index, 4);
    fs::write(file(&dir, ""), old).unwrap();
    fs::remove_file(file(&dir, ".log.2")).unwrap();
    let read = open(&dir);
    assert_eq!(read.damage(), [Damage::LogGap]);
    assert_eq!(uids(&read), [1, 2, 4]);
    assert_eq!(
        read.state().highest_modseq(),
        index.state().highest_modseq()
    );
    mended(&dir);
}

#[test]
fn unusable_log_header() {
    let dir = tempfile::tempdir().unwrap();
    let mut before = filled(&dir);
    before.lock(WAIT).unwrap().write_snapshot().unwrap();
    for content in [&b""[..], b"short", &[9; 100]] {
        fs::write(file(&dir, ".log"), content).unwrap();
        assert_eq!(uids(&mended(&dir)), [1, 2, 3]);
    }
}

#[test]
fn an_invalid_record_ends_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = filled(&dir);
    let at = index.log_size() as usize;
    add(&mut index, 4);
    let mut log = fs::read(file(&dir, ".log")).unwrap();
    log[at + 4..at + 8].copy_from_slice(&4_u32.to_le_bytes());
    log[at + 8..at + 12].fill(0); // a flag update of UID 0, with a wrong size
    fs::write(file(&dir, ".log"), log).unwrap();
    assert_eq!(uids(&mended(&dir)), [1, 2, 3]);
}

#[test]
fn wrong_transactions_write_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = filled(&dir);
    let log = fs::read(file(&dir, ".log")).unwrap();
    let mut low = Transaction::new(Origin::FACT);
    low.append(3, Flags::NONE);
    let mut twice = Transaction::new(Origin::FACT);
    twice.append(10, Flags::NONE);
    twice.append(10, Flags::NONE);
    let mut long = Transaction::new(Origin::FACT);
    long.set_extension_header(ExtensionSpec::MAILDIR, 30, &[0; 8]);
    let mut keyword = Transaction::new(Origin::FACT);
    keyword.add_keyword(b"", 1..=1);
    for wrong in [low, twice, long, keyword] {
        assert!(index.lock(WAIT).unwrap().append(&wrong).is_err());
    }
    assert_eq!(fs::read(file(&dir, ".log")).unwrap(), log);
}

#[test]
fn locked_by_somebody_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut one = filled(&dir);
    let mut two = open(&dir);
    let mut locked = one.lock(WAIT).unwrap();
    assert_eq!(
        two.lock(Duration::ZERO).unwrap_err().class,
        dsync_proto::types::MailErrorClass::Temporary
    );
    locked.rotate().unwrap();
    drop(locked);
    // The old file is not the log any more.
    assert!(two.lock(WAIT).is_ok());
    assert_eq!(two.log_header(), one.log_header());
}
