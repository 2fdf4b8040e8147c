//! An index in its folder: reading, locking, appending.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dsync_proto::types::{MailErrorClass, ModSeq, Uid};

use crate::settings::{Fsync, LockMethod, LogRotation};
use crate::{ChangeLog, Result, StorageError, StoreSettings};

use super::cache::Cached;
use super::damage::{Damage, note};
use super::encode::{self, EncodeError};
use super::files::{self, FileId, Files};
use super::format::MAX_LOG_SIZE;
use super::load::{self, OpenLog};
use super::lock::{self, Patience};
use super::pending::{LogCursor, PendingChange};
use super::record::RecordReader;
use super::scan;
use super::snapshot::SnapshotPosition;
use super::state::IndexState;
use super::transaction::Transaction;

/// How an index is kept (`spec/dovecot-index.md` 20); the defaults are Dovecot's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexSettings {
    /// When to flush: snapshots and new logs always, other log records always or where the
    /// index is the only place of the truth (`spec/dovecot-index.md` 9.1).
    pub fsync: Fsync,
    /// How the log is locked.
    pub lock_method: LockMethod,
    /// The index is the truth (dbox): appends and expunges are flushed with
    /// [`Fsync::Optimized`], and the snapshot before is kept as `.backup`.
    pub is_truth: bool,
    /// A snapshot is written when that many log bytes were read on opening.
    pub rewrite_min_log_bytes: u32,
    /// A snapshot is written when it lies that many log bytes behind.
    pub rewrite_max_log_bytes: u32,
    /// When the log is rotated.
    pub rotation: LogRotation,
}

impl Default for IndexSettings {
    fn default() -> Self {
        Self {
            fsync: Fsync::default(),
            lock_method: LockMethod::default(),
            is_truth: false,
            rewrite_min_log_bytes: 8 << 10,
            rewrite_max_log_bytes: 128 << 10,
            rotation: LogRotation::default(),
        }
    }
}

impl From<&StoreSettings> for IndexSettings {
    /// For an index that can be made anew from the mail.
    fn from(settings: &StoreSettings) -> Self {
        Self {
            fsync: settings.fsync,
            lock_method: settings.lock_method,
            rotation: settings.log_rotation,
            ..Self::default()
        }
    }
}

/// An index as it was when it was last read.
#[derive(Debug)]
pub struct Index {
    pub(crate) files: Files,
    /// There are no files: their names are only for messages.
    pub(crate) in_memory: bool,
    pub(crate) settings: IndexSettings,
    pub(crate) state: IndexState,
    pub(crate) log: Option<(OpenLog, LogCursor)>,
    pub(crate) older: Option<OpenLog>,
    /// Position of the snapshot on disk, if there is one.
    pub(crate) snapshot: Option<SnapshotPosition>,
    pub(crate) damage: Vec<Damage>,
    /// How many of these were mended on disk.
    pub(crate) mended: usize,
    /// Bytes behind the last complete record.
    pub(crate) torn: u64,
    /// Log bytes that had to be read when the files were loaded.
    pub(crate) replayed: u32,
}

impl Index {
    /// Reads the index with this file name prefix (`dovecot.index`) in a folder. Without files
    /// it is an empty one. Damage is no error, see [`Self::damage`].
    pub fn open(dir: &Path, prefix: &str, settings: IndexSettings) -> Result<Self> {
        let mut index = Self::empty(Files::new(dir, prefix), settings);
        index.load()?;
        Ok(index)
    }

    pub(super) fn empty(files: Files, settings: IndexSettings) -> Self {
        Self {
            files,
            in_memory: false,
            settings,
            state: IndexState::new(),
            log: None,
            older: None,
            snapshot: None,
            damage: Vec::new(),
            mended: 0,
            torn: 0,
            replayed: 0,
        }
    }

    /// The state at the last refresh, lock or append.
    pub fn state(&self) -> &IndexState {
        &self.state
    }

    /// Whether the index has files: not if it was never created.
    pub fn exists(&self) -> bool {
        self.log.is_some() || self.snapshot.is_some() || !self.damage.is_empty()
    }

