//! Brings file and index in step, and makes transactions durable (`spec/mbox.md` 9).
//!
//! The order, under the locks of the file and then of the index log, and what a kill right after
//! each step leaves behind:
//!
//! 1. GUIDs of new messages: entries that no message fits;
//! 2. the file, with its journal (`rewrite`): the old contents or the new ones. New ones have all
//!    UIDs, and the index learns of them at the next refresh;
//! 3. index log: everything is done.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, FileTimes};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, UNIX_EPOCH};

use bstr::BString;
use dsync_proto::types::{MailErrorClass, Uid};

use super::contents::{Composer, Item, Source, items};
use super::guids::{Guids, fingerprint};
use super::journal::JOURNAL;
use super::locks::LockedFile;
use super::mailbox::{FileStamp, INDEX_LOCK_TIMEOUT, MboxMailbox};
use super::plan::{Plan, Requests};
use super::records::{SyncStamp, bring, guid_of, set_guid};
use super::resolve::{Known, Resolved, resolve};
use super::rewrite::Place;
use super::scan::{Entry, scan};
use super::staging::Staged;
use crate::changes::Changes;
use crate::folders::{create_dirs, next_uid_validity};
use crate::index::Transaction;
use crate::index::{CacheEntry, Index, IndexState, LockedIndex, Origin};
use crate::{CommitReport, Result, StorageError};

impl MboxMailbox {
    /// Brings the index in step with the file, and gives UIDs to messages that have none.
    pub(super) fn learn_of_file(&mut self) -> Result<()> {
        let locked = LockedFile::read(&self.path, &self.settings)?;
        self.index.refresh()?;
        let journal = self.index_dir.join(JOURNAL);
        if !journal.exists() {
            self.look(&locked.file)?;
            let resolved = resolve(&self.entries, &Known::of(self.index.state()));
            let requests = Requests::of(&mut self.index)?;
            if !resolved.incomplete && requests.expunges.is_empty() {
                return self.learn(&locked.file);
            }
        }
        drop(locked);
        match self.write_through(&Changes::default(), &mut Vec::new()) {
            Err(error) if error.class == MailErrorClass::Permission && !journal.exists() => {
                tracing::warn!(
                    "mailbox {}: UIDs are kept in the index only: {error}",
                    self.name
                );
                let locked = LockedFile::read(&self.path, &self.settings)?;
                self.look(&locked.file)?;
                self.learn(&locked.file)
            }
            done => done.map(drop),
        }
    }

    /// Scans the file, unless it is as it was. It must be locked.
    pub(super) fn look(&mut self, file: &File) -> Result<()> {
        let stamp = FileStamp::of(file, &self.path)?;
        if self.stamp != Some(stamp) {
            self.entries = scan(file, &self.path)?.into();
            self.stamp = Some(stamp);
        }
        Ok(())
    }

    /// Tells the index what the file has; the file stays as it is.
    fn learn(&mut self, file: &File) -> Result<()> {
        let stamp = sync_stamp(file, self)?;
        let requests = Requests::of(&mut self.index)?;
        let is_known = |state: &IndexState, requests: &Requests| {
            let mut facts = Transaction::new(Origin::FACT);
            let resolved = resolve(&self.entries, &Known::of(state));
            let items = self.items(&resolved, state, requests);
            let none = BTreeMap::new();
            bring(
                &mut facts,
                state,
                &self.entries,
                &items,
                stamp,
                &none,
                false,
            );
            let next = resolved.base.last_uid.saturating_add(1);
            facts.is_empty()
                && next == state.header().next_uid()
                && !guid_of(state).is_zero()
                && state.has_modseqs()
        };
        if self.index.exists()
            && !self.index.needs_rebuild()
            && !self.index.state().is_deleted()
            && is_known(self.index.state(), &requests)
        {
            return Ok(());
        }
        let modes = self.modes;
        create_dirs(&self.index_dir, &modes)?;
        let mut index =
            std::mem::replace(&mut self.index, Index::in_memory("x", Default::default()));
        let result = self.learn_locked(&mut index, stamp);
        self.index = index;
        result
    }

    fn learn_locked(&mut self, index: &mut Index, stamp: SyncStamp) -> Result<()> {
        let mut locked = index.lock(INDEX_LOCK_TIMEOUT)?;
        let (_, items, facts) = self.facts(&mut locked, stamp)?;
        drop(items);
        locked.append(&facts)?;
        locked.finish()
    }

