//! Messages of an mdbox: many in one file, which mailboxes refer to (`spec/dbox.md` 5, 7.2, 9).
//!
//! New messages go one behind the other into a file of their own for each transaction. Dovecot
//! may append to such a file later; we never append to one that is there, so that a kill cannot
//! leave half a message in it.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use bstr::BString;
use dsync_proto::types::Uid;

use super::bodies::{Bodies, Disk};
use super::commit::{TEMP_PREFIX, requests};
use super::format::{self, FileHeader, Metadata, SIZE_OFFSET};
use super::message::{MessageFile, StoredMessage, damaged};
use super::references::map_uid;
use super::single::{metadata_of, no_save};
use super::storage::SharedStorage;
use crate::body_file::{BodySink, TmpFile};
use crate::changes::Changes;
use crate::index::{ExtensionSpec, Index, Message};
use crate::{CommitReport, Result, SaveMessage, StorageError, StoreSettings};

/// Where the body of a new message is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// In this file of the transaction, at this offset, of this size.
    New { file: usize, offset: u64, size: u64 },
    /// In the storage, under this map UID.
    Stored(Uid),
}

/// A message that waits for the commit.
#[derive(Debug)]
pub(super) struct Save {
    pub(super) message: SaveMessage,
    pub(super) metadata: Metadata,
    pub(super) place: Place,
}

/// A file of the transaction.
#[derive(Debug)]
pub(super) struct NewFile {
    pub(super) tmp: TmpFile,
    sink: BodySink,
    /// End of the last complete message.
    end: u64,
}

/// A message that is being written into the last file.
#[derive(Debug)]
struct Writing {
    message: SaveMessage,
}

/// The messages of an mdbox mailbox.
pub(super) struct MultiBodies {
    pub(super) disk: Disk,
    pub(super) storage: SharedStorage,
    /// Name of the mailbox on disk, which new messages remember.
    storage_name: Vec<u8>,
    pub(super) files: Vec<NewFile>,
    writing: Option<Writing>,
    pub(super) saves: Vec<Save>,
    /// Where in `saves` the last message is whose body came here.
    last: Option<usize>,
}

impl MultiBodies {
    pub(super) fn new(disk: Disk, storage: SharedStorage, storage_name: Vec<u8>) -> Self {
        Self {
            disk,
            storage,
            storage_name,
            files: Vec::new(),
            writing: None,
            saves: Vec::new(),
            last: None,
        }
    }

    /// The file that the next message goes to, with the message's header in it.
    fn start(&mut self) -> Result<()> {
        self.abort();
        let settings = &self.disk.settings;
        if self.files.last().is_none_or(|file| file.is_full(settings)) {
            let file = self.new_file()?;
            self.files.push(file);
        }
        let file = self.files.last_mut().ok_or_else(no_save)?;
        file.sink.raw(&format::message_header(0))
    }

    fn new_file(&self) -> Result<NewFile> {
        let mut storage = self.storage.get();
        storage.ensure()?;
        new_file(&storage.place)
    }

    /// Completes the message in the last file.
    fn complete(&mut self, message: SaveMessage, metadata: Metadata, size: u64) -> Result<()> {
        let number = self.files.len().saturating_sub(1);
        let file = self.files.last_mut().ok_or_else(no_save)?;
        let offset = file.end;
        let size = file.complete(&metadata.encode(Some(&self.storage_name)), size)?;
        self.saves.push(Save {
            message,
            metadata,
            place: Place::New {
                file: number,
                offset,
                size,
            },
        });
        Ok(())
    }

    /// The body of a stored message under other metadata.
    fn write_again(
        &mut self,
        stored: &StoredMessage,
        metadata: Metadata,
        message: SaveMessage,
    ) -> Result<()> {
        self.start()?;
        let file = self.files.last_mut().ok_or_else(no_save)?;
        let copied = file.copy_body(stored);
        if let Err(error) = copied {
            self.cut();
            return Err(error);
        }
        self.complete(message, metadata, stored.stored_size())
    }

    /// Takes back what was written of a message that is not complete.
    fn cut(&mut self) {
        let cut = match self.files.last_mut() {
            Some(file) => file.sink.cut(file.end),
            None => Ok(()),
        };
        if let Err(error) = cut {
            tracing::warn!("{error}");
        }
    }

    /// A message of this transaction, for reading.
    fn reread(&self, place: Place) -> Result<StoredMessage> {
        match place {
            Place::New { file, offset, .. } => {
                let path = self.files.get(file).ok_or_else(no_save)?.tmp.path();
                let file = MessageFile::open(path)?.ok_or_else(no_save)?;
                file.message_at(offset)
            }
            Place::Stored(map_uid) => {
                let found = self.storage.get().read(map_uid)?;
                found.ok_or_else(no_save)
            }
        }
    }
}

/// A new file with its header.
pub(super) fn new_file(place: &super::storage::Place) -> Result<NewFile> {
    let modes = place.modes();
    let create = |path: &std::path::Path| modes.create_new(path);
    let (tmp, file): (TmpFile, File) =
        TmpFile::reserve(place.dir(), TEMP_PREFIX, &place.unique, create)?;
    let mut sink = BodySink::new(file, tmp.path());
    let header = FileHeader::new_line(place.settings.clock.seconds());
    sink.raw(header.as_bytes())?;
    Ok(NewFile {
        tmp,
        sink,
        end: header.len() as u64,
    })
}

