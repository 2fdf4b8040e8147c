//! `H` handshake (`spec/wire.md` 5).

use bstr::{BString, ByteSlice};

use crate::items::{Handshake, SyncType};
use crate::types::Guid;
use crate::wire::error::DecodeError;
use crate::wire::fields::{Fields, decode_value, split_values};
use crate::wire::number;
use crate::wire::row::Row;
use crate::wire::spec::{ItemSpec, optional, required};

pub(crate) static SPEC: ItemSpec = ItemSpec {
    letter: b'H',
    name: "handshake",
    min_minor: 0,
    keys: &[
        required("hostname"),
        optional("sync_ns_prefix"),
        optional("sync_box"),
        optional("sync_box_guid"),
        optional("sync_type"),
        optional("debug"),
        optional("sync_visible_namespaces"),
        optional("exclude_mailboxes"),
        optional("send_mail_requests"),
        optional("backup_send"),
        optional("backup_recv"),
        optional("lock_timeout"),
        optional("no_mail_sync"),
        optional("no_backup_overwrite"),
        optional("purge_remote"),
        optional("no_notify"),
        optional("sync_since_timestamp"),
        optional("sync_max_size"),
        optional("sync_flags"),
        optional("sync_until_timestamp"),
        optional("virtual_all_box"),
        optional("empty_hdr_workaround"),
        optional("import_commit_msgs_interval"),
        optional("hashed_headers"),
        optional("alt_char"),
    ],
};

const HOSTNAME: usize = 0;
const SYNC_NS_PREFIX: usize = 1;
const SYNC_BOX: usize = 2;
const SYNC_BOX_GUID: usize = 3;
const SYNC_TYPE: usize = 4;
const DEBUG: usize = 5;
const SYNC_VISIBLE_NAMESPACES: usize = 6;
const EXCLUDE_MAILBOXES: usize = 7;
const SEND_MAIL_REQUESTS: usize = 8;
const BACKUP_SEND: usize = 9;
const BACKUP_RECV: usize = 10;
const LOCK_TIMEOUT: usize = 11;
const NO_MAIL_SYNC: usize = 12;
const NO_BACKUP_OVERWRITE: usize = 13;
const PURGE_REMOTE: usize = 14;
const NO_NOTIFY: usize = 15;
const SYNC_SINCE_TIMESTAMP: usize = 16;
const SYNC_MAX_SIZE: usize = 17;
const SYNC_FLAGS: usize = 18;
const SYNC_UNTIL_TIMESTAMP: usize = 19;
const VIRTUAL_ALL_BOX: usize = 20;
const EMPTY_HDR_WORKAROUND: usize = 21;
const IMPORT_COMMIT_MSGS_INTERVAL: usize = 22;
const HASHED_HEADERS: usize = 23;
const ALT_CHAR: usize = 24;

/// Reads the item; `extensions` is left empty, see [`decode_extensions`].
pub(crate) fn decode(fields: &Fields<'_>) -> Result<Handshake, DecodeError> {
    Ok(Handshake {
        hostname: fields.bstring(HOSTNAME).unwrap_or_default(),
        sync_ns_prefixes: fields.text(SYNC_NS_PREFIX).map(|prefixes| {
            let prefixes = prefixes.split_str("\n");
            prefixes.map(BString::from).collect()
        }),
        sync_box: fields.bstring(SYNC_BOX),
        sync_box_guid: fields.parsed_shown(SYNC_BOX_GUID, Guid::from_hex)?,
        sync_type: fields.parsed_shown(SYNC_TYPE, parse_sync_type)?,
        debug: fields.flag(DEBUG),
        sync_visible_namespaces: fields.flag(SYNC_VISIBLE_NAMESPACES),
        exclude_mailboxes: fields.list(EXCLUDE_MAILBOXES)?,
        send_mail_requests: fields.flag(SEND_MAIL_REQUESTS),
        backup_send: fields.flag(BACKUP_SEND),
        backup_recv: fields.flag(BACKUP_RECV),
        lock_timeout: fields
            .parsed_shown(LOCK_TIMEOUT, parse_positive_u32)?
            .unwrap_or(0),
        no_mail_sync: fields.flag(NO_MAIL_SYNC),
        no_backup_overwrite: fields.flag(NO_BACKUP_OVERWRITE),
        purge_remote: fields.flag(PURGE_REMOTE),
        no_notify: fields.flag(NO_NOTIFY),
        sync_since_timestamp: fields
            .parsed_shown(SYNC_SINCE_TIMESTAMP, parse_nonzero_time)?
            .unwrap_or(0),
        sync_max_size: fields
            .parsed_shown(SYNC_MAX_SIZE, parse_positive_u64)?
            .unwrap_or(0),
        sync_flags: fields.bstring(SYNC_FLAGS),
        sync_until_timestamp: fields
            .parsed_shown(SYNC_UNTIL_TIMESTAMP, parse_nonzero_time)?
            .unwrap_or(0),
        virtual_all_box: fields.bstring(VIRTUAL_ALL_BOX),
        empty_hdr_workaround: fields.flag(EMPTY_HDR_WORKAROUND),
        import_commit_msgs_interval: fields
            .parsed_shown(IMPORT_COMMIT_MSGS_INTERVAL, parse_positive_u32)?
            .unwrap_or(0),
        hashed_headers: decode_hashed_headers(fields)?,
        alt_char: fields.text_or_empty(ALT_CHAR).first().copied(),
        extensions: Vec::new(),
    })
}

