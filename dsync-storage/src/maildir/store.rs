//! The list of mailboxes of a Maildir store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dsync_proto::types::{Guid, MailErrorClass};

use super::layout::Layout;
use super::list::{self, Listing};
use super::mailbox::MaildirMailbox;
use super::paths::MailboxPaths;
use super::uidlist_header;
use crate::attribute_dict::AttributeDict;
use crate::list_index::{Identity, ListIndex};
use crate::location::Location;
use crate::lock::{DotlockSettings, FileLock};
use crate::mailbox_log::MailboxLog;
use crate::names::NameMapping;
use crate::permissions::CreateModes;
use crate::{
    Created, ListEntry, Mailbox, MailboxIdentity, MailboxLogKind, MailboxLogRecord, Namespace,
    OpenMode, Result, StorageError, Store, StoreSettings, path_io, subscriptions,
};

/// Longest wait for `mailboxes.lock`.
const LIST_LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// What stands behind a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Existence {
    Missing,
    /// A directory that cannot be opened (fs layout only).
    Directory,
    Mailbox,
}

/// A Maildir store.
pub(crate) struct MaildirStore {
    pub(super) layout: Layout,
    pub(super) mapping: NameMapping,
    pub(super) settings: StoreSettings,
    pub(super) attributes: Arc<AttributeDict>,
    log: Option<MailboxLog>,
    list_index: Option<ListIndex>,
    /// Where GUIDs were seen last; checked before it is believed.
    guids: BTreeMap<Guid, String>,
    /// Storage names of vnames that do not lead to them; `None` before the first scan.
    aliases: Option<BTreeMap<String, Vec<u8>>>,
}

impl MaildirStore {
    /// Opens the store of a location. Nothing is read or created yet, but a root that must exist
    /// is looked for.
    pub(crate) fn open(
        location: &Location,
        namespace: Namespace,
        settings: &StoreSettings,
    ) -> Result<Self> {
        let layout = Layout::new(location, &namespace)?;
        if !settings.create && !layout.root().is_dir() {
            return Err(StorageError::new(
                MailErrorClass::NotFound,
                format!("mail directory {} does not exist", layout.root().display()),
            ));
        }
        Ok(Self {
            mapping: layout.mapping(location, namespace, settings),
            log: layout.index_root().map(MailboxLog::new),
            list_index: layout
                .list_index()
                .filter(|_| settings.list_index)
                .and_then(|path| ListIndex::new(&path, settings)),
            layout,
            settings: settings.clone(),
            attributes: AttributeDict::new(settings),
            guids: BTreeMap::new(),
            aliases: None,
        })
    }

    /// Takes the lock for changes of the list. The first lock of a run in this store.
    pub(super) fn lock_list(&self) -> Result<FileLock> {
        self.ensure_root()?;
        let path = self.layout.list_lock(&self.mapping.namespace.prefix);
        let modes = self.layout.root_modes();
        if let Some(dir) = path.parent() {
            create_dirs(dir, &modes)?;
        }
        let timeout = self.settings.lock_timeout(LIST_LOCK_TIMEOUT);
        FileLock::acquire(&path, &modes, self.settings.lock_method, timeout)
    }

    /// Whether a mailbox of this name may be made.
    pub(super) fn check_name(&self, name: &str) -> Result<()> {
        let storage = self.mapping.check_new_name(name)?;
        if self.layout.collides(&storage) {
            return Err(StorageError::new(
                MailErrorClass::Params,
                "Invalid mailbox name: Contains reserved name",
            ));
        }
        Ok(())
    }

    /// Creates the root directory, if that is allowed.
    pub(super) fn ensure_root(&self) -> Result<()> {
        let root = self.layout.root();
        if root.is_dir() {
            return Ok(());
        }
        if !self.settings.create {
            return Err(StorageError::new(
                MailErrorClass::NotFound,
                format!("mail directory {} does not exist", root.display()),
            ));
        }
        let parent = root.ancestors().skip(1).find_map(|dir| dir.metadata().ok());
        // Only a shared parent hands down its mode; in a home directory mail is private.
        let modes = parent
            .map(|metadata| CreateModes::from_metadata(&metadata))
            .filter(|_| {
                root.ancestors()
                    .skip(1)
                    .find(|dir| dir.exists())
                    .is_some_and(is_setgid)
            })
            .unwrap_or_default();
        create_dirs(root, &modes)
    }

