//! Which directories are mailboxes (`spec/maildir.md` 5).
//!
//! Names on disk that Dovecot would not have made are shown as long as a valid and free vname can
//! stand for them: raw bytes as they are, with U+FFFD for what is not UTF-8. Such a vname is an
//! *alias*: the store remembers the directory behind it. Nothing is renamed (Dovecot would do that
//! while listing). All else is left out with a warning that names the directory.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::DirEntry;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::layout::{Layout, is_hidden_in_mbox};
use crate::names::NameMapping;
use crate::{Result, StorageError};

/// Deepest tree that is listed; symlinks can make loops.
const MAX_DEPTH: usize = 64;

/// What a scan found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listing {
    /// All names: whether each can be opened.
    pub(crate) names: BTreeMap<String, bool>,
    /// The names whose storage name does not follow from them.
    pub(crate) aliases: BTreeMap<String, Vec<u8>>,
}

/// Scans the directories of a store. A missing root holds nothing.
pub(crate) fn scan(layout: &Layout, mapping: &NameMapping) -> Result<Listing> {
    let mut found = Vec::new();
    let inbox_marker = layout.selectable_marker(b"INBOX");
    if layout.inbox_dir(b"INBOX").is_some() && inbox_marker.exists() {
        found.push((b"INBOX".to_vec(), true));
    }
    if layout.is_fs() {
        scan_tree(layout, mapping, &layout.list_root(), &[], 0, &mut found)?;
    } else {
        scan_flat(layout, &mut found)?;
    }
    Ok(name_all(layout, mapping, found))
}

/// Gives vnames to storage names: first those that Dovecot would give them, then aliases.
fn name_all(layout: &Layout, mapping: &NameMapping, mut found: Vec<(Vec<u8>, bool)>) -> Listing {
    // The order of the directory must not decide which of two names is shown.
    found.sort();
    let mut listing = Listing::default();
    let mut inexact = Vec::new();
    for (storage, selectable) in found {
        match mapping.vname(&storage) {
            Some((vname, true)) => {
                listing.names.insert(vname, selectable);
            }
            Some((vname, false)) => inexact.push((storage, vname, selectable)),
            None => warn_skipped(layout, &storage, "it stands for no valid mailbox name"),
        }
    }
    for (storage, vname, selectable) in inexact {
        if listing.names.contains_key(&vname) {
            warn_skipped(layout, &storage, "another mailbox has the same name");
        } else {
            listing.names.insert(vname.clone(), selectable);
            listing.aliases.insert(vname, storage);
        }
    }
    listing
}

fn warn_skipped(layout: &Layout, storage: &[u8], why: &str) {
    tracing::warn!(
        "leaving out the directory {:?}: {why}. Rename it to sync the mail in it",
        layout.name_dir(storage)
    );
}

/// Maildir++ and imapdir: all mailboxes lie directly in the root.
fn scan_flat(layout: &Layout, found: &mut Vec<(Vec<u8>, bool)>) -> Result<()> {
    for_each_entry(layout.root(), |entry| {
        let file_name = entry.file_name();
        let name = if layout.is_maildir_plus_plus() {
            file_name.as_bytes().strip_prefix(b".")
        } else {
            Some(file_name.as_bytes())
        };
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Ok(());
        };
        let own = layout.is_own_file(&file_name) || layout.inbox_dir(name).is_some();
        if !own && is_directory(entry, name)? {
            found.push((name.to_vec(), true));
        }
        Ok(())
    })
}