    fn items(&self, resolved: &Resolved, state: &IndexState, requests: &Requests) -> Vec<Item> {
        items(&self.entries, resolved, state, |uid| {
            Requests::within(&requests.changed, uid)
        })
    }

    /// What the file says that the index does not. An index of another mailbox starts anew.
    fn facts(
        &self,
        locked: &mut LockedIndex<'_>,
        stamp: SyncStamp,
    ) -> Result<(Resolved, Vec<Item>, Transaction)> {
        let requests = Requests::of(locked.index())?;
        let mut resolved = resolve(&self.entries, &Known::of(locked.state()));
        let lost = locked.index().needs_rebuild();
        if resolved.index_is_foreign || lost {
            if !lost {
                tracing::warn!("UIDVALIDITY of mailbox {} has changed", self.name);
            }
            let mut first = Transaction::new(Origin::FACT);
            first.set_uid_validity(self.uid_validity_for(&resolved)?);
            let guid = guid_of(locked.state());
            if !guid.is_zero() {
                set_guid(&mut first, guid);
            }
            locked.reset(&first, 0)?;
            resolved = resolve(&self.entries, &Known::of(locked.state()));
        }
        let state = locked.state();
        let mut facts = Transaction::new(Origin::FACT);
        if state.is_deleted() {
            facts.mark_undeleted();
        }
        if state.header().uid_validity() == 0 {
            resolved.base.uid_validity = self.uid_validity_for(&resolved)?;
            facts.set_uid_validity(resolved.base.uid_validity);
        }
        if !state.has_modseqs() {
            facts.enable_modseqs();
        }
        let items = self.items(&resolved, state, &requests);
        let none = BTreeMap::new();
        bring(
            &mut facts,
            state,
            &self.entries,
            &items,
            stamp,
            &none,
            false,
        );
        if guid_of(state).is_zero() {
            set_guid(&mut facts, self.settings.unique().guid());
        }
        let next = resolved.base.last_uid.saturating_add(1);
        if next > state.header().next_uid() {
            facts.min_next_uid(next);
        }
        let old = items
            .iter()
            .filter(|item| item.old)
            .map(|item| item.uid)
            .max();
        let first_recent = old.map_or(0, |uid| uid.saturating_add(1));
        if first_recent > state.header().first_recent_uid() {
            facts.set_first_recent_uid(first_recent);
        }
        Ok((resolved, items, facts))
    }

    fn uid_validity_for(&self, resolved: &Resolved) -> Result<u32> {
        match resolved.base.uid_validity {
            0 => next_uid_validity(&self.counter_dir, &self.modes, &self.settings.clock),
            known => Ok(known),
        }
    }

    /// Makes changes and new messages durable, then visible; without any, what file and index lack.
    pub(super) fn write_through(
        &mut self,
        changes: &Changes,
        staged: &mut Vec<Staged>,
    ) -> Result<CommitReport> {
        create_dirs(&self.index_dir, &self.modes.clone())?;
        let locked_file = LockedFile::write(&self.path, &self.settings)?;
        let place_path = self.path.clone();
        let index_dir = self.index_dir.clone();
        let modes = self.modes;
        let place = Place {
            path: &place_path,
            index_dir: &index_dir,
            modes: &modes,
            sync: self.settings.syncs(),
        };
        place.recover(&locked_file.file)?;
        self.look(&locked_file.file)?;
        let mut index =
            std::mem::replace(&mut self.index, Index::in_memory("x", Default::default()));
        let result = self.write_locked(&mut index, &place, &locked_file.file, changes, staged);
        self.index = index;
        result
    }

