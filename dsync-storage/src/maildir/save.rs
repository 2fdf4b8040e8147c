//! Writing message files into `tmp/` (`spec/maildir.md` 8.4, 20 a).
//!
//! Killed anywhere in here: a file in `tmp/` stays behind that nobody sees; Dovecot and we
//! remove such files after 36 hours.

use std::fs::{self, File, FileTimes};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::SystemTime;

use super::scan::{seconds, time};
use crate::permissions::CreateModes;
use crate::settings::Fsync;
use crate::unique::UniqueSource;
use crate::{Result, StorageError, path_io};

/// Bytes collected before they are written.
const BUFFER: usize = 64 * 1024;
/// From this many files on one `syncfs` is cheaper than to sync each.
const SYNC_ALL_FROM: usize = 48;
/// Files in `tmp/` that did not change for so many seconds are garbage.
const MAX_TMP_AGE: i64 = 36 * 3600;
/// Threads that sync single files: the journal of the file system joins their commits.
const SYNC_THREADS: usize = 8;

/// A complete message file in `tmp/`, or one that is still written. Removed when dropped, unless
/// [`TmpFile::keep`] says that it has its final name.
#[derive(Debug)]
pub(crate) struct TmpFile {
    path: PathBuf,
    /// Its name, unique for ever.
    pub(crate) name: String,
    kept: bool,
}

