//! The locks of an mbox file (`spec/mbox.md` 8).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use dsync_proto::types::MailErrorClass;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::lock::{Dotlock, DotlockSettings};
use crate::permissions::CreateModes;
use crate::{Result, StorageError, StoreSettings};

/// Longest wait for the locks of a file (`mbox_lock_timeout`).
const TIMEOUT: Duration = Duration::from_secs(300);
/// A dotlock that does not change for so long is stale (`mbox_dotlock_change_timeout`), seconds.
const STALE: u64 = 120;
/// How long the second lock is waited for while the first is held. Programs differ in which one
/// they take first; this is what keeps two of them from waiting for each other.
const SECOND: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(10);

/// A file that nobody else writes, or, locked for writing, nobody else reads.
#[derive(Debug)]
pub(super) struct LockedFile {
    pub(super) file: File,
    // Dropped in this order, after the file lock.
    _dotlock: Option<Dotlock>,
}

impl LockedFile {
    /// Locks for reading.
    pub(super) fn read(path: &Path, settings: &StoreSettings) -> Result<Self> {
        let deadline = Deadline::new(settings.lock_timeout(TIMEOUT));
        loop {
            let file = File::open(path).map_err(|error| StorageError::io("open", path, &error))?;
            if !wait(&file, path, libc::F_RDLCK, &deadline)? {
                return Err(timeout(path, &deadline));
            }
            if is_at(&file, path)? {
                return Ok(Self {
                    file,
                    _dotlock: None,
                });
            }
        }
    }

    /// Locks for writing: the dotlock and the file itself.
    pub(super) fn write(path: &Path, settings: &StoreSettings) -> Result<Self> {
        let deadline = Deadline::new(settings.lock_timeout(TIMEOUT));
        // Who reads the mailbox must be able to see whose lock it is.
        let modes = CreateModes {
            file: 0o644,
            ..CreateModes::default()
        };
        loop {
            let file = OpenOptions::new().read(true).write(true).open(path);
            let file = file.map_err(|error| StorageError::io("open", path, &error))?;
            let mut dot = DotlockSettings::new(settings, modes, 0, STALE);
            dot.timeout = deadline.left();
            let dotlock = Dotlock::acquire(path, &dot)?;
            let second = Deadline::new(SECOND.min(deadline.left()));
            if !wait(&file, path, libc::F_WRLCK, &second)? {
                drop(dotlock);
                if deadline.left().is_zero() {
                    return Err(timeout(path, &deadline));
                }
                std::thread::sleep(PAUSE);
                continue;
            }
            if is_at(&file, path)? {
                return Ok(Self {
                    file,
                    _dotlock: Some(dotlock),
                });
            }
        }
    }
}

struct Deadline {
    limit: Duration,
    start: Instant,
}

impl Deadline {
    fn new(limit: Duration) -> Self {
        Self {
            limit,
            start: Instant::now(),
        }
    }

    fn left(&self) -> Duration {
        self.limit.saturating_sub(self.start.elapsed())
    }
}

fn timeout(path: &Path, deadline: &Deadline) -> StorageError {
    StorageError::new(
        MailErrorClass::Temporary,
        format!(
            "cannot lock {}: another program has held it for {} seconds",
            path.display(),
            deadline.limit.as_secs()
        ),
    )
}

fn wait(file: &File, path: &Path, kind: i32, deadline: &Deadline) -> Result<bool> {
    let lock = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    loop {
        match fcntl(file, FcntlArg::F_OFD_SETLK(&lock)) {
            Ok(_) => return Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES) if deadline.left().is_zero() => return Ok(false),
            Err(Errno::EAGAIN | Errno::EACCES) => std::thread::sleep(PAUSE),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(StorageError::io("lock", path, &io::Error::from(error))),
        }
    }
}

/// Whether the name still stands for this file.
fn is_at(file: &File, path: &Path) -> Result<bool> {
    let failed = |error| StorageError::io("stat", path, &error);
    let ours = file.metadata().map_err(failed)?;
    match std::fs::metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(error)),
    }
}
