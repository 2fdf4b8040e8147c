//! Records of a transaction log (`spec/dovecot-index.md` 4.2, 4.3).

use dsync_proto::types::Uid;

use super::format::{array_at, decode_offset, u32_at};
use super::payload::{
    KeywordUpdate, attribute_updates, expunged_guids, ext_intros, flag_updates, ranges,
};

/// Flag bit of a record type: the change is a fact already.
pub(crate) const EXTERNAL: u32 = 0x1000_0000;
/// Flag bit of a record type: written by a synchroniser.
pub(crate) const SYNC: u32 = 0x2000_0000;
/// Must be set in both expunge types.
pub(crate) const EXPUNGE_PROTECTION: u32 = 0xcd90;
const TYPE_MASK: u32 = 0x0fff_ffff;
/// Size and type before each payload.
pub(crate) const RECORD_HEADER: usize = 8;
/// "By name" instead of an extension id.
pub(crate) const EXT_BY_NAME: u32 = u32::MAX;
/// EXT_INTRO flag: sizes may only grow.
pub(crate) const EXT_NO_SHRINK: u16 = 1;

/// Type of a record; the numbers are those on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum RecordKind {
    Expunge = 0x1,
    Append = 0x2,
    FlagUpdate = 0x4,
    HeaderUpdate = 0x20,
    ExtIntro = 0x40,
    ExtReset = 0x80,
    ExtHdrUpdate = 0x100,
    ExtRecUpdate = 0x200,
    KeywordUpdate = 0x400,
    KeywordReset = 0x800,
    ExtAtomicInc = 0x1000,
    ExpungeGuid = 0x2000,
    ModseqUpdate = 0x8000,
    ExtHdrUpdate32 = 0x1_0000,
    IndexDeleted = 0x2_0000,
    IndexUndeleted = 0x4_0000,
    Boundary = 0x8_0000,
    AttributeUpdate = 0x10_0000,
}

impl RecordKind {
    const ALL: [Self; 18] = [
        Self::Expunge,
        Self::Append,
        Self::FlagUpdate,
        Self::HeaderUpdate,
        Self::ExtIntro,
        Self::ExtReset,
        Self::ExtHdrUpdate,
        Self::ExtRecUpdate,
        Self::KeywordUpdate,
        Self::KeywordReset,
        Self::ExtAtomicInc,
        Self::ExpungeGuid,
        Self::ModseqUpdate,
        Self::ExtHdrUpdate32,
        Self::IndexDeleted,
        Self::IndexUndeleted,
        Self::Boundary,
        Self::AttributeUpdate,
    ];

    /// The type bits on disk.
    pub(crate) fn bits(self) -> u32 {
        match self {
            Self::Expunge | Self::ExpungeGuid => self as u32 | EXPUNGE_PROTECTION,
            _ => self as u32,
        }
    }

    fn from_bits(bits: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.bits() == bits)
    }
}

/// A complete and valid record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    /// Offset in the log file.
    pub(crate) offset: u32,
    /// `None`: a type that we do not know.
    pub(crate) kind: Option<RecordKind>,
    pub(crate) external: bool,
    pub(crate) sync: bool,
    pub(crate) payload: &'a [u8],
}

impl Record<'_> {
    /// Offset of the next record.
    pub(crate) fn end(&self) -> u32 {
        self.offset + (RECORD_HEADER + self.payload.len()) as u32
    }
}

/// A complete record that breaks the rules: the log is damaged here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid record of type {kind:#x} at offset {offset}: {reason}")]
pub(crate) struct InvalidRecord {
    pub(crate) offset: u32,
    pub(crate) kind: u32,
    pub(crate) reason: &'static str,
}

/// Walks over the complete records of a log.
///
/// Stops without an error where a record or a transaction is not completely there: it is still
/// being written, or its writer died (`spec/dovecot-index.md` 4.3). An unfinished record inside
/// a complete transaction is damage.
pub(crate) struct RecordReader<'a> {
    data: &'a [u8],
    /// File offset of the first byte of `data`.
    base: u32,
    at: usize,
    /// End of the transaction that we are in.
    boundary: usize,
}

impl<'a> RecordReader<'a> {
    /// `data` starts at this offset of the file, at a record.
    pub(crate) fn new(data: &'a [u8], base: u32) -> Self {
        Self {
            data,
            base,
            at: 0,
            boundary: 0,
        }
    }

