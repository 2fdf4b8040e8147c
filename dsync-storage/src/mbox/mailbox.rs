//! An open mbox mailbox.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bstr::BString;
use dsync_proto::types::{MailErrorClass, MailGuid, Uid};

use super::guids::Guids;
use super::headers;
use super::locks::LockedFile;
use super::records::guid_of;
use super::resolve::{Known, resolve};
use super::scan::Entry;
use super::staging::{Staging, unnamed};
use crate::changes::Changes;
use crate::folders::{MailboxPaths, create_dirs};
use crate::index::{Cached, Index};
use crate::opened::{Format, INDEX_PREFIX};
use crate::permissions::CreateModes;
use crate::unique::UniqueSource;
use crate::{
    CommitReport, MailboxStatus, MessageTable, OpenMessage, OpenMode, Result, SaveMessage,
    StorageError, StoreSettings,
};

/// Longest wait for the lock of an index log.
pub(super) const INDEX_LOCK_TIMEOUT: Duration = Duration::from_secs(180);
/// Larger messages are not read into memory.
const MAX_IN_MEMORY: u64 = 1 << 20;

/// What tells that a file was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileStamp {
    file: (u64, u64),
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

impl FileStamp {
    pub(super) fn of(file: &File, path: &Path) -> Result<Self> {
        let meta = file.metadata();
        let meta = meta.map_err(|error| StorageError::io("stat", path, &error))?;
        Ok(Self {
            file: (meta.dev(), meta.ino()),
            size: meta.len(),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            ctime: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

/// The index of a mailbox. It can be made anew from the file.
pub(super) fn open_index(dir: &Path, settings: &StoreSettings) -> Result<Index> {
    Index::open(dir, INDEX_PREFIX, settings.into())
}

/// An open mailbox.
pub(super) struct MboxMailbox {
    pub(super) name: String,
    /// The file.
    pub(super) path: PathBuf,
    pub(super) index_dir: PathBuf,
    /// Directory of the UIDVALIDITY counter.
    pub(super) counter_dir: PathBuf,
    pub(super) modes: CreateModes,
    pub(super) settings: StoreSettings,
    paths: MailboxPaths,
    unique: UniqueSource,
    pub(super) index: Index,
    /// The file as it was when it was last looked at.
    pub(super) entries: Arc<[Entry]>,
    pub(super) stamp: Option<FileStamp>,
    pub(super) staging: Staging,
    snapshot: Snapshot,
}

/// What reading calls answer from.
#[derive(Default)]
struct Snapshot {
    /// Entries of the messages, by UID.
    entries: BTreeMap<Uid, Entry>,
    stamp: Option<FileStamp>,
    guids: BTreeMap<Uid, BString>,
    cached: Option<Cached>,
}

impl MboxMailbox {
    pub(super) fn new(paths: MailboxPaths, settings: &StoreSettings) -> Result<Self> {
        let Some(index_dir) = paths.index_dir.clone() else {
            return Err(StorageError::new(
                MailErrorClass::NotPossible,
                "INDEX=MEMORY cannot be used with mbox: GUIDs and modseqs are kept in the index only",
            ));
        };
        Ok(Self {
            name: paths.name.clone(),
            path: paths.box_dir.clone(),
            counter_dir: paths.control_root.clone(),
            modes: paths.modes,
            settings: settings.clone(),
            unique: settings.unique(),
            index: open_index(&index_dir, settings)?,
            index_dir,
            paths,
            entries: Arc::default(),
            stamp: None,
            staging: Staging::default(),
            snapshot: Snapshot::default(),
        })
    }

    /// The file, locked for reading, and where a message of the snapshot is in it now.
    fn find(&mut self, uid: Uid) -> Result<Option<(LockedFile, Entry)>> {
        let Some(entry) = self.snapshot.entries.get(&uid).cloned() else {
            return Ok(None);
        };
        let locked = match LockedFile::read(&self.path, &self.settings) {
            Err(error) if error.class == MailErrorClass::NotFound => return Ok(None),
            other => other?,
        };
        let now = FileStamp::of(&locked.file, &self.path)?;
        if self.snapshot.stamp == Some(now) {
            return Ok(Some((locked, entry)));
        }
        self.look(&locked.file)?;
        // What the index knew then is what the snapshot's UIDs mean.
        let present = open_index(&self.index_dir, &self.settings)?;
        let resolved = resolve(&self.entries, &Known::of(present.state()));
        let real = self.entries.iter().filter(|entry| !entry.meta.is_pseudo);
        let found = resolved
            .uids
            .iter()
            .zip(real)
            .find(|(have, _)| **have == uid);
        Ok(found
            .filter(|(_, now)| now.fingerprint == entry.fingerprint)
            .map(|(_, now)| (locked, now.clone())))
    }

    /// The bytes of a message as readers see them. They are copied: nobody else may write as long
    /// as the lock is held, ourselves included.
    fn read_body(&self, file: &File, entry: &Entry) -> std::io::Result<Box<dyn Read + Send>> {
        let mut block = vec![0; usize::try_from(entry.body - entry.headers).unwrap_or(0)];
        file.read_exact_at(&mut block, entry.headers)?;
        let head = headers::visible(&block);
        if entry.body_len <= MAX_IN_MEMORY {
            let mut body = vec![0; entry.body_len as usize];
            file.read_exact_at(&mut body, entry.body)?;
            return Ok(Box::new(Cursor::new([head, body].concat())));
        }
        let mut copy = unnamed(&self.index_dir)?;
        copy.write_all(&head)?;
        let mut source = file;
        source.seek(SeekFrom::Start(entry.body))?;
        std::io::copy(&mut source.take(entry.body_len), &mut copy)?;
        copy.seek(SeekFrom::Start(0))?;
        Ok(Box::new(copy))
    }

    fn saved_date(&mut self, uid: Uid) -> i64 {
        if self.snapshot.cached.is_none() {
            self.snapshot.cached = self.index.cached().ok();
        }
        let message = self.index.state().message(uid);
        let date = self.snapshot.cached.as_ref().zip(message);
        let date = date.and_then(|(cached, message)| cached.saved_date(&message));
        date.map_or(0, i64::from)
    }

    fn with_guid(&self, mut message: SaveMessage) -> SaveMessage {
        let guid = message.guid.as_bytes();
        if guid.is_empty() {
            message.guid = MailGuid::from(self.unique.guid());
        } else if guid.contains(&b'\n') || guid.contains(&b'\r') || guid.contains(&0) {
            // Every peer computes the same short form.
            message.guid = MailGuid::from(message.guid.short());
        }
        if message.saved_date == 0 {
            message.saved_date = self.settings.clock.seconds();
        }
        message
    }

    fn begin(&mut self, message: SaveMessage) -> Result<()> {
        let message = self.with_guid(message);
        create_dirs(&self.index_dir, &self.modes)?;
        self.staging.begin(message, &self.index_dir)
    }
}

impl Format for MboxMailbox {
    fn paths(&self) -> &MailboxPaths {
        &self.paths
    }

    fn settings(&self) -> &StoreSettings {
        &self.settings
    }

    fn index(&mut self) -> &mut Index {
        &mut self.index
    }

    fn bring_in_step(&mut self) -> Result<()> {
        self.learn_of_file()
    }

    fn take_snapshot(&mut self) -> Result<MailboxStatus> {
        let state = self.index.state();
        let header = state.header();
        let status = MailboxStatus {
            guid: guid_of(state),
            uid_validity: header.uid_validity(),
            uid_next: header.next_uid(),
            messages: state.len() as u32,
            first_recent_uid: header.first_recent_uid().max(1),
            highest_modseq: state.highest_modseq(),
            highest_pvt_modseq: 0,
        };
        // Both say the same now.
        let resolved = resolve(&self.entries, &Known::of(state));
        let real = self.entries.iter().filter(|entry| !entry.meta.is_pseudo);
        let messages: Vec<(Uid, &Entry)> = resolved.uids.iter().copied().zip(real).collect();
        let mut guids = Guids::read(&self.index_dir)?;
        let names = guids.of(status.uid_validity, &messages);
        if let Err(error) = guids.write(&self.index_dir, &self.modes, self.settings.syncs()) {
            // They are computed in the same way next time.
            tracing::warn!("mailbox {}: {error}", self.name);
        }
        let uids = messages.iter().map(|(uid, _)| *uid);
        self.snapshot = Snapshot {
            guids: uids.zip(names).collect(),
            entries: messages
                .iter()
                .map(|(uid, entry)| (*uid, (*entry).clone()))
                .collect(),
            stamp: self.stamp,
            cached: None,
        };
        Ok(status)
    }

    fn make_table(&mut self, _mode: OpenMode) -> Result<MessageTable> {
        let mut table = MessageTable::new();
        let state = self.index.state();
        table.reserve(state.len());
        for message in state.messages() {
            let Some(guid) = self.snapshot.guids.get(&message.uid()) else {
                continue;
            };
            let set = table.keyword_set(message.keywords());
            // The index keeps UIDs in order.
            let _ = table.push(message.uid(), message.flags(), set, message.modseq(), guid);
        }
        Ok(table)
    }

    fn open_message(&mut self, uid: Uid) -> Result<Option<OpenMessage>> {
        let Some((locked, entry)) = self.find(uid)? else {
            return Ok(None);
        };
        let body = self
            .read_body(&locked.file, &entry)
            .map_err(|error| StorageError::io("read", &self.path, &error))?;
        drop(locked);
        Ok(Some(OpenMessage {
            received_date: entry.received,
            saved_date: self.saved_date(uid),
            pop3_uidl: BString::default(),
            pop3_order: 0,
            body,
        }))
    }

    fn received_date(&mut self, uid: Uid) -> Result<Option<i64>> {
        Ok(self.find(uid)?.map(|(_, entry)| entry.received))
    }

    fn save_begin(&mut self, message: SaveMessage) -> Result<()> {
        self.begin(message)
    }

    fn save_write(&mut self, bytes: &[u8]) -> Result<()> {
        self.staging.write(bytes)
    }

    fn save_finish(&mut self) -> Result<()> {
        self.staging.finish()
    }

    fn save_abort(&mut self) {
        self.staging.abort();
    }

    fn save_another(&mut self, message: SaveMessage) -> Result<()> {
        let message = self.with_guid(message);
        self.staging.another(message)
    }

    fn copy(&mut self, source: Uid, mut message: SaveMessage) -> Result<bool> {
        let Some(mut original) = self.open_message(source)? else {
            return Ok(false);
        };
        message.received_date = original.received_date;
        message.saved_date = original.saved_date;
        self.begin(message)?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = original.body.read(&mut buffer);
            match count.map_err(|error| StorageError::io("read", &self.path, &error))? {
                0 => break,
                count => self.staging.write(buffer.get(..count).unwrap_or(&[]))?,
            }
        }
        self.staging.finish()?;
        Ok(true)
    }

    fn has_saves(&self) -> bool {
        !self.staging.done.is_empty()
    }

    fn commit(&mut self, changes: Changes) -> Result<CommitReport> {
        let mut staged = std::mem::take(&mut self.staging.done);
        let result = self.write_through(&changes, &mut staged);
        self.staging = Staging::default();
        result
    }
}
