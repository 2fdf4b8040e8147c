//! Names, modes and small operations on index files (`spec/dovecot-index.md` 1).

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::unistd::linkat;

use crate::permissions::CreateModes;
use crate::{Result, StorageError, path_io};

/// The files of one index.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) dir: PathBuf,
    prefix: OsString,
}

/// Which file on which device a descriptor or a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId(u64, u64);

impl FileId {
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let meta = file.metadata()?;
        Ok(Self(meta.dev(), meta.ino()))
    }

    /// `None` if there is no such file.
    pub(crate) fn at(path: &Path) -> Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(meta) => Ok(Some(Self(meta.dev(), meta.ino()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StorageError::io("stat", path, &error)),
        }
    }
}

impl Files {
    pub(crate) fn new(dir: &Path, prefix: &str) -> Self {
        Self {
            dir: dir.to_path_buf(),
            prefix: prefix.into(),
        }
    }

    fn with(&self, suffix: &str) -> PathBuf {
        let mut name = self.prefix.clone();
        name.push(suffix);
        self.dir.join(name)
    }

    pub(crate) fn snapshot(&self) -> PathBuf {
        self.with("")
    }

    pub(crate) fn snapshot_tmp(&self) -> PathBuf {
        self.with(".tmp")
    }

    pub(crate) fn backup(&self) -> PathBuf {
        self.with(".backup")
    }

    pub(crate) fn backup_tmp(&self) -> PathBuf {
        self.with(".backup.tmp")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.with(".log")
    }

    pub(crate) fn log2(&self) -> PathBuf {
        self.with(".log.2")
    }

    pub(crate) fn new_log(&self) -> PathBuf {
        self.with(".log.newlock")
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.with(".cache")
    }

    /// A cache under construction, and a lock that keeps others from making one.
    pub(crate) fn cache_new(&self) -> PathBuf {
        self.with(".cache.lock")
    }

    /// Creates a file that must not exist, with mode and group after the folder.
    pub(crate) fn create(&self, path: &Path) -> Result<File> {
        let error = |error: io::Error| StorageError::io("create", path, &error);
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(error)?;
        let folder = fs::metadata(&self.dir).map_err(error)?;
        CreateModes::from_metadata(&folder)
            .apply_to_file(&file, path)
            .map_err(error)?;
        Ok(file)
    }

    /// A file without a name, with mode and group after the folder; `None` where the file system
    /// has no such files.
    pub(crate) fn create_unnamed(&self) -> Option<File> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .mode(0o600)
            .custom_flags(OFlag::O_TMPFILE.bits())
            .open(&self.dir)
            .ok()?;
        // Without this directory it could not get a name.
        fs::metadata(fd_path(&file)).ok()?;
        let folder = fs::metadata(&self.dir).ok()?;
        CreateModes::from_metadata(&folder)
            .apply_to_file(&file, &self.dir)
            .ok()?;
        Some(file)
    }

    /// Gives it a name, which must be free.
    pub(crate) fn name(&self, file: &File, path: &Path) -> Result<()> {
        let follow = AtFlags::AT_SYMLINK_FOLLOW;
        linkat(AT_FDCWD, &fd_path(file), AT_FDCWD, path, follow)
            .map_err(|error| StorageError::io("create", path, &error.into()))
    }

    pub(crate) fn sync_dir(&self) -> Result<()> {
        path_io::sync(&self.dir)
    }
}

/// What an open file is found under, whether it has a name or not.
fn fd_path(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// Opens for reading and, if allowed, appending; `None` if it does not exist.
pub(crate) fn open_log(path: &Path) -> Result<Option<File>> {
    let writable = OpenOptions::new().read(true).append(true).open(path);
    let opened = match writable {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            File::open(path)
        }
        other => other,
    };
    match opened {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StorageError::io("open", path, &error)),
    }
}

/// Reads a whole file of at most `limit` bytes; `None` if it does not exist.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    match File::open(path) {
        Ok(file) => read_from(&file, path, 0, limit).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StorageError::io("open", path, &error)),
    }
}

/// Reads from an offset to the end, but nothing behind `limit` bytes of the file.
pub(crate) fn read_from(file: &File, path: &Path, offset: u64, limit: u64) -> Result<Vec<u8>> {
    let read = || -> io::Result<Vec<u8>> {
        let end = file.metadata()?.len().min(limit);
        path_io::read_range(file, offset, end)
    };
    read().map_err(|error| StorageError::io("read", path, &error))
}

pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|error| StorageError::io("rename", from, &error))
}

/// Appends with one `write()`; if it comes out short the file gets its old size back.
///
/// Killed inside: the kernel has the whole record or a part of it. A part is what the next
/// process that takes the lock cuts off (`spec/dovecot-index.md` 9).
pub(crate) fn append_once(file: &mut File, path: &Path, old_size: u64, bytes: &[u8]) -> Result<()> {
    let written = loop {
        match file.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other,
        }
    };
    let error = match written {
        Ok(count) if count == bytes.len() => return Ok(()),
        Ok(_) => io::Error::from(io::ErrorKind::StorageFull),
        Err(error) => error,
    };
    if let Err(error) = file.set_len(old_size) {
        tracing::warn!(path = %path.display(), %error, "cannot cut off a half-written record");
    }
    Err(StorageError::io("append to", path, &error))
}
