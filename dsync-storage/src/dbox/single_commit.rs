//! Makes a transaction of an sdbox mailbox durable, then visible (`spec/dbox.md` 7.1, 8 to 10).
//!
//! Order, all but the first under the lock of the index log, and what a kill right after each
//! step leaves behind:
//!
//! 1. bodies are flushed under temporary names: files nobody sees, swept by Dovecot;
//! 2. the journal: nothing;
//! 3. files get their names, the directory is flushed: the next run removes what the journal
//!    names, as no message stands for it;
//! 4. index log: everything is done but for files of expunged messages, which the journal names;
//! 5. these files go, then the journal.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use dsync_proto::types::{Flags, Guid, MailErrorClass, MailGuid, Uid};

use super::bodies::UidSequence;
use super::commit::{append, append_again, apply_changes, note_pop3, requests, sweep_if_due};
use super::identity::{INDEX_LOCK_TIMEOUT, check, guid_of};
use super::single::{Save, SingleBodies};
use crate::body_file::sync_files;
use crate::changes::Changes;
use crate::index::{CacheEntry, Index, IndexState, LockedIndex, Origin, Transaction};
use crate::location::Driver;
use crate::{CommitReport, Result, StorageError, path_io};

/// A new name for a file.
struct Placed {
    uid: Uid,
    /// UID that it had before; 0 for a new message.
    old: Uid,
}

/// UIDs of all messages that come and go.
#[derive(Default)]
struct Plan {
    saves: Vec<Uid>,
    moves: Vec<Placed>,
    expunges: Vec<Uid>,
    next: Uid,
}

impl Plan {
    /// UIDs whose files come or go.
    fn touched(&self) -> Vec<Uid> {
        let moved = self.moves.iter().flat_map(|moved| [moved.uid, moved.old]);
        let mut uids: Vec<Uid> = self.saves.iter().copied().chain(moved).collect();
        uids.extend(&self.expunges);
        uids
    }
}

impl SingleBodies {
    pub(super) fn commit_all(
        &self,
        index: &mut Index,
        mut saves: Vec<Save>,
        changes: &Changes,
    ) -> Result<CommitReport> {
        let temps: Vec<&Path> = saves.iter().map(|save| save.tmp.path()).collect();
        sync_files(&self.disk.paths.box_dir, &temps, self.disk.settings.fsync)?;
        saves.sort_by_key(|save| save.message.uid);
        let mut locked = index.lock(INDEX_LOCK_TIMEOUT)?;
        self.carry_out_locked(&mut locked)?;
        let plan = self.plan(locked.state(), &saves, changes)?;
        let mut transaction = Transaction::new(Origin::DSYNC_FACT);
        let report = self.records(&mut transaction, locked.index(), &plan, &saves, changes)?;
        if !saves.is_empty() {
            let (dir, settings) = (&self.disk.paths.box_dir, &self.disk.settings);
            sweep_if_due(&mut transaction, locked.state(), dir, settings);
        }
        let touched = plan.touched();
        if touched.is_empty() {
            locked.append(&transaction)?;
            locked.finish()?;
            return Ok(report);
        }
        let mailbox = guid_of(locked.state(), Driver::Sdbox);
        let sync = self.disk.settings.syncs();
        let journal = self.unfinished();
        journal.write(mailbox, &touched, &self.disk.paths.modes, sync)?;
        let entries = self.cache_entries(locked.index(), &plan, &saves)?;
        locked.cache(&entries, &mut transaction);
        let done = self
            .place(&plan, &mut saves)
            .and_then(|()| locked.append(&transaction));
        if let Err(error) = done {
            self.take_back(&plan, locked.state());
            return Err(error);
        }
        for uid in plan
            .expunges
            .iter()
            .chain(plan.moves.iter().map(|moved| &moved.old))
        {
            self.unlink(*uid);
        }
        journal.remove()?;
        locked.finish()?;
        Ok(report)
    }

    fn plan(&self, state: &IndexState, saves: &[Save], changes: &Changes) -> Result<Plan> {
        let exists = |uid: &Uid| state.message(*uid).is_some();
        let mut plan = Plan {
            expunges: changes.expunges.iter().copied().filter(exists).collect(),
            ..Plan::default()
        };
        let mut uids = UidSequence::new(state.header().next_uid());
        for save in saves {
            plan.saves.push(self.free_uid(&mut uids, save.message.uid)?);
        }
        let mut moved = BTreeSet::new();
        for old in changes.reassign.iter().copied().filter(exists) {
            if moved.insert(old) && !changes.expunges.contains(&old) {
                let uid = self.free_uid(&mut uids, 0)?;
                plan.moves.push(Placed { uid, old });
            }
        }
        plan.next = uids.peek();
        Ok(plan)
    }