impl NewFile {
    /// Whether it is large enough.
    pub(super) fn is_full(&self, settings: &StoreSettings) -> bool {
        self.end >= u64::from(settings.mdbox_rotate_size)
    }

    /// Puts metadata behind the body and its size into its header; gives the size of it all.
    fn complete(&mut self, metadata: &[u8], body: u64) -> Result<u64> {
        self.sink.raw(metadata)?;
        self.sink.flush()?;
        let digits = format!("{body:016X}");
        self.sink
            .file()
            .write_all_at(digits.as_bytes(), self.end + SIZE_OFFSET)
            .map_err(|error| StorageError::io("write", self.tmp.path(), &error))?;
        let size = format::MESSAGE_HEADER_SIZE as u64 + body + metadata.len() as u64;
        self.end += size;
        Ok(size)
    }

    fn copy_body(&mut self, stored: &StoredMessage) -> Result<()> {
        let mut body = stored.stored_body();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match body.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => self.sink.raw(buffer.get(..count).unwrap_or_default())?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(StorageError::io("read", stored.path(), &error)),
            }
        }
    }

    /// Adds a stored message with all its metadata; gives its offset and size.
    pub(super) fn copy_whole(&mut self, stored: &StoredMessage) -> Result<(u64, u64)> {
        let offset = self.end;
        self.sink.raw(&format::message_header(0))?;
        self.copy_body(stored)?;
        let size = self.complete(&stored.raw_metadata()?, stored.stored_size())?;
        Ok((offset, size))
    }
}

impl Bodies for MultiBodies {
    fn stored(&mut self, message: &Message<'_>) -> Result<Option<StoredMessage>> {
        match map_uid(message) {
            Some(map_uid) if map_uid > 0 => self.storage.get().read(map_uid),
            _ => Err(damaged(
                &self.disk.paths.box_dir,
                0,
                "a message of the index is not in the storage",
            )),
        }
    }

    fn saved_date(&self, message: &Message<'_>, _stored: &StoredMessage) -> i64 {
        let bytes = message.extension(ExtensionSpec::MDBOX.name);
        let date = bytes.and_then(|bytes| bytes.get(4..)?.first_chunk::<4>().copied());
        date.map_or(0, |date| u32::from_le_bytes(date).into())
    }

    fn begin(&mut self, message: SaveMessage) -> Result<()> {
        self.start()?;
        self.writing = Some(Writing { message });
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match (&self.writing, self.files.last_mut()) {
            (Some(_), Some(file)) => file.sink.write(bytes),
            _ => Err(no_save()),
        }
    }

    fn finish(&mut self) -> Result<()> {
        let Writing { message } = self.writing.take().ok_or_else(no_save)?;
        let file = self.files.last_mut().ok_or_else(no_save)?;
        let size = file.sink.end_body()?;
        let metadata = Metadata {
            virtual_size: Some(size.virtual_size),
            ..metadata_of(&message)
        };
        self.complete(message, metadata, size.physical)?;
        self.last = self.saves.len().checked_sub(1);
        Ok(())
    }

    fn abort(&mut self) {
        if self.writing.take().is_some() {
            self.cut();
        }
    }

    fn another(&mut self, message: SaveMessage) -> Result<()> {
        let last = self.last.and_then(|at| self.saves.get(at));
        let last = last.ok_or_else(no_save)?;
        let metadata = Metadata {
            plain_size: last.metadata.plain_size,
            virtual_size: last.metadata.virtual_size,
            ..metadata_of(&message)
        };
        let place = last.place;
        if metadata == last.metadata {
            self.saves.push(Save {
                message,
                metadata,
                place,
            });
            return Ok(());
        }
        let stored = self.reread(place)?;
        self.write_again(&stored, metadata, message)
    }

    fn copy(
        &mut self,
        source: &Message<'_>,
        stored: &StoredMessage,
        message: SaveMessage,
    ) -> Result<()> {
        let metadata = Metadata {
            guid: BString::from(message.guid.as_bytes()),
            ..stored.metadata.clone()
        };
        match map_uid(source) {
            Some(map_uid) if metadata == stored.metadata => {
                self.saves.push(Save {
                    message,
                    metadata,
                    place: Place::Stored(map_uid),
                });
                Ok(())
            }
            _ => self.write_again(stored, metadata, message),
        }
    }

    fn has_saves(&self) -> bool {
        !self.saves.is_empty()
    }

    fn commit(&mut self, index: &mut Index, changes: &Changes) -> Result<CommitReport> {
        self.abort();
        self.last = None;
        let saves = std::mem::take(&mut self.saves);
        let files = std::mem::take(&mut self.files);
        self.commit_all(index, saves, files, changes)
    }

    fn needs_repair(&self, index: &mut Index) -> Result<bool> {
        let asked = !requests(index, |_, _| Ok(true))?.expunge.is_empty();
        Ok(asked || self.storage.get().needs_repair()?)
    }

    fn repair(&mut self, index: &mut Index) -> Result<()> {
        self.commit_all(index, Vec::new(), Vec::new(), &Changes::default())
            .map(drop)
    }
}
