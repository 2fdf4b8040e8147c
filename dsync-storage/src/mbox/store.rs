//! The list of mailboxes of an mbox store (`spec/mbox.md` 1, 9 e to g).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dsync_proto::types::{Guid, MailErrorClass};

use super::headers::{Base, pseudo_message};
use super::locks::LockedFile;
use super::mailbox::{INDEX_LOCK_TIMEOUT, MboxMailbox, open_index};
use super::records::{guid_of, set_guid};
use crate::attribute_dict::AttributeDict;
use crate::folders::{
    Existence, Folders, MailboxPaths, create_dirs, next_uid_validity, remove_empty,
};
use crate::index::{Origin, Transaction};
use crate::location::Location;
use crate::opened::Opened;
use crate::{
    Created, ListEntry, Mailbox, MailboxIdentity, MailboxLogKind, MailboxLogRecord, Namespace,
    OpenMode, Result, StorageError, Store, StoreSettings,
};

/// An mbox store.
pub(crate) struct MboxStore {
    folders: Folders,
    attributes: Arc<AttributeDict>,
}

impl MboxStore {
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

    fn open_mailbox(&mut self, name: &str, mode: OpenMode) -> Result<Opened<MboxMailbox>> {
        let (_, paths) = self.folders.locate_mailbox(name)?;
        let mailbox = MboxMailbox::new(paths, &self.folders.settings)?;
        let attributes = Arc::clone(&self.attributes);
        Ok(Opened::new(mailbox, attributes, mode))
    }

    /// The file appears complete, under a name that is not listed before. Killed before the index
    /// is there: a mailbox whose GUID is chosen when it is opened, and which the peer renames or
    /// fills like any other.
    fn create(
        &mut self,
        name: &str,
        guid: Option<Guid>,
        uid_validity: Option<u32>,
    ) -> Result<Created> {
        self.folders.check_name(name)?;
        let _lock = self.folders.lock_list()?;
        let storage = self.folders.locate(name)?;
        match self.folders.existence(&storage) {
            Existence::Mailbox => return Ok(Created::Existed),
            Existence::Directory => {
                return Err(StorageError::new(
                    MailErrorClass::NotPossible,
                    format!(
                        "cannot create mailbox {name}: in an mbox store a name with children cannot \
                         hold messages"
                    ),
                ));
            }
            Existence::Missing => {}
        }
        self.refuse_below_mailbox(name, &storage)?;
        let paths = self.folders.layout.paths(&storage, name);
        let uid_validity = match uid_validity.filter(|value| *value != 0) {
            Some(value) => value,
            None => next_uid_validity(
                &self.folders.layout.uid_validity_root(),
                &self.folders.layout.root_modes(),
                &self.folders.settings.clock,
            )?,
        };
        let guid = guid.filter(|guid| !guid.is_zero());
        let guid = guid.unwrap_or_else(|| self.folders.settings.unique().guid());
        let index_dir = index_dir(&paths)?;
        create_dirs(&index_dir, &paths.modes)?;
        // Index files of an earlier mailbox of this name would speak for the new one.
        crate::folders::remove_files(&index_dir);
        if let Some(parent) = paths.box_dir.parent() {
            create_dirs(parent, &paths.modes)?;
        }
        let base = Base {
            uid_validity,
            ..Base::default()
        };
        let settings = &self.folders.settings;
        let bytes = pseudo_message(&base, settings.clock.seconds(), &settings.hostname);
        let created = self
            .make_file(&paths, &index_dir, &bytes)
            .map_err(|error| StorageError::io("create mailbox", &paths.box_dir, &error))?;
        if !created {
            return Ok(Created::Existed);
        }
        let mut first = Transaction::new(Origin::FACT);
        first.set_uid_validity(uid_validity);
        set_guid(&mut first, guid);
        first.enable_modseqs();
        open_index(&index_dir, settings)?.create(&first)?;
        if let Some(parent) = paths.box_dir.parent() {
            self.folders.sync_dir(parent)?;
        }
        self.folders.guid_is_at(guid, Some(name));
        self.folders
            .list_changed(&[(&storage, (guid, uid_validity))]);
        Ok(Created::New)
    }

