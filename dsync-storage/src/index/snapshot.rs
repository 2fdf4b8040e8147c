//! The snapshot file (`spec/dovecot-index.md` 3, 14.1, 14.2).

use dsync_proto::types::{ModSeq, Uid};

use super::extension::{Extension, ExtensionSpec, MAX_EXTENSIONS};
use super::format::{pad8, u16_at, u32_at, u64_at};
use super::header::{BASE_HEADER_SIZE, HeaderField, IndexHeader};
use super::keywords::KeywordTable;
use super::records::RecordTable;
use super::state::{CurrentExtension, IndexState};

const SEEN: u8 = 0x08;
const DELETED: u8 = 0x04;
const HEADER_CORRUPTED: u32 = 1;
/// Largest record that is believed.
const MAX_READ_RECORD: usize = 1 << 20;

/// Where in the logs a snapshot was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotPosition {
    pub(crate) log_seq: u32,
    /// Everything below is synchronised.
    pub(crate) tail: u32,
    /// Everything below is contained.
    pub(crate) head: u32,
}

/// What a snapshot file says.
pub(crate) struct Snapshot {
    pub(crate) state: IndexState,
    pub(crate) position: SnapshotPosition,
    /// What had to be mended; the file must be written anew.
    pub(crate) repaired: Option<&'static str>,
}

impl Snapshot {
    pub(crate) fn index_id(&self) -> u32 {
        self.state.header.get(HeaderField::IndexId)
    }

    /// Position (log, offset) up to which the modseqs of messages are complete.
    pub(crate) fn modseq_position(&self) -> Option<(u32, u32)> {
        let extension = self.state.extension(ExtensionSpec::MODSEQ.name)?;
        Some((
            u32_at(&extension.header, 8).unwrap_or(0),
            u32_at(&extension.header, 12).unwrap_or(0),
        ))
    }

    /// Highest modseq when the modseqs of messages were complete.
    pub(crate) fn highest_modseq(&self) -> ModSeq {
        self.state
            .extension(ExtensionSpec::MODSEQ.name)
            .and_then(|extension| u64_at(&extension.header, 0))
            .unwrap_or(0)
    }
}

/// Why a snapshot cannot be used at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unusable(pub(crate) &'static str);

/// Reads a snapshot. What is wrong in detail is mended, and said in `repaired`.
pub(crate) fn decode(file: &[u8]) -> Result<Snapshot, Unusable> {
    let header = IndexHeader::decode(file).ok_or(Unusable("shorter than a header"))?;
    let base_size = usize::from(u16_at(file, 2).unwrap_or(0));
    let header_size = u32_at(file, 4).unwrap_or(0) as usize;
    let record_size = u32_at(file, 8).unwrap_or(0) as usize;
    let wrong = |condition: bool, reason| {
        if condition {
            Err(Unusable(reason))
        } else {
            Ok(())
        }
    };
    wrong(file[0] != 7, "unknown version")?;
    wrong(file[12] != 1, "written on another CPU architecture")?;
    wrong(
        header.get(HeaderField::Flags) & HEADER_CORRUPTED != 0,
        "marked as corrupted",
    )?;
    wrong(
        base_size < BASE_HEADER_SIZE || header_size < base_size || header_size > file.len(),
        "impossible header size",
    )?;
    wrong(
        !(8..=MAX_READ_RECORD).contains(&record_size),
        "impossible record size",
    )?;
    let mut repaired = None;
    let mut extensions =
        read_extensions(&file[..header_size], base_size, record_size, &mut repaired);
    let keywords = read_keywords(&mut extensions, &mut repaired);
    let records = read_records(&header, &file[header_size..], record_size, &mut repaired);
    let mut state = IndexState {
        header,
        extensions,
        keywords,
        records,
        highest_modseq: 1,
        current: CurrentExtension::None,
        deleted: false,
        modseq_offset: None,
    };
    state.find_modseqs();
    state.header = checked_header(&state);
    if state.header != header {
        repaired = Some("the header contradicts the messages");
    }
    let position = SnapshotPosition {
        log_seq: header.get(HeaderField::LogFileSeq),
        tail: header.get(HeaderField::LogTailOffset),
        head: header.get(HeaderField::LogHeadOffset),
    };
    let mut snapshot = Snapshot {
        state,
        position,
        repaired,
    };
    let highest = snapshot.highest_modseq().max(1);
    snapshot.state.highest_modseq = highest;
    Ok(snapshot)
}

fn read_extensions(
    headers: &[u8],
    base_size: usize,
    record_size: usize,
    repaired: &mut Option<&'static str>,
) -> Vec<Extension> {
    let mut extensions: Vec<Extension> = Vec::new();
    let mut at = pad8(base_size);
    while at < headers.len() && extensions.len() < MAX_EXTENSIONS {
        let decoded = headers
            .get(at..)
            .and_then(|rest| Extension::decode(rest, record_size));
        let Some((extension, size)) = decoded else {
            *repaired = Some("an extension header is invalid");
            break;
        };
        at += size;
        if extensions.iter().any(|known| known.name == extension.name) {
            *repaired = Some("an extension exists twice");
            continue;
        }
        extensions.push(extension);
    }
    extensions
}

