//! Removing mailboxes and directories (`spec/maildir.md` 7, 20 f, 21).

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use dsync_proto::types::{Guid, MailErrorClass};

use super::list;
use super::paths::MailboxPaths;
use super::store::{Existence, MaildirStore, create_dirs, not_found, remove_empty};
use crate::lock::Dotlock;
use crate::{MailboxLogKind, MetadataUpdate, OpenMode, Result, StorageError, Store};

/// How often the trash directory may vanish under us: Dovecot removes an old one while listing.
const TRASH_ATTEMPTS: usize = 5;

impl MaildirStore {
    /// Deletes the mailbox with this GUID.
    ///
    /// The order: out of sight by a rename; the log records; only then are files removed. Killed
    /// before the records, the peer may send the mailbox again: nothing is lost. Killed after
    /// them, rubbish stays, which the next deletion removes.
    pub(super) fn delete(&mut self, guid: Guid) -> Result<()> {
        let _lock = self.lock_list()?;
        let name = self.find_guid(guid)?.ok_or_else(|| {
            StorageError::new(
                MailErrorClass::NotFound,
                format!("There is no mailbox with the GUID {guid}"),
            )
        })?;
        let (storage, paths) = self.locate_mailbox(&name)?;
        if self.layout.is_fixed(&storage) {
            return self.empty_and_renew(guid, &name);
        }
        let name_dir = self.layout.name_dir(&storage);
        let gone = if name_dir.is_symlink() {
            // The mail behind the link is not ours to delete.
            std::fs::remove_file(&name_dir)
                .map_err(|error| StorageError::io("remove", &name_dir, &error))?;
            self.log_deletion(guid, &name, true)?;
            true
        } else {
            self.delete_files(guid, &name, &name_dir, &paths)?
        };
        if let Err(error) = self.attributes.remove_mailbox(guid, false) {
            tracing::warn!("attributes of the deleted mailbox {name} stay behind: {error}");
        }
        self.remove_other_dirs(&storage, &paths);
        if gone
            && self.layout.drops_empty_parents()
            && let Some(parent) = name_dir.parent()
        {
            remove_empty(parent, &self.layout.list_root());
        }
        self.guid_is_at(guid, None);
        self.list_changed(&[(&storage, (Guid::ZERO, 0))]);
        Ok(())
    }

    /// Returns whether the directory of the name went, too.
    fn delete_files(
        &self,
        guid: Guid,
        name: &str,
        name_dir: &Path,
        paths: &MailboxPaths,
    ) -> Result<bool> {
        let lock = match paths.control_dir.is_dir() {
            true => Some(Dotlock::acquire(
                &paths.uidlist(),
                &self.uidlist_lock(paths),
            )?),
            false => None,
        };
        let before = new_messages(&paths.box_dir)?;
        let whole = !self.layout.is_fs()
            || (paths.box_dir == name_dir && !list::has_children(name_dir, &self.mapping)?);
        let trash = self.trash()?;
        let moved = if whole {
            vec![(name_dir.to_owned(), trash.clone())]
        } else if paths.box_dir == name_dir {
            // Children stay where they are. `cur` goes first: without it there is no mailbox.
            create_dirs(&trash, &paths.modes)?;
            ["cur", "new", "tmp"]
                .map(|dir| (name_dir.join(dir), trash.join(dir)))
                .into()
        } else {
            vec![(paths.box_dir.clone(), trash.clone())]
        };
        self.move_all(&moved)?;
        // Mail that was delivered between the look and the rename must not go unseen.
        if new_messages(&trash)? != before {
            restore(&moved);
            return Err(StorageError::new(
                MailErrorClass::Exists,
                format!("New mails were added to mailbox {name} during deletion"),
            ));
        }
        let gone = whole || (paths.box_dir != name_dir && std::fs::remove_dir(name_dir).is_ok());
        if let Err(error) = self.log_deletion(guid, name, gone) {
            // Without the records the deletion would be undone by the next sync anyway.
            if gone && !whole {
                let _ = std::fs::create_dir(name_dir);
            }
            restore(&moved);
            return Err(error);
        }
        match lock {
            Some(lock) if whole && paths.control_dir == paths.box_dir => lock.moved_away(),
            lock => drop(lock),
        }
        if !whole && paths.box_dir == name_dir {
            remove_files(name_dir);
        }
        self.empty_trash();
        Ok(gone)
    }

