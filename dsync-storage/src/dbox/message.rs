//! A stored message: finding its parts in a file and reading its body (`spec/dbox.md` 3).

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dsync_proto::types::MailErrorClass;

use super::format::{
    FileHeader, MAX_FILE_HEADER, MAX_METADATA, METADATA_MAGIC, Metadata, stored_size,
};
use crate::compression;
use crate::{Result, StorageError};

/// First guess how much metadata there is.
const FIRST_METADATA: usize = 512;

/// An open file of messages.
#[derive(Clone, Debug)]
pub(super) struct MessageFile {
    file: Arc<File>,
    path: PathBuf,
    pub(super) header: FileHeader,
}

/// A message in it.
#[derive(Debug)]
pub(super) struct StoredMessage {
    file: MessageFile,
    body: u64,
    stored_size: u64,
    /// Length of magic and metadata.
    metadata_size: usize,
    pub(super) metadata: Metadata,
}

impl MessageFile {
    /// Opens a file; `None` if there is none.
    pub(super) fn open(path: &Path) -> Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StorageError::io("open", path, &error)),
        };
        Self::of(file, path).map(Some)
    }

    /// Reads the header of an open file.
    pub(super) fn of(file: File, path: &Path) -> Result<Self> {
        let start = read_at(&file, path, 0, MAX_FILE_HEADER)?;
        let header =
            FileHeader::parse(&start).ok_or_else(|| damaged(path, 0, "it has no valid header"))?;
        Ok(Self {
            file: Arc::new(file),
            path: path.to_owned(),
            header,
        })
    }

    /// The file itself.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its length now.
    pub(super) fn length(&self) -> Result<u64> {
        let data = self.file.metadata();
        data.map(|data| data.len())
            .map_err(|error| StorageError::io("stat", &self.path, &error))
    }

    /// The message whose header is at this offset.
    pub(super) fn message_at(&self, offset: u64) -> Result<StoredMessage> {
        let fail = |why| damaged(&self.path, offset, why);
        let header_size = self.header.message_header_size;
        let header = read_at(&self.file, &self.path, offset, header_size)?;
        let stored_size = stored_size(&header)
            .filter(|_| header.len() == header_size)
            .ok_or_else(|| fail("there is no message header"))?;
        let body = offset.saturating_add(header_size as u64);
        let magic = body.saturating_add(stored_size);
        let mut limit = FIRST_METADATA;
        loop {
            let bytes = read_at(&self.file, &self.path, magic, limit)?;
            let lines = bytes
                .strip_prefix(METADATA_MAGIC)
                .ok_or_else(|| fail("metadata header has bad magic value"))?;
            if let Some((metadata, length)) = Metadata::parse(lines) {
                return Ok(StoredMessage {
                    file: self.clone(),
                    body,
                    stored_size,
                    metadata_size: METADATA_MAGIC.len() + length,
                    metadata,
                });
            }
            if bytes.len() < limit || limit >= MAX_METADATA {
                return Err(fail("its metadata does not end"));
            }
            limit = MAX_METADATA;
        }
    }
}

impl StoredMessage {
    /// The body as its sender gave it, but for line ends.
    pub(super) fn open(&self) -> Result<Box<dyn Read + Send>> {
        let refuse = |why: &str| {
            let path = self.file.path.display();
            StorageError::new(
                MailErrorClass::NotPossible,
                format!("cannot read the message at {} of {path}: {why}", self.body),
            )
        };
        if self.metadata.has_attachments {
            return Err(refuse(
                "parts of it are in separate files (mail_attachment_dir), which is not supported; \
                 sync through Dovecot on this host instead",
            ));
        }
        let stored = StoredBody {
            file: Arc::clone(&self.file.file),
            at: self.body,
            left: self.stored_size,
        };
        let plain_size = self.metadata.plain_size.unwrap_or(self.stored_size);
        if plain_size == self.stored_size {
            return Ok(Box::new(stored));
        }
        compression::unpack(stored, plain_size)
            .map_err(|error| StorageError::io("read", &self.file.path, &error))?
            .map_err(refuse)
    }

    /// Magic and metadata as they are.
    pub(super) fn raw_metadata(&self) -> Result<Vec<u8>> {
        let at = self.body.saturating_add(self.stored_size);
        read_at(&self.file.file, &self.file.path, at, self.metadata_size)
    }

    /// Where it ends.
    pub(super) fn end(&self) -> u64 {
        self.body + self.stored_size + self.metadata_size as u64
    }

    /// Path of its file.
    pub(super) fn path(&self) -> &Path {
        &self.file.path
    }

    /// When its file changed last, in seconds since the epoch.
    pub(super) fn changed(&self) -> i64 {
        self.file.file.metadata().map_or(0, |data| data.ctime())
    }

    /// The bytes of the body on disk, packed or not.
    pub(super) fn stored_body(&self) -> StoredBody {
        StoredBody {
            file: Arc::clone(&self.file.file),
            at: self.body,
            left: self.stored_size,
        }
    }

    /// Size of the body on disk.
    pub(super) fn stored_size(&self) -> u64 {
        self.stored_size
    }
}

/// The bytes of a body on disk.
pub(super) struct StoredBody {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for StoredBody {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let Some(part) = buffer.get_mut(..wanted).filter(|part| !part.is_empty()) else {
            return Ok(0);
        };
        let count = self.file.read_at(part, self.at)?;
        if count == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file has become shorter",
            ));
        }
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// Up to `size` bytes at an offset; fewer at the end of the file.
fn read_at(file: &File, path: &Path, offset: u64, size: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; size];
    let mut done = 0;
    while done < size {
        match file.read_at(&mut bytes[done..], offset.saturating_add(done as u64)) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(StorageError::io("read", path, &error)),
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

/// A file that is not as it must be.
pub(super) fn damaged(path: &Path, offset: u64, why: &str) -> StorageError {
    StorageError::new(
        MailErrorClass::InvalidData,
        format!(
            "{} is damaged at offset {offset}: {why}. Run `doveadm force-resync` on this account",
            path.display()
        ),
    )
}
