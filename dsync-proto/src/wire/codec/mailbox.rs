//! `B` mailbox with the `c` records inside it (`spec/wire.md` 7.4).

use bytes::BytesMut;

use crate::items::{CacheDecision, CacheField, MailboxInfo};
use crate::limits;
use crate::wire::error::{DecodeError, excerpt};
use crate::wire::fields::{Fields, Split, too_long_list};
use crate::wire::row::Row;
use crate::wire::spec::{ItemSpec, Layout, extension, optional, required};

pub(crate) static SPEC: ItemSpec = ItemSpec {
    letter: b'B',
    name: "mailbox",
    min_minor: 0,
    keys: &[
        required("mailbox_guid"),
        required("uid_validity"),
        required("uid_next"),
        required("messages_count"),
        required("first_recent_uid"),
        required("highest_modseq"),
        required("highest_pvt_modseq"),
        optional("mailbox_lost"),
        optional("mailbox_ignore"),
        optional("cache_fields"),
        optional("have_guids"),
        optional("have_save_guids"),
        optional("have_only_guid128"),
        extension("dsync_digest"),
        extension("dsync_ignore_state"),
    ],
};

const MAILBOX_GUID: usize = 0;
const UID_VALIDITY: usize = 1;
const UID_NEXT: usize = 2;
const MESSAGES_COUNT: usize = 3;
const FIRST_RECENT_UID: usize = 4;
const HIGHEST_MODSEQ: usize = 5;
const HIGHEST_PVT_MODSEQ: usize = 6;
const MAILBOX_LOST: usize = 7;
const MAILBOX_IGNORE: usize = 8;
const CACHE_FIELDS: usize = 9;
const HAVE_GUIDS: usize = 10;
const HAVE_SAVE_GUIDS: usize = 11;
const HAVE_ONLY_GUID128: usize = 12;
const DIGEST: usize = 13;
const IGNORE_STATE: usize = 14;

pub(crate) static CACHE_SPEC: ItemSpec = ItemSpec {
    letter: b'c',
    name: "mailbox_cache_field",
    min_minor: 0,
    keys: &[
        required("name"),
        required("decision"),
        optional("last_used"),
    ],
};

const NAME: usize = 0;
const DECISION: usize = 1;
const LAST_USED: usize = 2;

pub(crate) fn decode(fields: &Fields<'_>, cache: &Layout) -> Result<MailboxInfo, DecodeError> {
    Ok(MailboxInfo {
        mailbox_guid: fields.guid(MAILBOX_GUID)?,
        uid_validity: fields.u32(UID_VALIDITY)?,
        uid_next: fields.u32(UID_NEXT)?,
        messages_count: fields.u32(MESSAGES_COUNT)?,
        first_recent_uid: fields.u32(FIRST_RECENT_UID)?,
        highest_modseq: fields.u64(HIGHEST_MODSEQ)?,
        highest_pvt_modseq: fields.u64(HIGHEST_PVT_MODSEQ)?,
        mailbox_lost: fields.flag(MAILBOX_LOST),
        mailbox_ignore: fields.flag(MAILBOX_IGNORE),
        cache_fields: decode_cache(&fields.text_or_empty(CACHE_FIELDS), cache)?,
        have_guids: fields.flag(HAVE_GUIDS),
        have_save_guids: fields.flag(HAVE_SAVE_GUIDS),
        have_only_guid128: fields.flag(HAVE_ONLY_GUID128),
        digest: fields.u64(DIGEST)?,
        ignore_state: fields.flag(IGNORE_STATE),
    })
}

fn decode_cache(text: &[u8], layout: &Layout) -> Result<Vec<CacheField>, DecodeError> {
    let mut cache_fields = Vec::new();
    if text.is_empty() {
        return Ok(cache_fields);
    }
    for record in Split::new(text, b'\n') {
        if cache_fields.len() == limits::LIST {
            return Err(too_long_list());
        }
        let fields = Fields::parse(&CACHE_SPEC, layout, record)?;
        let (decision, forced) = parse_decision(&fields.text_or_empty(DECISION))?;
        cache_fields.push(CacheField {
            name: fields.bstring(NAME).unwrap_or_default(),
            decision,
            forced,
            last_used: fields.time(LAST_USED)?,
        });
    }
    Ok(cache_fields)
}

fn parse_decision(text: &[u8]) -> Result<(CacheDecision, bool), DecodeError> {
    let decision = match text.first() {
        Some(b'n') => CacheDecision::No,
        Some(b't') => CacheDecision::Temp,
        Some(b'y') => CacheDecision::Yes,
        _ => {
            return Err(DecodeError::InvalidValue {
                item: SPEC.name,
                key: "decision",
                value: Some(excerpt(text)),
            });
        }
    };
    Ok((decision, text.get(1) == Some(&b'F')))
}

pub(crate) fn encode(mailbox: &MailboxInfo, cache: &Layout, row: &mut Row) {
    row.guid(MAILBOX_GUID, &mailbox.mailbox_guid);
    row.number(UID_VALIDITY, mailbox.uid_validity);
    row.number(UID_NEXT, mailbox.uid_next);
    row.number(MESSAGES_COUNT, mailbox.messages_count);
    row.number(FIRST_RECENT_UID, mailbox.first_recent_uid);
    row.number(HIGHEST_MODSEQ, mailbox.highest_modseq);
    row.number(HIGHEST_PVT_MODSEQ, mailbox.highest_pvt_modseq);
    row.flag(MAILBOX_LOST, mailbox.mailbox_lost);
    row.flag(MAILBOX_IGNORE, mailbox.mailbox_ignore);
    row.text(CACHE_FIELDS, &encode_cache(&mailbox.cache_fields, cache));
    row.flag(HAVE_GUIDS, mailbox.have_guids);
    row.flag(HAVE_SAVE_GUIDS, mailbox.have_save_guids);
    row.flag(HAVE_ONLY_GUID128, mailbox.have_only_guid128);
    row.nonzero(DIGEST, mailbox.digest);
    row.flag(IGNORE_STATE, mailbox.ignore_state);
}

fn encode_cache(cache_fields: &[CacheField], layout: &Layout) -> BytesMut {
    let mut text = BytesMut::new();
    let mut record = Row::default();
    for (index, field) in cache_fields.iter().enumerate() {
        if index > 0 {
            text.extend_from_slice(b"\n");
        }
        record.clear();
        record.text(NAME, &field.name);
        record.text(DECISION, decision_text(field));
        record.nonzero_time(LAST_USED, field.last_used);
        record.write(layout, &mut text);
    }
    text
}

fn decision_text(field: &CacheField) -> &'static [u8] {
    match (field.decision, field.forced) {
        (CacheDecision::No, false) => b"n",
        (CacheDecision::No, true) => b"nF",
        (CacheDecision::Temp, false) => b"t",
        (CacheDecision::Temp, true) => b"tF",
        (CacheDecision::Yes, false) => b"y",
        (CacheDecision::Yes, true) => b"yF",
    }
}
