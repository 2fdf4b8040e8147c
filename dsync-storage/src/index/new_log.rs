//! Makes index logs (`spec/dovecot-index.md` 11, 12).

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::settings::Fsync;
use crate::{Result, StorageError, path_io};

use super::damage::Damage;
use super::encode;
use super::files::{self, FileId};
use super::header::HeaderField;
use super::lock::{self, Patience};
use super::log_header::{LOG_HEADER_SIZE, LogHeader};
use super::state::IndexState;
use super::store::{Index, unix_time};
use super::transaction::Transaction;

/// A `.newlock` file older than this belongs to a writer that died.
pub(super) const STALE_NEW_LOG: Duration = Duration::from_secs(180);

impl Index {
    /// Creates an index that does not exist, with a first transaction: nobody ever sees it
    /// without (`spec/dovecot-index.md` 12). An existing one is an error.
    pub fn create(&mut self, first: &Transaction) -> Result<()> {
        if self.exists() {
            return Err(StorageError::new(
                dsync_proto::types::MailErrorClass::Exists,
                format!("{} exists already", self.files.log().display()),
            ));
        }
        let header = self.fresh_header();
        let records = encode::encode(first, &IndexState::new(), LOG_HEADER_SIZE as u32)
            .map_err(|error| self.encode_error(&error))?;
        if self.in_memory {
            return self.start_in_memory(&header, &records);
        }
        let mut nothing = || Ok(());
        let mut patience = Patience::new(STALE_NEW_LOG, &mut nothing);
        if !self.link_new_log(&header, &records, &mut patience)? {
            return Err(StorageError::new(
                dsync_proto::types::MailErrorClass::Exists,
                format!("{} was created meanwhile", self.files.log().display()),
            ));
        }
        self.load()
    }

    pub(super) fn fresh_header(&self) -> LogHeader {
        let now = unix_time();
        let older = self.older.as_ref().map_or(1, |older| older.header.file_seq);
        LogHeader {
            minor_version: 3,
            header_size: LOG_HEADER_SIZE as u16,
            index_id: now,
            file_seq: older.saturating_add(1),
            prev_file_seq: 0,
            prev_file_offset: 0,
            create_stamp: now,
            initial_modseq: self.state.highest_modseq,
        }
    }

    /// The log is missing or has no valid header: a new one that continues the snapshot, or the
    /// first one.
    pub(crate) fn create_log(&mut self, patience: &mut Patience<'_>) -> Result<()> {
        let mut header = self.fresh_header();
        if self.in_memory {
            return self.start_in_memory(&header, &[]);
        }
        if let Some(position) = self.snapshot {
            header.index_id = self.state.header.get(HeaderField::IndexId);
            header.file_seq = header.file_seq.max(position.log_seq.saturating_add(1));
            header.prev_file_seq = position.log_seq;
            header.prev_file_offset = position.head;
        }
        if self.damage.contains(&Damage::LogUnusable) {
            // It has this name but is of no use; whoever holds the new name replaces it.
            self.replace_unusable_log(&header, patience)?;
        } else {
            self.link_new_log(&header, &[], patience)?;
        }
        let mut damage = std::mem::take(&mut self.damage);
        self.load()?;
        self.mended = damage.len();
        damage.append(&mut self.damage);
        self.damage = damage;
        Ok(())
    }

    fn replace_unusable_log(
        &mut self,
        header: &LogHeader,
        patience: &mut Patience<'_>,
    ) -> Result<()> {
        let bad = FileId::at(&self.files.log())?;
        let path = self.files.new_log();
        self.write_new_log(header, &[], patience)?;
        if FileId::at(&self.files.log())? == bad {
            files::rename(&path, &self.files.log())?;
            self.files.sync_dir()
        } else {
            path_io::remove(&path)
        }
    }

    /// Makes a log that did not exist. `false` if somebody else was faster.
    fn link_new_log(
        &self,
        header: &LogHeader,
        records: &[u8],
        patience: &mut Patience<'_>,
    ) -> Result<bool> {
        let (path, target) = (self.files.new_log(), self.files.log());
        self.write_new_log(header, records, patience)?;
        // A link, not a rename: an existing log is never replaced.
        // Killed before: a stale temporary file. Killed behind: the log is complete.
        let linked = match fs::hard_link(&path, &target) {
            Ok(()) => true,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => false,
            Err(error) => {
                path_io::remove(&path)?;
                return Err(StorageError::io("create", &target, &error));
            }
        };
        path_io::remove(&path)?;
        self.files.sync_dir()?;
        Ok(linked)
    }

    /// Writes `P.log.newlock`, which is also the lock for making a log.
    ///
    /// Everybody waits for minutes for one whose writer was killed. So it gets its name, where that
    /// is possible, when it is complete and its next one is close.
    pub(super) fn write_new_log(
        &self,
        header: &LogHeader,
        records: &[u8],
        patience: &mut Patience<'_>,
    ) -> Result<fs::File> {
        let path = self.files.new_log();
        let bytes = [&header.encode()[..], records].concat();
        let write = |file: &mut fs::File| {
            let written = file.write_all(&bytes);
            let synced = written.and_then(|()| match self.settings.fsync {
                Fsync::Never => Ok(()),
                _ => file.sync_data(),
            });
            synced.map_err(|error| StorageError::io("write", &path, &error))
        };
        if let Some(mut file) = self.files.create_unnamed() {
            write(&mut file)?;
            self.take_new_log(patience, |path| self.files.name(&file, path))?;
            return Ok(file);
        }
        let mut file = self.take_new_log(patience, |path| self.files.create(path))?;
        if let Err(error) = write(&mut file) {
            path_io::remove(&path)?;
            return Err(error);
        }
        Ok(file)
    }

    /// Waits until nobody else makes a log.
    fn take_new_log<T>(
        &self,
        patience: &mut Patience<'_>,
        create: impl Fn(&Path) -> Result<T>,
    ) -> Result<T> {
        let path = self.files.new_log();
        let mut pause = lock::first_wait();
        loop {
            match create(&path) {
                Err(error) if error.class == dsync_proto::types::MailErrorClass::Exists => {}
                created => return created,
            }
            let age = fs::metadata(&path)
                .and_then(|meta| meta.modified())
                .ok()
                .and_then(|time| SystemTime::now().duration_since(time).ok());
            if age.is_some_and(|age| age >= STALE_NEW_LOG) {
                tracing::warn!(path = %path.display(), "removing a log that was never finished");
                path_io::remove(&path)?;
            } else {
                lock::wait(&path, patience, &mut pause)?;
            }
        }
    }
}
