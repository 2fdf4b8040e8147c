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

/// How long to wait for others, and what to do meanwhile: refresh a lock that is held.
pub(crate) struct Patience<'a> {
    deadline: Instant,
    meanwhile: &'a mut dyn FnMut() -> Result<()>,
}

impl<'a> Patience<'a> {
    /// A timeout that starts now.
    pub(crate) fn new(timeout: Duration, meanwhile: &'a mut dyn FnMut() -> Result<()>) -> Self {
        Self {
            deadline: Instant::now() + timeout.min(LONGEST_TIMEOUT),
            meanwhile,
        }
    }
}

/// Takes the exclusive lock.
pub(crate) fn lock(
    file: &File,
    path: &Path,
    method: LockMethod,
    patience: &mut Patience<'_>,
) -> Result<()> {
    let mode = fcntl(file.as_fd(), FcntlArg::F_GETFL).unwrap_or(libc::O_RDWR);
    if mode & libc::O_ACCMODE == libc::O_RDONLY {
        return Err(StorageError::new(
            MailErrorClass::Permission,
            format!("cannot lock {}: no permission to write", path.display()),
        ));
    }
    let left = patience.deadline.saturating_duration_since(Instant::now());
    lock_file(file, path, method, left, patience.meanwhile)
}

/// Waits a moment, longer each time; fails when the time is over.
pub(crate) fn wait(path: &Path, patience: &mut Patience<'_>, pause: &mut Duration) -> Result<()> {
    let Some(left) = patience.deadline.checked_duration_since(Instant::now()) else {
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
    (patience.meanwhile)()
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

#[cfg(test)]
mod tests {
    use super::super::{Index, IndexSettings, Origin, Transaction};
    use super::*;

    /// What is done while another program has the lock of the log, or makes a log.
    #[test]
    fn waiting_is_not_idle() {
        let root = tempfile::tempdir().unwrap();
        let open = || Index::open(root.path(), "dovecot.index", IndexSettings::default()).unwrap();
        let wait = |index: &mut Index| {
            let mut calls = 0;
            let error = index
                .lock_patiently(LONGEST_TIMEOUT, &mut || {
                    calls += 1;
                    match calls {
                        3 => Err(StorageError::new(MailErrorClass::Params, "enough")),
                        _ => Ok(()),
                    }
                })
                .unwrap_err();
            assert_eq!((calls, error.message.as_str()), (3, "enough"));
        };
        let being_made = root.path().join("dovecot.index.log.newlock");
        std::fs::write(&being_made, b"").unwrap();
        wait(&mut open());
        std::fs::remove_file(&being_made).unwrap();

        let mut holder = open();
        let mut first = Transaction::new(Origin::FACT);
        first.set_uid_validity(7);
        holder.create(&first).unwrap();
        let locked = holder.lock(Duration::ZERO).unwrap();
        let mut other = open();
        wait(&mut other);
        drop(locked);
        other.lock(Duration::ZERO).unwrap();
    }
}
