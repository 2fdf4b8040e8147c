//! Repairs after a writer of an mdbox was killed (`spec/dbox.md` 14.2).
//!
//! The map counts references before or after the mailboxes have them; the tail of its log moves
//! last. A tail that lags means that the counts may be wrong. Dovecot then rebuilds the whole
//! storage; all that is needed is to count again. Every change of references happens under the
//! lock of the map, so that under it the mailboxes' indexes tell the truth.

use std::collections::BTreeMap;
use std::path::Path;

use dsync_proto::types::{MailErrorClass, Uid};

use super::identity::{check, map_of, open_index};
use super::storage::{MapRecord, Place, owner, write_references};
use crate::folders::list;
use crate::index::{ExtensionSpec, IndexState, LockedIndex, Message, Origin, Transaction};
use crate::location::Driver;
use crate::{Result, StorageError};

/// Deepest tree of mailboxes that is searched.
const MAX_DEPTH: usize = 256;

/// The map UID of a message.
pub(super) fn map_uid(message: &Message<'_>) -> Option<Uid> {
    let bytes = message.extension(ExtensionSpec::MDBOX.name)?;
    bytes
        .first_chunk::<4>()
        .map(|bytes| Uid::from_le_bytes(*bytes))
}

/// Ends what a killed writer began. The map is locked.
pub(super) fn repair(map: &mut LockedIndex<'_>, place: &Place) -> Result<()> {
    if !map.index().is_synced() {
        tracing::info!("{}: counting references again", place.dir().display());
        count_again(map, place)?;
    }
    let journal = place.unfinished();
    if journal.exists() {
        let state = map.state();
        let mut files = journal.listed(owner(state))?;
        let used: std::collections::BTreeSet<u32> =
            records(state).map(|(_, record)| record.file_id).collect();
        files.retain(|id| !used.contains(id));
        for id in &files {
            tracing::info!(
                "{}: ending an interrupted commit: m.{id}",
                place.dir().display()
            );
        }
        place.remove_files(files);
        journal.remove()?;
    }
    Ok(())
}

/// All records of a map.
pub(super) fn records(map: &IndexState) -> impl Iterator<Item = (Uid, MapRecord)> + '_ {
    map.messages()
        .filter_map(|message| Some((message.uid(), MapRecord::find(map, message.uid())?)))
}

fn count_again(map: &mut LockedIndex<'_>, place: &Place) -> Result<()> {
    let mut counts = BTreeMap::new();
    let uid_validity = map.state().header().uid_validity();
    count_below(place, uid_validity, &mut Vec::new(), 0, &mut counts)?;
    let mut transaction = Transaction::new(Origin::REQUEST);
    for (map_uid, record) in records(map.state()) {
        let counted = counts.get(&map_uid).copied().unwrap_or(0);
        if record.references != counted {
            write_references(&mut transaction, map_uid, counted);
        }
    }
    transaction.mark_synced();
    map.append(&transaction)?;
    if place.settings.syncs() {
        map.sync()?;
    }
    Ok(())
}

/// Counts in all mailboxes below this name, whether their names are valid or not.
fn count_below(
    place: &Place,
    uid_validity: u32,
    storage: &mut Vec<u8>,
    depth: usize,
    counts: &mut BTreeMap<Uid, u16>,
) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(StorageError::new(
            MailErrorClass::Limit,
            format!(
                "mailboxes are nested too deeply in {}",
                place.layout.list_root().display()
            ),
        ));
    }
    if depth > 0 && place.layout.message_dir(storage).is_dir() {
        let name = String::from_utf8_lossy(storage).into_owned();
        let paths = place.layout.paths(storage, &name);
        let dir = paths.index_dir.as_deref().unwrap_or(&paths.box_dir);
        count_in(dir, &name, place, uid_validity, counts)?;
    }
    let dir = match depth {
        0 => place.layout.list_root(),
        _ => place.layout.name_dir(storage),
    };
    let length = storage.len();
    for entry in list::entries(&dir)? {
        let is_messages = place.layout.message_dir(storage).file_name() == Some(&entry);
        if (is_messages && depth > 0) || !dir.join(&entry).is_dir() {
            continue;
        }
        if depth > 0 {
            storage.push(b'/');
        }
        storage.extend_from_slice(entry.as_encoded_bytes());
        count_below(place, uid_validity, storage, depth + 1, counts)?;
        storage.truncate(length);
    }
    Ok(())
}

fn count_in(
    dir: &Path,
    name: &str,
    place: &Place,
    uid_validity: u32,
    counts: &mut BTreeMap<Uid, u16>,
) -> Result<()> {
    let index = open_index(dir, &place.settings)?;
    let state = index.state();
    if !state.is_deleted() {
        check(&index, name)?;
    }
    if !state.is_empty() && map_of(state, Driver::Mdbox) != uid_validity {
        return Err(foreign_map(name));
    }
    for map_uid in state.messages().filter_map(|message| map_uid(&message)) {
        let count = counts.entry(map_uid).or_insert(0_u16);
        *count = count.saturating_add(1);
    }
    Ok(())
}

/// A mailbox whose messages are of another map.
pub(super) fn foreign_map(name: &str) -> StorageError {
    StorageError::new(
        MailErrorClass::InvalidData,
        format!(
            "mailbox {name} was made for another dovecot.map.index than the one that is there: \
             run `doveadm force-resync` on this account"
        ),
    )
}
