//! The cache file, as far as a sync needs it: which fields are cached
//! (`spec/dovecot-index.md` 15, `spec/wire.md` 7.4).

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use dsync_proto::items::{CacheDecision, CacheField};

use crate::{Result, StorageError};

use super::files::Files;
use super::format::{array_at, decode_offset, u32_at};

/// Field headers replace each other; more than this is a loop.
const MAX_FIELD_HEADERS: usize = 1 << 10;
/// Largest field header that is read.
const MAX_FIELD_HEADER: usize = 1 << 20;
/// Most fields; Dovecot has some dozens.
const MAX_FIELDS: usize = 1 << 12;

/// The cache decisions of the index with this prefix; none if there is no usable cache.
pub fn cache_fields(dir: &Path, prefix: &str) -> Result<Vec<CacheField>> {
    let path = Files::new(dir, prefix).cache();
    let cache = match File::open(&path) {
        Ok(cache) => cache,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StorageError::io("open", &path, &error)),
    };
    let read = |at: u64, size: usize| {
        let mut bytes = Vec::new();
        let mut reader = &cache;
        reader.seek(SeekFrom::Start(at))?;
        reader.take(size as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let fields =
        fields(read).map_err(|error: io::Error| StorageError::io("read", &path, &error))?;
    Ok(fields.unwrap_or_default())
}

/// The newest list of fields. `read` gives up to so many bytes at an offset.
fn fields(read: impl Fn(u64, usize) -> io::Result<Vec<u8>>) -> io::Result<Option<Vec<CacheField>>> {
    let header = read(0, 32)?;
    let (Some([1, _, 1, _]), Some(first)) = (array_at(&header, 0), array_at(&header, 28)) else {
        return Ok(None);
    };
    let mut at = u64::from(decode_offset(first));
    for _ in 0..MAX_FIELD_HEADERS {
        let start = read(at, 8)?;
        let (Some(next), Some(size)) = (array_at(&start, 0), u32_at(&start, 4)) else {
            return Ok(None);
        };
        match decode_offset(next) {
            0 => {
                let size = (size as usize).min(MAX_FIELD_HEADER);
                return Ok(field_header(&read(at, size)?));
            }
            next => at = next.into(),
        }
    }
    Ok(None)
}

fn field_header(header: &[u8]) -> Option<Vec<CacheField>> {
    let count = u32_at(header, 8)? as usize;
    if count > MAX_FIELDS {
        return None;
    }
    // last_used and size of each field (u32), type and decision (u8), then the names
    let decisions = header.get(12 + 9 * count..12 + 10 * count)?;
    let names = header.get(12 + 10 * count..)?;
    let mut fields = Vec::with_capacity(count);
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
    }
    Some(fields)
}
