//! New logs and new snapshots (`spec/dovecot-index.md` 10 to 14).

use std::fs;
use std::io::Write;
use std::time::Duration;

use dsync_proto::types::ModSeq;

use crate::settings::Fsync;
use crate::{Result, StorageError, path_io};

use super::damage::Damage;
use super::encode;
use super::files::{self, FileId};
use super::header::HeaderField;
use super::load::OpenLog;
use super::lock::{self, Patience};
use super::log_header::{LOG_HEADER_SIZE, LogHeader};
use super::new_log::STALE_NEW_LOG;
use super::pending::LogCursor;
use super::snapshot::{self, SnapshotPosition};
use super::state::IndexState;
use super::store::{Index, LockedIndex, unix_time};
use super::transaction::Transaction;

/// There is no `.log.2`.
const NO_LOG2: u32 = u32::MAX;

impl Index {
    /// Writes the snapshot for a position. The lock must be held.
    ///
    /// Killed before the rename: the old snapshot stands, a stale temporary file remains.
    pub(super) fn write_snapshot(&mut self, position: SnapshotPosition) -> Result<()> {
        if self.in_memory {
            return Ok(());
        }
        self.state.header = snapshot::checked_header(&self.state);
        let bytes = snapshot::encode(&self.state, position);
        let (tmp, target) = (self.files.snapshot_tmp(), self.files.snapshot());
        path_io::remove(&tmp)?;
        let mut file = self.files.create(&tmp)?;
        file.write_all(&bytes)
            .and_then(|()| match self.settings.fsync {
                Fsync::Never => Ok(()),
                _ => file.sync_data(),
            })
            .map_err(|error| StorageError::io("write", &tmp, &error))?;
        if self.settings.is_truth {
            self.keep_backup()?;
        }
        files::rename(&tmp, &target)?;
        self.snapshot = Some(position);
        self.replayed = 0;
        Ok(())
    }

    /// The snapshot before becomes the backup, unless it is one that nobody can use.
    fn keep_backup(&self) -> Result<()> {
        let bad = self
            .damage
            .iter()
            .any(|known| matches!(known, Damage::SnapshotUnusable { .. }));
        if bad || self.snapshot.is_none() {
            return Ok(());
        }
        let tmp = self.files.backup_tmp();
        path_io::remove(&tmp)?;
        match fs::hard_link(self.files.snapshot(), &tmp) {
            Ok(()) => files::rename(&tmp, &self.files.backup()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(StorageError::io("link", &tmp, &error)),
        }
    }
}

impl LockedIndex<'_> {
    pub(super) fn next_seq(&self) -> u32 {
        let log = self.index.log_header().map_or(1, |header| header.file_seq);
        let snapshot = self.index.snapshot.map_or(1, |position| position.log_seq);
        log.max(snapshot).saturating_add(1)
    }

    /// Puts a new log in the place of the locked one and locks it.
    pub(super) fn install_log(
        &mut self,
        header: &LogHeader,
        records: &[u8],
        keep_old: bool,
    ) -> Result<()> {
        if self.index.in_memory {
            let new = self.index.new_log_in_memory(header, records)?;
            self.replace_log(new, keep_old);
            return Ok(());
        }
        let (path, log_path) = (self.index.files.new_log(), self.index.files.log());
        let mut nothing = || Ok(());
        let mut patience = Patience::new(STALE_NEW_LOG, &mut nothing);
        let file = self.index.write_new_log(header, records, &mut patience)?;
        let method = self.index.settings.lock_method;
        lock::lock(&file, &path, method, &mut patience)?;
        if keep_old {
            // Killed between: `.log.2` is the current log itself, which readers ignore.
            let log2 = self.index.files.log2();
            path_io::remove(&log2)?;
            fs::hard_link(&log_path, &log2)
                .map_err(|error| StorageError::io("link", &log2, &error))?;
        }
        files::rename(&path, &log_path)?;
        if self.index.settings.fsync != Fsync::Never {
            self.index.files.sync_dir()?;
        }
        let id = FileId::of(&file).map_err(|error| StorageError::io("stat", &log_path, &error))?;
        let new = OpenLog {
            file,
            id,
            header: *header,
        };
        self.replace_log(new, keep_old);
        Ok(())
    }

    fn replace_log(&mut self, new: OpenLog, keep_old: bool) {
        let cursor = LogCursor::new(&new.header, None);
        if let Some((old, _)) = self.index.log.replace((new, cursor)) {
            lock::unlock(&old.file, self.index.settings.lock_method);
            self.index.older = keep_old.then_some(old);
        }
        self.index.torn = 0;
    }

    /// Writes a snapshot of the state now.
    pub fn write_snapshot(&mut self) -> Result<()> {
        let Some((log, cursor)) = self.index.log.as_ref() else {
            return Ok(());
        };
        let nothing_pending = cursor.pending.is_empty();
        let position = SnapshotPosition {
            log_seq: log.header.file_seq,
            tail: if nothing_pending {
                cursor.offset
            } else {
                cursor.max_tail
            },
            head: cursor.offset,
        };
        self.index.write_snapshot(position)
    }

