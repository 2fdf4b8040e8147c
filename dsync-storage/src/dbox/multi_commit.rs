//! Makes a transaction of an mdbox mailbox durable, then visible (`spec/dbox.md` 7.2, 9, 10).
//!
//! Order, all but the first under the locks of the map and of the mailbox's index log, and what
//! a kill right after each step leaves behind:
//!
//! 1. new files are flushed under temporary names: files nobody sees, swept by Dovecot;
//! 2. the journal: nothing;
//! 3. files get their names, the directory is flushed: the next run removes what the journal
//!    names, as the map does not have it;
//! 4. the map, but for its tail: the next run counts references again (Dovecot would rebuild the
//!    storage);
//! 5. the mailbox's index log: everything is done, and the counts prove to be right;
//! 6. the tail of the map's log; the journal goes.

use std::collections::{BTreeMap, BTreeSet};

use dsync_proto::types::{Flags, Guid, MailErrorClass, MailGuid, Uid};

use super::bodies::UidSequence;
use super::commit::{append, append_again, apply_changes, note_pop3, requests, sweep_if_due};
use super::identity::{INDEX_LOCK_TIMEOUT, check, map_of, set_map};
use super::multi::{MultiBodies, NewFile, Place, Save};
use super::references::{foreign_map, map_uid};
use super::storage::{self, MAX_REFERENCES, MapRecord, owner, write_references};
use crate::body_file::TmpFile;
use crate::changes::Changes;
use crate::index::{
    CacheEntry, ExtensionSpec, Index, IndexState, LockedIndex, Origin, Transaction,
};
use crate::location::Driver;
use crate::{CommitReport, Result, StorageError, path_io};

/// Changes of the map.
#[derive(Default)]
struct MapPlan {
    /// New records by rising map UID.
    appends: Vec<(Uid, MapRecord)>,
    /// References more or less of records that are there.
    changes: BTreeMap<Uid, i64>,
    /// Number of the first new file.
    first_file: u32,
}

impl MapPlan {
    /// One reference more to where the message is; gives its map UID.
    fn refer(&mut self, place: Place, next: Uid) -> Result<Uid> {
        let Place::New { file, offset, size } = place else {
            let Place::Stored(map_uid) = place else {
                return Ok(0);
            };
            *self.changes.entry(map_uid).or_default() += 1;
            return Ok(map_uid);
        };
        let too_large = |_| {
            StorageError::new(
                MailErrorClass::Limit,
                "a message is too large for mdbox: files end at 4 GiB",
            )
        };
        let record = MapRecord {
            file_id: self.first_file.saturating_add(file as u32),
            offset: u32::try_from(offset).map_err(too_large)?,
            size: u32::try_from(size).map_err(too_large)?,
            references: 1,
        };
        let same =
            |known: &MapRecord| (known.file_id, known.offset) == (record.file_id, record.offset);
        if let Some((map_uid, known)) = self.appends.iter_mut().rfind(|(_, known)| same(known)) {
            known.references = known.references.saturating_add(1);
            return Ok(*map_uid);
        }
        let map_uid = next.saturating_add(self.appends.len() as Uid);
        self.appends.push((map_uid, record));
        Ok(map_uid)
    }

    fn is_empty(&self) -> bool {
        self.appends.is_empty() && self.changes.values().all(|change| *change == 0)
    }

    /// The records of these changes, and those that take them back.
    fn records(&self, map: &IndexState, files: usize) -> Result<(Transaction, Transaction)> {
        let mut forth = Transaction::new(Origin::REQUEST);
        let mut back = Transaction::new(Origin::REQUEST);
        if files > 0 {
            let highest = self.first_file.saturating_add(files as u32 - 1);
            forth.set_extension_header(ExtensionSpec::MAP, 0, &highest.to_le_bytes());
        }
        for (map_uid, record) in &self.appends {
            storage::append(&mut forth, *map_uid, *record);
            write_references(&mut back, *map_uid, 0);
        }
        for (map_uid, change) in self.changes.iter().filter(|(_, change)| **change != 0) {
            let old = MapRecord::find(map, *map_uid).map(|record| record.references);
            // What nobody refers to may be purged at any moment; it is not there any more.
            let old = old.filter(|old| *old > 0 || *change < 0).ok_or_else(|| {
                StorageError::new(
                    MailErrorClass::Expunged,
                    format!("map UID {map_uid} was purged meanwhile"),
                )
            })?;
            let new = (i64::from(old) + change).max(0);
            let new = u16::try_from(new).ok().filter(|new| *new <= MAX_REFERENCES);
            let new = new.ok_or_else(|| {
                StorageError::new(
                    MailErrorClass::Limit,
                    format!("a message (map UID {map_uid}) has too many copies"),
                )
            })?;
            write_references(&mut forth, *map_uid, new);
            write_references(&mut back, *map_uid, old);
        }
        back.mark_synced();
        Ok((forth, back))
    }
}

