//! Random transactions: what is written reads back, at every point and in every way.

use std::fs;

use dsync_proto::items::AttributeKind;
use dsync_proto::types::Guid;
use proptest::prelude::*;

use super::super::snapshot::{self, SnapshotPosition};
use super::*;

#[derive(Clone, Debug)]
enum Change {
    Append(u32, u8),
    Flags(u32, u32, u8, u8),
    Bump(u32),
    Keyword(bool, u8, u32, u32),
    KeywordsReset(u32, u32),
    Modseq(u32, u64),
    Expunge(u32),
    FirstRecent(u32),
    NextUid(u32),
    ExtensionHeader(u8, u8),
    ExtensionRecord(u8, u32, u8),
    Attribute(u8, bool),
    Origin(bool, bool),
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Change>, bool),
    Snapshot,
    Rotate,
    Reopen,
}

fn change() -> impl Strategy<Value = Change> {
    let uid = 1..40_u32;
    prop_oneof![
        4 => (0..3_u32, any::<u8>()).prop_map(|(gap, flags)| Change::Append(gap, flags)),
        4 => (uid.clone(), 0..20_u32, any::<u8>(), any::<u8>())
            .prop_map(|(uid, more, add, remove)| Change::Flags(uid, uid + more, add, remove)),
        1 => uid.clone().prop_map(Change::Bump),
        3 => (any::<bool>(), 0..40_u8, uid.clone(), 0..20_u32)
            .prop_map(|(add, name, uid, more)| Change::Keyword(add, name, uid, uid + more)),
        1 => (uid.clone(), 0..5_u32).prop_map(|(uid, more)| Change::KeywordsReset(uid, uid + more)),
        2 => (0..40_u32, 1..400_u64).prop_map(|(uid, modseq)| Change::Modseq(uid, modseq)),
        2 => uid.clone().prop_map(Change::Expunge),
        1 => uid.clone().prop_map(Change::FirstRecent),
        1 => uid.clone().prop_map(Change::NextUid),
        1 => (0..4_u8, any::<u8>()).prop_map(|(id, value)| Change::ExtensionHeader(id, value)),
        2 => (0..4_u8, uid, any::<u8>())
            .prop_map(|(id, uid, value)| Change::ExtensionRecord(id, uid, value)),
        1 => (0..3_u8, any::<bool>()).prop_map(|(key, set)| Change::Attribute(key, set)),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(external, sync)| Change::Origin(external, sync)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (prop::collection::vec(change(), 1..8), any::<bool>())
            .prop_map(|(changes, synced)| Step::Commit(changes, synced)),
        1 => Just(Step::Snapshot),
        1 => Just(Step::Rotate),
        1 => Just(Step::Reopen),
    ]
}

const NAMES: [&str; 4] = ["one", "two", "three", "four"];

fn spec(id: u8) -> ExtensionSpec<'static> {
    let id = usize::from(id);
    ExtensionSpec {
        name: NAMES[id],
        header_size: 8 + id as u32,
        record_size: [1, 2, 4, 8][id],
        record_align: [1, 2, 4, 8][id],
    }
}

fn transaction(changes: &[Change], synced: bool, state: &IndexState) -> Transaction {
    let mut result = Transaction::new(Origin::FACT);
    let mut next_uid = state.header().next_uid();
    for change in changes {
        if let Change::Append(gap, flags) = change {
            next_uid += gap;
            result.append_raw(next_uid, *flags);
            next_uid += 1;
        }
    }
    for change in changes {
        match change.clone() {
            Change::Append(..) => {}
            Change::Flags(first, last, add, remove) => {
                result.update_raw_flags(first..=last, add, remove);
            }
            Change::Bump(uid) => result.bump_modseq(uid..=uid),
            Change::Keyword(true, name, first, last) => {
                result.add_keyword(format!("keyword{name}").as_bytes(), first..=last);
            }
            Change::Keyword(false, name, first, last) => {
                result.remove_keyword(format!("KEYWORD{name}").as_bytes(), first..=last);
            }
            Change::KeywordsReset(first, last) => result.reset_keywords(first..=last),
            Change::Modseq(0, modseq) => result.min_highest_modseq(modseq),
            Change::Modseq(uid, modseq) => result.min_modseq(uid, modseq),
            Change::Expunge(uid) => result.expunge(uid, Guid([uid as u8; 16])),
            Change::FirstRecent(uid) => result.set_first_recent_uid(uid.min(next_uid)),
            Change::NextUid(uid) => result.min_next_uid(uid),
            Change::ExtensionHeader(id, value) => {
                result.set_extension_header(spec(id), 4, &[value; 4]);
            }
            Change::ExtensionRecord(id, uid, value) => {
                if uid < next_uid {
                    result.set_extension_record(spec(id), uid, &[value; 8]);
                }
            }
            Change::Attribute(key, set) => {
                result.attribute(AttributeKind::Shared, &[b'a' + key], set.then_some(3), 1);
            }
            Change::Origin(external, sync) => result.set_origin(Origin { external, sync }),
        }
    }
    if synced {
        result.mark_synced();
    }
    result
}