impl TmpFile {
    /// A name in `tmp/` of this mailbox that no file has yet.
    fn reserve<T>(
        box_dir: &Path,
        unique: &UniqueSource,
        create: impl Fn(&Path) -> io::Result<T>,
        modes: &CreateModes,
    ) -> Result<(Self, T)> {
        let tmp = box_dir.join("tmp");
        loop {
            let name = unique.base_name();
            let path = tmp.join(&name);
            match create(&path) {
                Ok(created) => {
                    let kept = false;
                    return Ok((Self { path, name, kept }, created));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                // A mailbox that is open but lost its directories gets them again.
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound
                        && box_dir.is_dir()
                        && !tmp.is_dir() =>
                {
                    modes
                        .create_dir_all(&tmp)
                        .map_err(|error| StorageError::io("create", &tmp, &error))?;
                }
                Err(error) => return Err(StorageError::io("create", &path, &error)),
            }
        }
    }

    /// A hard link to an existing message file: a copy for free.
    pub(crate) fn link(
        source: &Path,
        box_dir: &Path,
        unique: &UniqueSource,
        modes: &CreateModes,
    ) -> Result<Self> {
        Ok(Self::reserve(box_dir, unique, |path| fs::hard_link(source, path), modes)?.0)
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

/// A message that is being written.
#[derive(Debug)]
pub(crate) struct BodyWriter {
    tmp: TmpFile,
    file: File,
    buffer: Vec<u8>,
    /// The last byte given was a CR, which is not in the buffer yet.
    carriage_return: bool,
    last: u8,
    size: BodySize,
}

/// Sizes of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BodySize {
    /// Bytes in the file.
    pub(crate) physical: u64,
    /// Bytes if every line ended in CRLF.
    pub(crate) virtual_size: u64,
}

impl BodyWriter {
    /// Creates the file.
    pub(crate) fn create(
        box_dir: &Path,
        unique: &UniqueSource,
        modes: &CreateModes,
    ) -> Result<Self> {
        let (tmp, file) = TmpFile::reserve(box_dir, unique, |path| modes.create_new(path), modes)?;
        Ok(Self {
            tmp,
            file,
            buffer: Vec::with_capacity(BUFFER),
            carriage_return: false,
            last: 0,
            size: BodySize::default(),
        })
    }

    /// Adds bytes; CRLF becomes LF, also across calls.
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
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush()?;
        }
        if bytes.len() >= BUFFER {
            return self.write_out(bytes);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        self.write_out(&buffer)?;
        self.buffer = buffer;
        self.buffer.clear();
        Ok(())
    }

    fn write_out(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .map_err(|error| StorageError::io("write", &self.tmp.path, &error))
    }

    /// Completes the file and sets its received date. Dovecot drops a lone CR at the very end; it
    /// is a byte of the message and stays. The file is not on disk yet, see [`sync_files`].
    pub(crate) fn finish(
        mut self,
        received_date: i64,
        fsync: Fsync,
    ) -> Result<(TmpFile, BodySize)> {
        if std::mem::take(&mut self.carriage_return) {
            self.put(b"\r")?;
        }
        self.flush()?;
        let path = &self.tmp.path;
        self.file
            .set_times(FileTimes::new().set_modified(time(received_date)))
            .map_err(|error| StorageError::io("set the time of", path, &error))?;
        if fsync == Fsync::Always {
            self.file
                .sync_all()
                .map_err(|error| StorageError::io("sync", path, &error))?;
        }
        Ok((self.tmp, self.size))
    }
}

/// Removes what writers that died left in `tmp/`. A file that anybody still writes is younger.
pub(crate) fn sweep_tmp(box_dir: &Path, now: SystemTime) {
    let Ok(entries) = fs::read_dir(box_dir.join("tmp")) else {
        return;
    };
    let oldest = seconds(now) - MAX_TMP_AGE;
    for entry in entries.flatten() {
        // Not the modification time: that is set to the date of the message.
        let is_old = entry
            .metadata()
            .is_ok_and(|metadata| !metadata.is_dir() && metadata.ctime() < oldest);
        if is_old && let Err(error) = fs::remove_file(entry.path()) {
            tracing::debug!("cannot remove {}: {error}", entry.path().display());
        }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::StoreSettings;

    fn save(chunks: &[&[u8]]) -> (Vec<u8>, BodySize) {
        let root = tempfile::tempdir().unwrap();
        let unique = StoreSettings::default().unique();
        let mut writer = BodyWriter::create(root.path(), &unique, &CreateModes::default()).unwrap();
        for chunk in chunks {
            writer.write(chunk).unwrap();
        }
        let (tmp, size) = writer.finish(1_000_000_000, Fsync::Optimized).unwrap();
        sync_files(root.path(), &[tmp.path()], Fsync::Optimized).unwrap();
        let modified = fs::metadata(tmp.path()).unwrap().modified().unwrap();
        assert_eq!(seconds(modified), 1_000_000_000);
        let path = tmp.path().to_owned();
        let bytes = fs::read(&path).unwrap();
        drop(tmp);
        assert!(!path.exists());
        (bytes, size)
    }

    #[test]
    fn line_ends_become_lf() {
        for (chunks, stored, virtual_size) in [
            (vec!["a\r\nb\r\n"], "a\nb\n", 6),
            (vec!["a\r", "\nb\rc", "\r\r\n"], "a\nb\rc\r\n", 8),
            (vec!["x\r"], "x\r", 2),
            (vec!["", "\r", "", "\n", ""], "\n", 2),
            (vec![], "", 0),
        ] {
            let chunks: Vec<&[u8]> = chunks.iter().map(|chunk| chunk.as_bytes()).collect();
            let (bytes, size) = save(&chunks);
            assert_eq!(String::from_utf8(bytes).unwrap(), stored);
            assert_eq!(size.physical, stored.len() as u64);
            assert_eq!(size.virtual_size, virtual_size, "{stored:?}");
        }
    }

    #[test]
    fn only_old_files_are_swept() {
        let root = tempfile::tempdir().unwrap();
        let tmp = root.path().join("tmp");
        fs::create_dir_all(tmp.join("directory")).unwrap();
        fs::write(tmp.join("file"), "").unwrap();
        let now = SystemTime::now();
        sweep_tmp(root.path(), now);
        assert!(tmp.join("file").exists());
        sweep_tmp(root.path(), time(seconds(now) + MAX_TMP_AGE + 10));
        assert!(!tmp.join("file").exists() && tmp.join("directory").exists());
    }

    #[test]
    fn big_bodies_pass_the_buffer() {
        let line = [b'x'; 1000];
        let mut body = Vec::new();
        for _ in 0..300 {
            body.extend_from_slice(&line);
            body.extend_from_slice(b"\r\n");
        }
        let (bytes, size) = save(&[&body[..100_000], &body[100_000..]]);
        assert_eq!(bytes.len(), 300 * 1001);
        assert_eq!(size.virtual_size, 300 * 1002);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn chunks_do_not_matter(body in "[ab\r\n]{0,40}", cut in 0_usize..40) {
            let bytes = body.as_bytes();
            let (start, end) = bytes.split_at(cut.min(bytes.len()));
            let whole = save(&[bytes]);
            prop_assert_eq!(&whole, &save(&[start, end]));
            let expected = body.replace("\r\n", "\n");
            prop_assert_eq!(whole.0, expected.into_bytes());
        }
    }
}
