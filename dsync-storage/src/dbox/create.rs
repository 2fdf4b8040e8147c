//! Making mailboxes, giving them their identity, and renaming them (`spec/dbox.md` 6, 13).

use std::path::Path;

use dsync_proto::types::{Guid, MailErrorClass};

use super::identity::{INDEX_LOCK_TIMEOUT, first_records, guid_of, identity_of, set_guid};
use super::store::DboxStore;
use crate::folders::{Existence, MailboxPaths, create_dirs, list, next_uid_validity, remove_files};
use crate::index::{ExtensionSpec, Origin, Transaction};
use crate::{Created, MailboxIdentity, Result, StorageError, Store};

impl DboxStore {
    /// The directory appears before the index in it. Killed between: a mailbox without identity,
    /// which the next creation or opening gives one.
    pub(super) fn create(
        &mut self,
        name: &str,
        guid: Option<Guid>,
        uid_validity: Option<u32>,
    ) -> Result<Created> {
        self.folders.check_name(name)?;
        let _lock = self.folders.lock_list()?;
        let storage = self.folders.locate(name)?;
        let paths = self.folders.layout.paths(&storage, name);
        if self.folders.existence(&storage) == Existence::Mailbox {
            let index = self.index(&paths)?;
            if identity_of(index.state(), self.driver).is_some() {
                return Ok(Created::Existed);
            }
        }
        let identity = self.fill(&paths, guid, uid_validity)?;
        self.folders.guid_is_at(identity.guid, Some(name));
        let known = (identity.guid, identity.uid_validity);
        self.folders.list_changed(&[(&storage, known)]);
        Ok(Created::New)
    }

    /// Makes directory and index of a mailbox that has no identity. The list must be locked.
    pub(super) fn fill(
        &mut self,
        paths: &MailboxPaths,
        guid: Option<Guid>,
        uid_validity: Option<u32>,
    ) -> Result<MailboxIdentity> {
        refuse_orphans(paths)?;
        let uid_validity = match uid_validity.filter(|value| *value != 0) {
            Some(value) => value,
            None => next_uid_validity(
                self.folders.layout.control_root(),
                &self.folders.layout.root_modes(),
                &self.folders.settings.clock,
            )?,
        };
        let guid = guid
            .filter(|guid| !guid.is_zero())
            .unwrap_or_else(|| self.folders.settings.unique().guid());
        let fresh = !paths.box_dir.is_dir();
        create_dirs(&paths.box_dir, &paths.modes)?;
        if fresh {
            // Index files of an earlier mailbox of this name would speak for the new one.
            for dir in paths.other_dirs() {
                remove_files(dir);
            }
        }
        if let Some(dir) = &paths.index_dir {
            create_dirs(dir, &paths.modes)?;
        }
        let map = match &self.storage {
            Some(storage) => storage.get().ensure()?,
            None => 0,
        };
        let first = first_records(self.driver, guid, uid_validity, map, paths.is_inbox);
        let mut index = self.index(paths)?;
        if index.exists() {
            // A log that Dovecot began and did not finish.
            let mut locked = index.lock(INDEX_LOCK_TIMEOUT)?;
            locked.append(&first)?;
            locked.finish()?;
        } else {
            index.create(&first)?;
        }
        self.sync_parents(&paths.box_dir)?;
        Ok(MailboxIdentity {
            guid,
            uid_validity,
            uid_next: index.state().header().next_uid(),
        })
    }

    fn sync_parents(&self, dir: &Path) -> Result<()> {
        for dir in dir
            .ancestors()
            .take_while(|dir| dir.starts_with(self.folders.layout.root()))
        {
            self.folders.sync_dir(dir)?;
        }
        Ok(())
    }

    /// Gives a mailbox another GUID. Its attributes follow.
    pub(super) fn change_guid(&mut self, name: &str, guid: Guid) -> Result<()> {
        if guid.is_zero() {
            return Err(StorageError::new(
                MailErrorClass::Params,
                format!("the GUID of mailbox {name} cannot be zero"),
            ));
        }
        let old = self.identity(name)?;
        if old.guid == guid {
            return Ok(());
        }
        let (storage, paths) = self.folders.locate_mailbox(name)?;
        let mut index = self.index(&paths)?;
        let mut transaction = Transaction::new(Origin::FACT);
        set_guid(&mut transaction, self.driver, guid);
        let mut locked = index.lock(INDEX_LOCK_TIMEOUT)?;
        locked.append(&transaction)?;
        locked.finish()?;
        // Killed before this: the attributes stay with the old GUID, out of sight but not lost;
        // they come back if the peer has them.
        self.attributes.change_guid(old.guid, guid)?;
        self.folders.guid_is_at(old.guid, None);
        self.folders.guid_is_at(guid, Some(name));
        self.folders
            .list_changed(&[(&storage, (guid, old.uid_validity))]);
        Ok(())
    }

    /// Renames a mailbox with its children. Killed before the stamps: a rename without time,
    /// which the mailbox log has all the same.
    pub(super) fn rename_mailbox(&mut self, from: &str, to: &str) -> Result<()> {
        if let Some(alt) = self.folders.layout.alt().map(Path::to_owned) {
            let storage = self.folders.locate(from)?;
            let dir = self.folders.layout.name_dir_in(&alt, &storage);
            if dir.is_dir() {
                return Err(StorageError::new(
                    MailErrorClass::NotPossible,
                    format!(
                        "cannot rename {from}: it has messages in the alternative storage {}, \
                         which is not supported; rename it with Dovecot",
                        dir.display()
                    ),
                ));
            }
        }
        self.folders.rename(from, to)?;
        let below = format!("{to}{}", self.folders.mapping.namespace.separator);
        for entry in self.folders.list()? {
            if entry.selectable && (entry.name == to || entry.name.starts_with(&below)) {
                self.stamp_rename(&entry.name)?;
            }
        }
        Ok(())
    }

    fn stamp_rename(&mut self, name: &str) -> Result<()> {
        let (_, paths) = self.folders.locate_mailbox(name)?;
        let mut index = self.index(&paths)?;
        if guid_of(index.state(), self.driver).is_zero() {
            return Ok(());
        }
        let now = self.folders.settings.clock.seconds() as u32;
        let mut transaction = Transaction::new(Origin::REQUEST);
        let spec = ExtensionSpec::LAST_RENAME_STAMP;
        transaction.set_extension_header(spec, 0, &now.to_le_bytes());
        let mut locked = index.lock(INDEX_LOCK_TIMEOUT)?;
        locked.append(&transaction)?;
        locked.finish()
    }
}

/// A mailbox without index that has messages has lost its index: who makes a new one hides them.
fn refuse_orphans(paths: &MailboxPaths) -> Result<()> {
    for dir in [Some(&paths.box_dir), paths.alt_dir.as_ref()]
        .into_iter()
        .flatten()
    {
        let entries = list::entries(dir)?;
        if let Some(file) = entries
            .iter()
            .find(|name| name.as_encoded_bytes().starts_with(b"u."))
        {
            return Err(StorageError::new(
                MailErrorClass::InvalidData,
                format!(
                    "mailbox {}: {} has messages, such as {}, but no index: run `doveadm \
                     force-resync` for this mailbox",
                    paths.name,
                    dir.display(),
                    file.display()
                ),
            ));
        }
    }
    Ok(())
}
