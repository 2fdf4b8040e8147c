//! Removing mailboxes (`spec/dbox.md` 13).

use dsync_proto::types::{Guid, MailErrorClass};

use super::identity::INDEX_LOCK_TIMEOUT;
use super::store::DboxStore;
use crate::folders::{MailboxPaths, list, remove_empty, restore};
use crate::index::{Origin, Transaction};
use crate::{Mailbox, OpenMode, Result, StorageError, Store};

impl DboxStore {
    /// Deletes the mailbox with this GUID.
    ///
    /// The order: the index is marked, so that sessions keep off; out of sight by a rename; the
    /// log records; only then are files removed. Killed before the rename, the next opening
    /// takes the mark back. Killed before the records, the peer may send the mailbox again:
    /// nothing is lost. Killed after them, rubbish stays, which the next deletion removes.
    pub(super) fn delete(&mut self, guid: Guid) -> Result<()> {
        let _lock = self.folders.lock_list()?;
        let name = self.find_guid(guid)?.ok_or_else(|| {
            StorageError::new(
                MailErrorClass::NotFound,
                format!("There is no mailbox with the GUID {guid}"),
            )
        })?;
        let (storage, paths) = self.folders.locate_mailbox(&name)?;
        if self.storage.is_some() {
            self.expunge_all(&name)?;
        }
        let gone = self.delete_files(guid, &name, &storage, &paths)?;
        let is_inbox = paths.is_inbox;
        if let Err(error) = self.attributes.remove_mailbox(guid, is_inbox) {
            tracing::warn!("attributes of the deleted mailbox {name} stay behind: {error}");
        }
        if let (Some(dir), Some(alt)) = (&paths.alt_dir, self.folders.layout.alt()) {
            let _ = std::fs::remove_dir_all(dir);
            if let Some(parent) = dir.parent() {
                remove_empty(parent, alt);
            }
        }
        self.folders.remove_other_dirs(&storage, &paths);
        let layout = &self.folders.layout;
        if gone
            && layout.drops_empty_parents()
            && let Some(parent) = layout.name_dir(&storage).parent()
        {
            remove_empty(parent, &layout.list_root());
        }
        self.folders.guid_is_at(guid, None);
        self.folders.list_changed(&[(&storage, (Guid::ZERO, 0))]);
        Ok(())
    }

    /// The messages of an mdbox mailbox go first: nobody else knows what it refers to. Killed
    /// behind it: an empty mailbox, which the peer fills again or the next run deletes.
    fn expunge_all(&mut self, name: &str) -> Result<()> {
        let mut mailbox = self.open_mailbox(name, OpenMode::Write)?;
        mailbox.expunge_all()?;
        mailbox.commit().map(drop)
    }

    /// Returns whether the directory of the name went, too.
    fn delete_files(
        &self,
        guid: Guid,
        name: &str,
        storage: &[u8],
        paths: &MailboxPaths,
    ) -> Result<bool> {
        let name_dir = self.folders.layout.name_dir(storage);
        let mut index = self.index(paths)?;
        let mut locked = index.lock(INDEX_LOCK_TIMEOUT)?;
        if self.storage.is_some() && !locked.state().is_empty() {
            return Err(StorageError::new(
                MailErrorClass::Exists,
                format!("New mails were added to mailbox {name} during deletion"),
            ));
        }
        let mut mark = Transaction::new(Origin::FACT);
        mark.mark_deleted();
        locked.append(&mark)?;
        let moved = vec![(paths.box_dir.clone(), self.folders.trash()?)];
        let result = self.folders.move_all(&moved).and_then(|()| {
            let gone = !list::has_children(&name_dir, &self.folders.mapping)?
                && std::fs::remove_dir(&name_dir).is_ok();
            // Without the records the deletion would be undone by the next sync anyway.
            let logged = self.folders.log_deletion(guid, name, gone);
            logged.map(|()| gone).inspect_err(|_| {
                if gone {
                    let _ = std::fs::create_dir(&name_dir);
                }
                restore(&moved);
            })
        });
        if result.is_err() {
            let mut undelete = Transaction::new(Origin::FACT);
            undelete.mark_undeleted();
            locked.append(&undelete)?;
        }
        drop(locked);
        self.folders.empty_trash();
        result
    }
}
