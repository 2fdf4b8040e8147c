//! The change log of a mailbox: records, modseq counting, and the scan for changes.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;

use bstr::BString;
use dsync_proto::items::AttributeKind;
use dsync_proto::types::{Flags, Guid, KeywordOp, ModSeq, Uid};

use crate::{ChangeLog, LoggedAttribute, LoggedChange, LoggedKind};

/// A range of UIDs.
pub type UidRange = RangeInclusive<Uid>;

/// Flags added to and removed from a range of messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagRange {
    /// Messages.
    pub uids: UidRange,
    /// Flags added.
    pub add: Flags,
    /// Flags removed.
    pub remove: Flags,
}

/// What a log record says (`spec/mailbox-sync.md` 3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordChange {
    /// Messages were appended.
    Append(Vec<UidRange>),
    /// Messages were expunged, GUIDs unknown.
    Expunge {
        /// Messages.
        uids: Vec<UidRange>,
        /// Only asked for, not executed: counts nothing.
        request_only: bool,
    },
    /// Messages were expunged.
    ExpungeGuid {
        /// Messages with their 128-bit GUID, zero if unknown.
        mails: Vec<(Uid, Guid)>,
        /// Only asked for, not executed: counts nothing.
        request_only: bool,
    },
    /// Flags changed.
    Flags(Vec<FlagRange>),
    /// One keyword was added or removed.
    Keyword {
        /// Removed, not added.
        removed: bool,
        /// The keyword.
        name: BString,
        /// Messages.
        uids: Vec<UidRange>,
    },
    /// All keywords were removed.
    KeywordReset(Vec<UidRange>),
    /// Modseqs were raised: UID (0 for the mailbox as a whole) and value.
    Modseq(Vec<(Uid, ModSeq)>),
    /// Attributes were set, or deleted if `true`.
    Attributes(Vec<(AttributeKind, BString, bool)>),
}

/// A record of the change log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// HIGHESTMODSEQ after this record.
    pub modseq: ModSeq,
    /// Written by a sync.
    pub by_sync: bool,
    /// What it says.
    pub change: RecordChange,
}

impl RecordChange {
    /// HIGHESTMODSEQ after this record, if it was `before` (`spec/dovecot-index.md` 7.1).
    fn count(&self, before: ModSeq) -> ModSeq {
        match self {
            Self::Expunge { request_only, .. } | Self::ExpungeGuid { request_only, .. }
                if *request_only =>
            {
                before
            }
            Self::Modseq(updates) => updates
                .iter()
                .map(|(_, modseq)| *modseq)
                .fold(before, ModSeq::max),
            _ => before.saturating_add(1),
        }
    }
}

/// The log of one mailbox.
#[derive(Clone, Debug)]
pub(crate) struct RecordLog {
    /// Running value before the first record that still exists.
    initial_modseq: ModSeq,
    /// Number of records forgotten; positions count from the very first one.
    forgotten: u64,
    records: VecDeque<LogRecord>,
    highest: ModSeq,
}

impl RecordLog {
    pub(crate) fn new() -> Self {
        Self::load(1, 1, Vec::new())
    }

    pub(crate) fn load(initial: ModSeq, highest: ModSeq, records: Vec<LogRecord>) -> Self {
        let last = records.last().map_or(initial, |record| record.modseq);
        Self {
            initial_modseq: initial,
            forgotten: 0,
            records: records.into(),
            highest: highest.max(last),
        }
    }

    pub(crate) fn highest(&self) -> ModSeq {
        self.highest
    }

