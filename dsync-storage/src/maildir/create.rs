//! Making mailboxes and giving them their identity (`spec/maildir.md` 7, 20 e, 20 d).

use std::fs::{File, FileTimes};
use std::io::{self, Write};
use std::path::Path;
use std::time::SystemTime;

use dsync_proto::types::{Guid, MailErrorClass};

use super::disk::{MAX_UIDLIST, read_limited};
use super::store::MaildirStore;
use super::uidlist::UidList;
use crate::folders::{Existence, MailboxPaths, create_dirs, next_uid_validity, remove_files};
use crate::lock::Dotlock;
use crate::permissions::CreateModes;
use crate::{Created, OpenMode, Result, StorageError, Store};

const MARKER: &str = "maildirfolder";
const SHARED: &str = "dovecot-shared";

impl MaildirStore {
    pub(super) fn create(
        &mut self,
        name: &str,
        guid: Option<Guid>,
        uid_validity: Option<u32>,
    ) -> Result<Created> {
        self.folders.check_name(name)?;
        let _lock = self.folders.lock_list()?;
        let storage = self.folders.locate(name)?;
        if self.folders.existence(&storage) == Existence::Mailbox
            && !self.is_empty_leftover(&storage)
        {
            return Ok(Created::Existed);
        }
        let paths = self.folders.layout.paths(&storage, name);
        let identity = self.new_identity(guid, uid_validity)?;
        let beside = self.folders.layout.is_maildir_plus_plus()
            && self.folders.layout.inbox_dir(&storage).is_none();
        let created = if beside {
            self.build_beside(&paths, &identity)?
        } else {
            self.build_in_place(&paths, &identity)?;
            Created::New
        };
        if created == Created::New {
            self.folders.guid_is_at(identity.guid, Some(name));
            self.folders
                .list_changed(&[(&storage, (identity.guid, identity.uid_validity))]);
        }
        Ok(created)
    }

    /// An empty directory: what a killed creation of Dovecot leaves. It has no identity to keep.
    fn is_empty_leftover(&self, storage: &[u8]) -> bool {
        let beside = self.folders.layout.is_maildir_plus_plus()
            && self.folders.layout.inbox_dir(storage).is_none();
        beside
            && std::fs::read_dir(self.folders.layout.name_dir(storage))
                .is_ok_and(|mut entries| entries.next().is_none())
    }

    /// A UID list without messages. A missing or impossible UIDVALIDITY comes from the counter.
    pub(super) fn new_identity(
        &self,
        guid: Option<Guid>,
        uid_validity: Option<u32>,
    ) -> Result<UidList> {
        let uid_validity = match uid_validity.filter(|value| *value != 0) {
            Some(value) => value,
            None => next_uid_validity(
                self.folders.layout.control_root(),
                &self.folders.layout.root_modes(),
                &self.folders.settings.clock,
            )?,
        };
        let mut list = UidList::default();
        list.uid_validity = uid_validity;
        list.stored_next = 1;
        list.guid = guid
            .filter(|guid| !guid.is_zero())
            .unwrap_or_else(|| self.folders.settings.unique().guid());
        Ok(list)
    }

