//! A transaction becomes log records (`spec/dovecot-index.md` 4.2, 4.3, 9).

use bstr::BString;
use dsync_proto::items::AttributeKind;
use dsync_proto::types::Uid;

use super::encode_extensions::{enable_modseqs, extension_header, extension_records};
use super::format::{MAX_LOG_SIZE, encode_offset, pad4};
use super::header::BASE_HEADER_SIZE;
use super::record::{EXTERNAL, RECORD_HEADER, RecordKind, SYNC};
use super::state::IndexState;
use super::transaction::{AttributeChange, Group, KeywordChanges, Origin, Transaction};

/// A transaction that cannot be written; a mistake of the caller or a race that it did not see.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EncodeError {
    #[error("message with UID {uid} cannot be appended: UIDNEXT is {next_uid}")]
    Append { uid: Uid, next_uid: Uid },
    #[error("header change beyond the header")]
    Header,
    #[error("extension {0} has an invalid name, size or data")]
    Extension(BString),
    #[error("keyword {0:?} has an invalid name")]
    Keyword(BString),
    #[error("attribute {0:?} has an invalid name")]
    Attribute(BString),
    #[error("the transaction is too large for one log file")]
    TooLarge,
}

/// Encoded records.
pub(crate) struct RecordWriter {
    bytes: Vec<u8>,
    records: usize,
}

impl RecordWriter {
    pub(crate) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            records: 0,
        }
    }

    /// Adds a record; nothing if the payload stays empty.
    pub(crate) fn record(
        &mut self,
        kind: RecordKind,
        origin: Origin,
        payload: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = self.bytes.len();
        self.bytes.resize(start + RECORD_HEADER, 0);
        payload(&mut self.bytes);
        let size = pad4(self.bytes.len() - start);
        if size == RECORD_HEADER {
            self.bytes.truncate(start);
            return;
        }
        self.bytes.resize(start + size, 0);
        let external = if origin.external { EXTERNAL } else { 0 };
        let sync = if origin.sync { SYNC } else { 0 };
        let bits = kind.bits() | external | sync;
        self.bytes[start..start + 4].copy_from_slice(&encode_offset(size as u32));
        self.bytes[start + 4..start + 8].copy_from_slice(&bits.to_le_bytes());
        self.records += 1;
    }

    /// All records, with a boundary before them if there are two or more.
    pub(crate) fn finish(self, sync: bool) -> Vec<u8> {
        if self.records < 2 {
            return self.bytes;
        }
        let mut boundary = Self::new();
        let size = (self.bytes.len() + RECORD_HEADER + 4) as u32;
        let origin = Origin {
            external: true,
            sync,
        };
        boundary.record(RecordKind::Boundary, origin, |out| put(out, size));
        let mut whole = boundary.bytes;
        whole.extend_from_slice(&self.bytes);
        whole
    }
}

