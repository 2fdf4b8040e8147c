//! `D` mailbox_delete (`spec/wire.md` 7.3).

use crate::items::{DeleteEntry, Deletes};
use crate::types::Guid;
use crate::wire::error::DecodeError;
use crate::wire::fields::{Fields, Split};
use crate::wire::number;
use crate::wire::row::Row;
use crate::wire::spec::{ItemSpec, optional, required};

pub(crate) static SPEC: ItemSpec = ItemSpec {
    letter: b'D',
    name: "mailbox_delete",
    min_minor: 0,
    keys: &[
        required("hierarchy_sep"),
        optional("escape_char"),
        optional("mailboxes"),
        optional("dirs"),
        optional("unsubscribes"),
    ],
};

const HIERARCHY_SEP: usize = 0;
const ESCAPE_CHAR: usize = 1;
const MAILBOXES: usize = 2;
const DIRS: usize = 3;
const UNSUBSCRIBES: usize = 4;

pub(crate) fn decode(fields: &Fields<'_>) -> Result<Deletes, DecodeError> {
    let [hierarchy_sep] = *fields.text_or_empty(HIERARCHY_SEP) else {
        return Err(fields.invalid(HIERARCHY_SEP));
    };
    let escape_char = match *fields.text_or_empty(ESCAPE_CHAR) {
        [] => None,
        [byte] => Some(byte),
        _ => return Err(fields.invalid_shown(ESCAPE_CHAR)),
    };
    // Dovecot blames `dirs` for a bad list of unsubscribes, too.
    let pairs =
        |key, blamed| parse_pairs(&fields.text_or_empty(key)).ok_or_else(|| fields.invalid(blamed));
    Ok(Deletes {
        hierarchy_sep,
        escape_char,
        mailboxes: pairs(MAILBOXES, MAILBOXES)?,
        dirs: pairs(DIRS, DIRS)?,
        unsubscribes: pairs(UNSUBSCRIBES, DIRS)?,
    })
}

/// `<guid> SP <time>` joined by single spaces.
fn parse_pairs(text: &[u8]) -> Option<Vec<DeleteEntry>> {
    let mut entries = Vec::new();
    if text.is_empty() {
        return Some(entries);
    }
    let mut words = Split::new(text, b' ');
    while let Some(guid) = words.next() {
        entries.push(DeleteEntry {
            guid: Guid::from_hex(guid)?,
            time: number::parse_time(words.next()?)?,
        });
    }
    Some(entries)
}

pub(crate) fn encode(deletes: &Deletes, row: &mut Row) {
    row.text(HIERARCHY_SEP, &[deletes.hierarchy_sep]);
    if let Some(escape_char) = deletes.escape_char {
        row.text(ESCAPE_CHAR, &[escape_char]);
    }
    write_pairs(MAILBOXES, &deletes.mailboxes, row);
    write_pairs(DIRS, &deletes.dirs, row);
    write_pairs(UNSUBSCRIBES, &deletes.unsubscribes, row);
}

fn write_pairs(key: usize, entries: &[DeleteEntry], row: &mut Row) {
    if entries.is_empty() {
        return;
    }
    let mut text = Vec::with_capacity(entries.len() * 44);
    for entry in entries {
        if !text.is_empty() {
            text.push(b' ');
        }
        number::write_guid(&entry.guid, &mut text);
        text.push(b' ');
        number::write_i64(entry.time, &mut text);
    }
    row.text(key, &text);
}