    /// Position behind the last record, for [`RecordLog::scan`].
    pub(crate) fn end(&self) -> u64 {
        self.forgotten + self.records.len() as u64
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = &LogRecord> {
        self.records.iter()
    }

    /// Appends a record and returns the modseq reached.
    pub(crate) fn push(&mut self, by_sync: bool, change: RecordChange) -> ModSeq {
        self.highest = change.count(self.highest);
        self.records.push_back(LogRecord {
            modseq: self.highest,
            by_sync,
            change,
        });
        self.highest
    }

    /// Forgets the records up to this modseq.
    pub(crate) fn forget_up_to(&mut self, modseq: ModSeq) {
        while let Some(record) = self.records.front()
            && record.modseq <= modseq
        {
            self.initial_modseq = record.modseq;
            self.forgotten += 1;
            self.records.pop_front();
        }
        if self.records.is_empty() {
            self.initial_modseq = self.highest;
        }
    }

    /// The scan of `spec/mailbox-sync.md` 3.2 over the records before position `end`, whose last
    /// modseq is `highest`. `exists` tells whether a message is still there.
    pub(crate) fn scan(
        &self,
        modseq: ModSeq,
        top: Uid,
        (end, highest): (u64, ModSeq),
        exists: impl Fn(Uid) -> bool,
    ) -> ChangeLog {
        let complete = modseq == 0 || modseq < self.initial_modseq;
        let known = usize::try_from(end.saturating_sub(self.forgotten)).unwrap_or(0);
        let known = known.min(self.records.len());
        let start = if complete || modseq == self.initial_modseq && modseq < highest {
            0
        } else if modseq >= highest {
            known
        } else {
            let reached = self.records.iter().position(|r| r.modseq >= modseq);
            reached.map_or(known, |index| index + 1)
        };
        let mut scan = Scan {
            top,
            changes: BTreeMap::new(),
            attributes: Vec::new(),
        };
        for record in self.records.iter().take(known).skip(start) {
            scan.apply(record, &exists);
        }
        ChangeLog {
            covered: modseq == 0 || !complete,
            complete,
            changes: scan.changes,
            attributes: scan.attributes,
        }
    }
}

struct Scan {
    top: Uid,
    changes: BTreeMap<Uid, LoggedChange>,
    attributes: Vec<LoggedAttribute>,
}

impl Scan {
    fn apply(&mut self, record: &LogRecord, exists: impl Fn(Uid) -> bool) {
        if record.by_sync && !matches!(record.change, RecordChange::ExpungeGuid { .. }) {
            return;
        }
        match &record.change {
            RecordChange::Append(_) => {}
            RecordChange::Expunge { uids, request_only } => {
                if !request_only {
                    self.each(uids, |scan, uid| scan.expunge(uid, Guid::ZERO));
                }
            }
            RecordChange::ExpungeGuid {
                mails,
                request_only,
            } => {
                for (uid, guid) in mails {
                    if *uid <= self.top && !(*request_only && exists(*uid)) {
                        self.expunge(*uid, *guid);
                    }
                }
            }
            RecordChange::Flags(updates) => {
                for FlagRange { uids, add, remove } in updates {
                    self.each(std::slice::from_ref(uids), |scan, uid| {
                        scan.flags(uid, |change| {
                            change.add_flags = (change.add_flags | *add) & !*remove;
                            change.remove_flags = (change.remove_flags & !*add) | *remove;
                        });
                    });
                }
            }
            RecordChange::Keyword {
                removed,
                name,
                uids,
            } => {
                let op = [KeywordOp::Add, KeywordOp::Remove][usize::from(*removed)];
                self.each(uids, |scan, uid| {
                    scan.flags(uid, |change| {
                        change.keywords.retain(|(_, known)| known != name);
                        change.keywords.push((op, name.clone()));
                    });
                });
            }
            RecordChange::KeywordReset(uids) => self.each(uids, |scan, uid| {
                scan.flags(uid, |change| {
                    change.keywords_reset = true;
                    change.keywords.clear();
                });
            }),
            RecordChange::Modseq(updates) => {
                for (uid, modseq) in updates {
                    if *uid != 0 && *uid <= self.top {
                        self.flags(*uid, |change| change.modseq = change.modseq.max(*modseq));
                    }
                }
            }
            RecordChange::Attributes(changes) => {
                for (kind, key, deleted) in changes {
                    self.attributes
                        .retain(|known| known.kind != *kind || known.key != *key);
                    self.attributes.push(LoggedAttribute {
                        kind: *kind,
                        key: key.clone(),
                        deleted: *deleted,
                        modseq: record.modseq,
                    });
                }
            }
        }
    }

    fn each(&mut self, uids: &[UidRange], mut apply: impl FnMut(&mut Self, Uid)) {
        for range in uids {
            for uid in *range.start()..=*range.end().min(&self.top) {
                apply(self, uid);
            }
        }
    }

