//! The cache file, as far as a sync needs it: which fields are cached, the saved dates that stand
//! nowhere else, and GUIDs that otherwise every message file must be opened for
//! (`spec/dovecot-index.md` 15, `spec/wire.md` 7.4).
//!
//! A cache is disposable: whatever is wrong with it means "not cached".

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use dsync_proto::items::{CacheDecision, CacheField};

use crate::{Result, StorageError};

use super::files::Files;
use super::format::{array_at, decode_offset, pad4, u32_at};
use super::header::HeaderField;
use super::state::{IndexState, Message};

/// Field headers replace each other; more than this is a loop.
const MAX_FIELD_HEADERS: usize = 1 << 10;
/// Largest field header that is read.
const MAX_FIELD_HEADER: usize = 1 << 20;
/// Most fields; Dovecot has some dozens.
const MAX_FIELDS: usize = 1 << 12;
/// Records of one message that are linked together.
const MAX_CHAIN: usize = 256;
/// Largest cached record that is read.
const MAX_RECORD: usize = 1 << 20;
/// Enough for most records.
const FIRST_READ: usize = 1024;
/// Field with the saved date: u32, seconds since the epoch.
pub(crate) const SAVED_DATE: &str = "date.save";
/// Field with the text of the GUID.
pub(crate) const GUID: &str = "guid";
/// Field size in the list: each record says it.
pub(crate) const VARIABLE_SIZE: u32 = u32::MAX;

/// The cache decisions of the index with this prefix; none if there is no usable cache.
pub fn cache_fields(dir: &Path, prefix: &str) -> Result<Vec<CacheField>> {
    let path = Files::new(dir, prefix).cache();
    let cache = Cache::open(&path).map_err(|error| StorageError::io("read", &path, &error))?;
    Ok(cache.map(|cache| cache.fields).unwrap_or_default())
}

/// What is cached of messages; opened by [`super::Index::cached`].
#[derive(Debug)]
pub struct Cached {
    cache: Option<Cache>,
}

impl Cached {
    /// Nothing is cached.
    pub(crate) fn none() -> Self {
        Self { cache: None }
    }

    /// Opens the cache that belongs to this state.
    pub(crate) fn open(files: &Files, state: &IndexState) -> Result<Self> {
        let path = files.cache();
        let cache = Cache::open(&path).map_err(|error| StorageError::io("read", &path, &error))?;
        let index_id = state.header().get(HeaderField::IndexId);
        let reset_id = state.extension("cache").map(|known| known.reset_id);
        Ok(Self {
            cache: cache
                .filter(|cache| cache.index_id == index_id && Some(cache.file_seq) == reset_id),
        })
    }

    /// When the message was saved, in seconds since the epoch; `None` if that is not cached.
    pub fn saved_date(&self, message: &Message<'_>) -> Option<u32> {
        let data = self.find(message, SAVED_DATE, 4)?;
        u32_at(&data, 0).filter(|date| *date != 0)
    }

    /// The text of its GUID; `None` if that is not cached.
    pub fn guid(&self, message: &Message<'_>) -> Option<Vec<u8>> {
        self.find(message, GUID, VARIABLE_SIZE)
            .filter(|guid| !guid.is_empty())
    }

    fn find(&self, message: &Message<'_>, name: &str, size: u32) -> Option<Vec<u8>> {
        let cache = self.cache.as_ref()?;
        let field = cache.field(name, size)?;
        let offset = u32_at(message.extension("cache")?, 0)?;
        cache.find(offset, field).ok().flatten()
    }
}

/// A cache with its newest list of fields.
#[derive(Debug)]
pub(crate) struct Cache {
    pub(crate) file: File,
    pub(crate) index_id: u32,
    pub(crate) file_seq: u32,
    pub(crate) fields: Vec<CacheField>,
    /// The newest list of fields as it is on disk, and where it is.
    pub(crate) field_header: Vec<u8>,
    pub(crate) field_header_offset: u32,
    /// Data size of each field.
    sizes: Vec<u32>,
}

impl Cache {
    /// `None` if there is no usable one.
    fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Self::of(file)
    }

    /// The same for an open file.
    pub(crate) fn of(file: File) -> io::Result<Option<Self>> {
        let header = read_at(&file, 0, 32)?;
        let (Some([1, _, 1, _]), Some(first)) = (array_at(&header, 0), array_at(&header, 28))
        else {
            return Ok(None);
        };
        let Some((offset, list)) = newest_field_header(&file, decode_offset(first))? else {
            return Ok(None);
        };
        let number = |at| u32_at(&header, at).unwrap_or(0);
        Ok(field_list(&list).map(|(fields, sizes)| Self {
            index_id: number(4),
            file_seq: number(8),
            file,
            fields,
            sizes,
            field_header: list,
            field_header_offset: offset,
        }))
    }

    /// Number of a field whose data has this size.
    pub(crate) fn field(&self, name: &str, size: u32) -> Option<u32> {
        let position = self.fields.iter().position(|field| field.name == name)?;
        (self.sizes.get(position) == Some(&size)).then_some(position as u32)
    }

    /// The newest data of a field in the records that start at this offset.
    pub(crate) fn find(&self, mut offset: u32, field: u32) -> io::Result<Option<Vec<u8>>> {
        for _ in 0..MAX_CHAIN {
            if offset == 0 {
                break;
            }
            let mut record = read_at(&self.file, offset, FIRST_READ)?;
            let (Some(before), Some(size)) = (u32_at(&record, 0), u32_at(&record, 4)) else {
                break;
            };
            let size = (size as usize).min(MAX_RECORD);
            if size > record.len() {
                record = read_at(&self.file, offset, size)?;
            }
            record.truncate(size);
            if let Some(data) = self.field_of(&record, field) {
                return Ok(Some(data.to_vec()));
            }
            offset = before;
        }
        Ok(None)
    }

    fn field_of<'r>(&self, record: &'r [u8], wanted: u32) -> Option<&'r [u8]> {
        let mut at = 8;
        while at < record.len() {
            let field = u32_at(record, at)?;
            at += 4;
            let mut size = *self.sizes.get(field as usize)?;
            if size == VARIABLE_SIZE {
                size = u32_at(record, at)?;
                at += 4;
            }
            let data = record.get(at..at.checked_add(size as usize)?)?;
            if field == wanted {
                return Some(data);
            }
            at = at.checked_add(pad4(data.len()))?;
        }
        None
    }
}