/// The values of keys that are not in the table, in the peer's order. Of a key named twice, the
/// first position counts.
pub(crate) fn decode_extensions(keys: &[BString], rest: &[u8]) -> Vec<(BString, BString)> {
    let mut extensions = Vec::new();
    for (position, (key, value)) in keys.iter().zip(split_values(rest)).enumerate() {
        let is_known = SPEC.keys.iter().any(|known| key == known.name);
        let is_repeated = keys.iter().take(position).any(|earlier| earlier == key);
        if let (Some(value), false, false) = (value, is_known, is_repeated) {
            extensions.push((key.clone(), decode_value(value).into_owned().into()));
        }
    }
    extensions
}

/// Dovecot ends the list with a TAB; the empty name behind it is not meant (`spec/wire.md` 9.4).
fn decode_hashed_headers(fields: &Fields<'_>) -> Result<Option<Vec<BString>>, DecodeError> {
    if !fields.flag(HASHED_HEADERS) {
        return Ok(None);
    }
    let mut names = fields.list(HASHED_HEADERS)?;
    names.retain(|name| !name.is_empty());
    Ok(Some(names))
}

fn parse_sync_type(text: &[u8]) -> Option<SyncType> {
    match text.first()? {
        b'f' => Some(SyncType::Full),
        b'c' => Some(SyncType::Changed),
        b's' => Some(SyncType::State),
        _ => None,
    }
}

fn parse_positive_u32(text: &[u8]) -> Option<u32> {
    number::parse_u32(text).filter(|number| *number > 0)
}

fn parse_positive_u64(text: &[u8]) -> Option<u64> {
    number::parse_u64(text).filter(|number| *number > 0)
}

fn parse_nonzero_time(text: &[u8]) -> Option<i64> {
    number::parse_time(text).filter(|time| *time != 0)
}

/// The extensions get the indexes after the known keys, see [`Layout::with_extensions`].
pub(crate) fn encode(handshake: &Handshake, row: &mut Row) {
    row.text(HOSTNAME, &handshake.hostname);
    if let Some(prefixes) = &handshake.sync_ns_prefixes {
        row.text(SYNC_NS_PREFIX, &bstr::join("\n", prefixes));
    }
    row.optional_text(SYNC_BOX, handshake.sync_box.as_ref());
    if let Some(guid) = &handshake.sync_box_guid {
        row.guid(SYNC_BOX_GUID, guid);
    }
    if let Some(sync_type) = handshake.sync_type {
        row.text(SYNC_TYPE, sync_type_text(sync_type));
    }
    row.flag(DEBUG, handshake.debug);
    row.flag(SYNC_VISIBLE_NAMESPACES, handshake.sync_visible_namespaces);
    if !handshake.exclude_mailboxes.is_empty() {
        row.list(EXCLUDE_MAILBOXES, &handshake.exclude_mailboxes);
    }
    row.flag(SEND_MAIL_REQUESTS, handshake.send_mail_requests);
    row.flag(BACKUP_SEND, handshake.backup_send);
    row.flag(BACKUP_RECV, handshake.backup_recv);
    row.nonzero(LOCK_TIMEOUT, handshake.lock_timeout);
    row.flag(NO_MAIL_SYNC, handshake.no_mail_sync);
    row.flag(NO_BACKUP_OVERWRITE, handshake.no_backup_overwrite);
    row.flag(PURGE_REMOTE, handshake.purge_remote);
    row.flag(NO_NOTIFY, handshake.no_notify);
    row.nonzero_time(SYNC_SINCE_TIMESTAMP, handshake.sync_since_timestamp);
    row.nonzero(SYNC_MAX_SIZE, handshake.sync_max_size);
    row.optional_text(SYNC_FLAGS, handshake.sync_flags.as_ref());
    row.nonzero_time(SYNC_UNTIL_TIMESTAMP, handshake.sync_until_timestamp);
    row.optional_text(VIRTUAL_ALL_BOX, handshake.virtual_all_box.as_ref());
    row.flag(EMPTY_HDR_WORKAROUND, handshake.empty_hdr_workaround);
    row.nonzero(
        IMPORT_COMMIT_MSGS_INTERVAL,
        handshake.import_commit_msgs_interval,
    );
    if let Some(names) = &handshake.hashed_headers {
        let mut list: Vec<&[u8]> = names.iter().map(|name| name.as_slice()).collect();
        if !list.is_empty() {
            list.push(b""); // the final TAB, as Dovecot sends it
        }
        row.list(HASHED_HEADERS, list);
    }
    if let Some(alt_char) = handshake.alt_char {
        row.text(ALT_CHAR, &[alt_char]);
    }
    for (index, (_, value)) in handshake.extensions.iter().enumerate() {
        row.text(SPEC.keys.len() + index, value);
    }
}

fn sync_type_text(sync_type: SyncType) -> &'static [u8] {
    match sync_type {
        SyncType::Full => b"f",
        SyncType::Changed => b"c",
        SyncType::State => b"s",
    }
}