    /// The next UID for which there is no file. One that is there belongs to no message that we
    /// know, and is not ours to remove: an index was lost, or Dovecot was killed while saving.
    fn free_uid(&self, uids: &mut UidSequence, wanted: Uid) -> Result<Uid> {
        let mut uid = uids.take(wanted);
        if self.places(uid).any(|path| path.symlink_metadata().is_ok()) {
            tracing::warn!(
                "{} holds files of messages that are not in its index, such as u.{uid}: \
                 `doveadm force-resync` makes messages of them",
                self.disk.paths.box_dir.display()
            );
            let highest = self.highest_file()?;
            uids.skip_to(highest.saturating_add(1));
            uid = uids.take(wanted);
        }
        if uid == Uid::MAX {
            return Err(StorageError::new(
                MailErrorClass::Limit,
                format!("mailbox {}: no UIDs are left", self.disk.paths.name),
            ));
        }
        Ok(uid)
    }

    fn highest_file(&self) -> Result<Uid> {
        let mut highest = 0;
        let paths = &self.disk.paths;
        for dir in [Some(&paths.box_dir), paths.alt_dir.as_ref()]
            .into_iter()
            .flatten()
        {
            for name in crate::folders::list::entries(dir)? {
                let uid = name.to_str().and_then(|name| name.strip_prefix("u."));
                let uid = uid.and_then(|uid| uid.parse().ok());
                highest = highest.max(uid.unwrap_or(0));
            }
        }
        Ok(highest)
    }

    fn records(
        &self,
        transaction: &mut Transaction,
        index: &Index,
        plan: &Plan,
        saves: &[Save],
        changes: &Changes,
    ) -> Result<CommitReport> {
        let state = index.state();
        let mut report = CommitReport::default();
        let mut first_recent = 0;
        let (mut pop3_uid, mut pop3_flags) = (0, 0);
        for (uid, save) in plan.saves.iter().zip(saves) {
            append(transaction, *uid, &save.message);
            if *uid != save.message.uid {
                report.moved.push((save.message.uid, *uid));
            }
            if !save.message.flags.contains(Flags::RECENT) {
                first_recent = uid.saturating_add(1);
            }
            let uidl = u8::from(!save.metadata.pop3_uidl.is_empty());
            let order = u8::from(save.metadata.pop3_order != 0) << 1;
            if uidl | order != 0 {
                (pop3_uid, pop3_flags) = (*uid, pop3_flags | uidl | order);
            }
        }
        for Placed { uid, old } in &plan.moves {
            if let Some(message) = state.message(*old) {
                append_again(transaction, *uid, &message, changes);
                transaction.expunge(*old, self.short_guid(*old)?);
                // Whether its file has a POP3 UIDL is not worth a look.
                pop3_uid = *uid;
            }
        }
        for uid in &plan.expunges {
            transaction.expunge(*uid, self.short_guid(*uid)?);
        }
        note_pop3(transaction, state, Driver::Sdbox, pop3_uid, pop3_flags);
        let settings = &self.disk.settings;
        apply_changes(
            transaction,
            state,
            changes,
            settings,
            plan.next,
            first_recent,
        );
        Ok(report)
    }

    /// What the cache shall know of new messages, and of those under new UIDs: their files get
    /// another change time.
    fn cache_entries(&self, index: &Index, plan: &Plan, saves: &[Save]) -> Result<Vec<CacheEntry>> {
        let new = plan.saves.iter().zip(saves).map(|(uid, save)| CacheEntry {
            uid: *uid,
            saved_date: u32::try_from(save.message.saved_date).unwrap_or(0),
            guid: save.metadata.guid.clone(),
        });
        let mut entries: Vec<CacheEntry> = new.collect();
        let cached = match plan.moves.is_empty() {
            true => None,
            false => index.cached().ok(),
        };
        for Placed { uid, old } in &plan.moves {
            let Some(stored) = self.open(*old)? else {
                continue;
            };
            let message = index.state().message(*old);
            let known = cached.as_ref().zip(message);
            let date = known.and_then(|(cached, message)| cached.saved_date(&message));
            let changed = || u32::try_from(stored.changed()).unwrap_or(0);
            entries.push(CacheEntry {
                uid: *uid,
                saved_date: date.unwrap_or_else(changed),
                guid: stored.metadata.guid,
            });
        }
        Ok(entries)
    }

