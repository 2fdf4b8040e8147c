//! Writing the bodies of messages into temporary files, and making many of them durable at once.
//!
//! Killed anywhere in here: a temporary file stays behind that nobody sees.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::settings::Fsync;
use crate::unique::UniqueSource;
use crate::{Result, StorageError, path_io};

/// Bytes collected before they are written.
const BUFFER: usize = 64 * 1024;
/// From this many files on one `syncfs` is cheaper than to sync each: on ext4 it takes a third of
/// the time for 20 files. For fewer it is not worth to wait for what others have written.
const SYNC_ALL_FROM: usize = 16;
/// Temporary files that did not change for so many seconds are garbage.
const MAX_TMP_AGE: u64 = 36 * 3600;
/// Threads that sync single files: the journal of the file system joins their commits.
const SYNC_THREADS: usize = 8;

/// A file under a temporary name, complete or still being written. Removed when dropped, unless
/// [`TmpFile::keep`] says that it has its final name.
#[derive(Debug)]
pub(crate) struct TmpFile {
    path: PathBuf,
    /// Its name without prefix, unique for ever.
    pub(crate) name: String,
    kept: bool,
}

impl TmpFile {
    /// Makes a file in `dir` under a name that begins with `prefix` and that no file has yet.
    pub(crate) fn reserve<T>(
        dir: &Path,
        prefix: &str,
        unique: &UniqueSource,
        create: impl Fn(&Path) -> io::Result<T>,
    ) -> Result<(Self, T)> {
        loop {
            let name = unique.base_name();
            let path = dir.join(format!("{prefix}{name}"));
            match create(&path) {
                Ok(created) => {
                    let kept = false;
                    return Ok((Self { path, name, kept }, created));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(StorageError::io("create", &path, &error)),
            }
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file has got its final name.
    pub(crate) fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for TmpFile {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Sizes of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BodySize {
    /// Bytes in the file.
    pub(crate) physical: u64,
    /// Bytes if every line ended in CRLF.
    pub(crate) virtual_size: u64,
}

/// Writes bodies into a file, with LF line ends.
#[derive(Debug)]
pub(crate) struct BodySink {
    file: File,
    /// For messages about errors.
    path: PathBuf,
    buffer: Vec<u8>,
    /// The last byte given was a CR, which is not in the buffer yet.
    carriage_return: bool,
    last: u8,
    size: BodySize,
}

impl BodySink {
    /// Writes into this file from where it stands.
    pub(crate) fn new(file: File, path: &Path) -> Self {
        Self {
            file,
            path: path.to_owned(),
            buffer: Vec::with_capacity(BUFFER),
            carriage_return: false,
            last: 0,
            size: BodySize::default(),
        }
    }

    /// Adds bytes that belong to no body, as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush()?;
        }
        if bytes.len() >= BUFFER {
            return self.write_out(bytes);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Adds bytes of a body; CRLF becomes LF, also across calls.
    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while let Some(&first) = bytes.first() {
            if self.carriage_return {
                self.carriage_return = false;
                if first != b'\n' {
                    self.put(b"\r")?;
                }
            }
            let plain = memchr::memchr(b'\r', bytes).unwrap_or(bytes.len());
            let (before, rest) = bytes.split_at(plain);
            self.put(before)?;
            self.carriage_return = !rest.is_empty();
            bytes = rest.get(1..).unwrap_or_default();
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(&last) = bytes.last() else {
            return Ok(());
        };
        self.size.physical += bytes.len() as u64;
        self.size.virtual_size += bytes.len() as u64;
        for line_end in memchr::memchr_iter(b'\n', bytes) {
            let before = line_end.checked_sub(1).map_or(self.last, |at| bytes[at]);
            self.size.virtual_size += u64::from(before != b'\r');
        }
        self.last = last;
        self.raw(bytes)
    }

    /// Everything so far goes to the file.
    pub(crate) fn flush(&mut self) -> Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        self.write_out(&buffer)?;
        self.buffer = buffer;
        self.buffer.clear();
        Ok(())
    }

    fn write_out(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .map_err(|error| StorageError::io("write", &self.path, &error))
    }

    /// The body is complete, and the next one may follow. Dovecot drops a lone CR at the very end;
    /// it is a byte of the message and stays.
    pub(crate) fn end_body(&mut self) -> Result<BodySize> {
        if std::mem::take(&mut self.carriage_return) {
            self.put(b"\r")?;
        }
        self.last = 0;
        Ok(std::mem::take(&mut self.size))
    }

    /// Forgets everything behind this offset; the file must have begun with this sink.
    pub(crate) fn cut(&mut self, offset: u64) -> Result<()> {
        self.flush()?;
        self.carriage_return = false;
        self.last = 0;
        self.size = BodySize::default();
        self.file
            .set_len(offset)
            .and_then(|()| self.file.seek(SeekFrom::Start(offset)))
            .map(drop)
            .map_err(|error| StorageError::io("cut", &self.path, &error))
    }

    /// The file; what was not flushed is missing in it.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

/// Makes message files durable, all at once: no message waits for the disk by itself.
pub(crate) fn sync_files(box_dir: &Path, paths: &[&Path], fsync: Fsync) -> Result<()> {
    if fsync != Fsync::Optimized || paths.is_empty() {
        return Ok(());
    }
    if paths.len() >= SYNC_ALL_FROM {
        let directory =
            File::open(box_dir).map_err(|error| StorageError::io("open", box_dir, &error))?;
        return nix::unistd::syncfs(directory)
            .map_err(|errno| StorageError::io("sync the file system of", box_dir, &errno.into()));
    }
    let share = paths.len().div_ceil(SYNC_THREADS);
    thread::scope(|scope| {
        let threads: Vec<_> = paths
            .chunks(share)
            .map(|chunk| scope.spawn(|| chunk.iter().try_for_each(|path| path_io::sync(path))))
            .collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| {
                let error = io::Error::other("a thread failed");
                Err(StorageError::io("sync", box_dir, &error))
            })
        })
    })
}

/// Removes files with names that begin so which writers that died left in a directory. A file
/// that anybody still writes is younger.
pub(crate) fn sweep(dir: &Path, prefix: &str, now: SystemTime) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let oldest = now.saturating_sub(MAX_TMP_AGE);
    for entry in entries.flatten() {
        if !entry.file_name().as_bytes().starts_with(prefix.as_bytes()) {
            continue;
        }
        // Not the modification time: that is set to the date of the message.
        let is_old = entry.metadata().is_ok_and(|metadata| {
            !metadata.is_dir() && u64::try_from(metadata.ctime()).is_ok_and(|time| time < oldest)
        });
        if is_old && let Err(error) = fs::remove_file(entry.path()) {
            tracing::debug!("cannot remove {}: {error}", entry.path().display());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_old_files_are_swept() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        fs::create_dir(path(".temp.directory")).unwrap();
        fs::write(path(".temp.file"), "").unwrap();
        fs::write(path("u.1"), "").unwrap();
        let now = SystemTime::now();
        sweep(root.path(), ".temp.", now);
        assert!(path(".temp.file").exists());
        sweep(
            root.path(),
            ".temp.",
            now + Duration::from_secs(MAX_TMP_AGE + 10),
        );
        assert!(!path(".temp.file").exists());
        assert!(path(".temp.directory").exists() && path("u.1").exists());
    }
}