    fn write_locked(
        &mut self,
        index: &mut Index,
        place: &Place<'_>,
        file: &File,
        changes: &Changes,
        staged: &mut Vec<Staged>,
    ) -> Result<CommitReport> {
        let mut locked = index.lock(INDEX_LOCK_TIMEOUT)?;
        let before = sync_stamp(file, self)?;
        let requests = Requests::of(locked.index())?;
        let (resolved, items, facts) = self.facts(&mut locked, before)?;
        // Everything is computed first; the index learns of it when the file has it.
        let state = locked.state();
        let mut plan = Plan::new(&resolved, &items, state, changes, &requests, staged)?;
        plan.base_from(&resolved, state, changes);
        let mut guids = Guids::read(&self.index_dir)?;
        let short = self.name_all(&mut guids, &resolved, &items, &plan, staged);
        guids.write(&self.index_dir, &self.modes, self.settings.syncs())?;
        let composer = Composer {
            file,
            entries: &self.entries,
            staged,
            base: &plan.base,
            now: self.settings.clock.seconds(),
            host: &self.settings.hostname,
        };
        let composed = composer
            .compose(&plan.items, self.entries.is_empty() && !plan.imposes)
            .map_err(|error| StorageError::io("read", &self.path, &error))?;
        let staging = self.staging.file()?;
        let written = place.rewrite(file, &composed.pieces, staging)?;
        if written {
            touch_after(file, SyncStamp::of(locked.state()), self)?;
            self.entries = composed.entries.into();
            self.stamp = Some(FileStamp::of(file, &self.path)?);
        }
        let stamp = sync_stamp(file, self)?;
        locked.append(&facts)?;
        let mut own = Transaction::new(Origin::DSYNC_FACT);
        bring(
            &mut own,
            locked.state(),
            &self.entries,
            &plan.items,
            stamp,
            &short,
            true,
        );
        plan.finish(&mut own, locked.state(), changes, staged, &self.settings);
        let dates: Vec<CacheEntry> = plan
            .saved_dates(staged)
            .into_iter()
            .map(|(uid, saved_date)| CacheEntry {
                uid,
                saved_date,
                guid: BString::default(),
            })
            .collect();
        locked.cache(&dates, &mut own);
        own.mark_synced();
        locked.append(&own)?;
        locked.finish()?;
        Ok(plan.report)
    }

    /// GUIDs of what is there, for those who learn of expunges; of new messages, for later.
    fn name_all(
        &self,
        guids: &mut Guids,
        resolved: &Resolved,
        items: &[Item],
        plan: &Plan,
        staged: &[Staged],
    ) -> BTreeMap<Uid, BString> {
        let messages: Vec<(Uid, &Entry)> = items
            .iter()
            .filter_map(|item| match item.source {
                Source::File(number) => Some((item.uid, self.entries.get(number)?)),
                Source::Staged(_) => None,
            })
            .collect();
        let names = guids.of(resolved.base.uid_validity, &messages);
        let short: BTreeMap<Uid, BString> = messages
            .iter()
            .map(|(uid, _)| *uid)
            .zip(names.iter().cloned())
            .collect();
        let by_entry: BTreeMap<usize, &BString> = items
            .iter()
            .zip(&names)
            .filter_map(|(item, name)| match item.source {
                Source::File(number) => Some((number, name)),
                Source::Staged(_) => None,
            })
            .collect();
        for item in &plan.items {
            match item.source {
                Source::Staged(number) => {
                    if let Some(new) = staged.get(number) {
                        let guid = new.message.guid.as_bytes().into();
                        guids.set(item.uid, new.fingerprint(), guid);
                    }
                }
                // A message under a new UID stays the same message.
                Source::File(number) if !short.contains_key(&item.uid) => {
                    if let (Some(name), Some(entry)) =
                        (by_entry.get(&number), self.entries.get(number))
                    {
                        guids.set(item.uid, fingerprint(entry), (*name).clone());
                    }
                }
                Source::File(_) => {}
            }
        }
        let there: BTreeSet<Uid> = plan
            .items
            .iter()
            .map(|item| item.uid)
            .chain(short.keys().copied())
            .collect();
        guids.retain(|uid| there.contains(&uid));
        short
    }
}

fn sync_stamp(file: &File, mailbox: &MboxMailbox) -> Result<SyncStamp> {
    let meta = file.metadata();
    let meta = meta.map_err(|error| StorageError::io("stat", &mailbox.path, &error))?;
    Ok(SyncStamp {
        size: meta.len(),
        mtime: u32::try_from(meta.mtime()).unwrap_or(0),
    })
}

/// Dovecot must see that the file has changed, also within one second.
fn touch_after(file: &File, known: SyncStamp, mailbox: &MboxMailbox) -> Result<()> {
    let now = sync_stamp(file, mailbox)?;
    if now.mtime > known.mtime {
        return Ok(());
    }
    let later = UNIX_EPOCH + Duration::from_secs(u64::from(known.mtime) + 1);
    file.set_times(FileTimes::new().set_modified(later))
        .map_err(|error| StorageError::io("set the time of", &mailbox.path, &error))
}