    /// The GUID that others know the message by; zero if its file is gone.
    fn short_guid(&self, uid: Uid) -> Result<Guid> {
        Ok(self.open(uid)?.map_or(Guid::ZERO, |stored| {
            MailGuid::short_of(&stored.metadata.guid)
        }))
    }

    /// Gives files their names.
    fn place(&self, plan: &Plan, saves: &mut [Save]) -> Result<()> {
        let dir = &self.disk.paths.box_dir;
        for (uid, save) in plan.saves.iter().zip(saves) {
            let path = dir.join(format!("u.{uid}"));
            fs::rename(save.tmp.path(), &path)
                .map_err(|error| StorageError::io("rename a message to", &path, &error))?;
            save.tmp.keep();
        }
        let mut touched = BTreeSet::from([dir.as_path()]);
        for Placed { uid, old } in &plan.moves {
            let Some(source) = self.places(*old).find(|path| path.exists()) else {
                return Err(self.lost(*old));
            };
            let target = source.with_file_name(format!("u.{uid}"));
            fs::hard_link(&source, &target)
                .map_err(|error| StorageError::io("link a message to", &target, &error))?;
            if self.disk.paths.alt_dir.as_deref() == source.parent() {
                touched.extend(self.disk.paths.alt_dir.as_deref());
            }
        }
        if self.disk.settings.syncs() {
            touched.into_iter().try_for_each(path_io::sync)?;
        }
        Ok(())
    }

    /// A message of the index has no file.
    pub(super) fn lost(&self, uid: Uid) -> StorageError {
        StorageError::new(
            MailErrorClass::InvalidData,
            format!(
                "mailbox {}: the file of message UID={uid} is missing in {}: put it back, or run \
                 `doveadm force-resync` to give the message up",
                self.disk.paths.name,
                self.disk.paths.box_dir.display()
            ),
        )
    }

    /// A commit failed: its files go again, and then the journal. What fails here is done by the
    /// next run.
    fn take_back(&self, plan: &Plan, state: &IndexState) {
        let uids = plan
            .saves
            .iter()
            .chain(plan.moves.iter().map(|moved| &moved.uid));
        for uid in uids.filter(|uid| state.message(**uid).is_none()) {
            self.unlink(*uid);
        }
        if let Err(error) = self.unfinished().remove() {
            tracing::warn!("{error}");
        }
    }

    /// Removes the file of a message. If that fails, a file without message stays.
    fn unlink(&self, uid: Uid) {
        for path in self.places(uid) {
            if let Err(error) = path_io::remove(&path) {
                tracing::warn!("{error}");
            }
        }
    }

    pub(super) fn asks_for_expunges(&self, index: &mut Index) -> Result<bool> {
        Ok(!requests(index, |_, _| Ok(true))?.expunge.is_empty())
    }

    /// Ends what others began.
    pub(super) fn carry_out(&self, index: &mut Index) -> Result<()> {
        let mut locked = index.lock(INDEX_LOCK_TIMEOUT)?;
        self.carry_out_locked(&mut locked)?;
        locked.finish()
    }

    fn carry_out_locked(&self, locked: &mut LockedIndex<'_>) -> Result<()> {
        check(locked.index(), &self.disk.paths.name)?;
        let journal = self.unfinished();
        if journal.exists() {
            let mailbox = guid_of(locked.state(), Driver::Sdbox);
            for uid in journal.without_message(mailbox, locked.state())? {
                tracing::info!(
                    "{}: ending an interrupted commit: u.{uid}",
                    self.disk.paths.name
                );
                self.unlink(uid);
            }
            journal.remove()?;
        }
        let requests = requests(locked.index(), |uid, guid| {
            let real = self.short_guid(uid)?;
            let meant = guid.is_zero() || real.is_zero() || guid == real;
            if !meant {
                tracing::warn!("expunge of UID {uid} is refused: its GUID is {real}, not {guid}");
            }
            Ok(meant)
        })?;
        if requests.expunge.is_empty() {
            return Ok(());
        }
        let uids: Vec<Uid> = requests.expunge.into_iter().collect();
        let mailbox = guid_of(locked.state(), Driver::Sdbox);
        let sync = self.disk.settings.syncs();
        journal.write(mailbox, &uids, &self.disk.paths.modes, sync)?;
        let mut transaction = Transaction::new(Origin::FACT);
        for uid in &uids {
            transaction.expunge(*uid, self.short_guid(*uid)?);
        }
        if !requests.others {
            transaction.mark_synced();
        }
        locked.append(&transaction)?;
        uids.iter().for_each(|uid| self.unlink(*uid));
        journal.remove()
    }
}
