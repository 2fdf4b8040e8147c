//! Makes a transaction durable, then visible (`spec/maildir.md` 20, 21).
//!
//! Order, and what a kill right after each step leaves behind:
//!
//! 1. bodies are flushed in `tmp/`: files nobody sees, swept after 36 hours;
//! 2. keyword names: an unused letter;
//! 3. the journal, if a GUID is not the base name of its file or a message moves: nothing;
//! 4. files get their names, directories are flushed: messages without record; the next sync
//!    gives them the next UIDs, and their GUID is their base name; it removes those that the
//!    journal names;
//! 5. UID list: the next sync tells the index, as for a foreign delivery; moves are undone;
//! 6. flags and expunges on files: the same;
//! 7. index log: everything is done; a journal that is still there says nothing any more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use bstr::{BString, ByteSlice};
use dsync_proto::types::{Flags, Guid, MailGuid, Uid};

use super::disk::{Disk, INDEX_LOCK_TIMEOUT, Known};
use super::filename::{self, NameFlags};
use super::journal::Planned;
use super::scan::Dir;
use super::uidlist;
use crate::body_file::{BodySize, TmpFile, sync_files};
use crate::changes::{Changes, log_update};
use crate::index::{CacheEntry, Index, LockedIndex, Message, Origin, Transaction};
use crate::lock::Dotlock;
use crate::{CommitReport, FlagUpdate, MetadataUpdate, Result, SaveMessage, StorageError};

/// A message that is complete in `tmp/`.
#[derive(Debug)]
pub(super) struct PendingSave {
    pub(super) tmp: TmpFile,
    /// `None` for a copy whose source does not tell.
    pub(super) size: Option<BodySize>,
    /// UID of the message that it is a copy of; 0 if it is none.
    pub(super) source: Uid,
    pub(super) message: SaveMessage,
}

/// Everything since the last commit.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) saves: Vec<PendingSave>,
    pub(super) changes: Changes,
}

/// What is being committed.
struct Commit<'a> {
    disk: &'a Disk,
    known: &'a mut Known,
    lock: Dotlock,
    transaction: Transaction,
    report: CommitReport,
    /// Next free UID.
    next: Uid,
    first_recent: Uid,
    touched: BTreeSet<Dir>,
    /// Saved dates: a file has no room for them.
    saved_dates: Vec<CacheEntry>,
}

impl Disk {
    /// Does all of it. After an error no message of this transaction is left.
    pub(super) fn commit(
        &self,
        known: &mut Known,
        index: &mut Index,
        mut pending: Pending,
    ) -> Result<CommitReport> {
        let paths: Vec<&Path> = pending.saves.iter().map(|save| save.tmp.path()).collect();
        sync_files(&self.paths.box_dir, &paths, self.settings.fsync)?;
        let mut lock = self.lock_uidlist()?;
        let mut locked = index.lock_patiently(INDEX_LOCK_TIMEOUT, &mut || lock.keep_alive())?;
        // Others may have changed something since; if not, the commit costs only what it does.
        // What hides in the same tick of the clock is not looked for now, or every commit of a long
        // run would read the directories: the next refresh finds it, since the mark is not settled.
        self.read_uidlist(known)?;
        self.read_keywords(known)?;
        let is_current = known.files.is_some() && self.is_in_step(locked.index())?;
        if !is_current {
            self.synchronise_locked(known, &mut lock, &mut locked)?;
        }
        pending.saves.sort_by_key(|save| save.message.uid);
        let again = self.reassign(known, &locked, &mut pending.changes)?;
        pending.saves.extend(again);
        let header = locked.state().header();
        let mut commit = Commit {
            next: known.uidlist.next_uid().max(header.next_uid()),
            first_recent: header.first_recent_uid(),
            disk: self,
            known,
            lock,
            transaction: Transaction::new(Origin::DSYNC_FACT),
            report: CommitReport::default(),
            touched: BTreeSet::new(),
            saved_dates: Vec::new(),
        };
        let first_new = commit.known.uidlist.len();
        let saved = commit
            .save_all(&mut pending.saves, &pending.changes.expunges)
            .and_then(|()| commit.change_flags(&pending.changes.flags, &locked));
        if let Err(error) = saved {
            commit.take_back(first_new);
            return Err(error);
        }
        // From the first expunge on nothing is taken back: it may be the old place of a message
        // that has moved. The next sync tells the index what was done.
        commit.expunge(&pending.changes.expunges)?;
        commit.metadata(&pending.changes.metadata, &locked);
        let now = self.settings.clock.seconds();
        pending.changes.log_attributes(&mut commit.transaction, now);
        commit.write_index(&mut locked, pending.changes.metadata.uid_validity)?;
        self.remove_journal()?;
        let report = commit.report;
        locked.finish()?;
        Ok(report)
    }
}

