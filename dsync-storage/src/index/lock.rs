//! The lock of a log (`spec/dovecot-index.md` 8), on top of [`crate::lock`].

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use dsync_proto::types::MailErrorClass;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::lock::lock_file;
use crate::settings::LockMethod;
use crate::{Result, StorageError};

const FIRST_WAIT: Duration = Duration::from_millis(5);
const LONGEST_WAIT: Duration = Duration::from_millis(100);
/// A longer timeout than this waits so long.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// When a timeout that starts now is over.
pub(crate) fn deadline(timeout: Duration) -> Instant {
    Instant::now() + timeout.min(LONGEST_TIMEOUT)
}

/// Takes the exclusive lock; waits at most until `deadline`.
pub(crate) fn lock(file: &File, path: &Path, method: LockMethod, deadline: Instant) -> Result<()> {
    let mode = fcntl(file.as_fd(), FcntlArg::F_GETFL).unwrap_or(libc::O_RDWR);
    if mode & libc::O_ACCMODE == libc::O_RDONLY {
        return Err(StorageError::new(
            MailErrorClass::Permission,
            format!("cannot lock {}: no permission to write", path.display()),
        ));
    }
    let left = deadline.saturating_duration_since(Instant::now());
    lock_file(file, path, method, left)
}

/// Waits a moment, longer each time; fails when the deadline is over.
pub(crate) fn wait(path: &Path, deadline: Instant, pause: &mut Duration) -> Result<()> {
    let Some(left) = deadline.checked_duration_since(Instant::now()) else {
        return Err(StorageError::new(
            MailErrorClass::Temporary,
            format!(
                "another process makes a new log ({}); gave up waiting, try again later",
                path.display()
            ),
        ));
    };
    std::thread::sleep((*pause).min(left));
    *pause = (*pause * 2).min(LONGEST_WAIT);
    Ok(())
}

/// First argument for [`wait`].
pub(crate) fn first_wait() -> Duration {
    FIRST_WAIT
}

/// Gives the lock up while the file stays open.
pub(crate) fn unlock(file: &File, method: LockMethod) {
    // Both fail only for a descriptor without a lock, where there is nothing to give up.
    match method {
        LockMethod::Fcntl => {
            let whole = libc::flock {
                l_type: libc::F_UNLCK as libc::c_short,
                l_whence: libc::SEEK_SET as libc::c_short,
                l_start: 0,
                l_len: 0,
                l_pid: 0,
            };
            let _ = fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&whole));
        }
        LockMethod::Flock => {
            let _ = file.unlock();
        }
    }
}
