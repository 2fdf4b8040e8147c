//! Records of a transaction log (`spec/dovecot-index.md` 4.2, 4.3).

use dsync_proto::types::{Guid, ModSeq, Uid};

use super::format::{array_at, decode_offset, pad4, u16_at, u32_at, u64_at};

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
/// being written, or its writer died (`spec/dovecot-index.md` 4.3).
pub(crate) struct RecordReader<'a> {
    data: &'a [u8],
    /// File offset of the first byte of `data`.
    base: u32,
    at: usize,
}

impl<'a> RecordReader<'a> {
    /// `data` starts at this offset of the file, at a record.
    pub(crate) fn new(data: &'a [u8], base: u32) -> Self {
        Self { data, base, at: 0 }
    }

    /// File offset behind the last complete record.
    pub(crate) fn offset(&self) -> u32 {
        self.base + self.at as u32
    }
}

impl<'a> Iterator for RecordReader<'a> {
    type Item = Result<Record<'a>, InvalidRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.data.get(self.at..)?;
        let size = decode_offset(array_at(rest, 0)?) as usize;
        let bits = u32_at(rest, 4)?;
        if size == 0 || size > rest.len() {
            return None;
        }
        let record = Record {
            offset: self.offset(),
            kind: RecordKind::from_bits(bits & TYPE_MASK),
            external: bits & EXTERNAL != 0,
            sync: bits & SYNC != 0,
            payload: rest.get(RECORD_HEADER..size).unwrap_or(&[]),
        };
        if let Err(reason) = validate(&record, bits & TYPE_MASK) {
            return Some(Err(InvalidRecord {
                offset: record.offset,
                kind: bits & TYPE_MASK,
                reason,
            }));
        }
        if record.kind == Some(RecordKind::Boundary) {
            let whole = u32_at(record.payload, 0)? as usize;
            if whole > rest.len() {
                return None;
            }
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
            check(update.ranges.len().is_multiple_of(8), "size of the payload")?;
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

/// UID ranges of EXPUNGE, KEYWORD_RESET and behind the name of KEYWORD_UPDATE.
pub(crate) fn ranges(payload: &[u8]) -> impl Iterator<Item = (Uid, Uid)> + '_ {
    payload
        .chunks_exact(8)
        .filter_map(|entry| Some((u32_at(entry, 0)?, u32_at(entry, 4)?)))
}

/// An entry of FLAG_UPDATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlagEntry {
    pub(crate) first: Uid,
    pub(crate) last: Uid,
    pub(crate) add: u8,
    pub(crate) remove: u8,
    pub(crate) modseq_inc: bool,
}

impl FlagEntry {
    /// Touches only flags that users do not see: no new modseq.
    pub(crate) fn is_internal(&self) -> bool {
        (self.add | self.remove) & 0x1f == 0 && !self.modseq_inc
    }
}

pub(crate) fn flag_updates(payload: &[u8]) -> impl Iterator<Item = FlagEntry> + '_ {
    payload.chunks_exact(12).filter_map(|entry| {
        Some(FlagEntry {
            first: u32_at(entry, 0)?,
            last: u32_at(entry, 4)?,
            add: entry[8],
            remove: entry[9],
            modseq_inc: entry[10] != 0,
        })
    })
}

/// UIDs and flags of APPEND.
pub(crate) fn appends(payload: &[u8]) -> impl Iterator<Item = (Uid, u8)> + '_ {
    payload
        .chunks_exact(8)
        .filter_map(|entry| Some((u32_at(entry, 0)?, entry[4])))
}

/// Entries of EXPUNGE_GUID.
pub(crate) fn expunged_guids(payload: &[u8]) -> impl Iterator<Item = (Uid, Guid)> + '_ {
    payload
        .chunks_exact(20)
        .filter_map(|entry| Some((u32_at(entry, 0)?, Guid(array_at(entry, 4)?))))
}

/// Entries of MODSEQ_UPDATE; UID 0 means only the highest.
pub(crate) fn modseq_updates(payload: &[u8]) -> impl Iterator<Item = (Uid, ModSeq)> + '_ {
    payload
        .chunks_exact(12)
        .filter_map(|entry| Some((u32_at(entry, 0)?, u64_at(entry, 4)?)))
}

/// Entries of EXT_ATOMIC_INC.
pub(crate) fn atomic_incs(payload: &[u8]) -> impl Iterator<Item = (Uid, i32)> + '_ {
    payload
        .chunks_exact(8)
        .filter_map(|entry| Some((u32_at(entry, 0)?, u32_at(entry, 4)?.cast_signed())))
}