    /// The storage name of a vname, which may be an alias.
    pub(super) fn locate(&mut self, name: &str) -> Result<Vec<u8>> {
        let storage = self.mapping.storage_name(name)?;
        if self.existence(&storage) != Existence::Missing {
            return Ok(storage);
        }
        let aliases = match &self.aliases {
            Some(aliases) => aliases,
            None => self.scan()?.aliases,
        };
        Ok(aliases.get(name).cloned().unwrap_or(storage))
    }

    /// The storage name and the paths of a mailbox that can be opened.
    pub(super) fn locate_mailbox(&mut self, name: &str) -> Result<(Vec<u8>, MailboxPaths)> {
        let storage = self.locate(name)?;
        if self.existence(&storage) != Existence::Mailbox {
            return Err(not_found(name));
        }
        let paths = self.layout.paths(&storage, name);
        Ok((storage, paths))
    }

    pub(super) fn existence(&self, storage: &[u8]) -> Existence {
        let box_dir = self.layout.box_dir(storage);
        let has_messages = box_dir.join("cur").is_dir();
        let name_dir = self.layout.name_dir(storage);
        let in_place = self.layout.is_fs() || self.layout.inbox_dir(storage).is_some();
        if storage.is_empty() {
            Existence::Missing
        } else if has_messages || (!in_place && name_dir.is_dir()) {
            Existence::Mailbox
        } else if self.layout.is_fs() && name_dir.is_dir() {
            Existence::Directory
        } else {
            Existence::Missing
        }
    }

