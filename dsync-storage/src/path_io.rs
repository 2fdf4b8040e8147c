//! System calls on paths that all back-ends need, with our errors.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use dsync_proto::types::MailErrorClass;

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

/// Opens a file for reading; `None` if it does not exist.
pub(crate) fn open(path: &Path) -> Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StorageError::io("open", path, &error)),
    }
}

/// The rest of an open file.
///
/// # Errors
///
/// `Limit` if that is more than `limit` bytes, which are not read.
pub(crate) fn read_open(file: &File, path: &Path, limit: u64) -> Result<Vec<u8>> {
    let read = || -> io::Result<Vec<u8>> {
        let size = file.metadata()?.len().min(limit);
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| StorageError::io("read", path, &error))?;
    if bytes.len() as u64 > limit {
        return Err(StorageError::new(
            MailErrorClass::Limit,
            format!(
                "{} is larger than {limit} bytes, which is not supported",
                path.display()
            ),
        ));
    }
    Ok(bytes)
}

/// The bytes of an open file between two offsets; fewer if it is shorter. Without a system call
/// that only finds the end: small files are read by the thousand.
pub(crate) fn read_range(file: &File, start: u64, end: u64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(end.saturating_sub(start)).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
        match file.read_at(room, start + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// A whole file of at most `limit` bytes, as in [`read_open`]; `None` if it does not exist.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    open(path)?
        .map(|file| read_open(&file, path, limit))
        .transpose()
}

/// Makes a file, or the names in a directory, durable.
pub(crate) fn sync(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|error| StorageError::io("sync", path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_ends_with_the_file() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        fs::write(&path, "12345").unwrap();
        let file = File::open(&path).unwrap();
        for (start, end, expected) in [(0, 5, "12345"), (1, 3, "23"), (3, 9, "45"), (7, 9, "")] {
            let bytes = read_range(&file, start, end).unwrap();
            assert_eq!(bytes, expected.as_bytes());
        }
        assert_eq!(read_range(&file, 3, 1).unwrap(), b"");
    }

    #[test]
    fn a_file_above_the_limit_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        assert_eq!(read(&path, 3), Ok(None));
        fs::write(&path, "123").unwrap();
        assert_eq!(read(&path, 3), Ok(Some(b"123".to_vec())));
        let error = read(&path, 2).unwrap_err();
        assert_eq!(error.class, MailErrorClass::Limit);
        assert!(error.message.contains("/file is larger than 2"), "{error}");
    }
}
