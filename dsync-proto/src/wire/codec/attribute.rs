//! `A` mailbox_attribute (`spec/wire.md` 7.5).

use crate::items::{Attribute, AttributeKind, AttributeValue};
use crate::wire::error::DecodeError;
use crate::wire::fields::Fields;
use crate::wire::row::Row;
use crate::wire::spec::{ItemSpec, optional, required};

pub(crate) static SPEC: ItemSpec = ItemSpec {
    letter: b'A',
    name: "mailbox_attribute",
    min_minor: 1,
    keys: &[
        required("type"),
        required("key"),
        optional("value"),
        optional("stream"),
        optional("deleted"),
        optional("last_change"),
        optional("modseq"),
    ],
};

const TYPE: usize = 0;
const KEY: usize = 1;
const VALUE: usize = 2;
const STREAM: usize = 3;
const DELETED: usize = 4;
const LAST_CHANGE: usize = 5;
const MODSEQ: usize = 6;

pub(crate) fn decode(fields: &Fields<'_>) -> Result<Attribute, DecodeError> {
    let kind = match fields.text_or_empty(TYPE).first() {
        Some(b'p') => AttributeKind::Private,
        Some(b's') => AttributeKind::Shared,
        _ => return Err(fields.invalid_shown(TYPE)),
    };
    let value = if fields.flag(STREAM) {
        AttributeValue::Stream
    } else if fields.flag(DELETED) {
        AttributeValue::Deleted
    } else {
        // Dovecot crashes here.
        let value = fields.bstring(VALUE).ok_or_else(|| fields.invalid(VALUE))?;
        AttributeValue::Inline(value)
    };
    Ok(Attribute {
        kind,
        key: fields.bstring(KEY).unwrap_or_default(),
        value,
        last_change: fields.time(LAST_CHANGE)?,
        modseq: fields.u64(MODSEQ)?,
    })
}

pub(crate) fn encode(attribute: &Attribute, row: &mut Row) {
    let kind = match attribute.kind {
        AttributeKind::Private => b"p",
        AttributeKind::Shared => b"s",
    };
    row.text(TYPE, kind);
    row.text(KEY, &attribute.key);
    match &attribute.value {
        AttributeValue::Inline(value) => row.text(VALUE, value),
        AttributeValue::Stream => row.flag(STREAM, true),
        AttributeValue::Deleted => row.flag(DELETED, true),
    }
    row.nonzero_time(LAST_CHANGE, attribute.last_change);
    row.nonzero(MODSEQ, attribute.modseq);
}
