//! The header of a transaction log (`spec/dovecot-index.md` 4.1).

use dsync_proto::types::ModSeq;

use super::format::{u16_at, u32_at, u64_at};

/// Size of the header that we write.
pub(crate) const LOG_HEADER_SIZE: usize = 40;

/// Header of a log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogHeader {
    /// Minor version; 3 now.
    pub minor_version: u8,
    /// Where records start.
    pub header_size: u16,
    /// Creation time of the index; 0: marked corrupted.
    pub index_id: u32,
    /// Number of this log.
    pub file_seq: u32,
    /// Number of the log before; 0: the state starts from nothing here.
    pub prev_file_seq: u32,
    /// End of the log before.
    pub prev_file_offset: u32,
    /// When this log was made (seconds since the epoch).
    pub create_stamp: u32,
    /// Running modseq before the first record; 0: not tracked.
    pub initial_modseq: ModSeq,
}

impl LogHeader {
    /// Reads a header; `None` if it cannot be one of ours (`index_id` 0 is allowed here).
    pub(crate) fn decode(file: &[u8]) -> Option<Self> {
        let [1, minor_version] = *file.first_chunk::<2>()? else {
            return None;
        };
        let header_size = u16_at(file, 2)?;
        let size = usize::from(header_size);
        let (whole, compat) = (file.get(..size)?, file.get(32).copied());
        if size < 24 || !size.is_multiple_of(4) {
            return None;
        }
        if minor_version >= 2 && size > 32 && compat != Some(1) {
            return None; // the other byte order
        }
        let file_seq = u32_at(whole, 8)?;
        (file_seq != 0).then_some(Self {
            minor_version,
            header_size,
            index_id: u32_at(whole, 4)?,
            file_seq,
            prev_file_seq: u32_at(whole, 12)?,
            prev_file_offset: u32_at(whole, 16)?,
            create_stamp: u32_at(whole, 20)?,
            initial_modseq: u64_at(whole, 24).unwrap_or(0),
        })
    }

    /// The form on disk, always the current version.
    pub(crate) fn encode(&self) -> [u8; LOG_HEADER_SIZE] {
        let mut bytes = [0; LOG_HEADER_SIZE];
        bytes[..4].copy_from_slice(&[1, 3, LOG_HEADER_SIZE as u8, 0]);
        for (at, value) in [
            (4, self.index_id),
            (8, self.file_seq),
            (12, self.prev_file_seq),
            (16, self.prev_file_offset),
            (20, self.create_stamp),
        ] {
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        bytes[24..32].copy_from_slice(&self.initial_modseq.to_le_bytes());
        bytes[32] = 1;
        bytes
    }

    /// Whether the state starts from nothing at this log.
    pub(crate) fn is_reset(&self) -> bool {
        self.prev_file_seq == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_damage() {
        let header = LogHeader {
            minor_version: 3,
            header_size: 40,
            index_id: 1_700_000_000,
            file_seq: 2,
            prev_file_seq: 1,
            prev_file_offset: 77,
            create_stamp: 5,
            initial_modseq: 9,
        };
        let bytes = header.encode();
        assert_eq!(LogHeader::decode(&bytes), Some(header));
        for length in 0..LOG_HEADER_SIZE {
            assert_eq!(LogHeader::decode(&bytes[..length]), None);
        }
        let mut big_endian = bytes;
        big_endian[32] = 0;
        assert_eq!(LogHeader::decode(&big_endian), None);
        let mut other_major = bytes;
        other_major[0] = 2;
        assert_eq!(LogHeader::decode(&other_major), None);
    }
}
