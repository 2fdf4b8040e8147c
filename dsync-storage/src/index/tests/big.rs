//! Large mailboxes: everything must stay linear, or this does not end.

use dsync_proto::types::{Flags, Guid};

use super::*;

const MESSAGES: u32 = 200_000;

#[test]
fn many_messages() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = open(&dir);
    let mut first = Transaction::new(Origin::FACT);
    first.set_uid_validity(1);
    first.enable_modseqs();
    for uid in 1..=MESSAGES {
        first.append(uid, Flags::NONE);
    }
    append(&mut index, &first);
    let mut locked = index.lock(WAIT).unwrap();
    // Many small records, as Dovecot writes them.
    for uid in (1..=MESSAGES).step_by(20) {
        let mut change = Transaction::new(Origin::FACT);
        change.update_flags(uid..=uid, Flags::SEEN, Flags::NONE);
        change.add_keyword(b"Work", uid..=uid);
        locked.append(&change).unwrap();
    }
    let mut expunges = Transaction::new(Origin::DSYNC_FACT);
    for uid in (1..=MESSAGES).step_by(2) {
        expunges.expunge(uid, Guid([1; 16]));
    }
    locked.append(&expunges).unwrap();
    locked.write_snapshot().unwrap();
    locked.finish().unwrap();
    assert_eq!(index.state().len(), MESSAGES as usize / 2);
    let mut again = open(&dir);
    assert_eq!(again.state(), index.state());
    let log = again.changes_since(2, u32::MAX).unwrap();
    assert_eq!(log.changes.len(), MESSAGES as usize / 2);
}
