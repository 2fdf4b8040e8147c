//! Index files as text, for people.

use std::fmt::Write;

use bstr::{BStr, ByteSlice};

use super::header::HeaderField;
use super::log_header::LogHeader;
use super::modseq;
use super::payload::{
    KeywordUpdate, appends, atomic_incs, attribute_updates, expunged_guids, ext_intros,
    flag_updates, header_updates, modseq_updates, ranges,
};
use super::record::{EXT_BY_NAME, Record, RecordKind, RecordReader};
use super::snapshot;

/// The contents of a snapshot or a log as lines of text; `None` if the bytes are neither.
pub fn dump(file: &[u8]) -> Option<String> {
    match file.first() {
        Some(7) => dump_snapshot(file),
        Some(1) => dump_log(file),
        _ => None,
    }
}

// Writing to a string cannot fail, so results of `write!` are not looked at.

fn dump_snapshot(file: &[u8]) -> Option<String> {
    let snapshot = snapshot::decode(file).ok()?;
    let state = &snapshot.state;
    let mut out = format!("{:#?}\n", state.header());
    if let Some(what) = snapshot.repaired {
        let _ = writeln!(out, "damaged: {what}");
    }
    for (id, extension) in state.extensions().iter().enumerate() {
        let _ = writeln!(
            out,
            "extension {id} {}: reset_id={} header={} record={} align={} {}",
            extension.name,
            extension.reset_id,
            extension.header.len(),
            extension.record_size,
            extension.record_align,
            hex(&extension.header),
        );
    }
    for (bit, name) in state.keyword_names().iter().enumerate() {
        let _ = writeln!(out, "keyword {bit} {name}");
    }
    for message in state.messages() {
        let keywords: Vec<&BStr> = message.keywords().collect();
        let _ = writeln!(
            out,
            "message uid={} flags={:#04x} keywords={} modseq={}",
            message.uid(),
            message.raw_flags(),
            bstr::join(" ", keywords).as_bstr(),
            message.modseq(),
        );
    }
    Some(out)
}

fn dump_log(file: &[u8]) -> Option<String> {
    let header = LogHeader::decode(file)?;
    let mut out = format!("{header:#?}\n");
    let records = file.get(usize::from(header.header_size)..).unwrap_or(&[]);
    let mut reader = RecordReader::new(records, header.header_size.into());
    let mut running = header.initial_modseq;
    for record in reader.by_ref() {
        match record {
            Ok(record) => {
                running = modseq::advance(running, &record, header.minor_version);
                let _ = write!(out, "{:6} modseq={running} ", record.offset);
                describe(&mut out, &record);
                out.push('\n');
            }
            Err(invalid) => {
                let _ = writeln!(out, "damaged: {invalid}");
            }
        }
    }
    let rest = file.len().saturating_sub(reader.offset() as usize);
    if rest > 0 {
        let _ = writeln!(out, "unfinished: {rest} bytes at {}", reader.offset());
    }
    Some(out)
}

fn describe(out: &mut String, record: &Record<'_>) {
    let Some(kind) = record.kind else {
        let _ = write!(out, "unknown {}", hex(record.payload));
        return;
    };
    let _ = write!(out, "{kind:?}");
    if record.external {
        out.push_str(" external");
    }
    if record.sync {
        out.push_str(" sync");
    }
    let payload = record.payload;
    let uids = |out: &mut String, ranges: &mut dyn Iterator<Item = (u32, u32)>| {
        for (first, last) in ranges {
            let _ = write!(out, " {first}:{last}");
        }
    };
    match kind {
        RecordKind::Expunge | RecordKind::KeywordReset => uids(out, &mut ranges(payload)),
        RecordKind::KeywordUpdate => {
            if let Some(update) = KeywordUpdate::decode(payload) {
                let sign = if update.add { '+' } else { '-' };
                let _ = write!(out, " {sign}{}", update.name.as_bstr());
                uids(out, &mut update.ranges());
            }
        }
        RecordKind::Append => each(out, appends(payload), |(uid, flags)| {
            format!("{uid} flags={flags:#04x}")
        }),
        RecordKind::FlagUpdate => each(out, flag_updates(payload), |flag| {
            let inc = if flag.modseq_inc { " modseq" } else { "" };
            format!(
                "{}:{} +{:#04x} -{:#04x}{inc}",
                flag.first, flag.last, flag.add, flag.remove
            )
        }),
        RecordKind::HeaderUpdate => {
            each(
                out,
                header_updates(payload, false).flatten(),
                |(at, data)| format!("{}={}", field_name(at), hex(data)),
            );
        }
        RecordKind::ExtHdrUpdate | RecordKind::ExtHdrUpdate32 => {
            let wide = kind == RecordKind::ExtHdrUpdate32;
            each(
                out,
                header_updates(payload, wide).flatten(),
                |(at, data)| format!("{at}={}", hex(data)),
            );
        }
        RecordKind::ExtIntro => each(out, ext_intros(payload).flatten(), |intro| {
            let id = match intro.id {
                EXT_BY_NAME => intro.name.as_bstr().to_string(),
                id => format!("id={id}"),
            };
            format!(
                "{id} reset_id={} header={} record={} align={} no_shrink={}",
                intro.reset_id,
                intro.header_size,
                intro.record_size,
                intro.record_align,
                intro.no_shrink
            )
        }),
        RecordKind::ExtAtomicInc => each(out, atomic_incs(payload), |(uid, difference)| {
            format!("{uid} {difference:+}")
        }),
        RecordKind::ExpungeGuid => each(out, expunged_guids(payload), |(uid, guid)| {
            format!("{uid} {guid}")
        }),
        RecordKind::ModseqUpdate => each(out, modseq_updates(payload), |(uid, modseq)| {
            format!("{uid} {modseq}")
        }),
        RecordKind::AttributeUpdate => {
            each(
                out,
                attribute_updates(payload).into_iter().flatten(),
                |entry| {
                    let sign = if entry.deleted { '-' } else { '+' };
                    let kind = if entry.shared { "shared" } else { "private" };
                    format!("{sign}{kind}/{}", entry.key.as_bstr())
                },
            );
        }
        RecordKind::ExtReset
        | RecordKind::ExtRecUpdate
        | RecordKind::Boundary
        | RecordKind::IndexDeleted
        | RecordKind::IndexUndeleted => {
            let _ = write!(out, " {}", hex(payload));
        }
    }
}

fn each<T>(out: &mut String, entries: impl Iterator<Item = T>, text: impl Fn(T) -> String) {
    for (index, entry) in entries.enumerate() {
        out.push_str(if index == 0 { " " } else { ", " });
        out.push_str(&text(entry));
    }
}

fn field_name(offset: usize) -> String {
    const FIELDS: [HeaderField; 8] = [
        HeaderField::UidValidity,
        HeaderField::NextUid,
        HeaderField::FirstRecentUid,
        HeaderField::LogTailOffset,
        HeaderField::Log2RotateTime,
        HeaderField::LastTempFileScan,
        HeaderField::DayStamp,
        HeaderField::Flags,
    ];
    FIELDS
        .into_iter()
        .find(|field| *field as usize == offset)
        .map_or_else(|| offset.to_string(), |field| format!("{field:?}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
