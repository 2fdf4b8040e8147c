//! Writing into the cache: saved dates, which sdbox has no other place for, and GUIDs, so that
//! nobody opens every message file for them (`spec/dovecot-index.md` 15).
//!
//! Records are appended before the index tells of them. Killed between: bytes that nobody
//! reads. A new cache counts only when the index names its number.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use bstr::BString;
use dsync_proto::types::Uid;

use crate::Result;
use crate::StorageError;
use crate::lock::lock_file;

use super::cache::{Cache, GUID, SAVED_DATE, VARIABLE_SIZE};
use super::extension::ExtensionSpec;
use super::format::{encode_u32s, pad4, u32_at};
use super::header::HeaderField;
use super::store::{LockedIndex, unix_time};
use super::transaction::Transaction;

/// Longest wait for the lock of the cache; then it is left alone, as Dovecot does.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// Size of the cache's header.
const HEADER_SIZE: u32 = 32;
/// Where the number of first records of messages is in the header.
const RECORD_COUNT: u64 = 16;
/// The same for records that continue others.
const CONTINUED_COUNT: u64 = 12;
/// Fields that we write: name, size of the data, type.
const OUR_FIELDS: [(&str, u32, u8); 2] = [(SAVED_DATE, 4, 0), (GUID, VARIABLE_SIZE, 2)];
/// Larger caches are left alone; Dovecot makes them anew.
const MAX_CACHE_SIZE: u64 = 1 << 30;
/// The decision "yes".
const DECISION_YES: u8 = 2;

/// What to cache of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheEntry {
    /// Which message.
    pub uid: Uid,
    /// When it was saved, in seconds since the epoch; 0 to leave that out.
    pub saved_date: u32,
    /// The text of its GUID; empty to leave it out.
    pub guid: BString,
}

impl LockedIndex<'_> {
    /// Caches something about messages, also new ones; the transaction, which must be appended
    /// under the same lock, tells where. A failure is no more than a warning.
    pub fn cache(&mut self, entries: &[CacheEntry], transaction: &mut Transaction) {
        if entries.is_empty() || self.index.in_memory {
            return;
        }
        let path = self.index.files.cache();
        if let Err(error) = self.write_cache(entries, transaction) {
            tracing::warn!("saved dates are lost: {error} ({})", path.display());
        }
    }

    fn write_cache(&self, entries: &[CacheEntry], transaction: &mut Transaction) -> Result<()> {
        let path = self.index.files.cache();
        let known = self.index.state.extension(ExtensionSpec::CACHE.name);
        let io_error = |error| StorageError::io("write", &path, &error);
        let file = OpenOptions::new().read(true).write(true).open(&path);
        let usable = match file {
            Ok(file) => {
                let method = self.index.settings.lock_method;
                lock_file(&file, &path, method, LOCK_TIMEOUT, &mut || Ok(()))?;
                let cache = Cache::of(file).map_err(io_error)?;
                let index_id = self.index.state.header.get(HeaderField::IndexId);
                cache.filter(|cache| {
                    cache.index_id == index_id
                        && known.map(|known| known.reset_id) == Some(cache.file_seq)
                })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(io_error(error)),
        };
        let places = match usable {
            Some(cache) => {
                let before = |entry: &CacheEntry| {
                    let message = self.index.state.message(entry.uid)?;
                    u32_at(message.extension(ExtensionSpec::CACHE.name)?, 0)
                };
                let before: Vec<u32> = entries.iter().map(|e| before(e).unwrap_or(0)).collect();
                append(&cache, entries, &before).map_err(io_error)?
            }
            None => {
                let old = known.map_or(0, |known| known.reset_id);
                let file_seq = unix_time().max(old.saturating_add(1));
                transaction.reset_extension(ExtensionSpec::CACHE, file_seq, false);
                self.new_cache(file_seq, entries)?
            }
        };
        for (entry, offset) in entries.iter().zip(places) {
            let bytes = offset.to_le_bytes();
            transaction.set_extension_record(ExtensionSpec::CACHE, entry.uid, &bytes);
        }
        Ok(())
    }

    /// Makes a cache with our fields; gives the offsets of the records.
    fn new_cache(&self, file_seq: u32, entries: &[CacheEntry]) -> Result<Vec<u32>> {
        let files = &self.index.files;
        let (path, temp) = (files.cache(), files.cache_new());
        let index_id = self.index.state.header.get(HeaderField::IndexId);
        let count = entries.len() as u32;
        let mut bytes = vec![1, 8, 1, 0];
        bytes.extend(encode_u32s(&[index_id, file_seq, 0, count, 0, 0]));
        bytes.extend(super::format::encode_offset(HEADER_SIZE));
        bytes.extend(field_header(&Fields::default(), &OUR_FIELDS));
        let places = put_records(&mut bytes, 0, [0, 1], entries, &[]);
        // It may be a lock of Dovecot, which is working on the cache then, or that of a dead one.
        let file = files.create(&temp)?;
        let written = file
            .write_all_at(&bytes, 0)
            .map_err(|error| StorageError::io("write", &temp, &error))
            .and_then(|()| super::files::rename(&temp, &path));
        if let Err(error) = written {
            crate::path_io::remove(&temp)?;
            return Err(error);
        }
        Ok(places)
    }
}