impl Commit<'_> {
    fn save_all(&mut self, saves: &mut [PendingSave], expunges: &BTreeSet<Uid>) -> Result<()> {
        if saves.is_empty() {
            return Ok(());
        }
        let mut letters = Vec::with_capacity(saves.len());
        for save in saves.iter() {
            let found = save
                .message
                .keywords
                .iter()
                .filter_map(|name| self.known.keywords.find_or_add(name))
                .fold(0_u32, |letters, letter| letters | (1 << letter));
            letters.push(found);
        }
        let used = letters.iter().fold(0, |all, letters| all | letters);
        if used & !self.known.written_letters != 0 {
            self.disk.write_keywords(self.known)?;
        }
        let mut names = Vec::with_capacity(saves.len());
        let mut planned = Vec::new();
        for save in saves.iter() {
            let (base, extensions) = self.names(save);
            self.known.take_base(&base);
            let is_move = expunges.contains(&save.source);
            if is_move || base != save.message.guid.as_bytes() {
                planned.push(Planned {
                    old: if is_move { save.source } else { 0 },
                    base: base.clone(),
                });
            }
            names.push((base, extensions));
        }
        self.disk.write_journal(self.known.uidlist.guid, &planned)?;
        let first_new = self.known.uidlist.len();
        for (count, ((save, letters), names)) in
            saves.iter_mut().zip(letters).zip(names).enumerate()
        {
            if count % 256 == 0 {
                self.lock.keep_alive()?;
            }
            self.save(save, letters, names)?;
        }
        for dir in &self.touched {
            self.disk.sync_dir(*dir)?;
        }
        self.disk
            .write_uidlist(self.known, &self.lock, first_new, self.next)
    }

    fn save(
        &mut self,
        save: &mut PendingSave,
        letters: u32,
        (base, extensions): (Vec<u8>, Vec<u8>),
    ) -> Result<()> {
        let message = &save.message;
        let uid = message.uid.max(self.next);
        if message.uid > 0 && uid != message.uid {
            self.report.moved.push((message.uid, uid));
        }
        let flags = message.flags & Flags::USER;
        let is_recent = message.flags.contains(Flags::RECENT);
        let dir = match flags.is_empty() && letters == 0 && is_recent {
            true => Dir::New,
            false => Dir::Cur,
        };
        let mut in_name = NameFlags { flags, letters };
        if self.disk.paths.private_seen {
            in_name.flags = flags & !Flags::SEEN;
        }
        let name = match dir {
            Dir::New => base.clone(),
            Dir::Cur => filename::with_flags(&base, in_name),
        };
        let path = self.disk.message(dir, &base, &name[base.len()..]);
        fs::rename(save.tmp.path(), &path)
            .map_err(|error| StorageError::io("rename a message to", &path, &error))?;
        save.tmp.keep();
        self.touched.insert(dir);
        if !self.known.uidlist.push(uid, &extensions, &base) {
            // Cannot happen with names that are short enough; do not leave it unrecorded.
            let _ = fs::remove_file(&path);
            return Err(StorageError::new(
                dsync_proto::types::MailErrorClass::Limit,
                format!("mailbox {}: no room for UID {uid}", self.disk.paths.name),
            ));
        }
        let position = self.known.uidlist.len() - 1;
        if let Some(files) = &mut self.known.files {
            files.set(position, dir, &name[base.len()..]);
        }
        self.next = uid.saturating_add(1);
        let saved = u32::try_from(save.message.saved_date).unwrap_or(0);
        self.remember_date(uid, saved);
        self.transaction.append(uid, flags);
        for keyword in &save.message.keywords {
            self.transaction.add_keyword(keyword, uid..=uid);
        }
        if save.message.min_modseq > 0 {
            self.transaction.min_modseq(uid, save.message.min_modseq);
        }
        if !is_recent {
            self.first_recent = self.first_recent.max(uid + 1);
        }
        Ok(())
    }

    fn remember_date(&mut self, uid: Uid, saved_date: u32) {
        if saved_date != 0 {
            self.saved_dates.push(CacheEntry {
                uid,
                saved_date,
                guid: BString::default(),
            });
        }
    }

    /// Base name and extensions. The GUID is the base name where it can be: then it survives even
    /// if the record is lost.
    fn names(&mut self, save: &PendingSave) -> (Vec<u8>, Vec<u8>) {
        let message = &save.message;
        let mut extensions = Vec::new();
        let guid = storable_guid(&message.guid);
        let size = save.size.unwrap_or_default();
        // A copy of a packed file needs the sizes in its name.
        let usable = save.source == 0
            && filename::is_usable_base(&guid, size.physical, size.virtual_size)
            && !self.known.is_base_taken(&guid);
        let base = if usable {
            guid
        } else {
            let sizes = match save.size {
                Some(size) => format!(",S={},W={}", size.physical, size.virtual_size),
                None => String::new(),
            };
            if !guid.is_empty() {
                extensions.extend(uidlist::extension(b'G', &guid));
            }
            format!("{}{sizes}", save.tmp.name).into_bytes()
        };
        if !message.pop3_uidl.is_empty() && uidlist::is_value(&message.pop3_uidl) {
            extensions.extend(uidlist::extension(b'P', &message.pop3_uidl));
        }
        if message.pop3_order > 0 {
            let order = message.pop3_order.to_string();
            extensions.extend(uidlist::extension(b'O', order.as_bytes()));
        }
        (base, extensions)
    }

    /// A save failed: the messages of this transaction go again.
    fn take_back(&mut self, first_new: usize) {
        for position in first_new..self.known.uidlist.len() {
            if let Err(error) = self.disk.unlink(self.known, position) {
                tracing::warn!("{error}");
            }
        }
        // Files that could not be removed are named in the journal: it goes with the next sync.
        // What is known may not be what is on disk: read it anew.
        *self.known = Known::default();
    }

    fn change_flags(
        &mut self,
        flags: &BTreeMap<Uid, FlagUpdate>,
        locked: &LockedIndex<'_>,
    ) -> Result<()> {
        for (count, (uid, update)) in flags.iter().enumerate() {
            if count % 256 == 0 {
                self.lock.keep_alive()?;
            }
            let position = self.known.uidlist.position(*uid);
            if let (Some(position), Some(message)) = (position, locked.state().message(*uid)) {
                self.change(position, &message, update)?;
            }
        }
        Ok(())
    }

    fn change(
        &mut self,
        position: usize,
        message: &Message<'_>,
        update: &FlagUpdate,
    ) -> Result<()> {
        let (flags, present) = log_update(&mut self.transaction, message, update);
        let letters = present
            .iter()
            .filter_map(|name| self.known.keywords.find_or_add(name))
            .fold(0, |letters, letter| letters | (1 << letter));
        if letters & !self.known.written_letters != 0 {
            self.disk.write_keywords(self.known)?;
        }
        self.disk
            .set_file_flags(self.known, position, flags, letters)
    }

    fn expunge(&mut self, uids: &BTreeSet<Uid>) -> Result<()> {
        let mut dropped = BTreeSet::new();
        for (count, uid) in uids.iter().enumerate() {
            if count % 256 == 0 {
                self.lock.keep_alive()?;
            }
            let Some(position) = self.known.uidlist.position(*uid) else {
                continue;
            };
            let guid = self
                .known
                .uidlist
                .get(position)
                .map_or(Guid::ZERO, |e| e.short_guid());
            self.disk.unlink(self.known, position)?;
            self.transaction.expunge(*uid, guid);
            dropped.insert(position);
        }
        if !dropped.is_empty() {
            self.known.retain(|position| !dropped.contains(&position));
        }
        Ok(())
    }

    fn metadata(&mut self, update: &MetadataUpdate, locked: &LockedIndex<'_>) {
        let state = locked.state();
        if let Some(uid_next) = update.min_uid_next.filter(|wanted| *wanted > self.next) {
            self.next = uid_next;
            self.known.uidlist.stored_next = uid_next;
            self.known.uidlist.rewrite = true;
            self.transaction.min_next_uid(uid_next);
        }
        let first_recent = update
            .min_first_recent_uid
            .unwrap_or(0)
            .max(self.first_recent);
        let first_recent = first_recent.min(self.next);
        if first_recent > state.header().first_recent_uid() {
            self.transaction.set_first_recent_uid(first_recent);
        }
        if let Some(modseq) = update.min_highest_modseq {
            self.transaction.min_highest_modseq(modseq);
        }
        if let Some(uid_validity) = update.uid_validity {
            let list = &mut self.known.uidlist;
            if list.uid_validity != uid_validity && list.len() == 0 {
                // No UID of the old numbering is left: the new one starts where it is asked to.
                self.next = update.min_uid_next.unwrap_or(1).max(1);
                list.stored_next = self.next;
            }
            list.uid_validity = uid_validity;
            list.rewrite = true;
        }
    }

    /// UID list where it changed by itself, then the index.
    fn write_index(
        &mut self,
        locked: &mut LockedIndex<'_>,
        uid_validity: Option<u32>,
    ) -> Result<()> {
        let known = &mut *self.known;
        if known.uidlist.rewrite {
            let all = known.uidlist.len();
            self.disk.write_uidlist(known, &self.lock, all, self.next)?;
            // Others look at the directory's time only (maildir.md 20 R7).
            self.disk.touch_cur()?;
        }
        known.first_new = known.uidlist.len();
        let known_is_empty = known.uidlist.len() == 0;
        let Some(uid_validity) = uid_validity else {
            locked.cache(&self.saved_dates, &mut self.transaction);
            self.disk.set_mark(known, &mut self.transaction)?;
            return locked.append(&self.transaction);
        };
        locked.append(&self.transaction)?;
        let first = self.everything(locked, uid_validity)?;
        match known_is_empty {
            true => locked.renew(&first),
            false => locked.reset(&first, 0),
        }
    }

    /// All messages for a new index.
    fn everything(&self, locked: &LockedIndex<'_>, uid_validity: u32) -> Result<Transaction> {
        let state = locked.state();
        let mut all = Transaction::new(Origin::DSYNC_FACT);
        all.set_uid_validity(uid_validity);
        all.enable_modseqs();
        for message in state.messages() {
            let uid = message.uid();
            all.append(uid, message.flags() & Flags::USER);
            for keyword in message.keywords() {
                all.add_keyword(keyword, uid..=uid);
            }
        }
        all.min_next_uid(self.next);
        self.disk.set_mark(self.known, &mut all)?;
        Ok(all)
    }
}

/// A GUID that the UID list and the file system can hold; others become their 128-bit form, which
/// every peer computes alike.
fn storable_guid(guid: &MailGuid) -> Vec<u8> {
    let text = guid.as_bytes();
    if uidlist::is_value(text) && text.find_byte(b'/').is_none() {
        return text.to_vec();
    }
    guid.short().to_string().into_bytes()
}