fn read_keywords(
    extensions: &mut [Extension],
    repaired: &mut Option<&'static str>,
) -> KeywordTable {
    let Some(extension) = extensions.iter_mut().find(|known| known.is("keywords")) else {
        return KeywordTable::default();
    };
    let (table, intact) =
        KeywordTable::decode(&extension.header, usize::from(extension.record_size));
    if !intact {
        *repaired = Some("the table of keywords is damaged");
        extension.header = table.encode(extension.header.len());
    }
    table
}

fn read_records(
    header: &IndexHeader,
    bytes: &[u8],
    record_size: usize,
    repaired: &mut Option<&'static str>,
) -> RecordTable {
    let wanted = header.get(HeaderField::MessagesCount) as usize;
    let count = wanted.min(bytes.len() / record_size);
    if count < wanted {
        *repaired = Some("messages are cut off");
    }
    let bytes = &bytes[..count * record_size];
    let mut before = 0;
    let ordered = bytes.chunks_exact(record_size).all(|record| {
        let uid = u32_at(record, 0).unwrap_or(0);
        let rising = uid > before && uid < Uid::MAX;
        before = uid;
        rising
    });
    if ordered {
        return RecordTable::from_bytes(bytes.to_vec(), record_size);
    }
    *repaired = Some("messages are not in the order of their UIDs");
    let mut kept = Vec::with_capacity(bytes.len());
    let mut before = 0;
    for record in bytes.chunks_exact(record_size) {
        let uid = u32_at(record, 0).unwrap_or(0);
        if uid > before && uid < Uid::MAX {
            kept.extend_from_slice(record);
            before = uid;
        }
    }
    RecordTable::from_bytes(kept, record_size)
}

/// The header with counters and UID limits that agree with the messages
/// (`spec/dovecot-index.md` 14.2).
pub(crate) fn checked_header(state: &IndexState) -> IndexHeader {
    let mut header = state.header;
    let (mut seen, mut deleted, mut last_uid) = (0, 0, 0);
    for message in state.messages() {
        seen += u32::from(message.raw_flags() & SEEN != 0);
        deleted += u32::from(message.raw_flags() & DELETED != 0);
        last_uid = message.uid();
    }
    header.set(HeaderField::MessagesCount, state.len() as u32);
    header.set(HeaderField::SeenCount, seen);
    header.set(HeaderField::DeletedCount, deleted);
    let next_uid = header.next_uid().max(last_uid + 1);
    header.set(HeaderField::NextUid, next_uid);
    let first_recent_uid = header.first_recent_uid().min(next_uid);
    header.set(HeaderField::FirstRecentUid, first_recent_uid);
    for field in [
        HeaderField::FirstUnseenLowwater,
        HeaderField::FirstDeletedLowwater,
    ] {
        let value = header.get(field);
        header.set(field, value.min(next_uid));
    }
    header
}

impl IndexState {
    /// Writes the modseq that they really have into messages that only know "the highest".
    pub(crate) fn resolve_modseqs(&mut self, highest: ModSeq) {
        let Some(offset) = self.modseq_offset else {
            return;
        };
        for position in 0..self.records.positions() {
            if let Some(record) = self.records.get_mut(position)
                && u64_at(record, offset) == Some(0)
            {
                record[offset..offset + 8].copy_from_slice(&highest.max(1).to_le_bytes());
            }
        }
    }

    /// Raises all lower modseqs to this one: what happened to whom is not known any more.
    pub(crate) fn raise_all_modseqs(&mut self, least: ModSeq) {
        let Some(offset) = self.modseq_offset else {
            return;
        };
        for position in 0..self.records.positions() {
            if let Some(record) = self.records.get_mut(position)
                && u64_at(record, offset).is_some_and(|modseq| modseq < least)
            {
                record[offset..offset + 8].copy_from_slice(&least.to_le_bytes());
            }
        }
    }
}

/// Writes a snapshot of a state without expunged leftovers.
pub(crate) fn encode(state: &IndexState, position: SnapshotPosition) -> Vec<u8> {
    let mut extensions = Vec::new();
    for extension in &state.extensions {
        if extension.is(ExtensionSpec::MODSEQ.name) && extension.header.len() >= 16 {
            let mut current = extension.clone();
            current.header[..8].copy_from_slice(&state.highest_modseq.to_le_bytes());
            current.header[8..12].copy_from_slice(&position.log_seq.to_le_bytes());
            current.header[12..16].copy_from_slice(&position.head.to_le_bytes());
            current.encode(&mut extensions);
        } else {
            extension.encode(&mut extensions);
        }
    }
    let header_size = BASE_HEADER_SIZE + extensions.len();
    let mut header = checked_header(state);
    header.set_layout(header_size as u32, state.records.record_size() as u32);
    header.set(HeaderField::LogFileSeq, position.log_seq);
    header.set(HeaderField::LogTailOffset, position.tail);
    header.set(HeaderField::LogHeadOffset, position.head);
    let mut file = Vec::with_capacity(header_size + state.records.as_bytes().len());
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(&extensions);
    file.extend_from_slice(state.records.as_bytes());
    file
}
