//! Brings files, UID list and index in step, as Dovecot does at every opening
//! (`spec/maildir.md` 12).
//!
//! Under `dovecot-uidlist.lock` and the lock of the index log the directories are read; files
//! get UIDs, the index learns what changed, and what others asked for in the log is done to the
//! files. Killed after a rename or unlink here: the next sync sees the files as they are and
//! tells the index. Killed between UID list and index: the same.

use std::collections::BTreeSet;
use std::time::Duration;

use bstr::BStr;
use dsync_proto::types::{Guid, MailErrorClass, Uid};

use super::disk::{Disk, INDEX_LOCK_TIMEOUT, Known};
use super::filename;
use super::files::{Files, match_files};
use super::mark::{DirMark, Mark};
use super::scan::{Scan, Stamp};
use super::uidlist::UidList;
use crate::body_file::sweep;
use crate::folders::next_uid_validity;
use crate::index::{
    ExtensionSpec, Index, IndexState, LockedIndex, Origin, PendingKind, Transaction,
};
use crate::lock::Dotlock;
use crate::{Result, StorageError};

/// Flag of an index message that is newer than its file.
const DIRTY: u8 = 0x80;
/// A deletion mark that is older was left behind by a program that died (`spec/maildir.md` 7).
const CRASHED_DELETION: Duration = Duration::from_secs(30);

/// What the log asks for and nobody has done yet.
#[derive(Debug, Default)]
struct Requests {
    expunge: BTreeSet<Uid>,
    /// Messages whose files shall get the flags of the index.
    flags: BTreeSet<Uid>,
}

impl Requests {
    /// The requests for messages that exist. A wrong GUID means that the UID has become another
    /// message's, which must not be removed.
    fn read(locked: &mut LockedIndex<'_>, uidlist: &UidList) -> Result<Self> {
        let (mut expunge, mut flags) = (Vec::new(), Vec::new());
        for pending in locked.pending()? {
            match pending.kind {
                PendingKind::Expunge(ranges) => expunge.extend(ranges),
                PendingKind::ExpungeGuid(uids) => {
                    let meant = uids
                        .into_iter()
                        .filter(|(uid, guid)| is_meant(uidlist, *uid, *guid));
                    expunge.extend(meant.map(|(uid, _)| (uid, uid)));
                }
                PendingKind::Flags(ranges) => {
                    flags.extend(ranges.into_iter().map(|(first, last, ..)| (first, last)));
                }
                PendingKind::Keyword(_, _, ranges) | PendingKind::KeywordsReset(ranges) => {
                    flags.extend(ranges);
                }
                // Only a mailbox whose deletion was given up gets here.
                PendingKind::DeleteIndex => {}
            }
        }
        let state = locked.state();
        let mut requests = Self {
            expunge: existing(state, expunge),
            flags: existing(state, flags),
        };
        let dirty = state
            .messages()
            .filter(|message| message.raw_flags() & DIRTY != 0);
        requests.flags.extend(dirty.map(|message| message.uid()));
        Ok(requests)
    }
}

fn is_meant(uidlist: &UidList, uid: Uid, guid: Guid) -> bool {
    let Some(entry) = uidlist.position(uid).and_then(|at| uidlist.get(at)) else {
        return true; // its file is gone already
    };
    let real = entry.short_guid();
    if guid.is_zero() || guid == real {
        return true;
    }
    tracing::warn!("expunge of UID {uid} is refused: its GUID is {real} and not {guid}");
    false
}

/// The messages in these ranges; a range may name millions of UIDs that do not exist.
fn existing(state: &IndexState, mut ranges: Vec<(Uid, Uid)>) -> BTreeSet<Uid> {
    if ranges.is_empty() {
        return BTreeSet::new();
    }
    ranges.sort_unstable();
    let mut ranges = ranges.into_iter().peekable();
    // Highest end of all ranges that begin at the present UID or before.
    let mut end = 0;
    state
        .messages()
        .map(|message| message.uid())
        .filter(|uid| {
            while let Some((_, last)) = ranges.next_if(|(first, _)| first <= uid) {
                end = end.max(last);
            }
            *uid <= end
        })
        .collect()
}

