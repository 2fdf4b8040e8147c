//! The index header extension `maildir`: which state of the files the index knows
//! (`spec/maildir.md` 12).

use std::time::SystemTime;

use super::scan::{Stamp, seconds};

/// Size of the extension.
const SIZE: usize = 36;

/// Directory times and UID list that the index is in step with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// `new/`
    pub(crate) new: DirMark,
    /// `cur/`
    pub(crate) cur: DirMark,
    /// Modification time and size of `dovecot-uidlist`.
    uidlist: [u32; 3],
}

/// One directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DirMark {
    /// When it was read.
    check_time: u32,
    /// Its modification time, seconds and nanoseconds.
    time: [u32; 2],
}

impl DirMark {
    /// Read at this time, with this stamp.
    pub(crate) fn new(checked: SystemTime, stamp: &Stamp) -> Self {
        Self {
            check_time: seconds(checked) as u32,
            time: [stamp.seconds as u32, stamp.nanos as u32],
        }
    }

    /// Whether the directory's time is another one.
    fn is_outdated(&self, stamp: &Stamp) -> bool {
        self.time != [stamp.seconds as u32, stamp.nanos as u32]
    }
}

impl Mark {
    /// Of two directories and the UID list.
    pub(crate) fn new(new: DirMark, cur: DirMark, uidlist: &Stamp) -> Self {
        Self {
            new,
            cur,
            uidlist: uidlist_words(uidlist),
        }
    }

    /// Reads the extension's header data; `None` if it was never set.
    pub(crate) fn decode(data: &[u8]) -> Option<Self> {
        if data.len() < SIZE {
            return None;
        }
        let mut words = [0_u32; SIZE / 4];
        for (word, bytes) in words.iter_mut().zip(data.chunks_exact(4)) {
            *word = u32::from_le_bytes(bytes.try_into().unwrap_or_default());
        }
        let dir = |at: usize| DirMark {
            check_time: words[at],
            time: [words[at + 1], words[at + 2]],
        };
        let mark = Self {
            new: dir(0),
            cur: dir(3),
            uidlist: [words[6], words[7], words[8]],
        };
        (mark != Self::default()).then_some(mark)
    }

    /// The extension's header data.
    pub(crate) fn encode(&self) -> Vec<u8> {
        [self.new, self.cur]
            .iter()
            .flat_map(|dir| [dir.check_time, dir.time[0], dir.time[1]])
            .chain(self.uidlist)
            .flat_map(u32::to_le_bytes)
            .collect()
    }

    /// Whether the directories were read so long after their last change that no other change
    /// can have the same time. Dovecot trusts younger marks for two seconds; a change that hides
    /// there, such as the renames of a killed commit, would be done a second time by the next run.
    pub(crate) fn is_settled(&self) -> bool {
        [self.new, self.cur]
            .iter()
            .all(|dir| i64::from(dir.check_time) > i64::from(dir.time[0]) + 1)
    }

    /// Whether files and index are in step, as far as times tell. A change in the same tick of the
    /// clock hides from that: see [`Self::is_settled`].
    pub(crate) fn matches(&self, new: &Stamp, cur: &Stamp, uidlist: &Stamp) -> bool {
        !self.new.is_outdated(new)
            && !self.cur.is_outdated(cur)
            && self.uidlist == uidlist_words(uidlist)
    }
}

fn uidlist_words(stamp: &Stamp) -> [u32; 3] {
    [stamp.seconds as u32, stamp.nanos as u32, stamp.size as u32]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maildir::scan::time;

    fn stamp(seconds: i64) -> Stamp {
        Stamp {
            seconds,
            nanos: 7,
            size: 100,
            inode: 1,
        }
    }

    #[test]
    fn changes_are_noticed() {
        let mark = |checked: i64, modified: i64| {
            let dir = DirMark::new(time(checked), &stamp(modified));
            Mark::new(dir, dir, &stamp(50))
        };
        let at = |mark: Mark, modified: i64| {
            let dir = stamp(modified);
            mark.matches(&dir, &dir, &stamp(50))
        };
        assert!(at(mark(1000, 900), 900));
        assert!(!at(mark(1000, 900), 901));
        assert!(at(mark(1000, 1000), 1000));
        assert!(mark(1002, 1000).is_settled() && !mark(1001, 1000).is_settled());
        let old = mark(1000, 900);
        assert!(!old.matches(&stamp(900), &stamp(900), &stamp(51)));
        assert_eq!(Mark::decode(&old.encode()), Some(old));
        assert_eq!(Mark::decode(&[0; 36]), None);
        assert_eq!(Mark::decode(&[1; 35]), None);
    }
}
