//! Finding and opening the file of a message.

use std::fmt::Display;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use bstr::{BString, ByteSlice};
use dsync_proto::types::{MailErrorClass, Uid};

use super::copy;
use super::disk::{Disk, Known};
use super::filename;
use super::mailbox::MaildirMailbox;
use crate::compression::{looks_packed, unpack};
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
        let body = self.body(uid, file, metadata.len())?;
        let (pop3_uidl, pop3_order) = self.known.pop3(uid);
        Ok(Some(OpenMessage {
            received_date: metadata.mtime(),
            saved_date: self.saved_date(uid, metadata.ctime()),
            pop3_uidl,
            pop3_order,
            body,
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

    /// What the message consists of. `S=` in the name is the size of the message: if the file has
    /// another one, it may be packed; a mail that only looks like that is left alone.
    fn body(&self, uid: Uid, file: fs::File, length: u64) -> Result<Box<dyn Read + Send>> {
        let list = &self.known.uidlist;
        let entry = list.position(uid).and_then(|at| list.get(at));
        let claimed = entry.and_then(|entry| filename::sizes(entry.base).physical);
        let Some(size) = claimed.filter(|size| *size != length && looks_packed(&file)) else {
            return Ok(Box::new(file));
        };
        let failed = |class, reason: &dyn Display| {
            let mailbox = &self.disk.paths.name;
            let text = format!("cannot read message UID={uid} of {mailbox}: {reason}");
            StorageError::new(class, text)
        };
        unpack(file, size)
            .map_err(|error| failed(MailErrorClass::Temporary, &error))?
            .map_err(|reason| failed(MailErrorClass::NotPossible, &reason))
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
