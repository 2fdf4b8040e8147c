//! Renaming mailboxes with their children (`spec/maildir.md` 7, 20 g).

use std::io;
use std::path::Path;

use dsync_proto::types::{Guid, MailErrorClass};

use super::{Existence, Folders, create_dirs, list, not_found, remove_empty};
use crate::permissions::CreateModes;
use crate::{MailboxLogKind, Result, StorageError};

impl Folders {
    /// Renames a mailbox or directory with all its children.
    pub(crate) fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        self.check_name(to)?;
        let _lock = self.lock_list()?;
        let (old, new) = (self.locate(from)?, self.locate(to)?);
        if self.layout.is_fixed(&old) {
            return Err(StorageError::new(
                MailErrorClass::NotPossible,
                "Renaming INBOX isn't supported.",
            ));
        }
        if old == new {
            return Err(exists("Can't rename mailbox to itself."));
        }
        // An INBOX that does not exist yet has its place all the same.
        if self.layout.is_fixed(&new) || self.existence(&new) != Existence::Missing {
            return Err(exists("Target mailbox already exists"));
        }
        if self.layout.is_fs() {
            self.rename_tree(from, to, &old, &new)?;
        } else {
            self.rename_flat(from, to, &old, &new)?;
        }
        self.names_changed();
        // Whoever stood under these names before is not believed any more.
        let unknown = (Guid::ZERO, 0);
        self.list_changed(&[(&old, unknown), (&new, unknown)]);
        Ok(())
    }

    /// Each mailbox is a directory of its own. Killed between two of them, the rest keeps its old
    /// names, and the next run renames them again or sees them as they are: nothing is lost.
    fn rename_flat(&self, from: &str, to: &str, old: &[u8], new: &[u8]) -> Result<()> {
        // Read before anything moves: the target may lie below the source.
        let children = list::flat_children(&self.layout, old)?;
        let main_exists = self.existence(old) == Existence::Mailbox;
        if !main_exists && children.is_empty() {
            return Err(not_found(from));
        }
        if main_exists {
            self.move_mailbox(old, new)?;
        }
        // Right behind the first step, so that it has a time even if we are killed now.
        self.log_rename(to)?;
        for child in children {
            let target = [new, &child[old.len()..]].concat();
            if self.existence(&target) != Existence::Missing {
                tracing::warn!(
                    "{:?} keeps its name: {:?} exists",
                    self.layout.name_dir(&child),
                    self.layout.name_dir(&target)
                );
                continue;
            }
            self.move_mailbox(&child, &target)?;
        }
        self.sync_dir(self.layout.root())
    }

    /// The whole tree moves with one rename.
    fn rename_tree(&self, from: &str, to: &str, old: &[u8], new: &[u8]) -> Result<()> {
        if self.existence(old) == Existence::Missing {
            return Err(not_found(from));
        }
        if new.starts_with(old) && new.get(old.len()) == Some(&b'/') {
            return Err(StorageError::new(
                MailErrorClass::NotPossible,
                "Can't rename mailbox under its own child.",
            ));
        }
        let (source, target) = (self.layout.name_dir(old), self.layout.name_dir(new));
        if let Some(parent) = target.parent() {
            create_dirs(parent, &self.layout.modes(new))?;
        }
        self.move_mailbox(old, new)?;
        self.log_rename(to)?;
        for dir in [&source, &target] {
            if let Some(parent) = dir.parent() {
                self.sync_dir(parent)?;
            }
        }
        if let Some(parent) = source.parent() {
            remove_empty(parent, &self.layout.list_root());
        }
        Ok(())
    }

    fn log_rename(&self, to: &str) -> Result<()> {
        let hash = Guid::of_mailbox_name(self.canonical(to).as_bytes());
        self.log(&[(MailboxLogKind::Rename, hash)])
    }

    /// Moves the directories of a name. UID list and index first appear under the new name too,
    /// then the mail moves, then the old ones go: whenever we are killed, the mail has its UIDs.
    fn move_mailbox(&self, old: &[u8], new: &[u8]) -> Result<()> {
        let modes = self.layout.modes(old);
        let roots = self.layout.other_roots();
        for root in &roots {
            let (source, target) = (
                self.layout.name_dir_in(root, old),
                self.layout.name_dir_in(root, new),
            );
            // What is left of an earlier mailbox, or of a rename that was killed.
            let _ = std::fs::remove_dir_all(&target);
            link_tree(&source, &target, &modes)?;
        }
        let (source, target) = (self.layout.name_dir(old), self.layout.name_dir(new));
        std::fs::rename(&source, &target)
            .map_err(|error| StorageError::io("rename", &source, &error))?;
        for root in roots {
            let dir = self.layout.name_dir_in(root, old);
            let _ = std::fs::remove_dir_all(&dir);
            if let Some(parent) = dir.parent() {
                remove_empty(parent, root);
            }
        }
        Ok(())
    }
}

/// Makes a second name for every file of a tree; a missing tree is an empty one. Lock files are
/// left out.
fn link_tree(source: &Path, target: &Path, modes: &CreateModes) -> Result<()> {
    for entry in list::entries(source)? {
        let (from, to) = (source.join(&entry), target.join(&entry));
        if from.is_dir() {
            link_tree(&from, &to, modes)?;
            continue;
        }
        if entry.as_encoded_bytes().ends_with(b".lock") {
            continue;
        }
        create_dirs(target, modes)?;
        let linked = match std::fs::hard_link(&from, &to) {
            // File systems without hard links.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                std::fs::copy(&from, &to).map(drop)
            }
            other => other,
        };
        match linked {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StorageError::io("link", &from, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn exists(message: &str) -> StorageError {
    StorageError::new(MailErrorClass::Exists, message)
}
