//! The cache file, as far as a sync needs it: which fields are cached
//! (`spec/dovecot-index.md` 15, `spec/wire.md` 7.4).

use std::path::Path;

use dsync_proto::items::{CacheDecision, CacheField};

use crate::Result;

use super::files::{self, Files};
use super::format::{array_at, decode_offset, u32_at};

/// Most bytes of a cache that are looked at; the field list can stand anywhere in it.
const MAX_CACHE: u64 = 1 << 30;
/// Field headers replace each other; more than this is a loop.
const MAX_FIELD_HEADERS: usize = 1 << 10;
/// Most fields; Dovecot has some dozens.
const MAX_FIELDS: usize = 1 << 12;

/// The cache decisions of the index with this prefix; none if there is no usable cache.
pub fn cache_fields(dir: &Path, prefix: &str) -> Result<Vec<CacheField>> {
    let bytes = files::read(&Files::new(dir, prefix).cache(), MAX_CACHE)?;
    Ok(bytes.as_deref().and_then(fields).unwrap_or_default())
}

fn fields(cache: &[u8]) -> Option<Vec<CacheField>> {
    let [1, _, 1, _] = array_at::<4>(cache, 0)? else {
        return None;
    };
    let mut at = decode_offset(array_at(cache, 28)?) as usize;
    for _ in 0..MAX_FIELD_HEADERS {
        let next = decode_offset(array_at(cache, at)?) as usize;
        if next == 0 {
            return (at != 0).then(|| field_header(cache, at)).flatten();
        }
        at = next;
    }
    None
}

fn field_header(cache: &[u8], at: usize) -> Option<Vec<CacheField>> {
    let size = u32_at(cache, at + 4)? as usize;
    let header = cache.get(at..at.checked_add(size)?)?;
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
