//! Directories without a mailbox in them, in the fs layout.

use std::io;

use dsync_proto::types::{Guid, MailErrorClass};

use super::{Existence, Folders, create_dirs, not_found, remove_empty};
use crate::{Created, MailboxLogKind, Result, StorageError};

impl Folders {
    /// Creates a directory that is no mailbox (fs layout).
    pub(crate) fn create_directory(&mut self, name: &str) -> Result<Created> {
        self.check_name(name)?;
        let _lock = self.lock_list()?;
        let storage = self.locate(name)?;
        if self.existence(&storage) != Existence::Missing {
            return Ok(Created::Existed);
        }
        let dir = self.layout.name_dir(&storage);
        create_dirs(&dir, &self.layout.modes(&storage))?;
        if let Some(parent) = dir.parent() {
            self.sync_dir(parent)?;
        }
        Ok(Created::New)
    }

    /// Removes an empty directory.
    pub(crate) fn delete_directory(&mut self, name: &str) -> Result<()> {
        let _lock = self.lock_list()?;
        let storage = self.locate(name)?;
        match self.existence(&storage) {
            Existence::Missing => return Err(not_found(name)),
            Existence::Mailbox => {
                return Err(StorageError::new(
                    MailErrorClass::Exists,
                    format!("{name} is a mailbox, not an empty directory"),
                ));
            }
            Existence::Directory => {}
        }
        let dir = self.layout.name_dir(&storage);
        match std::fs::remove_dir(&dir) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                return Err(StorageError::new(
                    MailErrorClass::Exists,
                    format!("Mailbox {name} has children, delete them first"),
                ));
            }
            Err(error) => return Err(StorageError::io("remove directory", &dir, &error)),
        }
        // Killed here: the directory is gone without a record, and a peer may make it again.
        // The hash is of the full name, which is what is looked for; Dovecot writes that of the
        // storage name, which is never found.
        let hash = Guid::of_mailbox_name(self.canonical(name).as_bytes());
        self.log(&[(MailboxLogKind::DeleteDir, hash)])?;
        for root in self.layout.other_roots() {
            remove_empty(&self.layout.name_dir_in(root, &storage), root);
        }
        self.list_changed(&[]);
        Ok(())
    }
}