fn read_mark(state: &IndexState) -> Option<Mark> {
    let extension = state.extension(ExtensionSpec::MAILDIR.name)?;
    Mark::decode(&extension.header)
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
    /// Whether nothing has changed since the index was brought in step, beyond doubt.
    pub(super) fn is_settled(&self, index: &mut Index) -> Result<bool> {
        let mark = read_mark(index.state());
        Ok(mark.is_some_and(|mark| mark.is_settled()) && self.is_in_step(index)?)
    }

    /// Whether nothing has changed since the index was brought in step, as far as times tell.
    pub(super) fn is_in_step(&self, index: &mut Index) -> Result<bool> {
        let state = index.state();
        if !index.exists() || index.needs_rebuild() || !state.has_modseqs() || state.is_deleted() {
            return Ok(false);
        }
        let Some(mark) = read_mark(state) else {
            return Ok(false);
        };
        let Some(uidlist) = Stamp::of(&self.paths.uidlist())? else {
            return Ok(false);
        };
        if self.has_journal() {
            return Ok(false);
        }
        let [new, cur] = self.dir_stamps()?;
        Ok(mark.matches(&new, &cur, &uidlist) && index.pending()?.is_empty())
    }

    /// The whole sync. Locks the UID list, then the index.
    pub(super) fn synchronise(&self, known: &mut Known, index: &mut Index) -> Result<()> {
        let mut lock = self.lock_uidlist()?;
        let mut locked = index.lock_patiently(INDEX_LOCK_TIMEOUT, &mut || lock.keep_alive())?;
        self.synchronise_locked(known, &mut lock, &mut locked)?;
        sweep(
            &self.paths.box_dir.join("tmp"),
            "",
            std::time::SystemTime::now(),
        );
        locked.finish()
    }

    /// The same with both locks held.
    pub(super) fn synchronise_locked(
        &self,
        known: &mut Known,
        lock: &mut Dotlock,
        locked: &mut LockedIndex<'_>,
    ) -> Result<()> {
        self.settle_deletion(locked)?;
        self.read_uidlist(known)?;
        self.read_keywords(known)?;
        self.settle_identity(known, locked)?;
        self.scan_files(known, lock, locked.state())?;
        self.name_letters(known)?;
        let requests = Requests::read(locked, &known.uidlist)?;
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
        locked.append(&transaction)?;
        self.remove_journal()
    }

    /// Somebody marked the mailbox as deleted: he is about to remove its files, or has died.
    ///
    /// Nothing is written while he may be at work: what we did now would be deleted unseen.
    fn settle_deletion(&self, locked: &mut LockedIndex<'_>) -> Result<()> {
        if !locked.state().is_deleted() {
            return Ok(());
        }
        let name = &self.paths.name;
        if locked.index().log_age(self.settings.clock.now())? < CRASHED_DELETION {
            return Err(StorageError::new(
                MailErrorClass::InUse,
                format!("another program is deleting mailbox {name}; run again later"),
            ));
        }
        tracing::warn!("mailbox {name}: its deletion was begun but not finished; it is kept");
        let mut keep = Transaction::new(Origin::FACT);
        keep.mark_undeleted();
        locked.append(&keep)
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
        if self.end_unfinished(known, state, &scan, &matched)? {
            scan = Scan::read(&self.paths.box_dir, || lock.keep_alive())?;
            matched = match_files(&known.uidlist, &scan);
        }
        let is_repaired = self.repair_names(&scan, &matched.duplicates)?;
        if is_repaired || misses_some(known, &matched.files, state) {
            // A program that renames without the lock can hide a file from one look at the
            // directory (22 H1): only what was not seen twice is gone.
            let earlier = matched.files;
            scan = Scan::read(&self.paths.box_dir, || lock.keep_alive())?;
            matched = match_files(&known.uidlist, &scan);
            matched.files.fill_from(&earlier);
        }
        known.gone.clear();
        let before = known.uidlist.len();
        let keep: Vec<bool> = (0..before)
            .map(|at| matched.files.get(at).is_some())
            .collect();
        for position in (0..before).filter(|at| !keep[*at]) {
            if let Some(entry) = known.uidlist.get(position) {
                known.gone.push((entry.uid, entry.short_guid()));
            }
        }
        known.files = Some(matched.files);
        if !known.gone.is_empty() {
            known.retain(|at| keep.get(at).copied().unwrap_or(false));
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
                if let Some(files) = &mut known.files {
                    files.set(known.uidlist.len() - 1, dir, &name[base.len()..]);
                }
                next += 1;
            }
        }
        Ok(())
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
        known.retain(|position| !drop(position));
        known.uidlist.rewrite |= !reappeared.is_empty();
        known.first_new = known.uidlist.len() - (new - dropped_new);
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
