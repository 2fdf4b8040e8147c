//! Removing stored messages that nobody refers to any more (`spec/dbox.md` 11).

use std::collections::{BTreeMap, BTreeSet};

use dsync_proto::types::{Guid, Uid};

use super::identity::INDEX_LOCK_TIMEOUT;
use super::message::{MessageFile, damaged};
use super::multi::{NewFile, new_file};
use super::references::records;
use super::storage::{MapRecord, Place, Storage, owner};
use crate::index::{ExtensionSpec, IndexState, LockedIndex, Origin, Transaction};
use crate::lock::try_lock_file;
use crate::settings::LockMethod;
use crate::{Result, StorageError, path_io};

impl Storage {
    /// Writes every file anew that holds garbage, without it; one after the other, so that a
    /// failure costs only the last one. A file that somebody is working on is left for next time,
    /// one in the alternative storage is left to Dovecot.
    pub(super) fn purge(&mut self) -> Result<()> {
        self.map.refresh()?;
        if self.map.state().is_empty() {
            return Ok(());
        }
        // Counts must be right before anything goes.
        let (locked, _) = self.lock()?;
        locked.finish()?;
        let files: BTreeSet<u32> = records(self.map.state())
            .filter(|(_, record)| record.references == 0)
            .map(|(_, record)| record.file_id)
            .collect();
        for file_id in files {
            self.purge_file(file_id)?;
        }
        Ok(())
    }

    fn purge_file(&mut self, file_id: u32) -> Result<()> {
        let mut paths = self.place.paths(file_id);
        let path = paths.next();
        let in_alt = paths.any(|path| path.exists());
        drop(paths);
        let file = match path {
            Some(path) => MessageFile::open(&path)?,
            None => None,
        };
        let Some(file) = file else {
            if !in_alt {
                tracing::warn!("m.{file_id} is missing: run `doveadm force-resync`");
            }
            return Ok(());
        };
        // Whoever appends to it holds this lock.
        if !try_lock_file(file.file(), LockMethod::Flock)
            .map_err(|error| StorageError::io("lock", file.path(), &error))?
        {
            return Ok(());
        }
        let mut locked = self.map.lock(INDEX_LOCK_TIMEOUT)?;
        let live = live_messages(locked.state(), file_id, &file)?;
        let place = &self.place;
        rewrite(&mut locked, place, file_id, &file, &live)?;
        locked.finish()
    }
}

/// What a file holds: map UID and record of each message that stays. The file must hold nothing
/// but what the map knows.
fn live_messages(
    map: &IndexState,
    file_id: u32,
    file: &MessageFile,
) -> Result<BTreeMap<Uid, MapRecord>> {
    let known: BTreeMap<u32, (Uid, MapRecord)> = records(map)
        .filter(|(_, record)| record.file_id == file_id)
        .map(|(map_uid, record)| (record.offset, (map_uid, record)))
        .collect();
    let mut at = file.header.length as u64;
    for (offset, (_, record)) in &known {
        let message = file.message_at(at)?;
        if u64::from(*offset) != at || message.end() != at + u64::from(record.size) {
            return Err(damaged(
                file.path(),
                at,
                "the map has another message there",
            ));
        }
        at = message.end();
    }
    if file.length()? != at {
        return Err(damaged(
            file.path(),
            at,
            "it has more messages than the map",
        ));
    }
    let live = known
        .into_values()
        .filter(|(_, record)| record.references > 0);
    Ok(live.collect())
}

/// Order, with the map locked, and what a kill leaves behind: the messages that stay are copied
/// under a temporary name (nobody sees it); the journal names the old and the new file; the new
/// one gets its name (the next run removes it, the map does not have it); the map moves (the next
/// run removes the old one); the old file goes.
fn rewrite(
    map: &mut LockedIndex<'_>,
    place: &Place,
    file_id: u32,
    file: &MessageFile,
    live: &BTreeMap<Uid, MapRecord>,
) -> Result<()> {
    let first_id = place.next_file_id(map.state())?;
    let mut new_files: Vec<NewFile> = Vec::new();
    let mut transaction = Transaction::new(Origin::FACT);
    for (map_uid, record) in live {
        if new_files
            .last()
            .is_none_or(|file| file.is_full(&place.settings))
        {
            new_files.push(new_file(place)?);
        }
        let moved = first_id.saturating_add(new_files.len() as u32 - 1);
        let message = file.message_at(record.offset.into())?;
        let Some(new) = new_files.last_mut() else {
            continue;
        };
        let (offset, size) = new.copy_whole(&message)?;
        let too_large = |_| damaged(file.path(), offset, "a message is larger than 4 GiB");
        let record = MapRecord {
            file_id: moved,
            offset: u32::try_from(offset).map_err(too_large)?,
            size: u32::try_from(size).map_err(too_large)?,
            references: record.references,
        };
        record.write_place(&mut transaction, *map_uid);
    }
    for (map_uid, record) in records(map.state()) {
        if record.file_id == file_id && !live.contains_key(&map_uid) {
            transaction.expunge(map_uid, Guid::ZERO);
        }
    }
    let mut files: Vec<_> = new_files.into_iter().map(|new| new.tmp).collect();
    if let Some(more) = files.len().checked_sub(1) {
        let highest = first_id.saturating_add(more as u32);
        transaction.set_extension_header(ExtensionSpec::MAP, 0, &highest.to_le_bytes());
    }
    transaction.mark_synced();
    let sync = place.settings.syncs();
    if sync {
        files.iter().try_for_each(|new| path_io::sync(new.path()))?;
    }
    let new_ids: Vec<u32> = (first_id..).take(files.len()).collect();
    let journal = place.unfinished();
    let all_ids: Vec<u32> = new_ids.iter().copied().chain([file_id]).collect();
    journal.write(owner(map.state()), &all_ids, &place.modes(), sync)?;
    let moved = place
        .place(&mut files, first_id)
        .and_then(|()| map.append(&transaction));
    if let Err(error) = moved {
        place.remove_files(new_ids);
        journal.remove()?;
        return Err(error);
    }
    if sync {
        map.sync()?;
    }
    place.remove_files([file_id]);
    journal.remove()
}
