//! The list of mailboxes of a Maildir store.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dsync_proto::types::Guid;

use super::mailbox::MaildirMailbox;
use super::uidlist_header;
use crate::attribute_dict::AttributeDict;
use crate::folders::{Folders, MailboxPaths};
use crate::location::Location;
use crate::lock::DotlockSettings;
use crate::{
    Created, ListEntry, Mailbox, MailboxIdentity, MailboxLogRecord, Namespace, OpenMode, Result,
    Store, StoreSettings,
};

/// A Maildir store.
pub(crate) struct MaildirStore {
    pub(super) folders: Folders,
    pub(super) attributes: Arc<AttributeDict>,
}

impl MaildirStore {
    /// Opens the store of a location. Nothing is read or created yet, but a root that must exist
    /// is looked for.
    pub(crate) fn open(
        location: &Location,
        namespace: Namespace,
        settings: &StoreSettings,
    ) -> Result<Self> {
        Ok(Self {
            folders: Folders::open(location, namespace, settings)?,
            attributes: AttributeDict::new(settings),
        })
    }

    /// Limits of the lock on a mailbox's `dovecot-uidlist`.
    pub(super) fn uidlist_lock(&self, paths: &MailboxPaths) -> DotlockSettings {
        DotlockSettings::uidlist(&self.folders.settings, paths.modes)
    }
}

impl Store for MaildirStore {
    fn namespace(&self) -> &Namespace {
        &self.folders.mapping.namespace
    }

    fn list(&mut self) -> Result<Vec<ListEntry>> {
        self.folders.list()
    }

    fn subscriptions(&mut self) -> Result<Vec<String>> {
        self.folders.subscriptions()
    }

    fn mailbox_log(&mut self) -> Result<Vec<MailboxLogRecord>> {
        self.folders.mailbox_log()
    }

    fn identity(&mut self, name: &str) -> Result<MailboxIdentity> {
        let (_, paths) = self.folders.locate_mailbox(name)?;
        if let Some(identity) = uidlist_header::read(&paths.uidlist())? {
            self.folders.guid_is_at(identity.guid, Some(name));
            return Ok(identity);
        }
        // Never synced, or damaged: the mailbox itself repairs that.
        let status = self.open(name, OpenMode::Read)?.refresh()?;
        Ok(MailboxIdentity {
            guid: status.guid,
            uid_validity: status.uid_validity,
            uid_next: status.uid_next,
        })
    }

    fn find_guid(&mut self, guid: Guid) -> Result<Option<String>> {
        self.folders.find_guid(guid, |paths| {
            let identity = uidlist_header::read(&paths.uidlist())?;
            Ok(identity.map(|identity| identity.guid))
        })
    }

    fn storage_separator(&self) -> Option<char> {
        self.folders.storage_separator()
    }

    fn check_new_name(&self, name: &str) -> Result<()> {
        self.folders.check_name(name)
    }

    fn create_mailbox(
        &mut self,
        name: &str,
        guid: Option<Guid>,
        uid_validity: Option<u32>,
    ) -> Result<Created> {
        self.create(name, guid, uid_validity)
    }

    fn create_directory(&mut self, name: &str) -> Result<Created> {
        if self.folders.layout.is_fs() {
            self.folders.create_directory(name)
        } else {
            self.create(name, None, None)
        }
    }

    fn delete_mailbox(&mut self, guid: Guid) -> Result<()> {
        self.delete(guid)
    }

    fn delete_directory(&mut self, name: &str) -> Result<()> {
        self.folders.delete_directory(name)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        self.folders.rename(from, to)
    }

    fn set_subscribed(&mut self, name: &str, subscribed: bool) -> Result<bool> {
        self.folders.set_subscribed(name, subscribed)
    }

    fn set_guid(&mut self, name: &str, guid: Guid) -> Result<()> {
        self.change_guid(name, guid)
    }

    fn open(&mut self, name: &str, mode: OpenMode) -> Result<Box<dyn Mailbox>> {
        let (_, paths) = self.folders.locate_mailbox(name)?;
        let attributes = Arc::clone(&self.attributes);
        Ok(Box::new(MaildirMailbox::open(
            paths,
            &self.folders.settings,
            attributes,
            mode,
        )?))
    }

    fn index_dir(&mut self, name: &str) -> Result<Option<PathBuf>> {
        let (_, paths) = self.folders.locate_mailbox(name)?;
        Ok(paths.index_dir)
    }

    fn purge(&mut self) -> Result<()> {
        Ok(())
    }

    fn set_lock_timeout(&mut self, timeout: Duration) {
        self.folders.set_lock_timeout(timeout);
    }
}

#[cfg(test)]
mod tests;