/// Up to that many bytes.
fn read_at(file: &File, offset: u32, size: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; size];
    let mut done = 0;
    while done < size {
        match file.read_at(&mut bytes[done..], u64::from(offset) + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

/// Follows the links to the newest field header.
fn newest_field_header(file: &File, mut at: u32) -> io::Result<Option<(u32, Vec<u8>)>> {
    for _ in 0..MAX_FIELD_HEADERS {
        let start = read_at(file, at, 8)?;
        let (Some(next), Some(size)) = (array_at(&start, 0), u32_at(&start, 4)) else {
            break;
        };
        match decode_offset(next) {
            0 => {
                let size = (size as usize).min(MAX_FIELD_HEADER);
                return Ok(Some((at, read_at(file, at, size)?)));
            }
            next => at = next,
        }
    }
    Ok(None)
}

/// The fields with the sizes of their data.
fn field_list(header: &[u8]) -> Option<(Vec<CacheField>, Vec<u32>)> {
    let count = u32_at(header, 8)? as usize;
    if count > MAX_FIELDS {
        return None;
    }
    // last_used and size of each field (u32), type and decision (u8), then the names
    let decisions = header.get(12 + 9 * count..12 + 10 * count)?;
    let names = header.get(12 + 10 * count..)?;
    let mut fields = Vec::with_capacity(count);
    let mut sizes = Vec::with_capacity(count);
    for (id, (name, byte)) in names.split(|byte| *byte == 0).zip(decisions).enumerate() {
        let decision = match byte & 0x7f {
            0 => CacheDecision::No,
            1 => CacheDecision::Temp,
            2 => CacheDecision::Yes,
            _ => return None,
        };
        fields.push(CacheField {
            name: name.into(),
            decision,
            forced: byte & 0x80 != 0,
            last_used: u32_at(header, 12 + 4 * id)?.into(),
        });
        sizes.push(u32_at(header, 12 + 4 * (count + id))?);
    }
    Some((fields, sizes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn small_cache() -> Vec<u8> {
        let mut cache = vec![1, 8, 1, 0];
        for number in [5_u32, 7, 0, 1, 0, 0] {
            cache.extend(number.to_le_bytes());
        }
        cache.extend([0x80, 0x80, 0x80, 0x88]); // the field header is at 32
        let mut list = vec![0; 4];
        for number in [12 + 2 * 10 + 14_u32, 2, 11, 22, u32::MAX, 4] {
            list.extend(number.to_le_bytes());
        }
        list.extend([2, 0, 1, 0x82]);
        list.extend(b"one\0date.save\0");
        cache.extend(list);
        cache.resize(80, 0);
        for number in [0_u32, 28, 0, 3, 0x0063_6261, 1, 1_700_000_000] {
            cache.extend(number.to_le_bytes());
        }
        cache
    }

    fn open(bytes: &[u8]) -> Option<Cache> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        Cache::open(file.path()).unwrap()
    }

    #[test]
    fn fields_and_data() {
        let cache = open(&small_cache()).unwrap();
        assert_eq!((cache.index_id, cache.file_seq), (5, 7));
        assert_eq!(cache.fields.len(), 2);
        assert_eq!(cache.fields[0].decision, CacheDecision::Temp);
        assert_eq!(cache.fields[1].last_used, 22);
        assert!(cache.fields[1].forced);
        let field = cache.field(SAVED_DATE, 4).unwrap();
        assert_eq!(cache.field(GUID, VARIABLE_SIZE), None);
        let date = cache.find(80, field).unwrap().unwrap();
        assert_eq!(u32_at(&date, 0), Some(1_700_000_000));
        assert_eq!(cache.find(80, 0).unwrap().unwrap(), b"abc");
        assert_eq!(cache.find(0, 0).unwrap(), None);
    }

    proptest! {
        #[test]
        fn damage_is_not_cached(
            holes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            offset in any::<u32>(),
        ) {
            let mut bytes = small_cache();
            for (at, value) in holes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if let Some(cache) = open(&bytes) {
                for offset in [80, offset] {
                    cache.find(offset, 1).unwrap();
                }
            }
        }
    }
}
