//! Extensions: named header data and named bytes per message (`spec/dovecot-index.md` 3.2, 3.3).

use bstr::{BStr, BString, ByteSlice};

use super::format::{pad8, u16_at, u32_at};
use super::records::{FIXED_RECORD_SIZE, MAX_RECORD_SIZE};

/// Largest header data.
pub(crate) const MAX_HEADER_SIZE: usize = (16 << 20) - 1;
/// Largest data per message.
pub(crate) const MAX_EXTENSION_RECORD: usize = 32767;
/// Names are shorter than this.
pub(crate) const MAX_NAME_SIZE: usize = 64;
/// Most extensions; Dovecot has about 20.
pub(crate) const MAX_EXTENSIONS: usize = 1024;
/// Bytes of an extension header before the name.
const FIXED_HEADER: usize = 16;

/// What an extension looks like, for a writer that wants to use or create it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtensionSpec<'a> {
    /// Letters, digits, `-`, `_`, space; shorter than 64.
    pub name: &'a str,
    /// Bytes of header data.
    pub header_size: u32,
    /// Bytes per message, 0 for none.
    pub record_size: u16,
    /// Alignment of these, 1 to 8.
    pub record_align: u16,
}

impl ExtensionSpec<'static> {
    /// Times and sizes of a Maildir's folders and uidlist: 9 × u32.
    pub const MAILDIR: Self = Self::header_only("maildir", 36, 0);
    /// When the mailbox was renamed: u32.
    pub const LAST_RENAME_STAMP: Self = Self::header_only("last-rename-stamp", 4, 0);
    /// Identity of an sdbox mailbox: u32 rebuild count, GUID, u8 flags.
    pub const DBOX_HDR: Self = Self::header_only("dbox-hdr", 24, 0);
    /// Identity of an mdbox mailbox: u32 UIDVALIDITY of the map, GUID, u8 flags.
    pub const MDBOX_HDR: Self = Self::header_only("mdbox-hdr", 24, 0);
    /// Highest UID that may have a POP3 UIDL or order in its file: u32.
    pub const HDR_POP3_UIDL: Self = Self::header_only("hdr-pop3-uidl", 4, 0);
    /// Offset of a message's record in the cache: u32.
    pub const CACHE: Self = Self::records_only("cache", 4, 4);
    /// u32 map UID and u32 save date of an mdbox message.
    pub const MDBOX: Self = Self::records_only("mdbox", 8, 4);
    /// 128-bit GUID of an mdbox message.
    pub const GUID: Self = Self::records_only("guid", 16, 1);
    /// References to a stored message of an mdbox: u16.
    pub const REF: Self = Self::records_only("ref", 2, 2);
    /// Where a stored message of an mdbox is: u32 file id, offset and size.
    pub const MAP: Self = Self {
        name: "map",
        header_size: 8,
        record_size: 12,
        record_align: 4,
    };
    /// u64 size and u32 time of the file of an mbox, u8 "dirty", GUID at 16; u64 offset of each
    /// message.
    pub const MBOX: Self = Self {
        name: "mbox",
        header_size: 32,
        record_size: 8,
        record_align: 8,
    };
    /// MD5 of the headers of an mbox message.
    pub const HEADER_MD5: Self = Self::records_only("header-md5", 16, 1);
    /// Sum of the virtual sizes; cleared before an expunge.
    pub const HDR_VSIZE: Self = Self::header_only("hdr-vsize", 16, 8);
    /// Modseqs per message.
    pub const MODSEQ: Self = Self {
        name: "modseq",
        header_size: 16,
        record_size: 8,
        record_align: 8,
    };

    const fn records_only(name: &'static str, record_size: u16, record_align: u16) -> Self {
        Self {
            name,
            header_size: 0,
            record_size,
            record_align,
        }
    }

    const fn header_only(name: &'static str, header_size: u32, record_align: u16) -> Self {
        Self {
            name,
            header_size,
            record_size: 0,
            record_align,
        }
    }
}

/// An extension of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Name.
    pub name: BString,
    /// Version of the data.
    pub reset_id: u32,
    /// Header data.
    pub header: Vec<u8>,
    /// Where its bytes are in a record.
    pub(crate) record_offset: usize,
    /// Bytes per message; 0 for none.
    pub record_size: u16,
    /// Alignment of these.
    pub record_align: u16,
}

