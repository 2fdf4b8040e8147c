//! What the logs tell since a modseq.

use bstr::BString;
use dsync_proto::items::AttributeKind;
use dsync_proto::types::{Flags, Guid, KeywordOp};

use super::*;
use crate::{LoggedChange, LoggedKind};

const GUID: Guid = Guid([7; 16]);

fn local(action: impl FnOnce(&mut Transaction)) -> Transaction {
    let mut transaction = Transaction::new(Origin::FACT);
    action(&mut transaction);
    transaction
}

/// Three messages in an index; modseq 2.
fn three_messages(dir: &tempfile::TempDir) -> Index {
    let mut index = open(dir);
    append(
        &mut index,
        &local(|changes| {
            changes.set_uid_validity(7);
            for uid in 1..=3 {
                changes.append(uid, Flags::NONE);
            }
        }),
    );
    assert_eq!(index.state().highest_modseq(), 2);
    index
}

fn flags_change() -> LoggedChange {
    LoggedChange::new(LoggedKind::Flags)
}

#[test]
fn net_result_of_flags_and_keywords() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = three_messages(&dir);
    for change in [
        local(|changes| changes.update_flags(1..=2, Flags::SEEN, Flags::NONE)),
        local(|changes| changes.update_flags(1..=1, Flags::FLAGGED, Flags::SEEN)),
        local(|changes| changes.add_keyword(b"Work", 1..=1)),
        local(|changes| changes.add_keyword(b"Home", 1..=1)),
        local(|changes| changes.remove_keyword(b"Work", 1..=1)),
        local(|changes| changes.min_modseq(3, 50)),
    ] {
        append(&mut index, &change);
    }
    let log = index.changes_since(2, 1000).unwrap();
    assert!(log.covered && !log.complete);
    let first = &log.changes[&1];
    assert_eq!(
        (first.add_flags, first.remove_flags),
        (Flags::FLAGGED, Flags::SEEN)
    );
    assert_eq!(
        first.keywords,
        [
            (KeywordOp::Add, BString::from("Home")),
            (KeywordOp::Remove, BString::from("Work"))
        ]
    );
    let mut second = flags_change();
    second.add_flags = Flags::SEEN;
    assert_eq!(log.changes[&2], second);
    assert_eq!(log.changes[&3].modseq, 50);

    assert_eq!(index.changes_since(2, 2).unwrap().changes.len(), 2);
    assert!(index.changes_since(50, 1000).unwrap().changes.is_empty());
    // the flags of UID 2 changed with modseq 3
    assert!(
        !index
            .changes_since(3, 1000)
            .unwrap()
            .changes
            .contains_key(&2)
    );
}

#[test]
fn coverage() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = three_messages(&dir);
    let all = index.changes_since(0, 10).unwrap();
    assert!(all.covered && all.complete);
    let from_start = index.changes_since(1, 10).unwrap();
    assert!(from_start.covered && !from_start.complete);
    index.lock(WAIT).unwrap().rotate().unwrap();
    append(&mut index, &local(|changes| changes.expunge(2, GUID)));
    index.lock(WAIT).unwrap().rotate().unwrap();
    append(&mut index, &local(|changes| changes.expunge(3, GUID)));
    let both = index.changes_since(2, 10).unwrap();
    assert!(both.covered && !both.complete);
    assert_eq!(both.changes.keys().copied().collect::<Vec<_>>(), [2, 3]);
    let head = index.changes_since(3, 10).unwrap();
    assert_eq!(head.changes.keys().copied().collect::<Vec<_>>(), [3]);
    let too_old = index.changes_since(1, 10).unwrap();
    assert!(!too_old.covered && too_old.complete);
    assert_eq!(too_old.changes.len(), 2);
    let mut again = open(&dir);
    assert_eq!(again.changes_since(2, 10).unwrap(), both);
}

#[test]
fn expunges_and_guids() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = three_messages(&dir);
    let mut request = Transaction::new(Origin::REQUEST);
    request.expunge(1, GUID);
    request.expunge(2, GUID);
    append(&mut index, &request);
    assert_eq!(index.pending().unwrap().len(), 1);
    assert!(index.changes_since(2, 10).unwrap().changes.is_empty());
    append(
        &mut index,
        &local(|changes| {
            changes.expunge(1, Guid::ZERO);
            changes.mark_synced();
        }),
    );
    assert!(index.pending().unwrap().is_empty());
    let log = index.changes_since(2, 10).unwrap();
    // UID 2 is still there: its request does not count
    assert_eq!(log.changes.len(), 1);
    assert_eq!(log.changes[&1].kind, LoggedKind::Expunge);
    assert_eq!(log.changes[&1].guid, GUID);
}

#[test]
fn changes_by_dsync_are_not_local() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = three_messages(&dir);
    let mut changes = Transaction::new(Origin::DSYNC_FACT);
    changes.update_flags(1..=1, Flags::SEEN, Flags::NONE);
    changes.add_keyword(b"Work", 1..=1);
    changes.attribute(AttributeKind::Shared, b"comment", Some(3), 1);
    changes.expunge(3, GUID);
    append(&mut index, &changes);
    let log = index.changes_since(2, 10).unwrap();
    assert_eq!(log.changes.keys().copied().collect::<Vec<_>>(), [3]);
    assert!(log.attributes.is_empty());
}

#[test]
fn attributes() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = three_messages(&dir);
    for (key, value) in [("b", Some(1)), ("a", Some(2)), ("b", None)] {
        append(
            &mut index,
            &local(|changes| {
                changes.attribute(AttributeKind::Private, key.as_bytes(), value, 9);
            }),
        );
    }
    let log = index.changes_since(2, 10).unwrap();
    let seen: Vec<_> = log
        .attributes
        .iter()
        .map(|entry| (entry.key.to_string(), entry.deleted, entry.modseq))
        .collect();
    assert_eq!(seen, [("a".into(), false, 4), ("b".into(), true, 5)]);
}

#[test]
fn a_reset_hides_the_past() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = three_messages(&dir);
    append(&mut index, &local(|changes| changes.expunge(2, GUID)));
    let before = index.state().highest_modseq();
    let first = local(|changes| {
        changes.set_uid_validity(8);
        changes.append(1, Flags::SEEN);
    });
    index.lock(WAIT).unwrap().reset(&first, 0).unwrap();
    assert!(index.state().highest_modseq() > before);
    assert_eq!(index.state().header().uid_validity(), 8);
    assert_eq!(index.state().len(), 1);
    assert!(index.changes_since(0, 10).unwrap().changes.is_empty());
    assert!(!index.changes_since(before, 10).unwrap().covered);
    let again = open(&dir);
    assert_eq!(again.state(), index.state());
    assert!(again.damage().is_empty());
}