    /// Header of the current log.
    pub fn log_header(&self) -> Option<&super::LogHeader> {
        self.log.as_ref().map(|(log, _)| &log.header)
    }

    /// Size of the current log up to the last complete record.
    pub fn log_size(&self) -> u32 {
        self.log.as_ref().map_or(0, |(_, cursor)| cursor.offset)
    }

    /// How long ago the log was written last; zero if there is none, or it is in the future.
    pub fn log_age(&self, now: SystemTime) -> Result<Duration> {
        let Some((log, _)) = self.log.as_ref() else {
            return Ok(Duration::ZERO);
        };
        let modified = log.file.metadata().and_then(|meta| meta.modified());
        let modified =
            modified.map_err(|error| StorageError::io("stat", &self.files.log(), &error))?;
        Ok(now.duration_since(modified).unwrap_or_default())
    }

    /// What is wrong with the files. After [`Self::lock`]: what was mended then.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// The messages are not known: build the index anew with [`LockedIndex::reset`].
    pub fn needs_rebuild(&self) -> bool {
        self.damage.contains(&Damage::HistoryLost)
    }

    /// The tail is at the end of the log: whoever wrote last has done everything.
    pub fn is_synced(&self) -> bool {
        self.log
            .as_ref()
            .is_none_or(|(_, cursor)| cursor.max_tail >= cursor.offset)
    }

    /// Whether the log is not as it was when it was last read.
    pub fn has_news(&self) -> Result<bool> {
        let on_disk = FileId::at(&self.files.log())?;
        let Some((log, cursor)) = &self.log else {
            return Ok(on_disk.is_some());
        };
        let path = self.files.log();
        let size = log.file.metadata().map(|data| data.len());
        let size = size.map_err(|error| StorageError::io("stat", &path, &error))?;
        Ok(on_disk != Some(log.id) || size != u64::from(cursor.offset))
    }

    /// Reads what was appended since. `true` if anything may have changed.
    pub fn refresh(&mut self) -> Result<bool> {
        if self.in_memory {
            return Ok(false);
        }
        let on_disk = FileId::at(&self.files.log())?;
        let Some((log, cursor)) = self.log.as_mut() else {
            if on_disk.is_none() && !self.exists() {
                return Ok(false);
            }
            self.load()?;
            return Ok(true);
        };
        let path = self.files.log();
        let size = log
            .file
            .metadata()
            .map_err(|error| StorageError::io("stat", &path, &error))?
            .len();
        if on_disk != Some(log.id) || size < u64::from(cursor.offset) || cursor.invalid.is_some() {
            self.load()?;
            return Ok(true);
        }
        if size == u64::from(cursor.offset) {
            self.torn = 0;
            return Ok(false);
        }
        let bytes = files::read_from(&log.file, &path, cursor.offset.into(), MAX_LOG_SIZE)?;
        // The header can be overwritten to mark the log as corrupted.
        let header = files::read_from(&log.file, &path, 0, 40)?;
        if super::LogHeader::decode(&header) != Some(log.header) {
            self.load()?;
            return Ok(true);
        }
        Ok(self.absorb(&bytes))
    }

    /// Applies records that stand in the log at the cursor.
    pub(crate) fn absorb(&mut self, bytes: &[u8]) -> bool {
        let Some((log, cursor)) = self.log.as_mut() else {
            return false;
        };
        let before = cursor.offset;
        for record in RecordReader::new(bytes, before) {
            match record {
                Ok(record) => {
                    cursor.step(&record, &log.header);
                    if let Err(error) = self.state.apply(&record, cursor.modseq) {
                        note(&mut self.damage, &error, record.offset);
                    }
                }
                Err(invalid) => {
                    self.damage.push(Damage::LogInvalid(invalid.to_string()));
                    cursor.invalid = Some(invalid);
                    break;
                }
            }
        }
        self.state.highest_modseq = cursor.modseq.max(1);
        self.state.records.compact();
        self.torn = bytes.len() as u64 - u64::from(cursor.offset - before);
        cursor.offset != before
    }