/// A KEYWORD_UPDATE.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeywordUpdate<'a> {
    pub(crate) add: bool,
    pub(crate) name: &'a [u8],
    ranges: &'a [u8],
}

impl<'a> KeywordUpdate<'a> {
    pub(crate) fn decode(payload: &'a [u8]) -> Option<Self> {
        let name_size = usize::from(u16_at(payload, 2)?);
        let name = payload.get(4..4 + name_size)?;
        let ranges = payload.get(pad4(4 + name_size)..)?;
        (!name.is_empty() && !name.contains(&0)).then_some(Self {
            add: payload[0] == 0,
            name,
            ranges,
        })
    }

    pub(crate) fn ranges(&self) -> impl Iterator<Item = (Uid, Uid)> + 'a {
        ranges(self.ranges)
    }
}

/// An EXT_INTRO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExtIntro<'a> {
    pub(crate) id: u32,
    pub(crate) reset_id: u32,
    pub(crate) header_size: u32,
    pub(crate) record_size: u16,
    pub(crate) record_align: u16,
    pub(crate) no_shrink: bool,
    pub(crate) name: &'a [u8],
}

/// The intros in one record; `None` for one that is cut.
pub(crate) fn ext_intros(payload: &[u8]) -> impl Iterator<Item = Option<ExtIntro<'_>>> {
    let mut rest = payload;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let current = std::mem::take(&mut rest);
        let intro = decode_intro(current);
        if let Some(intro) = &intro {
            rest = current.get(pad4(20 + intro.name.len())..).unwrap_or(&[]);
        }
        Some(intro)
    })
}

fn decode_intro(bytes: &[u8]) -> Option<ExtIntro<'_>> {
    let name_size = usize::from(u16_at(bytes, 18)?);
    Some(ExtIntro {
        id: u32_at(bytes, 0)?,
        reset_id: u32_at(bytes, 4)?,
        header_size: u32_at(bytes, 8)?,
        record_size: u16_at(bytes, 12)?,
        record_align: u16_at(bytes, 14)?,
        no_shrink: u16_at(bytes, 16)? & EXT_NO_SHRINK != 0,
        name: bytes.get(20..20 + name_size)?,
    })
}

/// `(offset, data)` of HEADER_UPDATE and EXT_HDR_UPDATE, or of EXT_HDR_UPDATE32 (`wide`);
/// `None` for an entry that is cut.
pub(crate) fn header_updates(
    payload: &[u8],
    wide: bool,
) -> impl Iterator<Item = Option<(usize, &[u8])>> {
    let mut rest = payload;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let current = std::mem::take(&mut rest);
        let entry = decode_header_update(current, wide);
        if let Some((_, data)) = entry {
            let fixed = if wide { 8 } else { 4 };
            rest = current.get(pad4(fixed + data.len())..).unwrap_or(&[]);
        }
        Some(entry)
    })
}

fn decode_header_update(bytes: &[u8], wide: bool) -> Option<(usize, &[u8])> {
    let (offset, size, start): (usize, usize, usize) = if wide {
        (u32_at(bytes, 0)? as usize, u32_at(bytes, 4)? as usize, 8)
    } else {
        (u16_at(bytes, 0)?.into(), u16_at(bytes, 2)?.into(), 4)
    };
    Some((offset, bytes.get(start..start.checked_add(size)?)?))
}

/// An entry of ATTRIBUTE_UPDATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AttributeEntry<'a> {
    pub(crate) deleted: bool,
    pub(crate) shared: bool,
    pub(crate) key: &'a [u8],
}

/// The changed attributes; `None` if the list is damaged.
pub(crate) fn attribute_updates(payload: &[u8]) -> Option<Vec<AttributeEntry<'_>>> {
    let mut entries = Vec::new();
    let mut rest = payload;
    while rest.first().is_some_and(|byte| *byte != 0) {
        let end = memchr::memchr(0, rest)?;
        let (deleted, shared) = match rest.get(..2)? {
            b"+p" => (false, false),
            b"+s" => (false, true),
            b"-p" => (true, false),
            b"-s" => (true, true),
            _ => return None,
        };
        entries.push(AttributeEntry {
            deleted,
            shared,
            key: rest.get(2..end)?,
        });
        rest = rest.get(end + 1..)?;
    }
    (!entries.is_empty()).then_some(entries)
}