pub(crate) fn put(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Encodes a transaction for a log with this state. `end` is the size of the log now; the tail
/// record, if the transaction is marked as synced, names the size afterwards.
pub(crate) fn encode(
    transaction: &Transaction,
    state: &IndexState,
    end: u32,
) -> Result<Vec<u8>, EncodeError> {
    let mut out = RecordWriter::new();
    let groups = || {
        transaction
            .groups
            .iter()
            .map(|(origin, group)| (*origin, group))
    };
    for (origin, _) in groups().filter(|(_, group)| group.undeleted) {
        out.record(RecordKind::IndexUndeleted, origin, |out| put(out, 0));
    }
    if transaction.enable_modseqs && !state.has_modseqs() {
        enable_modseqs(&mut out, state);
    }
    for (origin, group) in groups() {
        for changes in &group.extensions {
            extension_header(&mut out, origin, changes, state)?;
        }
    }
    for (origin, group) in groups() {
        headers(&mut out, origin, &group.header_first)?;
    }
    for (origin, group) in groups() {
        attributes(&mut out, origin, &group.attributes)?;
    }
    appends(&mut out, transaction, state)?;
    for (origin, group) in groups() {
        flags(&mut out, origin, group);
    }
    for (origin, group) in groups() {
        for changes in &group.extensions {
            extension_records(&mut out, origin, changes, state);
        }
    }
    for (origin, group) in groups() {
        keywords(&mut out, origin, group, state)?;
    }
    for (origin, group) in groups() {
        modseqs(&mut out, origin, group, state);
    }
    for (origin, group) in groups() {
        expunges(&mut out, origin, group);
    }
    for (origin, group) in groups() {
        headers(&mut out, origin, &group.header_last)?;
    }
    for (origin, _) in groups().filter(|(_, group)| group.deleted) {
        out.record(RecordKind::IndexDeleted, origin, |out| put(out, 0));
    }
    let all_sync = !transaction.groups.keys().any(|origin| !origin.sync)
        && !transaction.appends.iter().any(|append| !append.2.sync)
        && transaction.origin.sync;
    let mut bytes = out.finish(all_sync);
    if transaction.synced {
        bytes.extend(tail_record(end.saturating_add(bytes.len() as u32)));
    }
    if u64::from(end) + bytes.len() as u64 >= MAX_LOG_SIZE {
        return Err(EncodeError::TooLarge);
    }
    Ok(bytes)
}

/// The header update that moves the tail behind itself; `end` is where it will be written.
pub(crate) fn tail_record(end: u32) -> Vec<u8> {
    const SIZE: u32 = 16;
    let mut out = RecordWriter::new();
    out.record(RecordKind::HeaderUpdate, Origin::FACT, |out| {
        out.extend_from_slice(&[64, 0, 4, 0]);
        put(out, end.saturating_add(SIZE));
    });
    out.bytes
}

fn headers(
    out: &mut RecordWriter,
    origin: Origin,
    updates: &[(u16, Vec<u8>)],
) -> Result<(), EncodeError> {
    let fits = |(offset, data): &(u16, Vec<u8>)| {
        usize::from(*offset) + data.len() <= BASE_HEADER_SIZE && data.len().is_multiple_of(4)
    };
    if !updates.iter().all(fits) {
        return Err(EncodeError::Header);
    }
    out.record(RecordKind::HeaderUpdate, origin, |out| {
        for (offset, data) in updates {
            out.extend_from_slice(&offset.to_le_bytes());
            out.extend_from_slice(&(data.len() as u16).to_le_bytes());
            out.extend_from_slice(data);
        }
    });
    Ok(())
}

fn attributes(
    out: &mut RecordWriter,
    origin: Origin,
    changes: &[AttributeChange],
) -> Result<(), EncodeError> {
    if let Some(bad) = changes
        .iter()
        .find(|change| change.key.is_empty() || change.key.contains(&0))
    {
        return Err(EncodeError::Attribute(bad.key.clone()));
    }
    if changes.is_empty() {
        return Ok(());
    }
    out.record(RecordKind::AttributeUpdate, origin, |out| {
        let start = out.len();
        for change in changes {
            out.push(if change.value_size.is_some() {
                b'+'
            } else {
                b'-'
            });
            out.push(if change.kind == AttributeKind::Private {
                b'p'
            } else {
                b's'
            });
            out.extend_from_slice(&change.key);
            out.push(0);
        }
        out.push(0);
        out.resize(start + pad4(out.len() - start), 0);
        for change in changes {
            put(out, change.timestamp);
            if let Some(size) = change.value_size {
                put(out, size);
            }
        }
    });
    Ok(())
}

/// Appends by rising UID, a new record where the origin changes.
fn appends(
    out: &mut RecordWriter,
    transaction: &Transaction,
    state: &IndexState,
) -> Result<(), EncodeError> {
    let mut appends = transaction.appends.clone();
    appends.sort_by_key(|(uid, ..)| *uid);
    let mut next_uid = state.header().next_uid();
    for (uid, ..) in &appends {
        if *uid < next_uid || *uid == Uid::MAX {
            return Err(EncodeError::Append {
                uid: *uid,
                next_uid,
            });
        }
        next_uid = uid + 1;
    }
    for run in appends.chunk_by(|one, next| one.2 == next.2) {
        out.record(RecordKind::Append, run[0].2, |out| {
            for (uid, flags, _) in run {
                put(out, *uid);
                put(out, (*flags).into());
            }
        });
    }
    Ok(())
}

fn flags(out: &mut RecordWriter, origin: Origin, group: &Group) {
    out.record(RecordKind::FlagUpdate, origin, |out| {
        for (first, last, change) in group.flags.iter() {
            put(out, first);
            put(out, last);
            out.extend_from_slice(&[change.add, change.remove, change.modseq_inc.into(), 0]);
        }
    });
}

fn keywords(
    out: &mut RecordWriter,
    origin: Origin,
    group: &Group,
    state: &IndexState,
) -> Result<(), EncodeError> {
    out.record(RecordKind::KeywordReset, origin, |out| {
        for (first, last, ()) in group.keyword_resets.iter() {
            put(out, first);
            put(out, last);
        }
    });
    for KeywordChanges { name, ranges } in group.keywords.values() {
        let length = u16::try_from(name.len()).ok().filter(|length| *length > 0);
        let length = length
            .filter(|_| !name.contains(&0))
            .ok_or_else(|| EncodeError::Keyword(name.clone()))?;
        let known = state.keywords.find(name);
        let spelling = known
            .and_then(|bit| state.keyword_names().get(bit))
            .unwrap_or(name);
        for add in [true, false] {
            if !ranges.iter().any(|(.., op)| op == add) {
                continue;
            }
            out.record(RecordKind::KeywordUpdate, origin, |out| {
                out.extend_from_slice(&[(!add).into(), 0]);
                out.extend_from_slice(&length.to_le_bytes());
                out.extend_from_slice(spelling);
                out.resize(out.len() + pad4(spelling.len()) - spelling.len(), 0);
                for (first, last, _) in ranges.iter().filter(|(.., op)| *op == add) {
                    put(out, first);
                    put(out, last);
                }
            });
        }
    }
    Ok(())
}

/// Modseqs that are higher than what messages have now, one entry per UID.
fn modseqs(out: &mut RecordWriter, origin: Origin, group: &Group, state: &IndexState) {
    let mut updates = group.modseqs.clone();
    updates.sort_unstable();
    out.record(RecordKind::ModseqUpdate, origin, |out| {
        for same in updates.chunk_by(|one, next| one.0 == next.0) {
            let Some((uid, modseq)) = same.last() else {
                continue;
            };
            let now = if *uid == 0 {
                state.highest_modseq()
            } else {
                state.message(*uid).map_or(0, |message| message.modseq())
            };
            if *modseq > now {
                put(out, *uid);
                out.extend_from_slice(&modseq.to_le_bytes());
            }
        }
    });
}

/// By UID; of several GUIDs for one UID a known one.
fn expunges(out: &mut RecordWriter, origin: Origin, group: &Group) {
    let mut expunges = group.expunges.clone();
    expunges.sort_unstable();
    out.record(RecordKind::ExpungeGuid, origin, |out| {
        for same in expunges.chunk_by(|one, next| one.0 == next.0) {
            if let Some((uid, guid)) = same.last().filter(|(uid, _)| *uid != 0) {
                put(out, *uid);
                out.extend_from_slice(&guid.0);
            }
        }
    });
}