    pub(crate) fn load(&mut self) -> Result<()> {
        let loaded = load::load(&self.files)?;
        for damage in &loaded.damage {
            tracing::warn!(index = %self.files.snapshot().display(), "index is damaged: {damage}");
        }
        let start = match (&loaded.log, loaded.snapshot) {
            (Some((log, _)), Some(at)) if at.log_seq == log.header.file_seq => at.head,
            _ => 0,
        };
        self.replayed = loaded
            .log
            .as_ref()
            .map_or(0, |(_, cursor)| cursor.offset.saturating_sub(start));
        self.state = loaded.state;
        self.log = loaded.log;
        self.older = loaded.older;
        self.snapshot = loaded.snapshot;
        self.damage = loaded.damage;
        self.mended = 0;
        self.torn = loaded.torn;
        Ok(())
    }

    /// Requests in the log that the storage has not carried out yet, in their order.
    pub fn pending(&mut self) -> Result<Vec<PendingChange>> {
        let path = self.files.log();
        let Some((log, cursor)) = self.log.as_mut() else {
            return Ok(Vec::new());
        };
        let Some(first) = cursor.pending.first().copied() else {
            return Ok(Vec::new());
        };
        let bytes = files::read_from(&log.file, &path, first.into(), cursor.offset.into())?;
        Ok(RecordReader::new(&bytes, first)
            .flatten()
            .filter_map(|record| PendingChange::of(&record))
            .collect())
    }

    /// Everything that the logs tell since a modseq, for UIDs up to `highest_uid`
    /// (`spec/mailbox-sync.md` 3.2).
    pub fn changes_since(&mut self, modseq: ModSeq, highest_uid: Uid) -> Result<ChangeLog> {
        let mut logs = Vec::new();
        let path = self.files.log2();
        if let Some((head, _)) = &self.log
            && !head.header.is_reset()
            && modseq < head.header.initial_modseq
            && let Some(older) = self.older.as_mut()
        {
            let end = head.header.prev_file_offset;
            let bytes = files::read_from(&older.file, &path, 0, end.into())?;
            logs.push((older.header, bytes));
        }
        let path = self.files.log();
        if let Some((log, cursor)) = self.log.as_mut() {
            let bytes = files::read_from(&log.file, &path, 0, cursor.offset.into())?;
            logs.push((log.header, bytes));
        }
        let logs: Vec<scan::LogFile<'_>> = logs
            .iter()
            .map(|(header, bytes)| scan::LogFile {
                header,
                records: bytes.get(usize::from(header.header_size)..).unwrap_or(&[]),
            })
            .collect();
        Ok(scan::changes_since(&logs, &self.state, modseq, highest_uid))
    }

    /// Opens the cache for the messages in [`Self::state`].
    pub fn cached(&self) -> Result<Cached> {
        if self.in_memory {
            return Ok(Cached::none());
        }
        Cached::open(&self.files, &self.state)
    }

    /// Takes the lock of the log, waiting at most that long; creates the files if they do not
    /// exist, reads what others wrote, and mends what is damaged (`spec/dovecot-index.md` 8, 9,
    /// 14). [`Self::damage`] tells what was wrong.
    pub fn lock(&mut self, timeout: Duration) -> Result<LockedIndex<'_>> {
        self.lock_patiently(timeout, &mut || Ok(()))
    }

    /// The same; while it waits, `meanwhile` is called again and again, and its error ends the
    /// wait. For holders of a lock that others take for stale if it is not refreshed.
    pub fn lock_patiently(
        &mut self,
        timeout: Duration,
        meanwhile: &mut dyn FnMut() -> Result<()>,
    ) -> Result<LockedIndex<'_>> {
        self.take_lock(&mut Patience::new(timeout, meanwhile))?;
        // From here on the lock is given up by dropping this.
        let mut locked = LockedIndex { index: self };
        locked.mend()?;
        Ok(locked)
    }

    /// Locks the log that the name stands for now.
    fn take_lock(&mut self, patience: &mut Patience<'_>) -> Result<()> {
        loop {
            self.refresh()?;
            if self.log.is_none() {
                self.create_log(patience)?;
                continue;
            }
            if self.in_memory {
                return Ok(());
            }
            let path = self.files.log();
            let Some((log, _)) = self.log.as_ref() else {
                continue;
            };
            lock::lock(&log.file, &path, self.settings.lock_method, patience)?;
            if FileId::at(&path)? == Some(log.id) {
                self.refresh()?;
                if self.log.as_ref().map(|(log, _)| log.id) == FileId::at(&path)? {
                    return Ok(());
                }
                continue;
            }
            // Rotated while we waited: the old file's lock is worth nothing.
            lock::unlock(&log.file, self.settings.lock_method);
        }
    }

    pub(crate) fn encode_error(&self, error: &EncodeError) -> StorageError {
        StorageError::new(
            MailErrorClass::Params,
            format!("cannot change {}: {error}", self.files.snapshot().display()),
        )
    }
}

