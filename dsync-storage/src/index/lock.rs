//! The lock of a log: fcntl, owned by the open file (`spec/dovecot-index.md` 8).
//!
//! Open-file-description locks exclude Dovecot's classic fcntl locks and other threads, and do
//! not vanish when another descriptor of the file is closed.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use dsync_proto::types::MailErrorClass;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::{Result, StorageError};

const FIRST_WAIT: Duration = Duration::from_millis(5);
const LONGEST_WAIT: Duration = Duration::from_millis(100);

fn whole_file(kind: i32) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// Takes the exclusive lock; waits at most until `deadline`.
pub(crate) fn lock(file: &File, path: &Path, deadline: Instant) -> Result<()> {
    let wanted = whole_file(libc::F_WRLCK);
    let mut pause = FIRST_WAIT;
    loop {
        match fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&wanted)) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => continue,
            Err(Errno::EAGAIN | Errno::EACCES) => {}
            Err(Errno::EBADF) => {
                return Err(StorageError::new(
                    MailErrorClass::Permission,
                    format!("cannot lock {}: no permission to write", path.display()),
                ));
            }
            Err(error) => return Err(StorageError::io("lock", path, &error.into())),
        }
        wait(path, deadline, &mut pause)?;
    }
}

/// Waits a moment, longer each time; fails when the deadline is over.
pub(crate) fn wait(path: &Path, deadline: Instant, pause: &mut Duration) -> Result<()> {
    let Some(left) = deadline.checked_duration_since(Instant::now()) else {
        return Err(StorageError::new(
            MailErrorClass::InUse,
            format!(
                "{} is locked by another process; gave up waiting, try again later",
                path.display()
            ),
        ));
    };
    std::thread::sleep((*pause).min(left));
    *pause = (*pause * 2).min(LONGEST_WAIT);
    Ok(())
}

/// Gives the lock up.
pub(crate) fn unlock(file: &File) {
    // Fails only for a descriptor without such locks, where there is nothing to give up.
    let _ = fcntl(
        file.as_fd(),
        FcntlArg::F_OFD_SETLK(&whole_file(libc::F_UNLCK)),
    );
}
