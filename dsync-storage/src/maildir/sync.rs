//! Brings files, UID list and index in step, as Dovecot does at every opening
//! (`spec/maildir.md` 12).
//!
//! Under `dovecot-uidlist.lock` and the lock of the index log the directories are read; files
//! get UIDs, the index learns what changed, and what others asked for in the log is done to the
//! files. Killed after a rename or unlink here: the next sync sees the files as they are and
//! tells the index. Killed between UID list and index: the same.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use bstr::{BStr, BString};
use dsync_proto::types::{Flags, Guid, Uid};

use super::disk::{Disk, INDEX_LOCK_TIMEOUT, Known};
use super::filename::{self, NameFlags};
use super::files::{Files, match_files};
use super::mark::{DirMark, Mark};
use super::save::sweep_tmp;
use super::scan::{Dir, Scan, Stamp, path_of};
use super::uid_validity::next_uid_validity;
use crate::index::{
    ExtensionSpec, Index, IndexState, LockedIndex, Message, Origin, PendingKind, Transaction,
};
use crate::lock::Dotlock;
use crate::{Result, StorageError};

/// Flag of an index message that is newer than its file.
const DIRTY: u8 = 0x80;

/// What the log asks for and nobody has done yet.
#[derive(Debug, Default)]
struct Requests {
    expunge: BTreeSet<Uid>,
    /// Messages whose files shall get the flags of the index.
    flags: BTreeSet<Uid>,
}

impl Requests {
    fn read(locked: &mut LockedIndex<'_>) -> Result<Self> {
        let mut requests = Self::default();
        for pending in locked.pending()? {
            match pending.kind {
                PendingKind::Expunge(ranges) => {
                    requests.expunge.extend(existing(locked.state(), ranges));
                }
                PendingKind::ExpungeGuid(uids) => {
                    requests
                        .expunge
                        .extend(uids.into_iter().map(|(uid, _)| uid));
                }
                PendingKind::Flags(ranges) => {
                    let ranges = ranges.into_iter().map(|(first, last, ..)| (first, last));
                    requests.flags.extend(existing(locked.state(), ranges));
                }
                PendingKind::Keyword(_, _, ranges) | PendingKind::KeywordsReset(ranges) => {
                    requests.flags.extend(existing(locked.state(), ranges));
                }
                PendingKind::DeleteIndex => {}
            }
        }
        let dirty = locked
            .state()
            .messages()
            .filter(|message| message.raw_flags() & DIRTY != 0);
        requests.flags.extend(dirty.map(|message| message.uid()));
        Ok(requests)
    }
}

/// The messages in these ranges; a range may name millions of UIDs that do not exist.
fn existing(
    state: &IndexState,
    ranges: impl IntoIterator<Item = (Uid, Uid)>,
) -> impl Iterator<Item = Uid> {
    let ranges: Vec<(Uid, Uid)> = ranges.into_iter().collect();
    let uids: Vec<Uid> = state
        .messages()
        .map(|message| message.uid())
        .filter(|uid| {
            ranges
                .iter()
                .any(|(first, last)| (first..=last).contains(&uid))
        })
        .collect();
    uids.into_iter()
}

/// Whether a message that should have a file has none.
fn misses_some(known: &Known, files: &Files, state: &IndexState) -> bool {
    let next = state.header().next_uid();
    (0..known.uidlist.len())
        .filter(|position| files.get(*position).is_none())
        .filter_map(|position| known.uidlist.get(position))
        .any(|entry| entry.uid >= next || state.message(entry.uid).is_some())
}

impl Disk {
    /// Whether nothing has changed since the index was brought in step, as far as times tell.
    pub(super) fn is_in_step(&self, index: &mut Index) -> Result<bool> {
        let state = index.state();
        if !index.exists() || index.needs_rebuild() || !state.has_modseqs() {
            return Ok(false);
        }
        let mark = state
            .extension(ExtensionSpec::MAILDIR.name)
            .and_then(|extension| Mark::decode(&extension.header));
        let Some(mark) = mark else { return Ok(false) };
        let Some(uidlist) = Stamp::of(&self.paths.uidlist())? else {
            return Ok(false);
        };
        let [new, cur] = self.dir_stamps()?;
        let now = self.settings.clock.now();
        Ok(mark.matches(&new, &cur, &uidlist, now) && index.pending()?.is_empty())
    }

