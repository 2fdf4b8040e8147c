//! What stands in the records of a log (`spec/dovecot-index.md` 4.2).

use dsync_proto::types::{Guid, ModSeq, Uid};

use super::format::{array_at, pad4, u16_at, u32_at, u64_at};
use super::record::EXT_NO_SHRINK;

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

    /// Whether the ranges end with a whole one.
    pub(crate) fn is_whole(&self) -> bool {
        self.ranges.len().is_multiple_of(8)
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
