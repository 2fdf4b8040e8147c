//! Changes of extensions become log records.

use super::encode::{EncodeError, RecordWriter, put};
use super::extension::{MAX_EXTENSION_RECORD, MAX_HEADER_SIZE, valid_name};
use super::format::pad4;
use super::record::{EXT_BY_NAME, EXT_NO_SHRINK, RecordKind};
use super::state::IndexState;
use super::transaction::{ExtensionChanges, Origin};

/// `spec/dovecot-index.md` 7.3.
pub(crate) fn enable_modseqs(out: &mut RecordWriter, state: &IndexState) {
    let spec = super::ExtensionSpec::MODSEQ;
    let known = state.extension(spec.name);
    out.record(RecordKind::ExtIntro, Origin::FACT, |out| {
        put(out, EXT_BY_NAME);
        put(out, known.map_or(0, |extension| extension.reset_id));
        put(out, spec.header_size);
        out.extend_from_slice(&spec.record_size.to_le_bytes());
        out.extend_from_slice(&spec.record_align.to_le_bytes());
        out.extend_from_slice(&EXT_NO_SHRINK.to_le_bytes());
        out.extend_from_slice(&(spec.name.len() as u16).to_le_bytes());
        out.extend_from_slice(spec.name.as_bytes());
    });
    out.record(RecordKind::ExtHdrUpdate, Origin::FACT, |out| {
        out.extend_from_slice(&[0, 0, 16, 0]);
        out.extend_from_slice(&state.highest_modseq().to_le_bytes());
        put(out, 0);
        put(out, 0);
    });
}

/// Introduces an extension so that nothing of an existing one shrinks.
fn intro(
    out: &mut RecordWriter,
    origin: Origin,
    changes: &ExtensionChanges,
    state: &IndexState,
    reset_id: Option<u32>,
) {
    let id = state.extension_id(&changes.name);
    let known = id.and_then(|id| state.extensions().get(id));
    let reset_id = reset_id
        .or(known.map(|extension| extension.reset_id))
        .unwrap_or(0);
    let header_size = known.map_or(0, |extension| extension.header.len() as u32);
    let record_align = known.map_or(0, |extension| extension.record_align);
    // With records to come it says how long their entries are.
    let record_size = match known {
        Some(extension) if changes.record_uids.is_empty() => {
            changes.record_size.max(extension.record_size)
        }
        _ => changes.record_size,
    };
    out.record(RecordKind::ExtIntro, origin, |out| {
        put(out, id.map_or(EXT_BY_NAME, |id| id as u32));
        put(out, reset_id);
        put(out, header_size.max(changes.header_size));
        out.extend_from_slice(&record_size.to_le_bytes());
        out.extend_from_slice(&changes.record_align.max(record_align).to_le_bytes());
        out.extend_from_slice(&EXT_NO_SHRINK.to_le_bytes());
        let name: &[u8] = if id.is_some() { b"" } else { &changes.name };
        out.extend_from_slice(&(name.len() as u16).to_le_bytes());
        out.extend_from_slice(name);
    });
}

pub(crate) fn extension_header(
    out: &mut RecordWriter,
    origin: Origin,
    changes: &ExtensionChanges,
    state: &IndexState,
) -> Result<(), EncodeError> {
    let fail = || EncodeError::Extension(changes.name.clone());
    let known = state
        .extension_id(&changes.name)
        .and_then(|id| state.extensions().get(id));
    let size = known
        .map_or(0, |extension| extension.header.len())
        .max(changes.header_size as usize);
    let in_header = |(offset, data): &(u32, Vec<u8>)| *offset as usize + data.len() <= size;
    let valid = valid_name(&changes.name)
        && changes.name != "keywords"
        && size <= MAX_HEADER_SIZE
        && usize::from(changes.record_size) <= MAX_EXTENSION_RECORD
        && (size > 0 || changes.record_size > 0)
        && (changes.record_uids.is_empty() || changes.record_size > 0)
        && changes.headers.iter().all(in_header);
    if !valid {
        return Err(fail());
    }
    let only_records = changes.reset.is_none() && changes.headers.is_empty();
    let fits = known.is_some_and(|extension| {
        extension.header.len() >= changes.header_size as usize
            && extension.record_size >= changes.record_size
    });
    if only_records && (fits || !changes.record_uids.is_empty()) {
        return Ok(()); // exists, or is introduced before its records
    }
    intro(out, origin, changes, state, None);
    if let Some((reset_id, preserve)) = changes.reset {
        out.record(RecordKind::ExtReset, origin, |out| {
            put(out, reset_id);
            put(out, preserve.into());
        });
        if !changes.headers.is_empty() {
            intro(out, origin, changes, state, Some(reset_id));
        }
    }
    for (offset, data) in &changes.headers {
        let narrow = u16::try_from(*offset)
            .ok()
            .zip(u16::try_from(data.len()).ok());
        let kind = match narrow {
            Some(_) if size < 1 << 16 => RecordKind::ExtHdrUpdate,
            _ => RecordKind::ExtHdrUpdate32,
        };
        out.record(kind, origin, |out| {
            match narrow.filter(|_| kind == RecordKind::ExtHdrUpdate) {
                Some((offset, length)) => {
                    out.extend_from_slice(&offset.to_le_bytes());
                    out.extend_from_slice(&length.to_le_bytes());
                }
                None => {
                    put(out, *offset);
                    put(out, data.len() as u32);
                }
            }
            out.extend_from_slice(data);
        });
    }
    Ok(())
}

pub(crate) fn extension_records(
    out: &mut RecordWriter,
    origin: Origin,
    changes: &ExtensionChanges,
    state: &IndexState,
) {
    if changes.record_uids.is_empty() {
        return;
    }
    intro(
        out,
        origin,
        changes,
        state,
        changes.reset.map(|reset| reset.0),
    );
    let size = usize::from(changes.record_size);
    out.record(RecordKind::ExtRecUpdate, origin, |out| {
        let entries = changes.record_bytes.chunks_exact(size);
        for (uid, data) in changes.record_uids.iter().zip(entries) {
            put(out, *uid);
            out.extend_from_slice(data);
            out.resize(out.len() + pad4(size) - size, 0);
        }
    });
}
