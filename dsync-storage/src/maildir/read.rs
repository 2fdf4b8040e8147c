//! Finding and opening the file of a message.

use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use bstr::{BString, ByteSlice};
use dsync_proto::types::{MailErrorClass, Uid};

use super::filename;
use super::files::match_files;
use super::mailbox::MaildirMailbox;
use super::scan::Scan;
use crate::{OpenMessage, Result, StorageError};

/// How often a file may be renamed between looking for it and opening it.
const OPEN_ATTEMPTS: usize = 5;

impl MaildirMailbox {
    /// Opens a message of the snapshot.
    pub(super) fn read_message(&mut self, uid: Uid) -> Result<Option<OpenMessage>> {
        let opened = self.with_file(uid, "open", |path| {
            let file = fs::File::open(path)?;
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                return Err(io::Error::other("it is not a file"));
            }
            Ok((file, metadata))
        })?;
        let Some((file, metadata)) = opened else {
            return Ok(None);
        };
        self.refuse_compressed(uid, &file, metadata.len())?;
        let pop3_uidl = match self.extension(uid, b'P') {
            // An empty value stands for the file's base name.
            Some((value, base)) if value.is_empty() => base,
            Some((value, _)) => value,
            None => BString::default(),
        };
        let pop3_order = self
            .extension(uid, b'O')
            .and_then(|(value, _)| value.to_str().ok()?.parse().ok());
        Ok(Some(OpenMessage {
            received_date: metadata.mtime(),
            saved_date: self.saved_date(uid, metadata.ctime()),
            pop3_uidl,
            pop3_order: pop3_order.unwrap_or(0),
            body: Box::new(file),
        }))
    }

    /// Reads the directories without lock, for looking messages up.
    fn scan_files(&mut self) -> Result<()> {
        let scan = Scan::read(&self.disk.paths.box_dir, || Ok(()))?;
        self.known.files = Some(match_files(&self.known.uidlist, &scan).files);
        Ok(())
    }

    /// Path of a message file as it was last seen.
    fn path_of(&self, uid: Uid) -> Option<PathBuf> {
        let position = self.known.uidlist.position(uid)?;
        let entry = self.known.uidlist.get(position)?;
        let file = self.known.files.as_ref()?.get(position)?;
        Some(self.disk.message(file.dir, entry.base, file.info))
    }

    /// Does something with the file of a message; a program that changes flags renames it, so
    /// that it must be looked for again. `None` if it is gone.
    pub(super) fn with_file<T>(
        &mut self,
        uid: Uid,
        what: &str,
        action: impl Fn(&Path) -> io::Result<T>,
    ) -> Result<Option<T>> {
        if self.known.files.is_none() {
            self.scan_files()?;
        }
        for _ in 0..OPEN_ATTEMPTS {
            let Some(path) = self.path_of(uid) else {
                return Ok(None);
            };
            match action(&path) {
                Ok(value) => return Ok(Some(value)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.scan_files()?,
                Err(error) => return Err(StorageError::io(what, &path, &error)),
            }
        }
        Err(StorageError::new(
            MailErrorClass::Temporary,
            format!(
                "message UID={uid} of {} is renamed all the time",
                self.disk.paths.name
            ),
        ))
    }

    pub(super) fn saved_date(&mut self, uid: Uid, changed: i64) -> i64 {
        if self.cached.is_none() {
            self.cached = self.index.cached().ok();
        }
        let message = self.index.state().message(uid);
        let cached = self
            .cached
            .as_ref()
            .zip(message)
            .and_then(|(cached, message)| cached.saved_date(&message));
        cached.map_or(changed, i64::from)
    }

    /// A compressed file must not be passed on as if it were the message. `S=` in its name is the
    /// size of the message, so that a mail that only looks compressed is not refused.
    fn refuse_compressed(&self, uid: Uid, file: &fs::File, length: u64) -> Result<()> {
        let list = &self.known.uidlist;
        let entry = list.position(uid).and_then(|at| list.get(at));
        let claimed = entry.and_then(|entry| filename::sizes(entry.base).physical);
        if claimed.is_none_or(|size| size == length) {
            return Ok(());
        }
        let mut start = [0; 16];
        let read = file.read_at(&mut start, 0).unwrap_or(0);
        let Some(method) = compression(&start[..read]) else {
            return Ok(());
        };
        Err(StorageError::new(
            MailErrorClass::NotPossible,
            format!(
                "cannot read message UID={uid} of {}: its file is compressed ({method}) by \
                 Dovecot's zlib or mail_compress plugin, which is not supported for Maildir; \
                 sync through Dovecot on this host instead",
                self.disk.paths.name
            ),
        ))
    }

    pub(super) fn extension(&self, uid: Uid, key: u8) -> Option<(BString, BString)> {
        let position = self.known.uidlist.position(uid)?;
        let entry = self.known.uidlist.get(position)?;
        Some((entry.extension(key)?.into(), entry.base.into()))
    }
}

/// How a file is compressed (`spec/maildir.md` 9).
fn compression(start: &[u8]) -> Option<&'static str> {
    const MAGICS: [(&[u8], &str); 5] = [
        (b"\x1f\x8b", "gz"),
        (b"BZh", "bz2"),
        (b"\xfd7zXZ\0", "xz"),
        (b"Dovecot-LZ4\x0d\x2a\x9b\xc5", "lz4"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
    ];
    let found = MAGICS.iter().find(|(magic, _)| start.starts_with(magic))?;
    Some(found.1)
}
