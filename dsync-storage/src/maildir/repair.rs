//! Files whose names cannot stay (`spec/maildir.md` 8.1, 8.5).

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use super::disk::Disk;
use super::scan::{Dir, Scan, path_of};
use crate::{Result, StorageError, path_io};

impl Disk {
    /// 8.1 and 8.5: names that cannot stay get a fresh one in `new/`; no message is deleted.
    /// Returns whether anything was changed.
    pub(super) fn repair_names(&self, scan: &Scan, duplicates: &[usize]) -> Result<bool> {
        let mut names: Vec<(Dir, &[u8])> = Vec::new();
        names.extend(
            scan.broken
                .iter()
                .map(|(dir, name)| (*dir, name.as_slice())),
        );
        for at in duplicates {
            if let Some(duplicate) = self.true_duplicate(scan, *at)? {
                names.push(duplicate);
            }
        }
        for (dir, name) in &names {
            let (dir, name) = (*dir, *name);
            let old = path_of(&self.paths.box_dir, dir, name);
            let fresh = self.unique.base_name();
            let new = path_of(&self.paths.box_dir, Dir::New, fresh.as_bytes());
            tracing::warn!(
                "renaming {} to {}: its name cannot be used",
                old.display(),
                new.display()
            );
            match fs::rename(&old, &new) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StorageError::io("rename", &old, &error));
                }
                _ => {}
            }
        }
        Ok(!scan.broken.is_empty() || !duplicates.is_empty())
    }

    /// The second file of one base name, if it is a message of its own that needs another name.
    fn true_duplicate<'s>(&self, scan: &'s Scan, at: usize) -> Result<Option<(Dir, &'s [u8])>> {
        let (Some(first), Some(second)) = (scan.get(at - 1), scan.get(at)) else {
            return Ok(None);
        };
        let [first_path, path] =
            [first, second].map(|(dir, name)| path_of(&self.paths.box_dir, dir, name));
        let metadata = [&first_path, &path].map(|path| fs::symlink_metadata(path).ok());
        let [Some(first_metadata), Some(metadata)] = metadata else {
            return Ok(None); // one file, seen before and after it was renamed
        };
        let is_same =
            first_metadata.dev() == metadata.dev() && first_metadata.ino() == metadata.ino();
        if !is_same {
            return Ok(Some(second));
        }
        if metadata.nlink() < 2 {
            return Ok(None); // renamed right now
        }
        // Two names of one file, left behind by a program that links and unlinks.
        tracing::warn!(
            "removing {}: the same file as {}",
            path.display(),
            first_path.display()
        );
        path_io::remove(&first_path)?;
        Ok(None)
    }
}
