//! `C` mail_change (`spec/wire.md` 7.6).

use crate::items::{Change, ChangeKind};
use crate::limits;
use crate::types::{Flags, KeywordChange, KeywordOp, MailGuid};
use crate::wire::error::DecodeError;
use crate::wire::escape::unescape;
use crate::wire::fields::{Fields, split_list, too_long_list};
use crate::wire::number;
use crate::wire::row::Row;
use crate::wire::spec::{ItemSpec, optional, required};

pub(crate) static SPEC: ItemSpec = ItemSpec {
    letter: b'C',
    name: "mail_change",
    min_minor: 0,
    keys: &[
        required("type"),
        required("uid"),
        optional("guid"),
        optional("hdr_hash"),
        optional("modseq"),
        optional("pvt_modseq"),
        optional("add_flags"),
        optional("remove_flags"),
        optional("final_flags"),
        optional("keywords_reset"),
        optional("keyword_changes"),
        optional("received_timestamp"),
        optional("virtual_size"),
    ],
};

const TYPE: usize = 0;
const UID: usize = 1;
const GUID: usize = 2;
const HDR_HASH: usize = 3;
const MODSEQ: usize = 4;
const PVT_MODSEQ: usize = 5;
const ADD_FLAGS: usize = 6;
const REMOVE_FLAGS: usize = 7;
const FINAL_FLAGS: usize = 8;
const KEYWORDS_RESET: usize = 9;
const KEYWORD_CHANGES: usize = 10;
const RECEIVED_TIMESTAMP: usize = 11;
const VIRTUAL_SIZE: usize = 12;

pub(crate) fn decode(fields: &Fields<'_>) -> Result<Change, DecodeError> {
    let kind = match fields.text_or_empty(TYPE).first() {
        Some(b's') => ChangeKind::Save,
        Some(b'f') => ChangeKind::Flags,
        Some(b'e') => ChangeKind::Expunge,
        _ => return Err(fields.invalid_shown(TYPE)),
    };
    let uid = fields.u32(UID)?;
    if uid == 0 {
        return Err(fields.invalid(UID));
    }
    let guid = fields.text(GUID).map(MailGuid::new);
    if guid.is_none() && kind == ChangeKind::Save {
        return Err(DecodeError::MissingField {
            item: SPEC.name,
            key: "guid",
        });
    }
    Ok(Change {
        kind,
        uid,
        guid,
        hdr_hash: fields.bstring(HDR_HASH),
        modseq: fields.u64(MODSEQ)?,
        pvt_modseq: fields.u64(PVT_MODSEQ)?,
        add_flags: flags(fields, ADD_FLAGS)?,
        remove_flags: flags(fields, REMOVE_FLAGS)?,
        final_flags: flags(fields, FINAL_FLAGS)?,
        keywords_reset: fields.flag(KEYWORDS_RESET),
        keyword_changes: keyword_changes(&fields.text_or_empty(KEYWORD_CHANGES))?,
        received_timestamp: fields.parsed(RECEIVED_TIMESTAMP, number::parse_hex)?,
        virtual_size: fields.parsed(VIRTUAL_SIZE, number::parse_hex)?,
    })
}

/// The bits above [`Flags::WIRE`] are internal to a Dovecot index and dropped.
fn flags(fields: &Fields<'_>, key: usize) -> Result<Flags, DecodeError> {
    let bits = fields.parsed_shown(key, number::parse_hex8)?;
    Ok(Flags(bits.unwrap_or(0)) & Flags::WIRE)
}

/// Elements without a known operator are ignored, as in Dovecot.
fn keyword_changes(text: &[u8]) -> Result<Vec<KeywordChange>, DecodeError> {
    let mut changes = Vec::new();
    for element in split_list(text) {
        if changes.len() == limits::LIST {
            return Err(too_long_list());
        }
        let element = unescape(element);
        let Some((operator, name)) = element.split_first() else {
            continue;
        };
        let op = match operator {
            b'+' => KeywordOp::Add,
            b'-' => KeywordOp::Remove,
            b'=' => KeywordOp::Final,
            b'&' => KeywordOp::AddFinal,
            _ => continue,
        };
        changes.push(KeywordChange::new(op, name));
    }
    Ok(changes)
}

pub(crate) fn encode(change: &Change, row: &mut Row) {
    let kind = match change.kind {
        ChangeKind::Save => b"s",
        ChangeKind::Flags => b"f",
        ChangeKind::Expunge => b"e",
    };
    row.text(TYPE, kind);
    row.number(UID, change.uid);
    row.optional_text(GUID, change.guid.as_ref().map(MailGuid::as_bytes));
    row.optional_text(HDR_HASH, change.hdr_hash.as_ref());
    row.nonzero(MODSEQ, change.modseq);
    row.nonzero(PVT_MODSEQ, change.pvt_modseq);
    write_flags(ADD_FLAGS, change.add_flags, row);
    write_flags(REMOVE_FLAGS, change.remove_flags, row);
    write_flags(FINAL_FLAGS, change.final_flags, row);
    row.flag(KEYWORDS_RESET, change.keywords_reset);
    write_keywords(&change.keyword_changes, row);
    if let Some(timestamp) = change.received_timestamp {
        row.hex(RECEIVED_TIMESTAMP, timestamp);
    }
    if let Some(size) = change.virtual_size {
        row.hex(VIRTUAL_SIZE, size);
    }
}

fn write_flags(key: usize, flags: Flags, row: &mut Row) {
    let flags = flags & Flags::WIRE;
    if !flags.is_empty() {
        row.hex(key, u64::from(flags.0));
    }
}

fn write_keywords(changes: &[KeywordChange], row: &mut Row) {
    if changes.is_empty() {
        return;
    }
    let elements: Vec<Vec<u8>> = changes
        .iter()
        .map(|change| {
            let operator = match change.op {
                KeywordOp::Add => b'+',
                KeywordOp::Remove => b'-',
                KeywordOp::Final => b'=',
                KeywordOp::AddFinal => b'&',
            };
            [&[operator], change.name.as_slice()].concat()
        })
        .collect();
    row.list(KEYWORD_CHANGES, &elements);
}