impl MultiBodies {
    pub(super) fn commit_all(
        &self,
        index: &mut Index,
        mut saves: Vec<Save>,
        files: Vec<NewFile>,
        changes: &Changes,
    ) -> Result<CommitReport> {
        let sync = self.disk.settings.syncs();
        let mut files: Vec<TmpFile> = files.into_iter().map(|file| file.tmp).collect();
        if sync {
            files
                .iter()
                .try_for_each(|file| path_io::sync(file.path()))?;
        }
        saves.sort_by_key(|save| save.message.uid);
        let mut storage = self.storage.get();
        let (mut map, place) = storage.lock()?;
        let mut locked = index.lock(INDEX_LOCK_TIMEOUT)?;
        check(locked.index(), &self.disk.paths.name)?;
        let asked = self.asked_expunges(&mut locked)?;
        let mut transaction = Transaction::new(Origin::DSYNC_FACT);
        self.belong_to(&mut transaction, locked.state(), map.state())?;
        let mut plan = MapPlan {
            first_file: place.next_file_id(map.state())?,
            ..MapPlan::default()
        };
        let next_map_uid = map.state().header().next_uid();
        let gone = drop_gone(&mut saves, map.state());
        let (mut report, entries) = self.records(
            &mut transaction,
            locked.state(),
            &mut plan,
            next_map_uid,
            (&saves, &asked.uids, changes),
        )?;
        report.gone = gone;
        locked.cache(&entries, &mut transaction);
        if asked.all {
            transaction.mark_synced();
        }
        if plan.is_empty() {
            locked.append(&transaction)?;
            locked.finish()?;
            map.finish()?;
            return Ok(report);
        }
        let (mut forth, back) = plan.records(map.state(), files.len())?;
        if !files.is_empty() {
            sweep_if_due(&mut forth, map.state(), place.dir(), &place.settings);
        }
        let journal = place.unfinished();
        let ids: Vec<u32> = (plan.first_file..).take(files.len()).collect();
        if !ids.is_empty() {
            journal.write(owner(map.state()), &ids, &place.modes(), sync)?;
        }
        let placed = place.place(&mut files, plan.first_file).and_then(|()| {
            map.append(&forth)?;
            if sync { map.sync() } else { Ok(()) }
        });
        if let Err(error) = placed {
            let kept = plan
                .appends
                .first()
                .is_some_and(|(map_uid, _)| map.state().message(*map_uid).is_some());
            if !kept {
                place.remove_files(ids);
                journal.remove()?;
            }
            return Err(error);
        }
        let done = locked.append(&transaction);
        if let Err(error) = done {
            map.append(&back)?;
            return Err(error);
        }
        let mut tail = Transaction::new(Origin::REQUEST);
        tail.mark_synced();
        map.append(&tail)?;
        if !ids.is_empty() {
            journal.remove()?;
        }
        locked.finish()?;
        map.finish()?;
        Ok(report)
    }

    /// The mailbox must be of this map; one without messages may become so.
    fn belong_to(
        &self,
        transaction: &mut Transaction,
        state: &IndexState,
        map: &IndexState,
    ) -> Result<()> {
        let wanted = map.header().uid_validity();
        if map_of(state, Driver::Mdbox) == wanted {
            return Ok(());
        }
        if !state.is_empty() {
            return Err(foreign_map(&self.disk.paths.name));
        }
        set_map(transaction, wanted);
        Ok(())
    }

    fn asked_expunges(&self, locked: &mut LockedIndex<'_>) -> Result<Asked> {
        let guids: BTreeMap<Uid, Guid> = match locked.pending()?.is_empty() {
            true => BTreeMap::new(),
            false => locked
                .state()
                .messages()
                .map(|message| (message.uid(), guid_of(locked.state(), message.uid())))
                .collect(),
        };
        let requests = requests(locked.index(), |uid, guid| {
            let real = guids.get(&uid).copied().unwrap_or(Guid::ZERO);
            let meant = guid.is_zero() || real.is_zero() || guid == real;
            if !meant {
                tracing::warn!("expunge of UID {uid} is refused: its GUID is {real}, not {guid}");
            }
            Ok(meant)
        })?;
        Ok(Asked {
            all: !requests.others && !requests.expunge.is_empty(),
            uids: requests.expunge,
        })
    }