/// fs: a tree of directories.
fn scan_tree(
    layout: &Layout,
    mapping: &NameMapping,
    dir: &Path,
    parent: &[u8],
    depth: usize,
    found: &mut Vec<(Vec<u8>, bool)>,
) -> Result<()> {
    if depth > MAX_DEPTH {
        tracing::warn!("leaving out what is below {dir:?}: it is nested too deeply");
        return Ok(());
    }
    for_each_entry(dir, |entry| {
        let file_name = entry.file_name();
        let name = file_name.as_bytes();
        if mapping.is_reserved(name)
            || (depth == 0 && layout.is_own_file(&file_name))
            || (layout.is_mbox() && is_hidden_in_mbox(name))
        {
            return Ok(());
        }
        let is_dir = is_directory(entry, name)?;
        // A broken symlink is nothing.
        let is_file = layout.is_mbox() && entry.path().metadata().is_ok_and(|m| !m.is_dir());
        if !is_dir && !is_file {
            return Ok(());
        }
        let mut storage = parent.to_vec();
        if depth > 0 {
            storage.push(b'/');
        }
        storage.extend_from_slice(name);
        // INBOX itself may be elsewhere; its children are here.
        let is_inbox = layout.inbox_dir(b"INBOX") == Some(entry.path().as_path());
        if layout.inbox_dir(&storage).is_none() && !is_inbox {
            let selectable = if layout.is_mbox() {
                !is_dir
            } else {
                layout.selectable_marker(&storage).exists()
            };
            found.push((storage.clone(), selectable));
        }
        if !is_dir {
            return Ok(());
        }
        scan_tree(layout, mapping, &entry.path(), &storage, depth + 1, found)
    })
}

fn for_each_entry(dir: &Path, mut visit: impl FnMut(&DirEntry) -> Result<()>) -> Result<()> {
    let fail = |error: io::Error| StorageError::io("read directory", dir, &error);
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(fail(error)),
    };
    for entry in entries {
        visit(&entry.map_err(fail)?)?;
    }
    Ok(())
}

/// Whether an entry is a directory, or a symlink to one that is no alias of a sibling.
fn is_directory(entry: &DirEntry, name: &[u8]) -> Result<bool> {
    let path = entry.path();
    let kind = match entry.file_type() {
        Ok(kind) => kind,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(StorageError::io("stat", &path, &error)),
    };
    if kind.is_dir() {
        return Ok(true);
    }
    // Left by NFS for files that are still open.
    if !kind.is_symlink() || name.starts_with(b"nfs") {
        return Ok(false);
    }
    let target = std::fs::read_link(&path).unwrap_or_default();
    if !target.as_os_str().as_bytes().contains(&b'/') {
        tracing::warn!("leaving out {path:?}: it is an alias of {target:?}");
        return Ok(false);
    }
    Ok(path.is_dir())
}

/// Storage names of all children of a flat layout's mailbox, in order.
pub(crate) fn flat_children(layout: &Layout, storage: &[u8]) -> Result<Vec<Vec<u8>>> {
    let prefix = [storage, b"."].concat();
    let mut found = Vec::new();
    scan_flat(layout, &mut found)?;
    let mut children: Vec<_> = found
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| name.starts_with(&prefix) && name.len() > prefix.len())
        .collect();
    children.sort();
    Ok(children)
}

/// Whether a directory of the fs layout has children.
pub(crate) fn has_children(dir: &Path, mapping: &NameMapping) -> Result<bool> {
    let mut has = false;
    for_each_entry(dir, |entry| {
        let name = entry.file_name();
        has |= !mapping.is_reserved(name.as_bytes())
            && entry
                .file_type()
                .is_ok_and(|kind| kind.is_dir() || kind.is_symlink());
        Ok(())
    })?;
    Ok(has)
}

/// Names of all entries of a directory, in order; none if it is missing.
pub(crate) fn entries(dir: &Path) -> Result<Vec<std::ffi::OsString>> {
    let mut names = Vec::new();
    for_each_entry(dir, |entry| {
        names.push(entry.file_name());
        Ok(())
    })?;
    names.sort();
    Ok(names)
}

/// Whether a directory entry is a message: Dovecot leaves dot files alone.
pub(crate) fn is_message(name: &OsStr) -> bool {
    !name.as_bytes().starts_with(b".")
}
