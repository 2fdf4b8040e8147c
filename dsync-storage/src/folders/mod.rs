//! Mailboxes that are directories: where they lie, which there are, and what changes the list.
//! All that the formats with one directory for each mailbox share.

mod directories;
mod layout;
pub(crate) mod list;
mod paths;
mod rename;
mod trash;
mod uid_validity;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dsync_proto::types::{Guid, MailErrorClass};

pub(crate) use layout::Layout;
pub(crate) use paths::MailboxPaths;
pub(crate) use trash::{remove_files, restore};
pub(crate) use uid_validity::next_uid_validity;

use self::list::Listing;
use crate::list_index::{Identity, ListIndex};
use crate::location::Location;
use crate::lock::{DotlockSettings, FileLock};
use crate::mailbox_log::MailboxLog;
use crate::names::NameMapping;
use crate::permissions::CreateModes;
use crate::{
    ListEntry, MailboxLogKind, MailboxLogRecord, Namespace, Result, StorageError, StoreSettings,
    path_io, subscriptions,
};

/// Longest wait for `mailboxes.lock`.
const LIST_LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// What stands behind a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existence {
    Missing,
    /// A directory that cannot be opened (fs layout only).
    Directory,
    Mailbox,
}

/// The directories of a store, with what is remembered about them.
pub(crate) struct Folders {
    pub(crate) layout: Layout,
    pub(crate) mapping: NameMapping,
    pub(crate) settings: StoreSettings,
    log: Option<MailboxLog>,
    list_index: Option<ListIndex>,
    /// Where GUIDs were seen last; checked before it is believed.
    guids: BTreeMap<Guid, String>,
    /// Storage names of vnames that do not lead to them; `None` before the first scan.
    aliases: Option<BTreeMap<String, Vec<u8>>>,
}

