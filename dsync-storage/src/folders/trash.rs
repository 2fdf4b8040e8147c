//! Taking mailboxes out of sight before their files are removed.

use std::io;
use std::path::{Path, PathBuf};

use dsync_proto::types::Guid;

use super::{Folders, MailboxPaths, create_dirs, remove_empty};
use crate::{MailboxLogKind, Result, StorageError};

/// How often the trash directory may vanish under us: Dovecot removes an old one while listing.
const TRASH_ATTEMPTS: usize = 5;

impl Folders {
    /// Writes the records of a deleted mailbox; `gone`: the directory of its name went, too.
    pub(crate) fn log_deletion(&self, guid: Guid, name: &str, gone: bool) -> Result<()> {
        let hash = Guid::of_mailbox_name(self.canonical(name).as_bytes());
        let records = [
            (MailboxLogKind::DeleteMailbox, guid),
            (MailboxLogKind::DeleteDir, hash),
        ];
        self.log(if gone { &records } else { &records[..1] })
    }

    /// A place to move a deleted directory to, in the same file system and never listed.
    pub(crate) fn trash(&self) -> Result<PathBuf> {
        let parent = self.layout.trash();
        create_dirs(&parent, &self.layout.root_modes())?;
        Ok(parent.join(self.settings.unique().temp_name()))
    }

    /// Renames directories, all of them or none.
    pub(crate) fn move_all(&self, moves: &[(PathBuf, PathBuf)]) -> Result<()> {
        for (done, (from, to)) in moves.iter().enumerate() {
            let mut result = std::fs::rename(from, to);
            for _ in 0..TRASH_ATTEMPTS {
                match &result {
                    Err(error) if error.kind() == io::ErrorKind::NotFound && from.exists() => {
                        if let Some(parent) = to.parent() {
                            create_dirs(parent, &self.layout.root_modes())?;
                        }
                        result = std::fs::rename(from, to);
                    }
                    _ => break,
                }
            }
            match result {
                // `new` or `tmp` may be missing.
                Err(error) if error.kind() == io::ErrorKind::NotFound && done > 0 => {}
                Err(error) => {
                    restore(&moves[..done]);
                    return Err(StorageError::io("move away", from, &error));
                }
                Ok(()) => {}
            }
        }
        // They all come from one directory.
        match moves.first().and_then(|(from, _)| from.parent()) {
            Some(parent) => self.sync_dir(parent),
            None => Ok(()),
        }
    }

    /// Removes everything that this or an earlier, killed deletion has moved away.
    pub(crate) fn empty_trash(&self) {
        let trash = self.layout.trash();
        if let Err(error) = std::fs::remove_dir_all(&trash)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("cannot remove {}: {error}", trash.display());
        }
    }

    /// Removes what a deleted mailbox has in other roots.
    pub(crate) fn remove_other_dirs(&self, storage: &[u8], paths: &MailboxPaths) {
        for dir in paths.other_dirs() {
            remove_files(dir);
        }
        for root in self.layout.other_roots() {
            for dir in [
                self.layout.dir_in(root, storage),
                self.layout.name_dir_in(root, storage),
            ] {
                remove_empty(&dir, root);
            }
        }
    }
}

/// Takes such renames back.
pub(crate) fn restore(moves: &[(PathBuf, PathBuf)]) {
    // In reverse, so that what makes it a mailbox comes last.
    for (from, to) in moves.iter().rev() {
        if let Err(error) = std::fs::rename(to, from)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::error!(
                "cannot move {} back to {}: {error}",
                to.display(),
                from.display()
            );
        }
    }
}

/// Removes the files of a directory; directories in it stay.
pub(crate) fn remove_files(dir: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
