//! Where the parts of one mailbox lie (`spec/maildir.md` 2).

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::create_dirs;
use crate::lock::FileLock;
use crate::permissions::CreateModes;
use crate::{Result, StorageError, StoreSettings};

/// Paths of one mailbox, and what else the store knows about it. Made by the store, used by the
/// mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MailboxPaths {
    /// Full name as users see it.
    pub(crate) name: String,
    /// Directory that holds `cur`, `new` and `tmp`.
    pub(crate) box_dir: PathBuf,
    /// Directory of `dovecot-uidlist` and `dovecot-keywords`.
    pub(crate) control_dir: PathBuf,
    /// Directory of `dovecot.index*`; `None` for `INDEX=MEMORY`.
    pub(crate) index_dir: Option<PathBuf>,
    /// Directory of `dovecot.index.pvt*`, if there is one (`INDEXPVT`).
    pub(crate) private_index_dir: Option<PathBuf>,
    /// Directory of the UIDVALIDITY counter, see [`super::uid_validity`].
    pub(crate) control_root: PathBuf,
    /// Lock file that keeps other sync runs away; `None` without index directory.
    pub(crate) sync_lock: Option<PathBuf>,
    /// `\Seen` is kept in the index only, never in file names (`spec/maildir.md` 6).
    pub(crate) private_seen: bool,
    /// Directory of messages in the alternative storage (dbox with `ALT`).
    pub(crate) alt_dir: Option<PathBuf>,
    /// It is the INBOX of its namespace.
    pub(crate) is_inbox: bool,
    /// Mode and group for new files and directories in it.
    pub(crate) modes: CreateModes,
}

impl MailboxPaths {
    /// The UID list.
    pub(crate) fn uidlist(&self) -> PathBuf {
        self.control_dir.join("dovecot-uidlist")
    }

    /// Takes the lock that keeps other sync runs from this mailbox; `None` without index files.
    pub(crate) fn lock_for_sync(
        &self,
        settings: &StoreSettings,
        timeout: Duration,
    ) -> Result<Option<FileLock>> {
        let Some(path) = &self.sync_lock else {
            return Ok(None);
        };
        if let Some(dir) = path.parent() {
            create_dirs(dir, &self.modes)?;
        }
        let timeout = settings.lock_timeout(timeout);
        let lock = FileLock::acquire(path, &self.modes, settings.lock_method, timeout);
        lock.map(Some).map_err(|error| {
            let name = &self.name;
            let text = format!("Failed to lock mailbox {name} for dsyncing: {error}");
            StorageError::new(error.class, text)
        })
    }

    /// Directories of this mailbox beside its box directory, each once.
    pub(crate) fn other_dirs(&self) -> Vec<&Path> {
        let mut dirs: Vec<&Path> = Vec::new();
        let candidates = [
            Some(&self.control_dir),
            self.index_dir.as_ref(),
            self.private_index_dir.as_ref(),
        ];
        for dir in candidates.into_iter().flatten() {
            if *dir != self.box_dir && !dirs.contains(&dir.as_path()) {
                dirs.push(dir);
            }
        }
        dirs
    }
}