/// Raw columns of a field header.
#[derive(Default)]
struct Fields {
    last_used: Vec<u8>,
    sizes: Vec<u8>,
    types: Vec<u8>,
    decisions: Vec<u8>,
    names: Vec<u8>,
}

impl Fields {
    fn parse(header: &[u8]) -> Option<Self> {
        let count = u32_at(header, 8)? as usize;
        let column = |from: usize, to: usize| {
            let bytes = header.get(12 + from.checked_mul(count)?..12 + to.checked_mul(count)?)?;
            Some(bytes.to_vec())
        };
        let names = header.get(12 + 10_usize.checked_mul(count)?..)?;
        let end = names
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == 0)
            .nth(count.checked_sub(1)?)?
            .0;
        Some(Self {
            last_used: column(0, 4)?,
            sizes: column(4, 8)?,
            types: column(8, 9)?,
            decisions: column(9, 10)?,
            names: names.get(..=end)?.to_vec(),
        })
    }
}

/// A field header with more fields behind these.
fn field_header(fields: &Fields, more: &[(&str, u32, u8)]) -> Vec<u8> {
    let count = (fields.types.len() + more.len()) as u32;
    let now = unix_time().to_le_bytes();
    let mut columns = fields.last_used.clone();
    columns.extend(more.iter().flat_map(|_| now));
    columns.extend(&fields.sizes);
    columns.extend(more.iter().flat_map(|(_, size, _)| size.to_le_bytes()));
    columns.extend(&fields.types);
    columns.extend(more.iter().map(|(.., kind)| kind));
    columns.extend(&fields.decisions);
    columns.extend(more.iter().map(|_| DECISION_YES));
    columns.extend(&fields.names);
    for (name, ..) in more {
        columns.extend(name.as_bytes());
        columns.push(0);
    }
    let mut header = encode_u32s(&[0, 12 + columns.len() as u32, count]);
    header.extend(columns);
    header.resize(pad4(header.len()), 0);
    header
}

/// Adds records to `bytes`, which will stand at `start` in the file; gives their offsets.
/// `before`: where the records are that they continue, 0 for none.
fn put_records(
    bytes: &mut Vec<u8>,
    start: u64,
    [saved_date, guid]: [u32; 2],
    entries: &[CacheEntry],
    before: &[u32],
) -> Vec<u32> {
    let mut places = Vec::with_capacity(entries.len());
    let before = before.iter().copied().chain(std::iter::repeat(0));
    for (entry, before) in entries.iter().zip(before) {
        let mut data = Vec::new();
        if entry.saved_date != 0 {
            data.extend(encode_u32s(&[saved_date, entry.saved_date]));
        }
        if !entry.guid.is_empty() {
            data.extend(encode_u32s(&[guid, entry.guid.len() as u32]));
            data.extend_from_slice(&entry.guid);
            data.resize(pad4(data.len()), 0);
        }
        places.push((start + bytes.len() as u64) as u32);
        bytes.extend(encode_u32s(&[before, 8 + data.len() as u32]));
        bytes.extend(data);
    }
    places
}

/// Adds records to a locked cache; gives their offsets, none for a cache that is full.
fn append(cache: &Cache, entries: &[CacheEntry], before: &[u32]) -> io::Result<Vec<u32>> {
    let file = &cache.file;
    let mut end = file.metadata()?.len().next_multiple_of(4);
    if end > MAX_CACHE_SIZE {
        return Ok(Vec::new());
    }
    let Some((fields, new_end)) = our_fields(cache, end)? else {
        return Ok(Vec::new());
    };
    end = new_end;
    let mut bytes = Vec::new();
    let places = put_records(&mut bytes, end, fields, entries, before);
    file.write_all_at(&bytes, end)?;
    let continued = before.iter().filter(|offset| **offset != 0).count();
    add(file, CONTINUED_COUNT, continued)?;
    add(file, RECORD_COUNT, entries.len() - continued)?;
    Ok(places)
}

/// Adds to a number in the header.
fn add(file: &File, at: u64, more: usize) -> io::Result<()> {
    let mut number = [0; 4];
    file.read_exact_at(&mut number, at)?;
    let number = u32::from_le_bytes(number).saturating_add(more as u32);
    file.write_all_at(&number.to_le_bytes(), at)
}

/// Numbers of our fields, and the new end: a list of fields that has them is written if there is
/// none. Nothing if one of them is there with data of another size.
fn our_fields(cache: &Cache, end: u64) -> io::Result<Option<([u32; 2], u64)>> {
    let number = |(name, size, _): (&str, u32, u8)| cache.field(name, size);
    let known = OUR_FIELDS.map(number);
    if let [Some(saved_date), Some(guid)] = known {
        return Ok(Some(([saved_date, guid], end)));
    }
    let is_there = |name: &str| cache.fields.iter().any(|field| field.name == name);
    let missing: Vec<_> = OUR_FIELDS
        .into_iter()
        .filter(|field| number(*field).is_none())
        .collect();
    let Some(fields) = Fields::parse(&cache.field_header) else {
        return Ok(None);
    };
    if missing.iter().any(|(name, ..)| is_there(name)) {
        return Ok(None);
    }
    let mut next = fields.types.len() as u32..;
    let numbers = known.map(|number| number.or_else(|| next.next()).unwrap_or(0));
    let header = field_header(&fields, &missing);
    cache.file.write_all_at(&header, end)?;
    let link = super::format::encode_offset(end as u32);
    cache
        .file
        .write_all_at(&link, u64::from(cache.field_header_offset))?;
    Ok(Some((numbers, end + header.len() as u64)))
}