impl Extension {
    /// Reads one extension header; gives the bytes that it takes too.
    pub(crate) fn decode(bytes: &[u8], index_record_size: usize) -> Option<(Self, usize)> {
        let header_size = u32_at(bytes, 0)? as usize;
        let record_offset = usize::from(u16_at(bytes, 8)?);
        let record_size = u16_at(bytes, 10)?;
        let name_end = FIXED_HEADER + usize::from(u16_at(bytes, 14)?);
        let name = bytes.get(FIXED_HEADER..name_end)?;
        let start = pad8(name_end);
        let end = start.checked_add(header_size)?;
        let header = bytes.get(start..end)?;
        let record = usize::from(record_size);
        let fits = record == 0
            || (record_offset >= FIXED_RECORD_SIZE && record_offset + record <= index_record_size);
        let valid = valid_name(name)
            && header_size <= MAX_HEADER_SIZE
            && record <= MAX_EXTENSION_RECORD
            && (header_size > 0 || record > 0)
            && fits;
        let extension = Self {
            name: name.into(),
            reset_id: u32_at(bytes, 4)?,
            header: header.to_vec(),
            record_offset,
            record_size,
            record_align: u16_at(bytes, 12)?,
        };
        valid.then_some((extension, pad8(end)))
    }

    /// Writes the extension header and its data.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let offset = if self.record_size == 0 {
            0
        } else {
            self.record_offset
        };
        out.extend_from_slice(&(self.header.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.reset_id.to_le_bytes());
        out.extend_from_slice(&(offset as u16).to_le_bytes());
        out.extend_from_slice(&self.record_size.to_le_bytes());
        out.extend_from_slice(&self.record_align.to_le_bytes());
        out.extend_from_slice(&(self.name.len() as u16).to_le_bytes());
        out.extend_from_slice(&self.name);
        out.resize(start + pad8(out.len() - start), 0);
        out.extend_from_slice(&self.header);
        out.resize(start + pad8(out.len() - start), 0);
    }

    /// Its bytes in a message record.
    pub(crate) fn slot(&self) -> std::ops::Range<usize> {
        self.record_offset..self.record_offset + usize::from(self.record_size)
    }

    pub(crate) fn is(&self, name: &str) -> bool {
        self.name.as_bstr() == BStr::new(name)
    }
}

/// Whether this may be the name of an extension.
pub(crate) fn valid_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() < MAX_NAME_SIZE
        && name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_ ".contains(byte))
}

/// Where each extension's bytes go, and the record size (`spec/dovecot-index.md` 3.3).
///
/// `None` if the record becomes larger than its offsets can say.
pub(crate) fn layout(extensions: &[(u16, u16)]) -> Option<(Vec<usize>, usize)> {
    let align_of = |id: usize| usize::from(extensions[id].1).clamp(1, 8);
    let mut open: Vec<usize> = (0..extensions.len())
        .filter(|id| extensions[*id].0 > 0)
        .collect();
    open.sort_by_key(|id| std::cmp::Reverse(align_of(*id)));
    let mut offsets = vec![0; extensions.len()];
    let mut offset = FIXED_RECORD_SIZE;
    while let Some(least) = open.iter().map(|id| align_of(*id)).min() {
        let fitting = |id: &usize| offset.is_multiple_of(align_of(*id));
        if let Some(next) = open.iter().position(fitting) {
            let id = open.remove(next);
            offsets[id] = offset;
            offset += usize::from(extensions[id].0);
        } else {
            offset = offset.next_multiple_of(least);
        }
    }
    let largest = (0..extensions.len()).map(align_of).max().unwrap_or(1);
    let record_size = offset.next_multiple_of(largest.max(4));
    (record_size <= MAX_RECORD_SIZE).then_some((offsets, record_size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_of_the_annotated_snapshot() {
        // dbox-hdr, hdr-pop3-uidl, cache, keywords, modseq, hdr-vsize, vsize
        let extensions = [(0, 0), (0, 0), (4, 4), (2, 1), (8, 8), (0, 8), (4, 4)];
        let (offsets, size) = layout(&extensions).unwrap();
        assert_eq!(offsets, [0, 0, 16, 5, 8, 0, 20]);
        assert_eq!(size, 24);
    }

    #[test]
    fn layout_without_extensions() {
        assert_eq!(layout(&[]), Some((vec![], 8)));
    }

    #[test]
    fn names() {
        assert!(valid_name(b"hdr-pop3-uidl"));
        assert!(valid_name(b"index sync"));
        assert!(!valid_name(b""));
        assert!(!valid_name(b"a\0"));
        assert!(!valid_name(&[b'a'; 64]));
    }
}