    /// The whole sync. Locks the UID list, then the index.
    pub(super) fn synchronise(&self, known: &mut Known, index: &mut Index) -> Result<()> {
        let mut lock = self.lock_uidlist()?;
        let mut locked = index.lock(INDEX_LOCK_TIMEOUT)?;
        self.synchronise_locked(known, &mut lock, &mut locked)?;
        sweep_tmp(&self.paths.box_dir, std::time::SystemTime::now());
        locked.finish()
    }

    /// The same with both locks held.
    pub(super) fn synchronise_locked(
        &self,
        known: &mut Known,
        lock: &mut Dotlock,
        locked: &mut LockedIndex<'_>,
    ) -> Result<()> {
        self.read_uidlist(known)?;
        self.read_keywords(known)?;
        self.settle_identity(known, locked)?;
        self.scan_files(known, lock, locked.state())?;
        self.name_letters(known)?;
        let requests = Requests::read(locked)?;
        let mut transaction = Transaction::new(Origin::FACT);
        if !locked.state().has_modseqs() {
            transaction.enable_modseqs();
        }
        self.compare(known, lock, locked.state(), &requests, &mut transaction)?;
        let next = known
            .uidlist
            .next_uid()
            .max(locked.state().header().next_uid());
        if known.uidlist.stored_next > locked.state().header().next_uid() {
            transaction.min_next_uid(known.uidlist.stored_next);
        }
        let first_new = known.first_new.min(known.uidlist.len());
        self.write_uidlist(known, lock, first_new, next)?;
        known.first_new = known.uidlist.len();
        self.set_mark(known, &mut transaction)?;
        transaction.mark_synced();
        locked.append(&transaction)
    }

    /// UIDVALIDITY and GUID of the mailbox; the index must have the same UIDVALIDITY.
    fn settle_identity(&self, known: &mut Known, locked: &mut LockedIndex<'_>) -> Result<()> {
        let list = &mut known.uidlist;
        let header = locked.state().header();
        if list.uid_validity == 0 {
            list.uid_validity = match header.uid_validity() {
                0 => next_uid_validity(
                    &self.paths.control_root,
                    &self.paths.modes,
                    &self.settings.clock,
                )?,
                known => known,
            };
            list.rewrite = true;
        }
        if list.guid.is_zero() {
            list.guid = self.unique.guid();
            list.rewrite = true;
        }
        list.stored_next = list.stored_next.max(1);
        if header.uid_validity() == list.uid_validity && !locked.index().needs_rebuild() {
            return Ok(());
        }
        let mut first = Transaction::new(Origin::FACT);
        first.set_uid_validity(list.uid_validity);
        if locked.state().header().uid_validity() == 0 && !locked.index().needs_rebuild() {
            return locked.append(&first);
        }
        tracing::warn!(
            "mailbox {}: UIDVALIDITY is {} now; its index is made anew",
            self.paths.name,
            list.uid_validity
        );
        locked.reset(&first, 0)
    }

    /// Reads the directories; files without record get one, records without file go.
    fn scan_files(&self, known: &mut Known, lock: &mut Dotlock, state: &IndexState) -> Result<()> {
        known.scanned = Some(self.settings.clock.now());
        let mut scan = Scan::read(&self.paths.box_dir, || lock.keep_alive())?;
        let mut matched = match_files(&known.uidlist, &scan);
        let is_repaired = self.repair_names(&scan, &matched.duplicates)?;
        if is_repaired || misses_some(known, &matched.files, state) {
            // A program that renames without the lock can hide a file from one look at the
            // directory (22 H1): only what was not seen twice is gone.
            let earlier = matched.files;
            scan = Scan::read(&self.paths.box_dir, || lock.keep_alive())?;
            matched = match_files(&known.uidlist, &scan);
            matched.files.fill_from(&earlier);
        }
        let mut files = matched.files;
        known.gone.clear();
        for position in 0..known.uidlist.len() {
            if files.get(position).is_none()
                && let Some(entry) = known.uidlist.get(position)
            {
                known.gone.push((entry.uid, entry.short_guid()));
            }
        }
        let before = known.uidlist.len();
        let keep: Vec<bool> = (0..before).map(|at| files.get(at).is_some()).collect();
        known.uidlist.retain(|position| keep[position]);
        files.retain(|position| keep.get(position).copied().unwrap_or(false));
        if known.uidlist.len() != before {
            known.forget_bases();
        }
        known.first_new = known.uidlist.len();
        let mut unknown = matched.unknown;
        let base = |at: &usize| {
            scan.get(*at)
                .map_or(&b""[..], |(_, name)| filename::base(name))
        };
        unknown.sort_by(|a, b| filename::arrival_order(base(a), base(b)));
        let mut next = known.uidlist.next_uid().max(state.header().next_uid());
        for at in unknown {
            let Some((dir, name)) = scan.get(at) else {
                continue;
            };
            let base = filename::base(name);
            if known.uidlist.push(next, b"", base) {
                known.take_base(base);
                files.set(known.uidlist.len() - 1, dir, &name[base.len()..]);
                next += 1;
            }
        }
        known.files = Some(files);
        Ok(())
    }