#[cfg(test)]
mod tests {
    use dsync_proto::types::Flags;

    use super::*;
    use crate::index::{Index, IndexSettings, Origin};

    fn save(index: &mut Index, dates: &[(Uid, u32)]) {
        let mut locked = index.lock(LOCK_TIMEOUT).unwrap();
        let mut transaction = Transaction::new(Origin::FACT);
        transaction.set_uid_validity(5);
        for (uid, _) in dates {
            transaction.append(*uid, Flags::NONE);
        }
        let entries: Vec<_> = dates
            .iter()
            .map(|(uid, date)| CacheEntry {
                uid: *uid,
                saved_date: *date,
                guid: format!("guid {uid}").into(),
            })
            .collect();
        locked.cache(&entries, &mut transaction);
        locked.append(&transaction).unwrap();
        locked.finish().unwrap();
    }

    fn read(index: &Index) -> Vec<(Uid, Option<u32>)> {
        let cached = index.cached().unwrap();
        let read = |message: crate::index::Message<'_>| {
            let date = cached.saved_date(&message);
            let guid = format!("guid {}", message.uid()).into_bytes();
            assert_eq!(cached.guid(&message), date.map(|_| guid));
            (message.uid(), date)
        };
        index.state().messages().map(read).collect()
    }

    #[test]
    fn dates_come_back_and_a_lost_cache_starts_anew() {
        let dir = tempfile::tempdir().unwrap();
        let mut index = Index::open(dir.path(), "i", IndexSettings::default()).unwrap();
        save(&mut index, &[(1, 1000), (2, 2000)]);
        save(&mut index, &[(7, 7000)]);
        let expected = [(1, Some(1000)), (2, Some(2000)), (7, Some(7000))];
        assert_eq!(read(&index), expected);
        std::fs::remove_file(dir.path().join("i.cache")).unwrap();
        save(&mut index, &[(9, 9000)]);
        let expected = [(1, None), (2, None), (7, None), (9, Some(9000))];
        assert_eq!(read(&index), expected);
        let mut again = Index::open(dir.path(), "i", IndexSettings::default()).unwrap();
        assert_eq!(read(&again), expected);
        std::fs::write(dir.path().join("i.cache"), b"rubbish").unwrap();
        save(&mut again, &[(10, 10_000)]);
        assert_eq!(read(&again).last(), Some(&(10, Some(10_000))));
    }

    #[test]
    fn fields_are_added_behind_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache");
        let other = [
            ("flags", 4, 3),
            (SAVED_DATE, 4, 0),
            ("hdr.X", VARIABLE_SIZE, 4),
        ];
        let mut bytes = vec![1, 8, 1, 0];
        bytes.extend(encode_u32s(&[5, 7, 0, 0, 0, 0]));
        bytes.extend(crate::index::format::encode_offset(HEADER_SIZE));
        bytes.extend(field_header(&Fields::default(), &other));
        std::fs::write(&path, bytes).unwrap();
        let open = || {
            let file = OpenOptions::new().read(true).write(true).open(&path);
            Cache::of(file.unwrap()).unwrap().unwrap()
        };
        let entry = |uid, saved_date| CacheEntry {
            uid,
            saved_date,
            guid: "some text".into(),
        };
        let places = append(&open(), &[entry(1, 10), entry(2, 0)], &[0, 0]).unwrap();
        let more = append(&open(), &[entry(3, 30)], &[0]).unwrap();
        let guid_only = CacheEntry {
            guid: "new".into(),
            ..entry(1, 0)
        };
        let again = append(&open(), &[guid_only], &places[..1]).unwrap();
        let cache = open();
        let names: Vec<_> = cache
            .fields
            .iter()
            .map(|field| field.name.to_string())
            .collect();
        assert_eq!(names, ["flags", SAVED_DATE, "hdr.X", GUID]);
        let date = |at: u32| cache.find(at, 1).unwrap();
        assert_eq!(date(places[0]), Some(10_u32.to_le_bytes().to_vec()));
        assert_eq!(date(places[1]), None);
        assert_eq!(date(more[0]), Some(30_u32.to_le_bytes().to_vec()));
        assert_eq!(date(again[0]), date(places[0]), "it continues the other");
        assert_eq!(cache.find(again[0], 3).unwrap().unwrap(), b"new");
        for at in places.into_iter().chain(more) {
            assert_eq!(cache.find(at, 3).unwrap().unwrap(), b"some text");
        }
    }
}