impl Folders {
    /// The directories of a location. Nothing is read or created yet, but a root that must exist
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
            log: layout.index_root().map(|root| MailboxLog::new(&root)),
            list_index: layout
                .list_index()
                .filter(|_| settings.list_index)
                .and_then(|path| ListIndex::new(&path, settings)),
            layout,
            settings: settings.clone(),
            guids: BTreeMap::new(),
            aliases: None,
        })
    }

    /// Takes the lock for changes of the list. The first lock of a run in this store.
    pub(crate) fn lock_list(&self) -> Result<FileLock> {
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
    pub(crate) fn check_name(&self, name: &str) -> Result<()> {
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
    pub(crate) fn ensure_root(&self) -> Result<()> {
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
    pub(crate) fn locate(&mut self, name: &str) -> Result<Vec<u8>> {
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
    pub(crate) fn locate_mailbox(&mut self, name: &str) -> Result<(Vec<u8>, MailboxPaths)> {
        let mut storage = self.mapping.storage_name(name)?;
        if self.existence(&storage) != Existence::Mailbox {
            storage = self.locate(name)?;
            if self.existence(&storage) != Existence::Mailbox {
                return Err(not_found(name));
            }
        }
        let paths = self.layout.paths(&storage, name);
        Ok((storage, paths))
    }

    pub(crate) fn existence(&self, storage: &[u8]) -> Existence {
        if self.layout.is_mbox() {
            return match std::fs::metadata(self.layout.box_dir(storage)) {
                _ if storage.is_empty() => Existence::Missing,
                Ok(meta) if meta.is_dir() => Existence::Directory,
                Ok(_) => Existence::Mailbox,
                Err(_) => Existence::Missing,
            };
        }
        let has_messages = self.layout.message_dir(storage).is_dir();
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
    pub(crate) fn log(&self, records: &[(MailboxLogKind, Guid)]) -> Result<()> {
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
    pub(crate) fn list_changed(&mut self, mailboxes: &[(&[u8], Identity)]) {
        if let Some(list_index) = &mut self.list_index {
            list_index.changed(self.mapping.list_separator, mailboxes);
        }
    }

    /// Remembers where a GUID is, or that it is gone.
    pub(crate) fn guid_is_at(&mut self, guid: Guid, name: Option<&str>) {
        match name {
            Some(name) => self.guids.insert(guid, self.canonical(name).to_owned()),
            None => self.guids.remove(&guid),
        };
    }

    /// Forgets what was remembered about names, because many have changed.
    pub(crate) fn names_changed(&mut self) {
        self.guids.clear();
        self.aliases = None;
    }

    /// Limits the wait for any lock.
    pub(crate) fn set_lock_timeout(&mut self, timeout: Duration) {
        self.settings.max_lock_timeout = Some(self.settings.lock_timeout(timeout));
    }

    /// Forces the entries of a directory to disk.
    pub(crate) fn sync_dir(&self, dir: &Path) -> Result<()> {
        if !self.settings.syncs() {
            return Ok(());
        }
        path_io::sync(dir)
    }

    /// The name of the mailbox with this GUID. `guid_at` tells the GUID of the mailbox at these
    /// paths, if it has one already.
    pub(crate) fn find_guid(
        &mut self,
        guid: Guid,
        guid_at: impl Fn(&MailboxPaths) -> Result<Option<Guid>>,
    ) -> Result<Option<String>> {
        if let Some(name) = self.guids.get(&guid).cloned()
            && self.known_guid(&name, &guid_at)? == Some(guid)
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
            if let Some(guid) = self.known_guid(&name, &guid_at)? {
                self.guids.entry(guid).or_insert(name);
            }
        }
        Ok(self.guids.get(&guid).cloned())
    }

    fn known_guid(
        &mut self,
        name: &str,
        guid_at: impl Fn(&MailboxPaths) -> Result<Option<Guid>>,
    ) -> Result<Option<Guid>> {
        match self.locate_mailbox(name) {
            Ok((_, paths)) => guid_at(&paths),
            Err(error) if error.class == MailErrorClass::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All names, as [`crate::Store::list`] gives them.
    pub(crate) fn list(&mut self) -> Result<Vec<ListEntry>> {
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

    /// Subscribed names.
    pub(crate) fn subscriptions(&self) -> Result<Vec<String>> {
        subscriptions::read(&self.layout.subscriptions(), &self.mapping)
    }

    /// The mailbox log.
    pub(crate) fn mailbox_log(&self) -> Result<Vec<MailboxLogRecord>> {
        self.log.as_ref().map_or(Ok(Vec::new()), MailboxLog::read)
    }

    /// The separator of names on disk, if it differs from the namespace's.
    pub(crate) fn storage_separator(&self) -> Option<char> {
        let separator = self.mapping.list_separator;
        (separator != self.mapping.namespace.separator).then_some(separator)
    }

    /// Subscribes or unsubscribes; `false` if it was so already.
    pub(crate) fn set_subscribed(&mut self, name: &str, subscribed: bool) -> Result<bool> {
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

    /// The name in the spelling that counts: `INBOX` in capitals.
    pub(crate) fn canonical<'a>(&self, name: &'a str) -> &'a str {
        if self.mapping.namespace.inbox && name.eq_ignore_ascii_case("INBOX") {
            "INBOX"
        } else {
            name
        }
    }
}

pub(crate) fn not_found(name: &str) -> StorageError {
    StorageError::new(
        MailErrorClass::NotFound,
        format!("Mailbox doesn't exist: {name}"),
    )
}

pub(crate) fn create_dirs(dir: &Path, modes: &CreateModes) -> Result<()> {
    modes
        .create_dir_all(dir)
        .map_err(|error| StorageError::io("create directory", dir, &error))
}

/// Removes a directory and its parents as long as they are empty, but never `stop`.
pub(crate) fn remove_empty(dir: &Path, stop: &Path) {
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

struct ScanRef<'a> {
    names: BTreeMap<String, bool>,
    aliases: &'a BTreeMap<String, Vec<u8>>,
}