    /// 8.1 and 8.5: names that cannot stay get a fresh one in `new/`; no message is deleted.
    /// Returns whether anything was changed.
    fn repair_names(&self, scan: &Scan, duplicates: &[usize]) -> Result<bool> {
        let mut names: Vec<(Dir, &[u8])> = Vec::new();
        names.extend(
            scan.broken
                .iter()
                .map(|(dir, name)| (*dir, name.as_slice())),
        );
        for at in duplicates {
            if let Some(duplicate) = self.true_duplicate(scan, *at)? {
                names.push(duplicate);
            }
        }
        for (dir, name) in &names {
            let (dir, name) = (*dir, *name);
            let old = path_of(&self.paths.box_dir, dir, name);
            let fresh = self.unique.base_name();
            let new = path_of(&self.paths.box_dir, Dir::New, fresh.as_bytes());
            tracing::warn!(
                "renaming {} to {}: its name cannot be used",
                old.display(),
                new.display()
            );
            match fs::rename(&old, &new) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StorageError::io("rename", &old, &error));
                }
                _ => {}
            }
        }
        Ok(!scan.broken.is_empty() || !duplicates.is_empty())
    }

    /// The second file of one base name, if it is a message of its own that needs another name.
    fn true_duplicate<'s>(&self, scan: &'s Scan, at: usize) -> Result<Option<(Dir, &'s [u8])>> {
        let (Some(first), Some(second)) = (scan.get(at - 1), scan.get(at)) else {
            return Ok(None);
        };
        let [first_path, path] =
            [first, second].map(|(dir, name)| path_of(&self.paths.box_dir, dir, name));
        let metadata = [&first_path, &path].map(|path| fs::symlink_metadata(path).ok());
        let [Some(first_metadata), Some(metadata)] = metadata else {
            return Ok(None); // one file, seen before and after it was renamed
        };
        let is_same =
            first_metadata.dev() == metadata.dev() && first_metadata.ino() == metadata.ino();
        if !is_same {
            return Ok(Some(second));
        }
        if metadata.nlink() < 2 {
            return Ok(None); // renamed right now
        }
        // Two names of one file, left behind by a program that links and unlinks.
        tracing::warn!(
            "removing {}: the same file as {}",
            path.display(),
            first_path.display()
        );
        match fs::remove_file(&first_path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StorageError::io("remove", &first_path, &error))
            }
            _ => Ok(None),
        }
    }

    /// A letter without a name gets one.
    fn name_letters(&self, known: &mut Known) -> Result<()> {
        let Some(files) = &known.files else {
            return Ok(());
        };
        let used = (0..known.uidlist.len())
            .filter_map(|position| files.get(position))
            .fold(0, |letters, file| letters | file.flags().letters);
        if used & !known.keywords.known() != 0 {
            known.keywords.name_unknown(used);
            self.write_keywords(known)?;
        }
        Ok(())
    }

    /// Walks records and index side by side, by UID.
    fn compare(
        &self,
        known: &mut Known,
        lock: &mut Dotlock,
        state: &IndexState,
        requests: &Requests,
        transaction: &mut Transaction,
    ) -> Result<()> {
        let index_next = state.header().next_uid();
        let mut messages = state.messages().peekable();
        let mut expunged = BTreeSet::new();
        let mut reappeared = Vec::new();
        for position in 0..known.uidlist.len() {
            if position % 1024 == 0 {
                lock.keep_alive()?;
            }
            let Some(uid) = known.uidlist.get(position).map(|entry| entry.uid) else {
                continue;
            };
            while let Some(gone) = messages.next_if(|message| message.uid() < uid) {
                self.expunge_gone(known, gone.uid(), transaction);
            }
            match messages.next_if(|message| message.uid() == uid) {
                Some(_) if requests.expunge.contains(&uid) => {
                    self.unlink(known, position)?;
                    let guid = known
                        .uidlist
                        .get(position)
                        .map_or(Guid::ZERO, |e| e.short_guid());
                    transaction.expunge(uid, guid);
                    expunged.insert(position);
                }
                Some(message) if requests.flags.contains(&uid) => {
                    self.push_flags(known, position, &message)?;
                    if message.raw_flags() & DIRTY != 0 {
                        transaction.update_raw_flags(uid..=uid, 0, DIRTY);
                    }
                }
                Some(message) => self.pull_flags(known, position, &message, transaction),
                None if uid >= index_next => self.append_message(known, position, transaction),
                None => reappeared.push(position),
            }
        }
        for gone in messages {
            self.expunge_gone(known, gone.uid(), transaction);
        }
        self.renumber(known, &reappeared, &expunged, index_next, transaction);
        Ok(())
    }

    fn expunge_gone(&self, known: &Known, uid: Uid, transaction: &mut Transaction) {
        let gone = known.gone.binary_search_by_key(&uid, |(uid, _)| *uid);
        let guid = gone.map_or(Guid::ZERO, |at| known.gone[at].1);
        transaction.expunge(uid, guid);
    }

    /// A file whose UID the index has expunged: it gets a new UID at the end.
    fn renumber(
        &self,
        known: &mut Known,
        reappeared: &[usize],
        expunged: &BTreeSet<usize>,
        index_next: Uid,
        transaction: &mut Transaction,
    ) {
        let mut next = known.uidlist.next_uid().max(index_next);
        for position in reappeared {
            let Some(entry) = known.uidlist.get(*position) else {
                continue;
            };
            tracing::warn!(
                "mailbox {}: expunged message reappeared, giving a new UID (old uid={}, file={})",
                self.paths.name,
                entry.uid,
                BStr::new(entry.base)
            );
            let (extensions, base) = (entry.extensions.to_vec(), entry.base.to_vec());
            let file = known.files.as_ref().and_then(|files| files.get(*position));
            let Some((dir, info)) = file.map(|file| (file.dir, file.info.to_vec())) else {
                continue;
            };
            if known.uidlist.push(next, &extensions, &base) {
                let at = known.uidlist.len() - 1;
                if let Some(files) = &mut known.files {
                    files.set(at, dir, &info);
                }
                self.append_message(known, at, transaction);
                next += 1;
            }
        }
        if reappeared.is_empty() && expunged.is_empty() {
            return;
        }
        let drop = |position: usize| {
            expunged.contains(&position) || reappeared.binary_search(&position).is_ok()
        };
        let new = known.uidlist.len() - known.first_new;
        let dropped_new = (known.first_new..known.uidlist.len())
            .filter(|at| drop(*at))
            .count();
        known.uidlist.retain(|position| !drop(position));
        if let Some(files) = &mut known.files {
            files.retain(|position| !drop(position));
        }
        known.uidlist.rewrite |= !reappeared.is_empty();
        known.first_new = known.uidlist.len() - (new - dropped_new);
        known.forget_bases();
    }

    /// A message that the index does not know. It is `\Recent` even in `cur/`: only a session
    /// takes that away.
    pub(super) fn append_message(
        &self,
        known: &Known,
        position: usize,
        transaction: &mut Transaction,
    ) {
        let (Some(entry), Some(file)) = (
            known.uidlist.get(position),
            known.files.as_ref().and_then(|files| files.get(position)),
        ) else {
            return;
        };
        let flags = file.flags();
        let mut user_flags = flags.flags;
        if self.paths.private_seen {
            user_flags = user_flags & !Flags::SEEN;
        }
        transaction.append(entry.uid, user_flags);
        for name in known.letter_names(flags.letters) {
            transaction.add_keyword(&name, entry.uid..=entry.uid);
        }
    }

    /// The file tells the flags: another program changed them.
    fn pull_flags(
        &self,
        known: &Known,
        position: usize,
        message: &Message<'_>,
        transaction: &mut Transaction,
    ) {
        let Some(file) = known.files.as_ref().and_then(|files| files.get(position)) else {
            return;
        };
        let uid = message.uid();
        let (have, in_file) = (message.flags() & Flags::USER, file.flags());
        let mut wanted = in_file.flags;
        if self.paths.private_seen {
            wanted = (wanted & !Flags::SEEN) | (have & Flags::SEEN);
        }
        if have != wanted {
            transaction.update_flags(uid..=uid, wanted & !have, have & !wanted);
        }
        let mask = message.keyword_mask();
        if in_file.letters == 0 && mask.iter().all(|byte| *byte == 0) {
            return;
        }
        let present: Vec<&BStr> = message.keywords().collect();
        for letter in 0..26 {
            let Some(name) = known.keywords.name(letter) else {
                continue;
            };
            let is_set = present
                .iter()
                .any(|keyword| keyword.eq_ignore_ascii_case(name));
            match (in_file.letters & (1 << letter) != 0, is_set) {
                (true, false) => transaction.add_keyword(name, uid..=uid),
                (false, true) => transaction.remove_keyword(name, uid..=uid),
                _ => {}
            }
        }
    }

    /// The index tells the flags: the file is renamed. If that fails, the next sync tries again.
    fn push_flags(&self, known: &mut Known, position: usize, message: &Message<'_>) -> Result<()> {
        let keywords: Vec<BString> = message.keywords().map(ToOwned::to_owned).collect();
        let letters = keywords
            .iter()
            .filter_map(|name| known.keywords.find_or_add(name))
            .fold(0, |letters, letter| letters | (1 << letter));
        if letters & !known.written_letters != 0 {
            self.write_keywords(known)?;
        }
        self.set_file_flags(known, position, message.flags() & Flags::USER, letters)
    }

    /// Renames a message file to other flags, into `cur/` if it has any.
    pub(super) fn set_file_flags(
        &self,
        known: &mut Known,
        position: usize,
        flags: Flags,
        letters: u32,
    ) -> Result<()> {
        let Some(files) = &mut known.files else {
            return Ok(());
        };
        let (Some(entry), Some(file)) = (known.uidlist.get(position), files.get(position)) else {
            return Ok(());
        };
        let mut flags = flags;
        if self.paths.private_seen {
            flags = (flags & !Flags::SEEN) | (file.flags().flags & Flags::SEEN);
        }
        let wanted = NameFlags { flags, letters };
        if file.flags() == wanted {
            return Ok(());
        }
        let old_name = [entry.base, file.info].concat();
        let new_name = filename::with_flags(&old_name, wanted);
        let old = path_of(&self.paths.box_dir, file.dir, &old_name);
        let new = path_of(&self.paths.box_dir, Dir::Cur, &new_name);
        match fs::rename(&old, &new) {
            Ok(()) => {
                let info = new_name[entry.base.len()..].to_vec();
                files.set(position, Dir::Cur, &info);
                Ok(())
            }
            // Gone since the scan: the next sync records it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(StorageError::io("rename", &old, &error)),
        }
    }

    /// Removes a message file; one that is gone is no error.
    pub(super) fn unlink(&self, known: &mut Known, position: usize) -> Result<()> {
        let Some(files) = &mut known.files else {
            return Ok(());
        };
        let (Some(entry), Some(file)) = (known.uidlist.get(position), files.get(position)) else {
            return Ok(());
        };
        let path = self.message(file.dir, entry.base, file.info);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StorageError::io("remove", &path, &error))
            }
            _ => {
                files.remove(position);
                Ok(())
            }
        }
    }

    /// Notes in the index which state of the files it knows.
    ///
    /// The time of the check is that of the last look at the directories: a delivery since then
    /// may hide behind a change of ours, and is found when they are read once more.
    pub(super) fn set_mark(&self, known: &Known, transaction: &mut Transaction) -> Result<()> {
        let [new, cur] = self.dir_stamps()?;
        let (Some(uidlist), Some(checked)) = (known.uidlist_stamp, known.scanned) else {
            return Ok(());
        };
        let mark = Mark::new(
            DirMark::new(checked, &new),
            DirMark::new(checked, &cur),
            &uidlist,
        );
        transaction.set_extension_header(ExtensionSpec::MAILDIR, 0, &mark.encode());
        Ok(())
    }
}

impl Known {
    /// Names of keyword letters.
    pub(super) fn letter_names(&self, letters: u32) -> Vec<BString> {
        (0..26)
            .filter(|letter| letters & (1 << letter) != 0)
            .filter_map(|letter| self.keywords.name(letter).map(ToOwned::to_owned))
            .collect()
    }
}