    /// Starts a new log and writes a snapshot; the old log stays as `.log.2`. Nothing happens
    /// while requests are pending.
    ///
    /// Killed anywhere: old snapshot, `.log.2` and new log still tell the whole state.
    pub fn rotate(&mut self) -> Result<()> {
        match self.start_next_log()? {
            true => self.write_snapshot(),
            false => Ok(()),
        }
    }

    /// Everything of a rotation but the snapshot behind it.
    pub(super) fn start_next_log(&mut self) -> Result<bool> {
        let Some((log, cursor)) = self.index.log.as_ref() else {
            return Ok(false);
        };
        if !cursor.pending.is_empty() || self.index.needs_rebuild() {
            return Ok(false);
        }
        let log_seq = log.header.file_seq;
        if self.index.snapshot.is_none_or(|at| at.log_seq != log_seq) {
            // A rotation before was killed, and `.log.2`, which goes now, has what the snapshot lacks.
            self.write_snapshot()?;
        }
        let Some((log, cursor)) = self.index.log.as_ref() else {
            return Ok(false);
        };
        let now = unix_time();
        let header = LogHeader {
            minor_version: 3,
            header_size: LOG_HEADER_SIZE as u16,
            index_id: log.header.index_id,
            file_seq: self.next_seq(),
            prev_file_seq: log.header.file_seq,
            prev_file_offset: cursor.offset,
            create_stamp: now,
            initial_modseq: cursor.modseq,
        };
        if self.index.settings.fsync != Fsync::Never {
            self.flush_log()?; // the records that the new log builds on
        }
        self.install_log(&header, &[], true)?;
        self.index
            .state
            .header
            .set(HeaderField::Log2RotateTime, now);
        Ok(true)
    }

    /// Forgets everything and starts anew with a first transaction, which should set at least
    /// UIDVALIDITY. HIGHESTMODSEQ goes on above the old one, and above `min_modseq`.
    ///
    /// Killed before the new log is in place: nothing happened; behind it: the new state.
    pub fn reset(&mut self, first: &Transaction, min_modseq: ModSeq) -> Result<()> {
        let next = self.index.state.highest_modseq.saturating_add(1);
        self.start_anew(first, next.max(min_modseq))
    }

    /// The same for a mailbox that becomes another one, empty and with another UIDVALIDITY: it
    /// counts modseqs from 1, as if it had been deleted and made again. A log that began with a
    /// higher one would lack what a saved state of the new mailbox refers to.
    pub fn renew(&mut self, first: &Transaction) -> Result<()> {
        self.start_anew(first, 1)
    }

    fn start_anew(&mut self, first: &Transaction, initial_modseq: ModSeq) -> Result<()> {
        let now = unix_time();
        let old = self.index.log_header().copied();
        let mut fresh = IndexState::new();
        fresh.highest_modseq = initial_modseq;
        let header = LogHeader {
            minor_version: 3,
            header_size: LOG_HEADER_SIZE as u16,
            index_id: old
                .map(|old| old.index_id)
                .filter(|id| *id != 0)
                .unwrap_or(now),
            file_seq: self.next_seq(),
            prev_file_seq: 0,
            prev_file_offset: 0,
            create_stamp: now,
            initial_modseq,
        };
        let records = encode::encode(first, &fresh, LOG_HEADER_SIZE as u32)
            .map_err(|error| self.index.encode_error(&error))?;
        self.install_log(&header, &records, true)?;
        fresh.set_index_id(header.index_id);
        fresh.header.set(HeaderField::Log2RotateTime, NO_LOG2);
        self.index.state = fresh;
        self.index.damage.clear();
        self.index.mended = 0;
        self.index.snapshot = None;
        self.index.absorb(&records);
        self.write_snapshot()?;
        self.index.older = None;
        if self.index.in_memory {
            return Ok(());
        }
        path_io::remove(&self.index.files.log2())?;
        path_io::remove(&self.index.files.backup())
    }

    /// Writes a snapshot or rotates, if Dovecot would (`spec/dovecot-index.md` 10, 11).
    pub fn maintain(&mut self) -> Result<()> {
        if self.index.needs_rebuild() {
            return Ok(());
        }
        if self.should_rotate() {
            self.rotate()
        } else if self.should_write_snapshot() {
            self.write_snapshot()
        } else {
            Ok(())
        }
    }

    fn should_rotate(&self) -> bool {
        let rotation = self.index.settings.rotation;
        let Some((log, cursor)) = self.index.log.as_ref() else {
            return false;
        };
        let age = unix_time().saturating_sub(log.header.create_stamp);
        let old = Duration::from_secs(age.into()) >= rotation.min_age;
        cursor.pending.is_empty()
            && (log.header.minor_version < 3
                || cursor.offset > rotation.max_size
                || (old && cursor.offset >= rotation.min_size))
    }

    fn should_write_snapshot(&self) -> bool {
        let settings = &self.index.settings;
        let Some((log, cursor)) = self.index.log.as_ref() else {
            return false;
        };
        let Some(position) = self.index.snapshot else {
            return !self.index.in_memory; // an index that is only a log is lost with it (14.3)
        };
        let behind = cursor.max_tail.saturating_sub(position.tail);
        position.log_seq != log.header.file_seq
            || behind > settings.rewrite_max_log_bytes
            || (behind > settings.rewrite_min_log_bytes
                && self.index.replayed > settings.rewrite_min_log_bytes)
    }
}
