//! System calls on paths that all back-ends need, with our errors.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::{Result, StorageError};

/// Removes a file; a missing one is fine.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StorageError::io("remove", path, &error))
        }
        _ => Ok(()),
    }
}

/// Makes a file, or the names in a directory, durable.
pub(crate) fn sync(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|error| StorageError::io("sync", path, &error))
}
