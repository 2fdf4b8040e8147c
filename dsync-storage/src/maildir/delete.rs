//! Removing mailboxes and directories (`spec/maildir.md` 7, 20 f, 21).

use std::ffi::OsString;
use std::path::Path;

use dsync_proto::types::{Guid, MailErrorClass};

use super::store::MaildirStore;
use crate::folders::{MailboxPaths, create_dirs, list, remove_empty, remove_files, restore};
use crate::lock::Dotlock;
use crate::{MailboxLogKind, MetadataUpdate, OpenMode, Result, StorageError, Store};

impl MaildirStore {
    /// Deletes the mailbox with this GUID.
    ///
    /// The order: out of sight by a rename; the log records; only then are files removed. Killed
    /// before the records, the peer may send the mailbox again: nothing is lost. Killed after
    /// them, rubbish stays, which the next deletion removes.
    pub(super) fn delete(&mut self, guid: Guid) -> Result<()> {
        let _lock = self.folders.lock_list()?;
        let name = self.find_guid(guid)?.ok_or_else(|| {
            StorageError::new(
                MailErrorClass::NotFound,
                format!("There is no mailbox with the GUID {guid}"),
            )
        })?;
        let (storage, paths) = self.folders.locate_mailbox(&name)?;
        if self.folders.layout.is_fixed(&storage) {
            return self.empty_and_renew(guid, &name);
        }
        let name_dir = self.folders.layout.name_dir(&storage);
        let gone = if name_dir.is_symlink() {
            // The mail behind the link is not ours to delete.
            std::fs::remove_file(&name_dir)
                .map_err(|error| StorageError::io("remove", &name_dir, &error))?;
            self.folders.log_deletion(guid, &name, true)?;
            true
        } else {
            self.delete_files(guid, &name, &name_dir, &paths)?
        };
        if let Err(error) = self.attributes.remove_mailbox(guid, false) {
            tracing::warn!("attributes of the deleted mailbox {name} stay behind: {error}");
        }
        self.folders.remove_other_dirs(&storage, &paths);
        if gone
            && self.folders.layout.drops_empty_parents()
            && let Some(parent) = name_dir.parent()
        {
            remove_empty(parent, &self.folders.layout.list_root());
        }
        self.folders.guid_is_at(guid, None);
        self.folders.list_changed(&[(&storage, (Guid::ZERO, 0))]);
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
        let whole = !self.folders.layout.is_fs()
            || (paths.box_dir == name_dir && !list::has_children(name_dir, &self.folders.mapping)?);
        let trash = self.folders.trash()?;
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
        self.folders.move_all(&moved)?;
        // Mail that was delivered between the look and the rename must not go unseen.
        if new_messages(&trash)? != before {
            restore(&moved);
            return Err(StorageError::new(
                MailErrorClass::Exists,
                format!("New mails were added to mailbox {name} during deletion"),
            ));
        }
        let gone = whole || (paths.box_dir != name_dir && std::fs::remove_dir(name_dir).is_ok());
        if let Err(error) = self.folders.log_deletion(guid, name, gone) {
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
        self.folders.empty_trash();
        Ok(gone)
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
        self.folders.log(&[(MailboxLogKind::DeleteMailbox, guid)])
    }
}

/// Names of the messages that were delivered and not yet taken over.
fn new_messages(box_dir: &Path) -> Result<Vec<OsString>> {
    let mut names = list::entries(&box_dir.join("new"))?;
    names.retain(|name| list::is_message(name));
    Ok(names)
}