/// A model of flags that knows nothing about ranges or records.
fn flags_by_hand(before: u8, uid: u32, changes: &[Change]) -> u8 {
    changes.iter().fold(before, |flags, change| match change {
        Change::Flags(first, last, add, remove) if (first..=last).contains(&&uid) => {
            (flags & !remove) | add
        }
        _ => flags,
    })
}

fn check_same(dir: &tempfile::TempDir, index: &Index) {
    let read = open(dir);
    assert!(
        read.damage().is_empty(),
        "{:?} after {:?}",
        read.damage(),
        index.damage()
    );
    assert_eq!(read.state(), index.state());
    assert_eq!(read.log_size(), index.log_size());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn what_is_written_reads_back(steps in prop::collection::vec(step(), 1..20)) {
        let dir = tempfile::tempdir().unwrap();
        let mut index = open(&dir);
        let mut reader = open(&dir);
        let mut first = Transaction::new(Origin::FACT);
        first.set_uid_validity(1);
        append(&mut index, &first);
        for step in &steps {
            match step {
                Step::Commit(changes, synced) => {
                    let before = index.state().clone();
                    let transaction = transaction(changes, *synced, &before);
                    append(&mut index, &transaction);
                    // With one origin nothing is reordered: compare flags with the model.
                    if !changes.iter().any(|change| matches!(change, Change::Origin(..))) {
                        for message in index.state().messages() {
                            let Some(old) = before.message(message.uid()) else { continue };
                            prop_assert_eq!(
                                message.raw_flags(),
                                flags_by_hand(old.raw_flags(), message.uid(), changes)
                            );
                        }
                    }
                    if *synced {
                        prop_assert!(index.pending().unwrap().is_empty());
                    }
                }
                Step::Snapshot => index.lock(WAIT).unwrap().write_snapshot().unwrap(),
                Step::Rotate => index.lock(WAIT).unwrap().rotate().unwrap(),
                Step::Reopen => index = open(&dir),
            }
            check_same(&dir, &index);
            reader.refresh().unwrap();
            prop_assert_eq!(reader.state(), index.state());
            let highest = index.state().messages().map(|message| message.modseq()).max();
            prop_assert!(highest.unwrap_or(0) <= index.state().highest_modseq());
        }
    }

    #[test]
    fn snapshot_is_the_replay(steps in prop::collection::vec(step(), 1..12)) {
        let dir = tempfile::tempdir().unwrap();
        let mut index = open(&dir);
        let mut first = Transaction::new(Origin::FACT);
        first.set_uid_validity(1);
        append(&mut index, &first);
        for step in &steps {
            if let Step::Commit(changes, synced) = step {
                let transaction = transaction(changes, *synced, index.state());
                append(&mut index, &transaction);
            }
        }
        // Without a snapshot the whole log was replayed; with one nothing of it.
        let replayed = open(&dir).state().clone();
        let at = index.log_size();
        let position = SnapshotPosition { log_seq: 2, tail: at, head: at };
        let bytes = snapshot::encode(&replayed, position);
        let read = snapshot::decode(&bytes).unwrap();
        prop_assert_eq!(read.repaired, None);
        prop_assert_eq!(snapshot::encode(&read.state, position), bytes.clone());
        fs::write(file(&dir, ""), bytes).unwrap();
        let read = open(&dir);
        prop_assert!(read.damage().is_empty());
        let mut expected = replayed;
        expected.header = snapshot::checked_header(&expected);
        prop_assert_eq!(read.state(), &expected);
    }

    #[test]
    fn damage_never_panics(
        steps in prop::collection::vec(step(), 1..8),
        holes in prop::collection::vec((0..3_usize, any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::of((0..3_usize, any::<prop::sample::Index>())),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut index = open(&dir);
        for step in &steps {
            match step {
                Step::Commit(changes, synced) => {
                    let transaction = transaction(changes, *synced, index.state());
                    append(&mut index, &transaction);
                }
                Step::Snapshot => index.lock(WAIT).unwrap().write_snapshot().unwrap(),
                Step::Rotate => index.lock(WAIT).unwrap().rotate().unwrap(),
                Step::Reopen => {}
            }
        }
        let names = ["", ".log", ".log.2"];
        for (name, at, value) in holes {
            let path = file(&dir, names[name]);
            if let Ok(mut bytes) = fs::read(&path) && !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = value;
                fs::write(path, bytes).unwrap();
            }
        }
        if let Some((name, at)) = cut {
            let path = file(&dir, names[name]);
            if let Ok(bytes) = fs::read(&path) && !bytes.is_empty() {
                fs::write(path, &bytes[..at.index(bytes.len())]).unwrap();
            }
        }
        let mut damaged = open(&dir);
        damaged.pending().unwrap();
        damaged.changes_since(0, u32::MAX).unwrap();
        damaged.lock(WAIT).unwrap().finish().unwrap();
        let mut first = Transaction::new(Origin::FACT);
        first.set_uid_validity(5);
        if damaged.needs_rebuild() {
            damaged.lock(WAIT).unwrap().reset(&first, 0).unwrap();
        } else {
            append(&mut damaged, &first);
        }
        check_same(&dir, &damaged);
    }
}