    /// File offset behind the last complete record.
    pub(crate) fn offset(&self) -> u32 {
        self.base + self.at as u32
    }

    /// The last item: nothing can be read behind damage.
    fn invalid(&mut self, kind: u32, reason: &'static str) -> InvalidRecord {
        self.data = &[];
        InvalidRecord {
            offset: self.offset(),
            kind,
            reason,
        }
    }
}

impl<'a> Iterator for RecordReader<'a> {
    type Item = Result<Record<'a>, InvalidRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.data.get(self.at..)?;
        let size = array_at(rest, 0).map_or(0, decode_offset) as usize;
        let Some(bits) = u32_at(rest, 4).filter(|_| size != 0 && size <= rest.len()) else {
            let inside = self.at < self.boundary;
            return inside.then(|| Err(self.invalid(0, "unfinished in a finished transaction")));
        };
        let record = Record {
            offset: self.offset(),
            kind: RecordKind::from_bits(bits & TYPE_MASK),
            external: bits & EXTERNAL != 0,
            sync: bits & SYNC != 0,
            payload: rest.get(RECORD_HEADER..size).unwrap_or(&[]),
        };
        if let Err(reason) = validate(&record, bits & TYPE_MASK) {
            return Some(Err(self.invalid(bits & TYPE_MASK, reason)));
        }
        if record.kind == Some(RecordKind::Boundary) {
            let whole = u32_at(record.payload, 0)? as usize;
            if whole > rest.len() {
                return None;
            }
            self.boundary = self.at + whole;
        }
        self.at += size;
        Some(Ok(record))
    }
}

fn check(condition: bool, reason: &'static str) -> Result<(), &'static str> {
    if condition { Ok(()) } else { Err(reason) }
}

/// The validity rules of `spec/dovecot-index.md` 4.2.
fn validate(record: &Record<'_>, bits: u32) -> Result<(), &'static str> {
    let payload = record.payload;
    check(!payload.is_empty(), "empty")?;
    let Some(kind) = record.kind else {
        let unprotected = bits & !EXPUNGE_PROTECTION;
        let expunge =
            [RecordKind::Expunge as u32, RecordKind::ExpungeGuid as u32].contains(&unprotected);
        return check(!expunge, "expunge without protection bits");
    };
    let entries = |size: usize| check(payload.len().is_multiple_of(size), "size of the payload");
    match kind {
        RecordKind::Expunge | RecordKind::KeywordReset => {
            entries(8)?;
            ascending(ranges(payload))
        }
        RecordKind::FlagUpdate => {
            entries(12)?;
            ascending(flag_updates(payload).map(|update| (update.first, update.last)))
        }
        RecordKind::KeywordUpdate => {
            let update = KeywordUpdate::decode(payload).ok_or("keyword name")?;
            check(update.is_whole(), "size of the payload")?;
            check(update.add || payload[0] == 1, "keyword operation")?;
            ascending(update.ranges())
        }
        RecordKind::ExpungeGuid => {
            entries(20)?;
            check(expunged_guids(payload).all(|(uid, _)| uid != 0), "UID 0")
        }
        RecordKind::ModseqUpdate => entries(12),
        RecordKind::Append | RecordKind::ExtAtomicInc => entries(8),
        RecordKind::ExtIntro => check(
            ext_intros(payload).all(|intro| intro.is_some()),
            "extension name",
        ),
        RecordKind::ExtReset => check(payload.len() >= 5, "size of the payload"),
        RecordKind::Boundary => check(
            u32_at(payload, 0).is_some_and(|size| size >= 12),
            "size of the transaction",
        ),
        RecordKind::AttributeUpdate => {
            attribute_updates(payload).map_or(Err("attribute list"), |_| Ok(()))
        }
        RecordKind::HeaderUpdate
        | RecordKind::ExtHdrUpdate
        | RecordKind::ExtHdrUpdate32
        | RecordKind::ExtRecUpdate
        | RecordKind::IndexDeleted
        | RecordKind::IndexUndeleted => Ok(()),
    }
}

fn ascending(ranges: impl Iterator<Item = (Uid, Uid)>) -> Result<(), &'static str> {
    let mut before = 0;
    for (first, last) in ranges {
        check(first > before && last >= first, "UID ranges")?;
        before = last;
    }
    Ok(())
}