    fn make_file(&self, paths: &MailboxPaths, index_dir: &Path, bytes: &[u8]) -> io::Result<bool> {
        let temp = index_dir.join(self.folders.settings.unique().temp_name());
        let write = || -> io::Result<()> {
            let mut file = paths.modes.create_new(&temp)?;
            file.write_all(bytes)?;
            match self.folders.settings.syncs() {
                true => file.sync_data(),
                false => Ok(()),
            }
        };
        // A hard link does not replace what somebody delivers at this moment.
        let linked = write().and_then(|()| fs::hard_link(&temp, &paths.box_dir));
        let linked = match linked {
            // The index is in another file system.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                let made = paths.modes.create_new(&paths.box_dir);
                made.and_then(|mut file| file.write_all(bytes))
            }
            other => other,
        };
        let _ = fs::remove_file(&temp);
        match linked {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A file has no children.
    fn refuse_below_mailbox(&self, name: &str, storage: &[u8]) -> Result<()> {
        let mut parent = storage;
        while let Some(end) = memchr::memrchr(b'/', parent) {
            parent = &parent[..end];
            if self.folders.layout.name_dir(parent).is_file() {
                return Err(StorageError::new(
                    MailErrorClass::NotPossible,
                    format!(
                        "cannot create mailbox {name}: {} is a file with messages, and mbox \
                         mailboxes cannot have children",
                        self.folders.layout.name_dir(parent).display()
                    ),
                ));
            }
        }
        Ok(())
    }

    /// The order: the file goes, while it is locked; the log records; the index. Killed before the
    /// records, the peer may send the mailbox again: nothing is lost. Killed after them, index
    /// files stay, which the next mailbox of this name removes.
    fn delete(&mut self, guid: Guid) -> Result<()> {
        let _lock = self.folders.lock_list()?;
        let name = self.find_guid(guid)?.ok_or_else(|| {
            StorageError::new(
                MailErrorClass::NotFound,
                format!("There is no mailbox with the GUID {guid}"),
            )
        })?;
        let (storage, paths) = self.folders.locate_mailbox(&name)?;
        let locked = LockedFile::write(&paths.box_dir, &self.folders.settings)?;
        fs::remove_file(&paths.box_dir)
            .map_err(|error| StorageError::io("remove", &paths.box_dir, &error))?;
        if let Some(parent) = paths.box_dir.parent() {
            self.folders.sync_dir(parent)?;
        }
        drop(locked);
        self.folders.log_deletion(guid, &name, true)?;
        if let Err(error) = self.attributes.remove_mailbox(guid, paths.is_inbox) {
            tracing::warn!("attributes of the deleted mailbox {name} stay behind: {error}");
        }
        let index_dir = index_dir(&paths)?;
        crate::folders::remove_files(&index_dir);
        if let Some(imap) = index_dir.parent() {
            let _ = fs::remove_dir(&index_dir);
            let _ = fs::remove_dir(imap);
        }
        if self.folders.layout.drops_empty_parents()
            && let Some(parent) = paths.box_dir.parent()
        {
            remove_empty(parent, &self.folders.layout.list_root());
        }
        self.folders.guid_is_at(guid, None);
        self.folders.list_changed(&[(&storage, (Guid::ZERO, 0))]);
        Ok(())
    }

    /// File first, then its index, under the locks of list and file. Killed between: the index
    /// comes too late, and the mailbox has a new GUID with the same messages.
    fn rename_file(&mut self, from: &str, to: &str) -> Result<()> {
        self.folders.check_name(to)?;
        let lock = self.folders.lock_list()?;
        let (old, new) = (self.folders.locate(from)?, self.folders.locate(to)?);
        let exists = |text: &str| StorageError::new(MailErrorClass::Exists, text);
        if self.folders.layout.is_fixed(&old) {
            return Err(StorageError::new(
                MailErrorClass::NotPossible,
                "Renaming INBOX isn't supported.",
            ));
        }
        if old == new {
            return Err(exists("Can't rename mailbox to itself."));
        }
        if self.folders.layout.is_fixed(&new) || self.folders.existence(&new) != Existence::Missing
        {
            return Err(exists("Target mailbox already exists"));
        }
        if new.starts_with(&old) && new.get(old.len()) == Some(&b'/') {
            return Err(StorageError::new(
                MailErrorClass::NotPossible,
                "Can't rename mailbox under its own child.",
            ));
        }
        self.refuse_below_mailbox(to, &new)?;
        let kind = self.folders.existence(&old);
        let (source, target) = (
            self.folders.layout.name_dir(&old),
            self.folders.layout.name_dir(&new),
        );
        let (paths, new_paths) = (
            self.folders.layout.paths(&old, from),
            self.folders.layout.paths(&new, to),
        );
        let locked = match kind {
            Existence::Missing => return Err(crate::folders::not_found(from)),
            Existence::Mailbox => Some(LockedFile::write(&source, &self.folders.settings)?),
            Existence::Directory => None,
        };
        if let Some(parent) = target.parent() {
            create_dirs(parent, &paths.modes)?;
        }
        let rename = |from: &Path, to: &Path| {
            fs::rename(from, to).map_err(|error| StorageError::io("rename", from, &error))
        };
        rename(&source, &target)?;
        if locked.is_some() {
            let (from_dir, to_dir) = (index_dir(&paths)?, index_dir(&new_paths)?);
            if from_dir.is_dir() {
                if let Some(parent) = to_dir.parent() {
                    create_dirs(parent, &paths.modes)?;
                }
                let _ = fs::remove_dir_all(&to_dir);
                rename(&from_dir, &to_dir)?;
                from_dir.parent().map(fs::remove_dir);
            }
        } else {
            // Indexes of a tree lie in it, but for INDEX.
            for root in self.folders.layout.other_roots() {
                let (from_dir, to_dir) = (
                    self.folders.layout.name_dir_in(root, &old),
                    self.folders.layout.name_dir_in(root, &new),
                );
                if from_dir.is_dir() {
                    if let Some(parent) = to_dir.parent() {
                        create_dirs(parent, &paths.modes)?;
                    }
                    rename(&from_dir, &to_dir)?;
                }
            }
        }
        drop(locked);
        let hash = Guid::of_mailbox_name(self.folders.canonical(to).as_bytes());
        self.folders.log(&[(MailboxLogKind::Rename, hash)])?;
        for dir in [source.parent(), target.parent()].into_iter().flatten() {
            self.folders.sync_dir(dir)?;
        }
        if let Some(parent) = source.parent() {
            remove_empty(parent, &self.folders.layout.list_root());
        }
        self.folders.names_changed();
        let unknown = (Guid::ZERO, 0);
        self.folders
            .list_changed(&[(&old, unknown), (&new, unknown)]);
        drop(lock);
        Ok(())
    }

    fn change_guid(&mut self, name: &str, guid: Guid) -> Result<()> {
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
        let mut index = open_index(&index_dir(&paths)?, &self.folders.settings)?;
        let mut transaction = Transaction::new(Origin::FACT);
        set_guid(&mut transaction, guid);
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
}

fn index_dir(paths: &MailboxPaths) -> Result<PathBuf> {
    paths.index_dir.clone().ok_or_else(|| {
        StorageError::new(
            MailErrorClass::NotPossible,
            "INDEX=MEMORY cannot be used with mbox: GUIDs are kept in the index only",
        )
    })
}

/// Whether a file can be an mbox: only then it is listed.
fn looks_like_mbox(path: &Path) -> bool {
    let mut start = [0; 5];
    let read = File::open(path).and_then(|mut file| {
        let size = file.metadata()?.len();
        if size == 0 {
            return Ok(true);
        }
        io::Read::read_exact(&mut file, &mut start)?;
        Ok(start == super::from_line::FROM)
    });
    // What cannot be read at all fails when it is opened, and is not forgotten.
    match read {
        Ok(looks) => looks,
        Err(error) => error.kind() != io::ErrorKind::UnexpectedEof,
    }
}

impl Store for MboxStore {
    fn namespace(&self) -> &Namespace {
        &self.folders.mapping.namespace
    }

    fn list(&mut self) -> Result<Vec<ListEntry>> {
        let mut entries = self.folders.list()?;
        let mut kept = Vec::with_capacity(entries.len());
        for entry in entries.drain(..) {
            if entry.selectable {
                let (_, paths) = self.folders.locate_mailbox(&entry.name)?;
                if !looks_like_mbox(&paths.box_dir) {
                    tracing::warn!(
                        "leaving out {}: it is no mbox file",
                        paths.box_dir.display()
                    );
                    continue;
                }
            }
            kept.push(entry);
        }
        Ok(kept)
    }

    fn subscriptions(&mut self) -> Result<Vec<String>> {
        self.folders.subscriptions()
    }

    fn mailbox_log(&mut self) -> Result<Vec<MailboxLogRecord>> {
        self.folders.mailbox_log()
    }

    fn identity(&mut self, name: &str) -> Result<MailboxIdentity> {
        let status = self.open_mailbox(name, OpenMode::Read)?.refresh()?;
        self.folders.guid_is_at(status.guid, Some(name));
        Ok(MailboxIdentity {
            guid: status.guid,
            uid_validity: status.uid_validity,
            uid_next: status.uid_next,
        })
    }

    fn find_guid(&mut self, guid: Guid) -> Result<Option<String>> {
        let settings = self.folders.settings.clone();
        self.folders.find_guid(guid, |paths| {
            let index = open_index(&index_dir(paths)?, &settings)?;
            let guid = guid_of(index.state());
            Ok((!guid.is_zero()).then_some(guid))
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
        let storage = self.folders.mapping.storage_name(name)?;
        self.refuse_below_mailbox(name, &storage)?;
        self.folders.create_directory(name)
    }

    fn delete_mailbox(&mut self, guid: Guid) -> Result<()> {
        self.delete(guid)
    }

    fn delete_directory(&mut self, name: &str) -> Result<()> {
        self.folders.delete_directory(name)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        self.rename_file(from, to)
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
        Ok(())
    }

    fn set_lock_timeout(&mut self, timeout: Duration) {
        self.folders.set_lock_timeout(timeout);
    }
}