    fn log_deletion(&self, guid: Guid, name: &str, gone: bool) -> Result<()> {
        let hash = Guid::of_mailbox_name(self.canonical(name).as_bytes());
        let records = [
            (MailboxLogKind::DeleteMailbox, guid),
            (MailboxLogKind::DeleteDir, hash),
        ];
        self.log(if gone { &records } else { &records[..1] })
    }

    /// A place to move a deleted directory to, in the same file system and never listed.
    fn trash(&self) -> Result<PathBuf> {
        let parent = self.layout.trash();
        create_dirs(&parent, &self.layout.root_modes())?;
        Ok(parent.join(self.settings.unique().temp_name()))
    }

    fn move_all(&self, moves: &[(PathBuf, PathBuf)]) -> Result<()> {
        for (done, (from, to)) in moves.iter().enumerate() {
            let mut result = std::fs::rename(from, to);
            for _ in 0..TRASH_ATTEMPTS {
                match &result {
                    Err(error) if error.kind() == io::ErrorKind::NotFound && from.exists() => {
                        if let Some(parent) = to.parent() {
                            create_dirs(parent, &self.layout.root_modes())?;
                        }
                        result = std::fs::rename(from, to);
                    }
                    _ => break,
                }
            }
            match result {
                // `new` or `tmp` may be missing.
                Err(error) if error.kind() == io::ErrorKind::NotFound && done > 0 => {}
                Err(error) => {
                    restore(&moves[..done]);
                    return Err(StorageError::io("move away", from, &error));
                }
                Ok(()) => {}
            }
        }
        // They all come from one directory.
        match moves.first().and_then(|(from, _)| from.parent()) {
            Some(parent) => self.sync_dir(parent),
            None => Ok(()),
        }
    }

    /// Removes everything that this or an earlier, killed deletion has moved away.
    fn empty_trash(&self) {
        let trash = self.layout.trash();
        if let Err(error) = std::fs::remove_dir_all(&trash)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("cannot remove {}: {error}", trash.display());
        }
    }

    fn remove_other_dirs(&self, storage: &[u8], paths: &MailboxPaths) {
        for dir in paths.other_dirs() {
            remove_files(dir);
        }
        for root in self.layout.other_roots() {
            for dir in [
                self.layout.dir_in(root, storage),
                self.layout.name_dir_in(root, storage),
            ] {
                remove_empty(&dir, root);
            }
        }
    }

    /// A mailbox that cannot go: its messages go, and it becomes another mailbox.
    ///
    /// Killed while messages are removed: it is still the old mailbox, and the next run deletes
    /// the rest. Killed after the new identity was written: done, but for the record.
    fn empty_and_renew(&mut self, guid: Guid, name: &str) -> Result<()> {
        let identity = self.new_identity(None, None)?;
        let mut mailbox = self.open(name, OpenMode::Write)?;
        mailbox.refresh()?;
        for message in mailbox.messages()?.iter() {
            mailbox.expunge(message.uid)?;
        }
        mailbox.commit()?;
        mailbox.update_metadata(MetadataUpdate {
            uid_validity: Some(identity.uid_validity),
            ..MetadataUpdate::default()
        })?;
        mailbox.commit()?;
        drop(mailbox);
        // What belongs to the account stays with its INBOX.
        self.attributes.remove_mailbox(guid, true)?;
        self.set_guid(name, identity.guid)?;
        self.log(&[(MailboxLogKind::DeleteMailbox, guid)])
    }

    pub(super) fn delete_plain_directory(&mut self, name: &str) -> Result<()> {
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

/// Names of the messages that were delivered and not yet taken over.
fn new_messages(box_dir: &Path) -> Result<Vec<OsString>> {
    let mut names = list::entries(&box_dir.join("new"))?;
    names.retain(|name| list::is_message(name));
    Ok(names)
}

fn restore(moves: &[(PathBuf, PathBuf)]) {
    // In reverse, so that what makes it a mailbox comes last.
    for (from, to) in moves.iter().rev() {
        if let Err(error) = std::fs::rename(to, from)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::error!(
                "cannot move {} back to {}: {error}",
                to.display(),
                from.display()
            );
        }
    }
}

/// Removes the files of a directory; directories in it stay.
pub(super) fn remove_files(dir: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
