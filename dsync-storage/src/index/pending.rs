//! Changes in the log that the storage must still carry out (`spec/dovecot-index.md` 6).

use bstr::BString;
use dsync_proto::types::{Flags, Guid, KeywordOp, ModSeq, Uid};

use super::log_header::LogHeader;
use super::modseq;
use super::payload::{KeywordUpdate, expunged_guids, flag_updates, header_updates, ranges};
use super::record::{InvalidRecord, Record, RecordKind};

/// Offset of the tail in the base header.
const TAIL_FIELD: usize = 64;

/// A record that is a request, not yet carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingChange {
    /// Written by a synchroniser.
    pub sync: bool,
    /// What is asked for.
    pub kind: PendingKind,
}

/// What a pending record asks for; ranges of UIDs also cover UIDs that do not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PendingKind {
    /// Remove the messages.
    Expunge(Vec<(Uid, Uid)>),
    /// Remove the messages; the GUID may be zero.
    ExpungeGuid(Vec<(Uid, Guid)>),
    /// Bring these flags to the files: first and last UID, added and removed flags (0x40 and
    /// 0x80 are storage flags).
    Flags(Vec<(Uid, Uid, Flags, Flags)>),
    /// Bring a keyword to the files.
    Keyword(KeywordOp, BString, Vec<(Uid, Uid)>),
    /// Remove all keywords.
    KeywordsReset(Vec<(Uid, Uid)>),
    /// Delete the mailbox.
    DeleteIndex,
}

impl PendingChange {
    /// What a record asks for; `None` if it is a fact or needs nothing.
    pub(crate) fn of(record: &Record<'_>) -> Option<Self> {
        if record.external {
            return None;
        }
        let payload = record.payload;
        let kind = match record.kind? {
            RecordKind::Expunge => PendingKind::Expunge(ranges(payload).collect()),
            RecordKind::ExpungeGuid => PendingKind::ExpungeGuid(expunged_guids(payload).collect()),
            RecordKind::FlagUpdate => PendingKind::Flags(
                flag_updates(payload)
                    .map(|flag| (flag.first, flag.last, Flags(flag.add), Flags(flag.remove)))
                    .collect(),
            ),
            RecordKind::KeywordUpdate => {
                let update = KeywordUpdate::decode(payload)?;
                let op = if update.add {
                    KeywordOp::Add
                } else {
                    KeywordOp::Remove
                };
                PendingKind::Keyword(op, update.name.into(), update.ranges().collect())
            }
            RecordKind::KeywordReset => PendingKind::KeywordsReset(ranges(payload).collect()),
            RecordKind::IndexDeleted => PendingKind::DeleteIndex,
            _ => return None,
        };
        Some(Self {
            sync: record.sync,
            kind,
        })
    }
}

fn is_request(record: &Record<'_>) -> bool {
    !record.external
        && matches!(
            record.kind,
            Some(
                RecordKind::Expunge
                    | RecordKind::ExpungeGuid
                    | RecordKind::FlagUpdate
                    | RecordKind::KeywordUpdate
                    | RecordKind::KeywordReset
                    | RecordKind::IndexDeleted
            )
        )
}

/// How far a log has been read, and what follows from the records before.
#[derive(Clone, Debug)]
pub(crate) struct LogCursor {
    /// End of the last complete record.
    pub(crate) offset: u32,
    /// Running modseq there.
    pub(crate) modseq: ModSeq,
    tail: u32,
    /// Everything below is synchronised.
    pub(crate) max_tail: u32,
    /// Offsets of requests from `max_tail` on.
    pub(crate) pending: Vec<u32>,
    /// The record at `offset` is there but breaks the rules.
    pub(crate) invalid: Option<InvalidRecord>,
}

impl LogCursor {
    /// At the first record. `snapshot_tail`: the tail of a snapshot that belongs to this log.
    pub(crate) fn new(header: &LogHeader, snapshot_tail: Option<u32>) -> Self {
        let offset = u32::from(header.header_size);
        let tail = snapshot_tail.unwrap_or(0);
        Self {
            offset,
            modseq: header.initial_modseq,
            tail,
            max_tail: tail.max(offset),
            pending: Vec::new(),
            invalid: None,
        }
    }

    /// Steps over a record.
    pub(crate) fn step(&mut self, record: &Record<'_>, header: &LogHeader) {
        self.modseq = modseq::advance(self.modseq, record, header.minor_version);
        self.offset = record.end();
        if let Some(tail) = tail_update(record) {
            if tail >= self.tail {
                self.tail = tail;
                self.raise(tail);
            }
            if self.max_tail == record.offset {
                self.raise(record.end());
            }
        } else if self.max_tail == record.offset && record.external {
            self.raise(record.end());
        } else if record.offset >= self.max_tail && is_request(record) {
            self.pending.push(record.offset);
        }
    }

    fn raise(&mut self, tail: u32) {
        self.max_tail = self.max_tail.max(tail);
        let done = self
            .pending
            .partition_point(|offset| *offset < self.max_tail);
        self.pending.drain(..done);
    }
}

fn tail_update(record: &Record<'_>) -> Option<u32> {
    if record.kind != Some(RecordKind::HeaderUpdate) || !record.external {
        return None;
    }
    header_updates(record.payload, false)
        .flatten()
        .find_map(|(offset, data)| {
            let at = TAIL_FIELD.checked_sub(offset)?;
            super::format::u32_at(data, at)
        })
}
