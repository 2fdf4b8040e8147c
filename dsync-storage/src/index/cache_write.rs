//! Writing saved dates into the cache: sdbox has no other place for them
//! (`spec/dovecot-index.md` 15).
//!
//! Records are appended before the index tells of them. Killed between: bytes that nobody
//! reads. A new cache counts only when the index names its number.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use dsync_proto::types::Uid;

use crate::Result;
use crate::StorageError;
use crate::lock::lock_file;

use super::cache::{Cache, NAME_OF_SAVED_DATE};
use super::extension::ExtensionSpec;
use super::format::{encode_u32s, pad4, u32_at};
use super::header::HeaderField;
use super::store::{LockedIndex, unix_time};
use super::transaction::Transaction;

/// Longest wait for the lock of the cache; then it is left alone, as Dovecot does.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// Size of the cache's header.
const HEADER_SIZE: u32 = 32;
/// Where the number of records is in the header.
const RECORD_COUNT: u64 = 16;
/// Size of our records: link, size, field, date.
const RECORD_SIZE: usize = 16;
/// Larger caches are left alone; Dovecot makes them anew.
const MAX_CACHE_SIZE: u64 = 1 << 30;
/// The decision "yes".
const DECISION_YES: u8 = 2;

impl LockedIndex<'_> {
    /// Caches when messages were saved; the transaction, which must be appended under the same
    /// lock, tells where. New messages only. A failure is no more than a warning.
    pub fn cache_saved_dates(&mut self, dates: &[(Uid, u32)], transaction: &mut Transaction) {
        if dates.is_empty() {
            return;
        }
        let path = self.index.files.cache();
        if let Err(error) = self.write_saved_dates(dates, transaction) {
            tracing::warn!("saved dates are lost: {error} ({})", path.display());
        }
    }

    fn write_saved_dates(&self, dates: &[(Uid, u32)], transaction: &mut Transaction) -> Result<()> {
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
        let first = match usable {
            Some(cache) => append(&cache, dates).map_err(io_error)?,
            None => {
                let old = known.map_or(0, |known| known.reset_id);
                let file_seq = unix_time().max(old.saturating_add(1));
                transaction.reset_extension(ExtensionSpec::CACHE, file_seq, false);
                Some(self.new_cache(file_seq, dates)?)
            }
        };
        let Some(first) = first else { return Ok(()) };
        for ((uid, _), number) in dates.iter().zip(0_u32..) {
            let offset = first + number * RECORD_SIZE as u32;
            transaction.set_extension_record(ExtensionSpec::CACHE, *uid, &offset.to_le_bytes());
        }
        Ok(())
    }

    /// Makes a cache with one field; gives the offset of the first record.
    fn new_cache(&self, file_seq: u32, dates: &[(Uid, u32)]) -> Result<u32> {
        let files = &self.index.files;
        let (path, temp) = (files.cache(), files.cache_new());
        let index_id = self.index.state.header.get(HeaderField::IndexId);
        let mut bytes = vec![1, 8, 1, 0];
        bytes.extend(encode_u32s(&[
            index_id,
            file_seq,
            0,
            dates.len() as u32,
            0,
            0,
        ]));
        bytes.extend(super::format::encode_offset(HEADER_SIZE));
        bytes.extend(field_header(&Fields::default()));
        let first = bytes.len() as u32;
        bytes.extend(records(0, dates));
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
        Ok(first)
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

/// A field header with the saved date behind these fields.
fn field_header(fields: &Fields) -> Vec<u8> {
    let count = fields.types.len() as u32 + 1;
    let mut columns = fields.last_used.clone();
    columns.extend(unix_time().to_le_bytes());
    columns.extend(&fields.sizes);
    columns.extend(4_u32.to_le_bytes());
    columns.extend(&fields.types);
    columns.push(0);
    columns.extend(&fields.decisions);
    columns.push(DECISION_YES);
    columns.extend(&fields.names);
    columns.extend(NAME_OF_SAVED_DATE.as_bytes());
    columns.push(0);
    let mut header = encode_u32s(&[0, 12 + columns.len() as u32, count]);
    header.extend(columns);
    header.resize(pad4(header.len()), 0);
    header
}

fn records(field: u32, dates: &[(Uid, u32)]) -> Vec<u8> {
    dates
        .iter()
        .flat_map(|(_, date)| encode_u32s(&[0, RECORD_SIZE as u32, field, *date]))
        .collect()
}

/// Adds records to a locked cache; gives the offset of the first one, or nothing for a cache
/// that is full.
fn append(cache: &Cache, dates: &[(Uid, u32)]) -> io::Result<Option<u32>> {
    let file = &cache.file;
    let mut end = file.metadata()?.len().next_multiple_of(4);
    if end > MAX_CACHE_SIZE {
        return Ok(None);
    }
    let field = match cache.saved_date_field() {
        Some(field) => field,
        None => match add_field(cache, end)? {
            Some((field, new_end)) => {
                end = new_end;
                field
            }
            None => return Ok(None),
        },
    };
    file.write_all_at(&records(field, dates), end)?;
    let mut count = [0; 4];
    file.read_exact_at(&mut count, RECORD_COUNT)?;
    let count = u32::from_le_bytes(count).saturating_add(dates.len() as u32);
    file.write_all_at(&count.to_le_bytes(), RECORD_COUNT)?;
    Ok(u32::try_from(end).ok())
}

/// Writes a list of fields that has the saved date; gives its number and the new end.
fn add_field(cache: &Cache, end: u64) -> io::Result<Option<(u32, u64)>> {
    if cache
        .fields
        .iter()
        .any(|field| field.name == NAME_OF_SAVED_DATE)
    {
        return Ok(None); // of another size
    }
    let Some(fields) = Fields::parse(&cache.field_header) else {
        return Ok(None);
    };
    let header = field_header(&fields);
    cache.file.write_all_at(&header, end)?;
    let link = super::format::encode_offset(end as u32);
    cache
        .file
        .write_all_at(&link, u64::from(cache.field_header_offset))?;
    Ok(Some((fields.types.len() as u32, end + header.len() as u64)))
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
        locked.cache_saved_dates(dates, &mut transaction);
        locked.append(&transaction).unwrap();
        locked.finish().unwrap();
    }

    fn read(index: &Index) -> Vec<(Uid, Option<u32>)> {
        let dates = index.saved_dates().unwrap();
        let messages = index.state().messages();
        messages.map(|m| (m.uid(), dates.get(&m))).collect()
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
    fn a_field_is_added_behind_others() {
        let other = Fields {
            last_used: vec![1, 0, 0, 0],
            sizes: u32::MAX.to_le_bytes().to_vec(),
            types: vec![2],
            decisions: vec![1],
            names: b"guid\0".to_vec(),
        };
        let header = field_header(&other);
        let parsed = Fields::parse(&header).unwrap();
        assert_eq!(parsed.names, b"guid\0date.save\0");
        assert_eq!(parsed.types, [2, 0]);
        assert_eq!(parsed.decisions, [1, 2]);
        assert!(Fields::parse(&header[..20]).is_none());
    }
}
