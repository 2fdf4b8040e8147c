//! The base header of the snapshot (`spec/dovecot-index.md` 3.1).

use std::fmt;

use dsync_proto::types::Uid;

use super::format::u32_at;

/// Size of the base header.
pub(crate) const BASE_HEADER_SIZE: usize = 120;
/// Bytes before the first field that a header update may change.
const FIXED_SIZE: usize = 16;

/// Header flag: some record has the dirty flag.
pub(crate) const HEADER_HAVE_DIRTY: u32 = 2;
/// Header flag: the index was repaired, a dbox must be rebuilt.
pub(crate) const HEADER_FSCKD: u32 = 4;

/// A 32-bit field of the base header; the number is its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub enum HeaderField {
    /// Creation time of the index; equal in all its files.
    IndexId = 16,
    /// 1 corrupted, 2 some record is dirty, 4 was repaired.
    Flags = 20,
    /// UIDVALIDITY, 0 if not initialised.
    UidValidity = 24,
    /// UIDNEXT; never falls.
    NextUid = 28,
    /// Number of messages.
    MessagesCount = 32,
    /// Messages with `\Seen`.
    SeenCount = 40,
    /// Messages with `\Deleted`.
    DeletedCount = 44,
    /// Messages from here on are `\Recent`.
    FirstRecentUid = 48,
    /// No unseen message below this UID.
    FirstUnseenLowwater = 52,
    /// No deleted message below this UID.
    FirstDeletedLowwater = 56,
    /// Log that the snapshot belongs to.
    LogFileSeq = 60,
    /// Everything below is synchronised to the files.
    LogTailOffset = 64,
    /// Everything below is in the snapshot.
    LogHeadOffset = 68,
    /// When `.log.2` was made; 0xffffffff: there is none.
    Log2RotateTime = 76,
    /// dbox: when old temporary files were looked for.
    LastTempFileScan = 80,
    /// Local midnight of the newest day with appends.
    DayStamp = 84,
}

/// The base header of an index, kept in its form on disk since log records change its bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct IndexHeader {
    bytes: [u8; BASE_HEADER_SIZE],
}

impl IndexHeader {
    /// Where an index begins before any record is applied.
    pub(crate) fn new() -> Self {
        let mut header = Self {
            bytes: [0; BASE_HEADER_SIZE],
        };
        header.set_layout(BASE_HEADER_SIZE as u32, 8);
        header.set(HeaderField::NextUid, 1);
        header.set(HeaderField::FirstRecentUid, 1);
        header.set(HeaderField::LogFileSeq, 1);
        header
    }

    /// Reads the first 120 bytes of a snapshot as they are.
    pub(crate) fn decode(file: &[u8]) -> Option<Self> {
        let bytes = *file.first_chunk::<BASE_HEADER_SIZE>()?;
        let mut header = Self { bytes };
        if header.minor_version() < 3 {
            for offset in [72, 76, 80] {
                header.bytes[offset..offset + 4].fill(0);
            }
        }
        if header.get(HeaderField::FirstRecentUid) == 0 {
            header.set(HeaderField::FirstRecentUid, 1);
        }
        Some(header)
    }

    /// The form on disk.
    pub(crate) fn as_bytes(&self) -> &[u8; BASE_HEADER_SIZE] {
        &self.bytes
    }

    /// A field.
    pub fn get(&self, field: HeaderField) -> u32 {
        u32_at(&self.bytes, field as usize).unwrap_or(0)
    }

    pub(crate) fn set(&mut self, field: HeaderField, value: u32) {
        let at = field as usize;
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    /// UIDVALIDITY; 0 if the mailbox is not initialised.
    pub fn uid_validity(&self) -> u32 {
        self.get(HeaderField::UidValidity)
    }

    /// UIDNEXT.
    pub fn next_uid(&self) -> Uid {
        self.get(HeaderField::NextUid)
    }

    /// Messages from this UID on are `\Recent`; at least 1.
    pub fn first_recent_uid(&self) -> Uid {
        self.get(HeaderField::FirstRecentUid).max(1)
    }

    /// The day of the newest append, and the first UIDs of that day and the seven before
    /// (`spec/dovecot-index.md` 9.2).
    pub fn day_first_uids(&self) -> (u32, [Uid; 8]) {
        let first = |day: usize| u32_at(&self.bytes, 88 + 4 * day).unwrap_or(0);
        (self.get(HeaderField::DayStamp), std::array::from_fn(first))
    }

    pub(crate) fn minor_version(&self) -> u8 {
        self.bytes[1]
    }

    /// Versions, sizes and byte order; these are never taken from records.
    pub(crate) fn set_layout(&mut self, header_size: u32, record_size: u32) {
        self.bytes[..4].copy_from_slice(&[7, 3, BASE_HEADER_SIZE as u8, 0]);
        self.bytes[4..8].copy_from_slice(&header_size.to_le_bytes());
        self.bytes[8..12].copy_from_slice(&record_size.to_le_bytes());
        self.bytes[12..16].copy_from_slice(&[1, 0, 0, 0]);
    }

    /// A HEADER_UPDATE record: `false` if it reaches past the header.
    ///
    /// UIDNEXT never falls; the index id, positions and layout are not taken from records.
    #[must_use]
    pub(crate) fn update(&mut self, offset: usize, data: &[u8]) -> bool {
        let Some(target) = self.bytes.get(offset..offset + data.len()) else {
            return false;
        };
        if target == data {
            return true;
        }
        let before = *self;
        self.bytes[offset..offset + data.len()].copy_from_slice(data);
        self.bytes[..FIXED_SIZE].copy_from_slice(&before.bytes[..FIXED_SIZE]);
        for kept in [
            HeaderField::IndexId,
            HeaderField::MessagesCount,
            HeaderField::LogFileSeq,
            HeaderField::LogTailOffset,
            HeaderField::LogHeadOffset,
        ] {
            self.set(kept, before.get(kept));
        }
        if self.next_uid() < before.next_uid() {
            self.set(HeaderField::NextUid, before.next_uid());
        }
        true
    }
}

impl fmt::Debug for IndexHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexHeader")
            .field("index_id", &self.get(HeaderField::IndexId))
            .field("flags", &self.get(HeaderField::Flags))
            .field("uid_validity", &self.uid_validity())
            .field("next_uid", &self.next_uid())
            .field("messages", &self.get(HeaderField::MessagesCount))
            .field("seen", &self.get(HeaderField::SeenCount))
            .field("deleted", &self.get(HeaderField::DeletedCount))
            .field("first_recent_uid", &self.first_recent_uid())
            .field(
                "first_unseen_lowwater",
                &self.get(HeaderField::FirstUnseenLowwater),
            )
            .field(
                "first_deleted_lowwater",
                &self.get(HeaderField::FirstDeletedLowwater),
            )
            .field("log_file_seq", &self.get(HeaderField::LogFileSeq))
            .field("log_tail", &self.get(HeaderField::LogTailOffset))
            .field("log_head", &self.get(HeaderField::LogHeadOffset))
            .field("log2_rotate_time", &self.get(HeaderField::Log2RotateTime))
            .field("last_temp_scan", &self.get(HeaderField::LastTempFileScan))
            .field("days", &self.day_first_uids())
            .finish()
    }
}
