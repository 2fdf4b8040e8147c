//! Message files of sdbox: one for each message, named by its UID (`spec/dbox.md` 3, 4, 7.1, 9).

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bstr::BString;
use dsync_proto::types::{MailErrorClass, Uid};

use super::bodies::{Bodies, Disk};
use super::commit::TEMP_PREFIX;
use super::format::{self, FileHeader, Metadata, SIZE_OFFSET};
use super::message::{MessageFile, StoredMessage};
use super::unfinished::Unfinished;
use crate::body_file::{BodySink, TmpFile};
use crate::changes::Changes;
use crate::index::{Index, Message};
use crate::settings::Fsync;
use crate::{CommitReport, Result, SaveMessage, StorageError};

/// A message that is complete under a temporary name.
#[derive(Debug)]
pub(super) struct Save {
    pub(super) tmp: TmpFile,
    pub(super) message: SaveMessage,
    pub(super) metadata: Metadata,
}

/// A message that is being written.
#[derive(Debug)]
struct Writing {
    tmp: TmpFile,
    sink: BodySink,
    message: SaveMessage,
    /// Length of the file header.
    start: u64,
}

/// The messages of an sdbox mailbox.
#[derive(Debug)]
pub(super) struct SingleBodies {
    pub(super) disk: Disk,
    writing: Option<Writing>,
    pub(super) saves: Vec<Save>,
    /// Where in `saves` the last message is whose body came here.
    last: Option<usize>,
}

impl SingleBodies {
    pub(super) fn new(disk: Disk) -> Self {
        Self {
            disk,
            writing: None,
            saves: Vec::new(),
            last: None,
        }
    }

    /// The journal of commits.
    pub(super) fn unfinished(&self) -> Unfinished {
        Unfinished::new(&self.disk.paths.box_dir)
    }

    /// File of a message: its usual place and the alternative one.
    pub(super) fn places(&self, uid: Uid) -> impl Iterator<Item = PathBuf> + '_ {
        let paths = &self.disk.paths;
        let dirs = [Some(&paths.box_dir), paths.alt_dir.as_ref()];
        dirs.into_iter()
            .flatten()
            .map(move |dir| dir.join(format!("u.{uid}")))
    }

    /// The message with this UID; `None` if its file is not there.
    pub(super) fn open(&self, uid: Uid) -> Result<Option<StoredMessage>> {
        for path in self.places(uid) {
            if let Some(file) = MessageFile::open(&path)? {
                let start = file.header.length as u64;
                return file.message_at(start).map(Some);
            }
        }
        Ok(None)
    }

    fn temp<T>(&self, create: impl Fn(&Path) -> io::Result<T>) -> Result<(TmpFile, T)> {
        let Disk { paths, unique, .. } = &self.disk;
        TmpFile::reserve(&paths.box_dir, TEMP_PREFIX, unique, create)
    }

    fn start(&self, message: SaveMessage) -> Result<Writing> {
        let modes = &self.disk.paths.modes;
        let (tmp, file) = self.temp(|path| modes.create_new(path))?;
        let mut sink = BodySink::new(file, tmp.path());
        let header = FileHeader::new_line(self.disk.settings.clock.seconds());
        sink.raw(header.as_bytes())?;
        sink.raw(&format::message_header(0))?;
        Ok(Writing {
            tmp,
            sink,
            message,
            start: header.len() as u64,
        })
    }

    /// Puts size and metadata in their places.
    fn complete(&mut self, mut writing: Writing, metadata: Metadata, size: u64) -> Result<()> {
        let at = writing.start + SIZE_OFFSET;
        let Writing { tmp, sink, .. } = &mut writing;
        sink.raw(&metadata.encode(None))?;
        sink.flush()?;
        let digits = format!("{size:016X}");
        let patched = sink.file().write_all_at(digits.as_bytes(), at);
        let synced = patched.and_then(|()| match self.disk.settings.fsync {
            Fsync::Always => sink.file().sync_data(),
            Fsync::Never | Fsync::Optimized => Ok(()),
        });
        synced.map_err(|error| StorageError::io("write", tmp.path(), &error))?;
        self.saves.push(Save {
            tmp: writing.tmp,
            message: writing.message,
            metadata,
        });
        Ok(())
    }

    /// A second name for the file of a message, or a file of its own if its metadata is to be
    /// different or the file system has no hard links.
    fn duplicate(
        &mut self,
        stored: &StoredMessage,
        metadata: Metadata,
        message: SaveMessage,
    ) -> Result<()> {
        if metadata == stored.metadata
            && let Ok((tmp, ())) = self.temp(|path| fs::hard_link(stored.path(), path))
        {
            self.saves.push(Save {
                tmp,
                message,
                metadata,
            });
            return Ok(());
        }
        let mut writing = self.start(message)?;
        let mut body = stored.stored_body();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => writing.sink.raw(&buffer[..count])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(StorageError::io("read", stored.path(), &error)),
            }
        }
        self.complete(writing, metadata, stored.stored_size())
    }
}