    fn expunge(&mut self, uid: Uid, guid: Guid) {
        let known = self.changes.get(&uid).map_or(Guid::ZERO, |c| c.guid);
        let mut change = LoggedChange::new(LoggedKind::Expunge);
        change.guid = if guid.is_zero() { known } else { guid };
        self.changes.insert(uid, change);
    }

    fn flags(&mut self, uid: Uid, apply: impl FnOnce(&mut LoggedChange)) {
        let change = self
            .changes
            .entry(uid)
            .or_insert_with(|| LoggedChange::new(LoggedKind::Flags));
        if change.kind == LoggedKind::Flags {
            apply(change);
        }
    }
}

/// Ranges of consecutive UIDs, in the given order.
pub(crate) fn ranges(uids: impl IntoIterator<Item = Uid>) -> Vec<UidRange> {
    let mut out: Vec<UidRange> = Vec::new();
    for uid in uids {
        match out.last_mut() {
            Some(last) if last.end().checked_add(1) == Some(uid) => *last = *last.start()..=uid,
            _ => out.push(uid..=uid),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> RecordLog {
        let mut log = RecordLog::new();
        log.push(false, RecordChange::Append(vec![1..=3])); // 2
        log.push(true, RecordChange::Modseq(vec![(1, 2)])); // 2
        log.push(
            false,
            RecordChange::Flags(vec![FlagRange {
                uids: 1..=2,
                add: Flags::SEEN,
                remove: Flags::NONE,
            }]),
        ); // 3
        log.push(
            false,
            RecordChange::ExpungeGuid {
                mails: vec![(2, Guid([7; 16])), (3, Guid([9; 16]))],
                request_only: true,
            },
        ); // 3
        log.push(
            false,
            RecordChange::ExpungeGuid {
                mails: vec![(2, Guid::ZERO)],
                request_only: false,
            },
        ); // 4
        log
    }

    fn scan(log: &RecordLog, modseq: ModSeq) -> ChangeLog {
        log.scan(modseq, Uid::MAX, (log.end(), log.highest()), |uid| uid != 2)
    }

    #[test]
    fn counts_per_record_and_not_for_requests() {
        assert_eq!(log().highest(), 4);
    }

    #[test]
    fn zero_scans_everything_and_covers() {
        let found = scan(&log(), 0);
        assert!(found.covered && found.complete);
        assert_eq!(found.changes[&1].add_flags, Flags::SEEN);
        assert_eq!(found.changes[&2].kind, LoggedKind::Expunge);
        assert_eq!(found.changes[&2].guid, Guid([7; 16]));
        assert_eq!(found.changes[&2].add_flags, Flags::NONE);
        assert!(
            !found.changes.contains_key(&3),
            "a request alone is nothing"
        );
    }

    #[test]
    fn starts_behind_the_record_that_reached_the_modseq() {
        let found = scan(&log(), 3);
        assert!(found.covered && !found.complete);
        assert_eq!(found.changes.len(), 1);
        assert_eq!(found.changes[&2].guid, Guid([7; 16]));
        assert_eq!(
            scan(&log(), 4),
            ChangeLog {
                covered: true,
                ..ChangeLog::default()
            }
        );
        assert_eq!(scan(&log(), 1).changes.len(), 2);
    }

    #[test]
    fn a_truncated_log_does_not_cover() {
        let mut log = log();
        log.forget_up_to(3);
        let found = scan(&log, 2);
        assert!(!found.covered && found.complete);
        assert!(scan(&log, 3).covered);
        assert_eq!(scan(&log, 3).changes.len(), 1);
        log.forget_up_to(4);
        assert!(!scan(&log, 3).covered);
        assert!(scan(&log, 4).covered);
    }

    #[test]
    fn only_up_to_the_asked_uid_and_the_snapshot() {
        let log = log();
        assert_eq!(log.scan(0, 1, (log.end(), 4), |_| true).changes.len(), 1);
        assert!(log.scan(0, 9, (1, 2), |_| true).changes.is_empty());
    }

    #[test]
    fn joins_ranges() {
        assert_eq!(ranges([1, 2, 3, 7, 9, 10]), [1..=3, 7..=7, 9..=10]);
    }
}
