//! What happened since a modseq (`spec/mailbox-sync.md` 3.2, `spec/dovecot-index.md` 7.5, 7.6).

use std::collections::BTreeMap;

use bstr::BString;
use dsync_proto::items::AttributeKind;
use dsync_proto::types::{Flags, Guid, KeywordOp, ModSeq, Uid};

use crate::{ChangeLog, LoggedAttribute, LoggedChange, LoggedKind};

use super::log_header::LogHeader;
use super::modseq;
use super::payload::{
    FlagEntry, KeywordUpdate, attribute_updates, expunged_guids, flag_updates, modseq_updates,
    ranges,
};
use super::record::{Record, RecordKind, RecordReader};
use super::state::IndexState;

/// Most UIDs without a message that a range may bring in: a damaged log must not name four
/// thousand million.
const MAX_VANISHED: usize = 1 << 20;

/// A log to scan.
pub(crate) struct LogFile<'a> {
    pub(crate) header: &'a LogHeader,
    /// All its records, up to where `state` stands.
    pub(crate) records: &'a [u8],
}

/// Scans logs, the older one first; they must be without a gap.
pub(crate) fn changes_since(
    logs: &[LogFile<'_>],
    state: &IndexState,
    since: ModSeq,
    highest_uid: Uid,
) -> ChangeLog {
    // A file that resets the index hides the older ones.
    let first = logs
        .iter()
        .rposition(|log| log.header.is_reset())
        .unwrap_or(0);
    let logs = logs.get(first..).unwrap_or(&[]);
    let oldest = logs.first().map_or(1, |log| log.header.initial_modseq);
    let complete = since == 0 || since < oldest;
    let mut scan = Scan {
        state,
        highest_uid,
        changes: BTreeMap::new(),
        attributes: BTreeMap::new(),
        vanished: 0,
    };
    let mut reached = complete;
    for log in logs {
        let mut running = log.header.initial_modseq;
        reached = reached || running >= since;
        let start = u32::from(log.header.header_size);
        for record in RecordReader::new(log.records, start).flatten() {
            running = modseq::advance(running, &record, log.header.minor_version);
            if reached {
                scan.record(&record, running);
            }
            reached = reached || running >= since;
        }
    }
    ChangeLog {
        covered: since == 0 || !complete,
        complete,
        changes: scan.changes,
        attributes: scan.attributes.into_values().collect(),
    }
}

struct Scan<'a> {
    state: &'a IndexState,
    highest_uid: Uid,
    changes: BTreeMap<Uid, LoggedChange>,
    attributes: BTreeMap<(bool, BString), LoggedAttribute>,
    vanished: usize,
}

impl Scan<'_> {
    fn record(&mut self, record: &Record<'_>, modseq: ModSeq) {
        let Some(kind) = record.kind else {
            return;
        };
        let payload = record.payload;
        if kind == RecordKind::ExpungeGuid {
            for (uid, guid) in expunged_guids(payload) {
                if record.external || self.state.records.position(uid).is_none() {
                    self.expunge(uid, guid);
                }
            }
            return;
        }
        if record.sync {
            return;
        }
        match kind {
            RecordKind::Expunge if record.external => {
                for (first, last) in ranges(payload) {
                    self.each(first, last, |scan, uid| scan.expunge(uid, Guid::ZERO));
                }
            }
            RecordKind::FlagUpdate => {
                for entry in flag_updates(payload) {
                    self.each_change(entry.first, entry.last, |change| flags(change, &entry));
                }
            }
            RecordKind::KeywordUpdate => {
                let Some(update) = KeywordUpdate::decode(payload) else {
                    return;
                };
                let op = if update.add {
                    KeywordOp::Add
                } else {
                    KeywordOp::Remove
                };
                for (first, last) in update.ranges() {
                    self.each_change(first, last, |change| {
                        change.keywords.retain(|(_, name)| name != update.name);
                        change.keywords.push((op, update.name.into()));
                    });
                }
            }
            RecordKind::KeywordReset => {
                for (first, last) in ranges(payload) {
                    self.each_change(first, last, |change| {
                        change.keywords_reset = true;
                        change.keywords.clear();
                    });
                }
            }
            RecordKind::ModseqUpdate => {
                for (uid, modseq) in modseq_updates(payload).filter(|(uid, _)| *uid != 0) {
                    self.each_change(uid, uid, |change| {
                        change.modseq = change.modseq.max(modseq);
                    });
                }
            }
            RecordKind::AttributeUpdate => self.attributes(payload, modseq),
            _ => {}
        }
    }

    fn expunge(&mut self, uid: Uid, guid: Guid) {
        if uid > self.highest_uid {
            return;
        }
        let known = self
            .changes
            .get(&uid)
            .map_or(Guid::ZERO, |known| known.guid);
        let mut change = LoggedChange::new(LoggedKind::Expunge);
        change.guid = if guid.is_zero() { known } else { guid };
        self.changes.insert(uid, change);
    }

    /// Calls `action` for a flag change of each UID that is not expunged.
    fn each_change(&mut self, first: Uid, last: Uid, action: impl Fn(&mut LoggedChange)) {
        self.each(first, last, |scan, uid| {
            let change = scan
                .changes
                .entry(uid)
                .or_insert_with(|| LoggedChange::new(LoggedKind::Flags));
            if change.kind == LoggedKind::Flags {
                action(change);
            }
        });
    }

    /// All UIDs of a range up to the asked one that exist or have existed.
    fn each(&mut self, first: Uid, last: Uid, mut action: impl FnMut(&mut Self, Uid)) {
        let end = last
            .min(self.highest_uid)
            .min(self.state.header().next_uid().saturating_sub(1));
        if first > end {
            return;
        }
        let width = (end - first) as usize;
        let positions =
            self.state.records.lower_bound(first)..self.state.records.lower_bound(end + 1);
        let gaps = (width + 1).saturating_sub(positions.len());
        if self.vanished + gaps <= MAX_VANISHED {
            self.vanished += gaps;
            for uid in first..=end {
                action(self, uid);
            }
        } else {
            for position in positions {
                if let Some(uid) = self.state.records.uid(position) {
                    action(self, uid);
                }
            }
        }
    }

    fn attributes(&mut self, payload: &[u8], modseq: ModSeq) {
        for entry in attribute_updates(payload).unwrap_or_default() {
            let kind = if entry.shared {
                AttributeKind::Shared
            } else {
                AttributeKind::Private
            };
            self.attributes.insert(
                (entry.shared, entry.key.into()),
                LoggedAttribute {
                    kind,
                    key: entry.key.into(),
                    deleted: entry.deleted,
                    modseq,
                },
            );
        }
    }
}

fn flags(change: &mut LoggedChange, entry: &FlagEntry) {
    let (add, remove) = (Flags(entry.add), Flags(entry.remove));
    let before = (change.add_flags, change.remove_flags);
    change.add_flags = (before.0 | add) & !remove;
    change.remove_flags = (before.1 & !add) | remove;
}