/// What a message file says about a new message.
pub(super) fn metadata_of(message: &SaveMessage) -> Metadata {
    Metadata {
        guid: BString::from(message.guid.as_bytes()),
        received: Some(message.received_date),
        pop3_uidl: message.pop3_uidl.clone(),
        pop3_order: message.pop3_order,
        ..Metadata::default()
    }
}

pub(super) fn no_save() -> StorageError {
    StorageError::new(MailErrorClass::Params, "no message is being saved")
}

impl Bodies for SingleBodies {
    fn stored(&mut self, message: &Message<'_>) -> Result<Option<StoredMessage>> {
        self.open(message.uid())
    }

    /// The file's change time: it got its name then.
    fn saved_date(&self, _message: &Message<'_>, stored: &StoredMessage) -> i64 {
        stored.changed()
    }

    fn begin(&mut self, message: SaveMessage) -> Result<()> {
        self.writing = Some(self.start(message)?);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let writing = self.writing.as_mut().ok_or_else(no_save)?;
        writing.sink.write(bytes)
    }

    fn finish(&mut self) -> Result<()> {
        let mut writing = self.writing.take().ok_or_else(no_save)?;
        let size = writing.sink.end_body()?;
        let metadata = Metadata {
            virtual_size: Some(size.virtual_size),
            ..metadata_of(&writing.message)
        };
        self.complete(writing, metadata, size.physical)?;
        self.last = self.saves.len().checked_sub(1);
        Ok(())
    }

    fn abort(&mut self) {
        self.writing = None;
    }

    fn another(&mut self, message: SaveMessage) -> Result<()> {
        let last = self.last.and_then(|at| self.saves.get(at));
        let path = last.ok_or_else(no_save)?.tmp.path().to_owned();
        let file = MessageFile::open(&path)?.ok_or_else(no_save)?;
        let stored = file.message_at(file.header.length as u64)?;
        let metadata = Metadata {
            plain_size: stored.metadata.plain_size,
            virtual_size: stored.metadata.virtual_size,
            ..metadata_of(&message)
        };
        self.duplicate(&stored, metadata, message)
    }

    fn copy(
        &mut self,
        _source: &Message<'_>,
        stored: &StoredMessage,
        message: SaveMessage,
    ) -> Result<()> {
        let metadata = Metadata {
            guid: BString::from(message.guid.as_bytes()),
            ..stored.metadata.clone()
        };
        self.duplicate(stored, metadata, message)
    }

    fn has_saves(&self) -> bool {
        !self.saves.is_empty()
    }

    fn commit(&mut self, index: &mut Index, changes: &Changes) -> Result<CommitReport> {
        let saves = std::mem::take(&mut self.saves);
        self.writing = None;
        self.last = None;
        self.commit_all(index, saves, changes)
    }

    fn needs_repair(&self, index: &mut Index) -> Result<bool> {
        Ok(self.unfinished().exists() || self.asks_for_expunges(index)?)
    }

    fn repair(&mut self, index: &mut Index) -> Result<()> {
        self.carry_out(index)
    }
}
