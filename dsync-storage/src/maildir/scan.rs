//! Which message files there are in `new/` and `cur/` (`spec/maildir.md` 8.1).

use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use std::ffi::OsStr;

use super::filename;
use crate::{Result, StorageError};

/// Directory of a message file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Dir {
    /// `new/`: not yet seen by a session that takes `\Recent` away.
    New,
    /// `cur/`
    Cur,
}

impl Dir {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Cur => "cur",
        }
    }
}

/// Path of a message file.
pub(crate) fn path_of(box_dir: &Path, dir: Dir, name: &[u8]) -> PathBuf {
    box_dir.join(dir.name()).join(OsStr::from_bytes(name))
}

/// Modification time of a directory or file, as the index keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Seconds since the epoch.
    pub(crate) seconds: i64,
    /// Nanoseconds.
    pub(crate) nanos: i64,
    /// Size in bytes.
    pub(crate) size: u64,
    /// Inode number.
    pub(crate) inode: u64,
}

impl Stamp {
    /// The stamp of a file; `None` if there is no such file.
    pub(crate) fn of(path: &Path) -> Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(Self::from_metadata(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StorageError::io("stat", path, &error)),
        }
    }

    /// The stamp in this metadata.
    pub(crate) fn from_metadata(metadata: &fs::Metadata) -> Self {
        Self {
            seconds: metadata.mtime(),
            nanos: metadata.mtime_nsec(),
            size: metadata.len(),
            inode: metadata.ino(),
        }
    }
}

#[cfg(test)]
thread_local! {
    /// Directory entries that this thread has read: what a scan costs.
    pub(crate) static ENTRIES_READ: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// A file as found.
#[derive(Clone, Copy, Debug)]
struct Found {
    start: u32,
    len: u16,
    dir: Dir,
}

/// All message files of a mailbox, about 12 bytes each beside the name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scan {
    names: Vec<u8>,
    files: Vec<Found>,
    /// Names without a base (`:2,S`), to be repaired.
    pub(crate) broken: Vec<(Dir, Vec<u8>)>,
}

impl Scan {
    /// Reads both directories; `new/` first, because files move from there to `cur/`.
    pub(crate) fn read(box_dir: &Path, mut alive: impl FnMut() -> Result<()>) -> Result<Self> {
        let mut scan = Self::default();
        for dir in [Dir::New, Dir::Cur] {
            let path = box_dir.join(dir.name());
            let entries = match fs::read_dir(&path) {
                Ok(entries) => entries,
                // Dovecot makes it again when it opens the mailbox; so does our next save.
                Err(error) if error.kind() == io::ErrorKind::NotFound && box_dir.is_dir() => {
                    continue;
                }
                Err(error) => return Err(StorageError::io("read", &path, &error)),
            };
            for (count, entry) in entries.enumerate() {
                let entry = entry.map_err(|error| StorageError::io("read", &path, &error))?;
                // A directory is no message, and opening a pipe would wait for ever.
                let is_message = |kind: fs::FileType| kind.is_file() || kind.is_symlink();
                if !entry.file_type().map_or(true, is_message) {
                    tracing::warn!("ignoring {}: not a file", entry.path().display());
                    continue;
                }
                scan.add(dir, &entry.file_name().into_vec());
                #[cfg(test)]
                ENTRIES_READ.with(|entries| entries.set(entries.get() + 1));
                if count % 4096 == 0 {
                    alive()?;
                }
            }
        }
        scan.files.sort_unstable_by(|a, b| {
            let (a, b) = (scan_entry(&scan.names, a), scan_entry(&scan.names, b));
            (filename::base(a.1), a.0, a.1).cmp(&(filename::base(b.1), b.0, b.1))
        });
        Ok(scan)
    }

    fn add(&mut self, dir: Dir, name: &[u8]) {
        if name.first() == Some(&b'.') {
            return;
        }
        if name.first() == Some(&b':') {
            self.broken.push((dir, name.to_vec()));
            return;
        }
        if name.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
            tracing::warn!(
                "ignoring the file {:?} in {}/: line break in its name",
                bstr::BStr::new(name),
                dir.name()
            );
            return;
        }
        // 4 GiB of names would be more than 40 million messages.
        if let (Ok(start), Ok(len)) = (u32::try_from(self.names.len()), u16::try_from(name.len())) {
            self.names.extend_from_slice(name);
            self.files.push(Found { start, len, dir });
        }
    }

    /// Number of files.
    pub(crate) fn len(&self) -> usize {
        self.files.len()
    }

    /// Directory and name of the file at this position, ordered by base name.
    pub(crate) fn get(&self, position: usize) -> Option<(Dir, &[u8])> {
        self.files
            .get(position)
            .map(|found| scan_entry(&self.names, found))
    }

    /// The file with this base name.
    pub(crate) fn find(&self, base: &[u8]) -> Option<(Dir, &[u8])> {
        let key = |found: &Found| filename::base(scan_entry(&self.names, found).1).cmp(base);
        let at = self.files.binary_search_by(key).ok()?;
        self.get(at)
    }
}

fn scan_entry<'a>(names: &'a [u8], found: &Found) -> (Dir, &'a [u8]) {
    let start = found.start as usize;
    let name = names.get(start..start + usize::from(found.len));
    (found.dir, name.unwrap_or_default())
}

/// A time as seconds since the epoch.
pub(crate) fn seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or_else(
        |before| -(before.duration().as_secs_f64().ceil() as i64),
        |since| since.as_secs() as i64,
    )
}

/// Seconds since the epoch as a time.
pub(crate) fn time(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 {
        UNIX_EPOCH.checked_sub(distance)
    } else {
        UNIX_EPOCH.checked_add(distance)
    };
    time.unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_files_by_base_name() {
        let root = tempfile::tempdir().unwrap();
        for dir in ["new", "cur"] {
            fs::create_dir(root.path().join(dir)).unwrap();
        }
        for name in [
            "new/b",
            "cur/a:2,S",
            "cur/c,S=1:2,",
            "cur/.hidden",
            "cur/:2,S",
            "cur/x\ny",
            "new/a",
        ] {
            fs::write(root.path().join(name), "").unwrap();
        }
        let scan = Scan::read(root.path(), || Ok(())).unwrap();
        let names: Vec<_> = (0..scan.len()).map(|at| scan.get(at).unwrap()).collect();
        assert_eq!(
            names,
            [
                (Dir::New, &b"a"[..]),
                (Dir::Cur, b"a:2,S"),
                (Dir::New, b"b"),
                (Dir::Cur, b"c,S=1:2,")
            ]
        );
        assert_eq!(scan.broken, [(Dir::Cur, b":2,S".to_vec())]);
        assert_eq!(scan.find(b"c,S=1"), Some((Dir::Cur, &b"c,S=1:2,"[..])));
        assert_eq!(scan.find(b"c"), None);
    }

    #[test]
    fn a_missing_mailbox_is_an_error_but_a_missing_directory_is_not() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Scan::read(root.path(), || Ok(())).unwrap().len(), 0);
        assert!(Scan::read(&root.path().join("gone"), || Ok(())).is_err());
    }

    #[test]
    fn times_before_the_epoch_work() {
        for value in [0, 1, -1, -1_000_000, 4_000_000_000] {
            assert_eq!(seconds(time(value)), value);
        }
    }
}
