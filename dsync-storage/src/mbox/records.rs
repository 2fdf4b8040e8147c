//! What the index has to learn from the file.

use std::collections::BTreeMap;

use bstr::BString;
use dsync_proto::types::{Flags, Guid, MailGuid, Uid};

use super::contents::{DIRTY, Item};
use super::scan::Entry;
use crate::index::{ExtensionSpec, IndexState, Message, Transaction};

/// Where the GUID is in the header of the extension `mbox`.
const GUID_OFFSET: usize = 16;

/// GUID of the mailbox; zero if it has none yet.
pub(super) fn guid_of(state: &IndexState) -> Guid {
    let bytes = state.extension(ExtensionSpec::MBOX.name).and_then(|known| {
        let bytes = known.header.get(GUID_OFFSET..GUID_OFFSET + 16)?;
        bytes.first_chunk::<16>().copied()
    });
    bytes.map_or(Guid::ZERO, Guid)
}

/// Gives the mailbox this GUID.
pub(super) fn set_guid(transaction: &mut Transaction, guid: Guid) {
    transaction.set_extension_header(ExtensionSpec::MBOX, GUID_OFFSET as u32, &guid.0);
}

/// Size and time of the file that the index knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SyncStamp {
    pub(super) size: u64,
    pub(super) mtime: u32,
}

impl SyncStamp {
    pub(super) fn of(state: &IndexState) -> Self {
        let header = state.extension(ExtensionSpec::MBOX.name);
        let header = header.map_or(&[][..], |known| &known.header);
        let size = header.first_chunk::<8>().copied();
        let mtime = header
            .get(8..)
            .and_then(|rest| rest.first_chunk::<4>().copied());
        Self {
            size: size.map_or(0, u64::from_le_bytes),
            mtime: mtime.map_or(0, u32::from_le_bytes),
        }
    }

    fn write(self, transaction: &mut Transaction) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.size.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.mtime.to_le_bytes());
        transaction.set_extension_header(ExtensionSpec::MBOX, 0, &bytes);
    }
}

/// Writes everything in which the index differs from the messages of the file. `entries` are all
/// of the file, the pseudo message too, `items` the messages in the same order.
pub(super) fn bring(
    transaction: &mut Transaction,
    state: &IndexState,
    entries: &[Entry],
    items: &[Item],
    stamp: SyncStamp,
    short_guids: &BTreeMap<Uid, BString>,
    in_file: bool,
) {
    let there: BTreeMap<Uid, ()> = items.iter().map(|item| (item.uid, ())).collect();
    for message in state.messages() {
        let uid = message.uid();
        if !there.contains_key(&uid) {
            let guid = short_guids.get(&uid);
            let guid = guid.map_or(Guid::ZERO, |guid| MailGuid::short_of(guid));
            transaction.expunge(uid, guid);
        }
    }
    let real = entries.iter().filter(|entry| !entry.meta.is_pseudo);
    for (item, entry) in items.iter().zip(real) {
        let uid = item.uid;
        let offset = entry.start.saturating_sub(1).to_le_bytes();
        let known = state.message(uid);
        let says = |name: &str| known.as_ref().and_then(|message| message.extension(name));
        match &known {
            None => {
                transaction.append(uid, item.flags & Flags::USER);
                for keyword in &item.keywords {
                    transaction.add_keyword(keyword, uid..=uid);
                }
            }
            Some(message) => change(transaction, message, item, in_file),
        }
        if says(ExtensionSpec::MBOX.name) != Some(&offset[..]) {
            transaction.set_extension_record(ExtensionSpec::MBOX, uid, &offset);
        }
        let md5 = &entry.meta.md5[..];
        let known_md5 = says(ExtensionSpec::HEADER_MD5.name);
        if known_md5 != Some(md5) {
            transaction.set_extension_record(ExtensionSpec::HEADER_MD5, uid, md5);
        }
    }
    if SyncStamp::of(state) != stamp {
        stamp.write(transaction);
    }
}

fn change(transaction: &mut Transaction, message: &Message<'_>, item: &Item, in_file: bool) {
    let uid = item.uid;
    let have = message.flags() & Flags::USER;
    let (add, mut remove) = (item.flags & !have, (have & !item.flags).0);
    if in_file && message.raw_flags() & DIRTY != 0 {
        remove |= DIRTY;
    }
    if add.0 | remove != 0 {
        transaction.update_raw_flags(uid..=uid, add.0, remove);
    }
    let had: Vec<Vec<u8>> = message.keywords().map(|name| name.to_vec()).collect();
    let has = |names: &[Vec<u8>], name: &[u8]| names.iter().any(|n| n.eq_ignore_ascii_case(name));
    for name in had.iter().filter(|name| !has(&item.keywords, name)) {
        transaction.remove_keyword(name, uid..=uid);
    }
    for name in item.keywords.iter().filter(|name| !has(&had, name)) {
        transaction.add_keyword(name, uid..=uid);
    }
}