/// An index whose log is locked: no other process writes.
///
/// Dropping it gives up the lock.
#[derive(Debug)]
pub struct LockedIndex<'a> {
    pub(crate) index: &'a mut Index,
}

impl LockedIndex<'_> {
    /// The state, complete as long as the lock is held.
    pub fn state(&self) -> &IndexState {
        &self.index.state
    }

    /// The index itself, for reading.
    pub fn index(&mut self) -> &mut Index {
        self.index
    }

    /// Opens the cache for the messages in [`Self::state`].
    pub fn cached(&self) -> Result<Cached> {
        self.index.cached()
    }

    /// Requests that the storage has not carried out yet.
    pub fn pending(&mut self) -> Result<Vec<PendingChange>> {
        self.index.pending()
    }

    /// Writes a transaction and applies it to the state. Nothing is written if it does not fit
    /// the state (UIDs below UIDNEXT, extension data too large).
    ///
    /// Message files must be in place before. Killed before the write: nothing happened; inside
    /// it: the next lock cuts the half record off; behind it: everybody sees all of it.
    pub fn append(&mut self, transaction: &Transaction) -> Result<()> {
        if transaction.is_empty() {
            return Ok(());
        }
        let path = self.index.files.log();
        let end = self.index.log_size();
        let pending = self.has_pending();
        let mut bytes = encode::encode(transaction, &self.index.state, end)
            .map_err(|error| self.index.encode_error(&error))?;
        let only_tail = encode::tail_record(end);
        if bytes == only_tail && !pending && self.index.is_synced() {
            bytes.clear();
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let Some((log, _)) = self.index.log.as_mut() else {
            return Ok(()); // a locked index has a log
        };
        files::append_once(&mut log.file, &path, end.into(), &bytes)?;
        if self.must_flush(transaction) {
            self.flush_log()?;
        }
        self.index.absorb(&bytes);
        Ok(())
    }

    fn has_pending(&self) -> bool {
        self.index
            .log
            .as_ref()
            .is_some_and(|(_, cursor)| !cursor.pending.is_empty())
    }

    fn must_flush(&self, transaction: &Transaction) -> bool {
        let moves_messages = !transaction.appends.is_empty()
            || transaction
                .groups
                .values()
                .any(|group| !group.expunges.is_empty());
        match self.index.settings.fsync {
            Fsync::Never => false,
            Fsync::Optimized => self.index.settings.is_truth && moves_messages,
            Fsync::Always => true,
        }
    }

    pub(crate) fn flush_log(&self) -> Result<()> {
        match self.index.log.as_ref() {
            Some((log, _)) => log
                .file
                .sync_data()
                .map_err(|error| StorageError::io("sync", &self.index.files.log(), &error)),
            None => Ok(()),
        }
    }

    /// Flushes the log to the disk, whatever the settings say.
    pub fn sync(&self) -> Result<()> {
        self.flush_log()
    }

    /// Writes a snapshot or rotates the log if it is time, then gives up the lock.
    pub fn finish(mut self) -> Result<()> {
        self.maintain()
    }
}

impl Drop for LockedIndex<'_> {
    fn drop(&mut self) {
        if let Some((log, _)) = &self.index.log {
            lock::unlock(&log.file, self.index.settings.lock_method);
        }
    }
}

/// Seconds since the epoch, as index files keep them.
pub(crate) fn unix_time() -> u32 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(1, |time| time.as_secs() as u32)
        .max(1)
}