    fn records(
        &self,
        transaction: &mut Transaction,
        state: &IndexState,
        plan: &mut MapPlan,
        next_map_uid: Uid,
        (saves, asked, changes): (&[Save], &BTreeSet<Uid>, &Changes),
    ) -> Result<(CommitReport, Vec<CacheEntry>)> {
        let mut report = CommitReport::default();
        let mut entries = Vec::with_capacity(saves.len());
        let mut uids = UidSequence::new(state.header().next_uid());
        let mut first_recent = 0;
        let (mut pop3_uid, mut pop3_flags) = (0, 0);
        for save in saves {
            let message = &save.message;
            let uid = uids.take(message.uid);
            if uid == Uid::MAX {
                return Err(StorageError::new(
                    MailErrorClass::Limit,
                    format!("mailbox {}: no UIDs are left", self.disk.paths.name),
                ));
            }
            append(transaction, uid, message);
            let map_uid = plan.refer(save.place, next_map_uid)?;
            let saved = match message.saved_date {
                0 => self.disk.settings.clock.seconds(),
                date => date,
            };
            let saved = u32::try_from(saved).unwrap_or(0);
            let record = [map_uid.to_le_bytes(), saved.to_le_bytes()].concat();
            transaction.set_extension_record(ExtensionSpec::MDBOX, uid, &record);
            let guid = MailGuid::short_of(&save.metadata.guid);
            transaction.set_extension_record(ExtensionSpec::GUID, uid, &guid.0);
            entries.push(CacheEntry {
                uid,
                saved_date: 0,
                guid: save.metadata.guid.clone(),
            });
            if uid != message.uid {
                report.moved.push((message.uid, uid));
            }
            if !message.flags.contains(Flags::RECENT) {
                first_recent = uid.saturating_add(1);
            }
            let uidl = u8::from(!save.metadata.pop3_uidl.is_empty());
            let order = u8::from(save.metadata.pop3_order != 0) << 1;
            if uidl | order != 0 {
                (pop3_uid, pop3_flags) = (uid, pop3_flags | uidl | order);
            }
        }
        let mut gone: BTreeSet<Uid> = changes.expunges.union(asked).copied().collect();
        gone.retain(|uid| state.message(*uid).is_some());
        for uid in &gone {
            transaction.expunge(*uid, guid_of(state, *uid));
            if let Some(map_uid) = state.message(*uid).and_then(|message| map_uid(&message)) {
                *plan.changes.entry(map_uid).or_default() -= 1;
            }
        }
        for old in &changes.reassign {
            let Some(message) = state.message(*old).filter(|_| gone.insert(*old)) else {
                continue;
            };
            let uid = uids.take(0);
            append_again(transaction, uid, &message, changes);
            for spec in [ExtensionSpec::MDBOX, ExtensionSpec::GUID] {
                if let Some(bytes) = message.extension(spec.name) {
                    transaction.set_extension_record(spec, uid, bytes);
                }
            }
            transaction.expunge(*old, guid_of(state, *old));
            pop3_uid = uid;
        }
        note_pop3(transaction, state, Driver::Mdbox, pop3_uid, pop3_flags);
        let settings = &self.disk.settings;
        apply_changes(
            transaction,
            state,
            changes,
            settings,
            uids.peek(),
            first_recent,
        );
        Ok((report, entries))
    }
}

/// Takes out copies of messages that nobody refers to any more: all their instances were expunged
/// since, and may be purged at any moment. Gives the UIDs that they should have got.
fn drop_gone(saves: &mut Vec<Save>, map: &IndexState) -> Vec<Uid> {
    let is_gone = |save: &mut Save| match save.place {
        Place::New { .. } => false,
        Place::Stored(map_uid) => {
            MapRecord::find(map, map_uid).is_none_or(|record| record.references == 0)
        }
    };
    let gone = saves.extract_if(.., is_gone);
    gone.map(|save| save.message.uid).collect()
}

/// Expunges that the log asks for.
struct Asked {
    uids: BTreeSet<Uid>,
    /// Nothing else is asked for.
    all: bool,
}

/// The 128-bit GUID of a message.
fn guid_of(state: &IndexState, uid: Uid) -> Guid {
    let message = state.message(uid);
    let bytes = message.and_then(|message| message.extension(ExtensionSpec::GUID.name));
    let bytes = bytes.and_then(|bytes| bytes.first_chunk::<16>().copied());
    bytes.map_or(Guid::ZERO, Guid)
}