    /// Maildir++: the mailbox appears complete, by one rename.
    fn build_beside(&self, paths: &MailboxPaths, identity: &UidList) -> Result<Created> {
        let temp_name = format!("temp.{}", self.folders.settings.unique().temp_name());
        let temp = self.folders.layout.root().join(temp_name);
        let built = self.build_temp(&temp, paths, identity).and_then(|()| {
            // Killed before this rename: a directory `temp.*` stays, which nobody lists.
            // Killed after it: the mailbox is complete.
            match std::fs::rename(&temp, &paths.box_dir) {
                Ok(()) => Ok(Created::New),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                    ) =>
                {
                    Ok(Created::Existed)
                }
                Err(error) => Err(StorageError::io("create mailbox", &paths.box_dir, &error)),
            }
        });
        if !matches!(built, Ok(Created::New)) {
            let _ = std::fs::remove_dir_all(&temp);
            return built;
        }
        self.folders.sync_dir(self.folders.layout.root())?;
        Ok(Created::New)
    }

    fn build_temp(&self, temp: &Path, paths: &MailboxPaths, identity: &UidList) -> Result<()> {
        create_dirs(temp, &paths.modes)?;
        for name in ["cur", "new", "tmp"] {
            create_dirs(&temp.join(name), &paths.modes)?;
        }
        create_empty(&temp.join(MARKER), &paths.modes)?;
        self.mark_shared(temp, &paths.modes)?;
        self.clear_other_dirs(paths);
        if paths.control_dir == paths.box_dir {
            self.write_uidlist(temp, &paths.modes, identity)
        } else {
            create_dirs(&paths.control_dir, &paths.modes)?;
            self.write_uidlist(&paths.control_dir, &paths.modes, identity)
        }
    }

    /// INBOX and the other layouts: `cur` is made last, because it is what makes a directory a
    /// mailbox. Killed before: no mailbox yet, and the next creation fills it up.
    fn build_in_place(&self, paths: &MailboxPaths, identity: &UidList) -> Result<()> {
        create_dirs(&paths.box_dir, &paths.modes)?;
        self.clear_other_dirs(paths);
        create_dirs(&paths.control_dir, &paths.modes)?;
        // Somebody may deliver the first mail at this moment.
        let _lock = Dotlock::acquire(&paths.uidlist(), &self.uidlist_lock(paths))?;
        if self.folders.layout.is_maildir_plus_plus() {
            create_empty(&paths.box_dir.join(MARKER), &paths.modes)?;
        }
        if !paths.is_inbox {
            self.mark_shared(&paths.box_dir, &paths.modes)?;
        }
        self.write_uidlist(&paths.control_dir, &paths.modes, identity)?;
        for name in ["new", "tmp", "cur"] {
            create_dirs(&paths.box_dir.join(name), &paths.modes)?;
        }
        self.folders.sync_dir(&paths.box_dir)?;
        match paths.box_dir.parent() {
            Some(parent) => self.folders.sync_dir(parent),
            None => Ok(()),
        }
    }

    fn mark_shared(&self, dir: &Path, modes: &CreateModes) -> Result<()> {
        if self.folders.layout.root().join(SHARED).exists() {
            create_empty(&dir.join(SHARED), modes)?;
        }
        Ok(())
    }

    /// Index files that an earlier mailbox of this name left behind would speak for the new one.
    fn clear_other_dirs(&self, paths: &MailboxPaths) {
        for dir in paths.other_dirs() {
            remove_files(dir);
        }
    }

    /// Writes a UID list in one step. The caller holds its lock, or nobody knows the mailbox yet.
    pub(super) fn write_uidlist(
        &self,
        dir: &Path,
        modes: &CreateModes,
        list: &UidList,
    ) -> Result<()> {
        let temp = dir.join("dovecot-uidlist.tmp");
        let path = dir.join("dovecot-uidlist");
        let write = || -> io::Result<()> {
            let mut file = modes.create_truncated(&temp)?;
            file.write_all(&list.encode())?;
            if self.folders.settings.syncs() {
                file.sync_all()?;
            }
            // Killed before the rename: the old file stands, the temporary one is overwritten
            // by the next writer.
            std::fs::rename(&temp, &path)
        };
        write().map_err(|error| StorageError::io("write", &path, &error))?;
        self.folders.sync_dir(dir)
    }

    /// Gives a mailbox another GUID. Its messages keep their UIDs; its attributes follow.
    pub(super) fn change_guid(&mut self, name: &str, guid: Guid) -> Result<()> {
        if guid.is_zero() {
            return Err(StorageError::new(
                MailErrorClass::Params,
                format!("the GUID of mailbox {name} cannot be zero"),
            ));
        }
        let old = self.identity(name)?.guid;
        if old == guid {
            return Ok(());
        }
        let (storage, paths) = self.folders.locate_mailbox(name)?;
        let uidlist = paths.uidlist();
        let uid_validity = {
            let lock = Dotlock::acquire(&uidlist, &self.uidlist_lock(&paths))?;
            let mut list = read_uidlist(&uidlist)?;
            if !list.damage.is_empty() || list.uid_validity == 0 {
                // Let the mailbox repair it first, which takes the lock itself.
                drop(lock);
                self.open(name, OpenMode::Read)?.refresh()?;
                return Err(StorageError::new(
                    MailErrorClass::Temporary,
                    format!(
                        "{} was damaged and is repaired now; run again",
                        uidlist.display()
                    ),
                ));
            }
            list.guid = guid;
            list.stored_next = list.next_uid();
            lock.verify()?;
            self.write_uidlist(&paths.control_dir, &paths.modes, &list)?;
            // Killed before this: Dovecot sees the new GUID only after the next change.
            touch(&paths.box_dir.join("cur"))?;
            list.uid_validity
        };
        // Killed before this: the attributes stay with the old GUID, out of sight but not lost;
        // they come back if the peer has them.
        self.attributes.change_guid(old, guid)?;
        self.folders.guid_is_at(old, None);
        self.folders.guid_is_at(guid, Some(name));
        self.folders
            .list_changed(&[(&storage, (guid, uid_validity))]);
        Ok(())
    }
}

fn read_uidlist(path: &Path) -> Result<UidList> {
    match read_limited(path, MAX_UIDLIST)? {
        Some((_, bytes)) => Ok(UidList::parse(&bytes)),
        None => {
            let missing = io::ErrorKind::NotFound.into();
            Err(StorageError::io("read", path, &missing))
        }
    }
}

/// Lets Dovecot see that something about a mailbox has changed (`spec/maildir.md` 20 R7).
fn touch(dir: &Path) -> Result<()> {
    File::open(dir)
        .and_then(|dir| dir.set_times(FileTimes::new().set_modified(SystemTime::now())))
        .map_err(|error| StorageError::io("touch", dir, &error))
}

fn create_empty(path: &Path, modes: &CreateModes) -> Result<()> {
    match modes.create_new(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(StorageError::io("create", path, &error))
        }
        _ => Ok(()),
    }
}