    fn scan(&mut self) -> Result<ScanRef<'_>> {
        let Listing { names, aliases } = list::scan(&self.layout, &self.mapping)?;
        Ok(ScanRef {
            names,
            aliases: self.aliases.insert(aliases),
        })
    }

    /// Writes records with the present time into the mailbox log.
    pub(super) fn log(&self, records: &[(MailboxLogKind, Guid)]) -> Result<()> {
        let Some(log) = &self.log else {
            return Ok(());
        };
        let time = self.settings.clock.seconds();
        let records: Vec<_> = records
            .iter()
            .map(|&(kind, id)| MailboxLogRecord { kind, id, time })
            .collect();
        log.append(&records, &self.layout.root_modes(), self.settings.syncs())
    }

    /// Tells Dovecot's list index that the list has changed, and who these mailboxes are now.
    /// Killed before: sessions show the old list, and an old GUID is believed until the mailbox is
    /// synced by Dovecot.
    pub(super) fn list_changed(&mut self, mailboxes: &[(&[u8], Identity)]) {
        if let Some(list_index) = &mut self.list_index {
            list_index.changed(self.mapping.list_separator, mailboxes);
        }
    }

    /// Remembers where a GUID is, or that it is gone.
    pub(super) fn guid_is_at(&mut self, guid: Guid, name: Option<&str>) {
        match name {
            Some(name) => self.guids.insert(guid, self.canonical(name).to_owned()),
            None => self.guids.remove(&guid),
        };
    }

    /// Forgets what was remembered about names, because many have changed.
    pub(super) fn names_changed(&mut self) {
        self.guids.clear();
        self.aliases = None;
    }

    /// Limits of the lock on a mailbox's `dovecot-uidlist`.
    pub(super) fn uidlist_lock(&self, paths: &MailboxPaths) -> DotlockSettings {
        DotlockSettings::uidlist(&self.settings, paths.modes)
    }

    /// Forces the entries of a directory to disk.
    pub(super) fn sync_dir(&self, dir: &Path) -> Result<()> {
        if !self.settings.syncs() {
            return Ok(());
        }
        path_io::sync(dir)
    }

    fn find_name(&mut self, guid: Guid) -> Result<Option<String>> {
        if let Some(name) = self.guids.get(&guid).cloned()
            && self.known_guid(&name)? == Some(guid)
        {
            return Ok(Some(name));
        }
        self.guids.clear();
        let names: Vec<String> = self
            .scan()?
            .names
            .into_iter()
            .filter_map(|(name, selectable)| selectable.then_some(name))
            .collect();
        for name in names {
            if let Some(guid) = self.known_guid(&name)? {
                self.guids.entry(guid).or_insert(name);
            }
        }
        Ok(self.guids.get(&guid).cloned())
    }

    /// The GUID of a mailbox, if it exists and has one already.
    fn known_guid(&mut self, name: &str) -> Result<Option<Guid>> {
        match self.locate_mailbox(name) {
            Ok((_, paths)) => {
                let identity = uidlist_header::read(&paths.uidlist())?;
                Ok(identity.map(|identity| identity.guid))
            }
            Err(error) if error.class == MailErrorClass::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

struct ScanRef<'a> {
    names: BTreeMap<String, bool>,
    aliases: &'a BTreeMap<String, Vec<u8>>,
}

impl Store for MaildirStore {
    fn namespace(&self) -> &Namespace {
        &self.mapping.namespace
    }

    fn list(&mut self) -> Result<Vec<ListEntry>> {
        let names = self.scan()?.names;
        let special_use = &self.settings.special_use;
        Ok(names
            .into_iter()
            .map(|(name, selectable)| ListEntry {
                special_use: special_use.get(&name).cloned().unwrap_or_default(),
                name,
                selectable,
            })
            .collect())
    }

    fn subscriptions(&mut self) -> Result<Vec<String>> {
        subscriptions::read(&self.layout.subscriptions(), &self.mapping)
    }

    fn mailbox_log(&mut self) -> Result<Vec<MailboxLogRecord>> {
        self.log.as_ref().map_or(Ok(Vec::new()), MailboxLog::read)
    }

    fn identity(&mut self, name: &str) -> Result<MailboxIdentity> {
        let (_, paths) = self.locate_mailbox(name)?;
        if let Some(identity) = uidlist_header::read(&paths.uidlist())? {
            self.guid_is_at(identity.guid, Some(name));
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
        self.find_name(guid)
    }

    fn storage_separator(&self) -> Option<char> {
        let separator = self.mapping.list_separator;
        (separator != self.mapping.namespace.separator).then_some(separator)
    }

    fn check_new_name(&self, name: &str) -> Result<()> {
        self.check_name(name)
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
        if self.layout.is_fs() {
            self.create_plain_directory(name)
        } else {
            self.create(name, None, None)
        }
    }

    fn delete_mailbox(&mut self, guid: Guid) -> Result<()> {
        self.delete(guid)
    }

    fn delete_directory(&mut self, name: &str) -> Result<()> {
        self.delete_plain_directory(name)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        self.rename_mailbox(from, to)
    }

    fn set_subscribed(&mut self, name: &str, subscribed: bool) -> Result<bool> {
        self.ensure_root()?;
        let path = self.layout.subscriptions();
        let modes = self.layout.root_modes();
        create_dirs(self.layout.control_root(), &modes)?;
        let lock = DotlockSettings::subscriptions(&self.settings, modes);
        let sync = self.settings.syncs();
        if !subscriptions::set(&path, &self.mapping, name, subscribed, &lock, sync)? {
            return Ok(false);
        }
        // Killed here: the change stands without its time, and a peer may win over it.
        let kind = if subscribed {
            MailboxLogKind::Subscribe
        } else {
            MailboxLogKind::Unsubscribe
        };
        self.log(&[(kind, Guid::of_mailbox_name(self.canonical(name).as_bytes()))])?;
        Ok(true)
    }

    fn set_guid(&mut self, name: &str, guid: Guid) -> Result<()> {
        self.change_guid(name, guid)
    }

    fn open(&mut self, name: &str, mode: OpenMode) -> Result<Box<dyn Mailbox>> {
        let (_, paths) = self.locate_mailbox(name)?;
        let attributes = Arc::clone(&self.attributes);
        Ok(Box::new(MaildirMailbox::open(
            paths,
            &self.settings,
            attributes,
            mode,
        )?))
    }

    fn purge(&mut self) -> Result<()> {
        Ok(())
    }

    fn set_lock_timeout(&mut self, timeout: Duration) {
        self.settings.max_lock_timeout = Some(self.settings.lock_timeout(timeout));
    }
}

impl MaildirStore {
    /// The name in the spelling that counts: `INBOX` in capitals.
    pub(super) fn canonical<'a>(&self, name: &'a str) -> &'a str {
        if self.mapping.namespace.inbox && name.eq_ignore_ascii_case("INBOX") {
            "INBOX"
        } else {
            name
        }
    }
}

pub(super) fn not_found(name: &str) -> StorageError {
    StorageError::new(
        MailErrorClass::NotFound,
        format!("Mailbox doesn't exist: {name}"),
    )
}

pub(super) fn create_dirs(dir: &Path, modes: &CreateModes) -> Result<()> {
    modes
        .create_dir_all(dir)
        .map_err(|error| StorageError::io("create directory", dir, &error))
}

/// Removes a directory and its parents as long as they are empty, but never `stop`.
pub(super) fn remove_empty(dir: &Path, stop: &Path) {
    let mut dir: PathBuf = dir.to_owned();
    while dir.starts_with(stop) && dir != stop && std::fs::remove_dir(&dir).is_ok() {
        if !dir.pop() {
            return;
        }
    }
}

fn is_setgid(dir: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    dir.metadata()
        .is_ok_and(|metadata| metadata.mode() & 0o2000 != 0)
}

#[cfg(test)]
mod tests;
