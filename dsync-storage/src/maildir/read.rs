//! Finding and opening the file of a message.

use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use bstr::{BString, ByteSlice};
use dsync_proto::types::{MailErrorClass, Uid};

use super::copy;
use super::disk::{Disk, Known};
use super::filename;
use super::mailbox::MaildirMailbox;
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
        let (pop3_uidl, pop3_order) = self.known.pop3(uid);
        Ok(Some(OpenMessage {
            received_date: metadata.mtime(),
            saved_date: self.saved_date(uid, metadata.ctime()),
            pop3_uidl,
            pop3_order,
            body: Box::new(file),
        }))
    }

    /// Does something with the file of a message, see [`Disk::with_file`].
    pub(super) fn with_file<T>(
        &mut self,
        uid: Uid,
        what: &str,
        action: impl Fn(&Path) -> io::Result<T>,
    ) -> Result<Option<T>> {
        self.disk.with_file(&mut self.known, uid, what, action)
    }

    pub(super) fn saved_date(&mut self, uid: Uid, changed: i64) -> i64 {
        if self.cached.is_none() {
            self.cached = self.index.cached().ok();
        }
        copy::saved_date(self.cached.as_ref(), self.index.state(), uid, changed)
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
}

impl Disk {
    /// Does something with the file of a message; a program that changes flags renames it, so
    /// that it must be looked for again. `None` if it is gone.
    pub(super) fn with_file<T>(
        &self,
        known: &mut Known,
        uid: Uid,
        what: &str,
        action: impl Fn(&Path) -> io::Result<T>,
    ) -> Result<Option<T>> {
        if known.files.is_none() {
            self.look_again(known)?;
        }
        for _ in 0..OPEN_ATTEMPTS {
            let position = known.uidlist.position(uid);
            let Some((file, base)) = position.and_then(|position| known.file(position)) else {
                return Ok(None);
            };
            let path = self.message(file.dir, base, file.info);
            match action(&path) {
                Ok(value) => return Ok(Some(value)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.look_again(known)?,
                Err(error) => return Err(StorageError::io(what, &path, &error)),
            }
        }
        Err(StorageError::new(
            MailErrorClass::Temporary,
            format!(
                "message UID={uid} of {} is renamed all the time",
                self.paths.name
            ),
        ))
    }
}

impl Known {
    /// POP3 UIDL and order of a message; empty and 0 for none.
    pub(super) fn pop3(&self, uid: Uid) -> (BString, u32) {
        let entry = self
            .uidlist
            .position(uid)
            .and_then(|at| self.uidlist.get(at));
        let Some(entry) = entry else {
            return (BString::default(), 0);
        };
        let uidl = match entry.extension(b'P') {
            // An empty value stands for the file's base name.
            Some(b"") => entry.base,
            uidl => uidl.unwrap_or_default(),
        };
        let order = entry
            .extension(b'O')
            .and_then(|order| order.to_str().ok()?.parse().ok());
        (uidl.into(), order.unwrap_or(0))
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
