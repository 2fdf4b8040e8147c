//! The list of mailboxes of an sdbox or mdbox store.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dsync_proto::types::Guid;

use super::bodies::{Bodies, Disk};
use super::identity::{self, INDEX_LOCK_TIMEOUT, identity_of, open_index};
use super::mailbox::DboxMailbox;
use super::multi::MultiBodies;
use super::single::SingleBodies;
use super::storage::SharedStorage;
use crate::attribute_dict::AttributeDict;
use crate::folders::{Folders, MailboxPaths};
use crate::index::{Index, Origin, Transaction};
use crate::location::{Driver, Location};
use crate::opened::Opened;
use crate::{
    Created, ListEntry, Mailbox, MailboxIdentity, MailboxLogRecord, Namespace, OpenMode, Result,
    Store, StoreSettings,
};

/// An sdbox or mdbox store.
pub(crate) struct DboxStore {
    pub(super) folders: Folders,
    pub(super) attributes: Arc<AttributeDict>,
    pub(super) driver: Driver,
    /// The files that all mailboxes share (mdbox).
    pub(super) storage: Option<SharedStorage>,
}

impl DboxStore {
    /// Opens the store of a location. Nothing is read or created yet, but a root that must exist
    /// is looked for.
    pub(crate) fn open(
        location: &Location,
        namespace: Namespace,
        settings: &StoreSettings,
    ) -> Result<Self> {
        let folders = Folders::open(location, namespace, settings)?;
        let storage = match location.driver {
            Driver::Mdbox => Some(SharedStorage::new(&folders.layout, settings)?),
            Driver::Maildir | Driver::Sdbox | Driver::Mbox => None,
        };
        Ok(Self {
            folders,
            storage,
            attributes: AttributeDict::new(settings),
            driver: location.driver,
        })
    }

    /// Opens the index of a mailbox as it is.
    pub(super) fn index(&self, paths: &MailboxPaths) -> Result<Index> {
        let dir = paths.index_dir.as_ref().unwrap_or(&paths.box_dir);
        open_index(dir, &self.folders.settings)
    }

    /// Opens the index of a mailbox that has an identity, or gets one now.
    ///
    /// A mailbox without identity was not completely created. One that is marked as deleted but
    /// still there was not completely deleted, and nobody was told of that: it lives on.
    pub(super) fn settled_index(&mut self, name: &str, paths: &MailboxPaths) -> Result<Index> {
        let index = self.index(paths)?;
        if identity_of(index.state(), self.driver).is_some() && !index.state().is_deleted() {
            return Ok(index);
        }
        let _lock = self.folders.lock_list()?;
        self.folders.locate_mailbox(name)?;
        let mut index = self.index(paths)?;
        if identity_of(index.state(), self.driver).is_none() {
            self.fill(paths, None, None)?;
            return self.index(paths);
        }
        if index.state().is_deleted() {
            tracing::warn!("mailbox {name}: its deletion was not completed and is taken back");
            let mut undelete = Transaction::new(Origin::FACT);
            undelete.mark_undeleted();
            let mut locked = index.lock(INDEX_LOCK_TIMEOUT)?;
            locked.append(&undelete)?;
            locked.finish()?;
        }
        Ok(index)
    }

    pub(super) fn disk(&self, paths: MailboxPaths) -> Disk {
        Disk {
            unique: self.folders.settings.unique(),
            settings: self.folders.settings.clone(),
            paths,
        }
    }

    pub(super) fn open_mailbox(
        &mut self,
        name: &str,
        mode: OpenMode,
    ) -> Result<Opened<DboxMailbox>> {
        let (storage_name, paths) = self.folders.locate_mailbox(name)?;
        let index = self.settled_index(name, &paths)?;
        let disk = self.disk(paths);
        let bodies: Box<dyn Bodies> = match &self.storage {
            Some(storage) => {
                let storage = storage.clone();
                Box::new(MultiBodies::new(disk.clone(), storage, storage_name))
            }
            None => Box::new(SingleBodies::new(disk.clone())),
        };
        let mailbox = DboxMailbox::new(disk, self.driver, index, bodies);
        let attributes = Arc::clone(&self.attributes);
        Ok(Opened::new(mailbox, attributes, mode))
    }
}

impl Store for DboxStore {
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
        let index = self.settled_index(name, &paths)?;
        identity::check(&index, name)?;
        let state = index.state();
        let identity = MailboxIdentity {
            guid: identity::guid_of(state, self.driver),
            uid_validity: state.header().uid_validity(),
            uid_next: state.header().next_uid(),
        };
        self.folders.guid_is_at(identity.guid, Some(name));
        Ok(identity)
    }

    fn find_guid(&mut self, guid: Guid) -> Result<Option<String>> {
        let (driver, settings) = (self.driver, self.folders.settings.clone());
        self.folders.find_guid(guid, |paths| {
            let dir = paths.index_dir.as_ref().unwrap_or(&paths.box_dir);
            let index = open_index(dir, &settings)?;
            Ok(identity_of(index.state(), driver).map(|identity| identity.guid))
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
        self.folders.create_directory(name)
    }

    fn delete_mailbox(&mut self, guid: Guid) -> Result<()> {
        self.delete(guid)
    }

    fn delete_directory(&mut self, name: &str) -> Result<()> {
        self.folders.delete_directory(name)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        self.rename_mailbox(from, to)
    }

    fn set_subscribed(&mut self, name: &str, subscribed: bool) -> Result<bool> {
        self.folders.set_subscribed(name, subscribed)
    }

    fn set_guid(&mut self, name: &str, guid: Guid) -> Result<()> {
        self.change_guid(name, guid)
    }

    fn open(&mut self, name: &str, mode: OpenMode) -> Result<Box<dyn Mailbox>> {
        Ok(Box::new(self.open_mailbox(name, mode)?))
    }

    fn index_dir(&mut self, name: &str) -> Result<Option<PathBuf>> {
        let (_, paths) = self.folders.locate_mailbox(name)?;
        Ok(paths.index_dir)
    }

    fn purge(&mut self) -> Result<()> {
        match &self.storage {
            Some(storage) => storage.get().purge(),
            None => Ok(()),
        }
    }

    fn set_lock_timeout(&mut self, timeout: Duration) {
        self.folders.set_lock_timeout(timeout);
    }
}
