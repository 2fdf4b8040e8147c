//! Locks on files: `fcntl` locks of the open file description, or `flock`.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dsync_proto::types::MailErrorClass;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::wait::Wait;
use crate::permissions::CreateModes;
use crate::settings::LockMethod;
use crate::unique::random_suffix;
use crate::{Result, StorageError};

/// How often a lock file may vanish under us before we give up.
const MAX_ATTEMPTS: usize = 1000;

/// A lock file that exists only while somebody holds or wants the lock: `mailboxes.lock`,
/// `.dovecot-sync.lock`, `.dovecot-box-sync.lock`.
///
/// Dropping it unlinks the file, then unlocks. If the process is killed, the kernel unlocks; the
/// file that stays behind is harmless and is used by the next locker.
#[derive(Debug)]
pub struct FileLock {
    path: PathBuf,
    file: File,
}

impl FileLock {
    /// Takes the lock, waiting at most `timeout`.
    ///
    /// # Errors
    ///
    /// `Temporary` if somebody else holds it all the time; `NotFound` if the directory is missing.
    pub fn acquire(
        path: &Path,
        modes: &CreateModes,
        method: LockMethod,
        timeout: Duration,
    ) -> Result<Self> {
        let mut wait = Wait::new(timeout);
        for _ in 0..MAX_ATTEMPTS {
            let file = match OpenOptions::new().read(true).write(true).open(path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    match Self::create(path, modes, method)? {
                        Some(lock) => return Ok(lock),
                        None => continue,
                    }
                }
                Err(error) => return Err(StorageError::io("open lock file", path, &error)),
            };
            wait_for(&file, path, method, &mut wait, timeout, &mut || Ok(()))?;
            // The holder before us may have unlinked the file that we waited for.
            if names_file(path, &file)? {
                return Ok(Self {
                    path: path.to_owned(),
                    file,
                });
            }
        }
        Err(StorageError::new(
            MailErrorClass::Temporary,
            format!(
                "cannot lock {}: it was replaced {MAX_ATTEMPTS} times while we waited for it",
                path.display()
            ),
        ))
    }

    /// Creates the lock file in such a way that it is locked from its first moment on; `None` if
    /// somebody else was faster.
    fn create(path: &Path, modes: &CreateModes, method: LockMethod) -> Result<Option<Self>> {
        let mut temp = path.as_os_str().to_owned();
        temp.push(random_suffix());
        let temp = PathBuf::from(temp);
        let file = modes
            .create_new(&temp)
            .map_err(|error| StorageError::io("create lock file", &temp, &error))?;
        // Killed before the unlink: a file with a random suffix stays, which nobody looks at.
        let linked = match try_lock_file(&file, method) {
            Ok(true) => std::fs::hard_link(&temp, path),
            Ok(false) => Err(io::Error::from(io::ErrorKind::WouldBlock)),
            Err(error) => Err(error),
        };
        let _ = std::fs::remove_file(&temp);
        match linked {
            Ok(()) => Ok(Some(Self {
                path: path.to_owned(),
                file,
            })),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(StorageError::io("create lock file", path, &error)),
        }
    }

    /// Path of the lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        if names_file(&self.path, &self.file).unwrap_or(false) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Locks an open file exclusively, waiting at most `timeout`. The lock goes with the last
/// descriptor of this open file description. While it waits, `meanwhile` is called again and
/// again; its error ends the wait.
pub fn lock_file(
    file: &File,
    path: &Path,
    method: LockMethod,
    timeout: Duration,
    meanwhile: &mut dyn FnMut() -> Result<()>,
) -> Result<()> {
    let mut wait = Wait::new(timeout);
    wait_for(file, path, method, &mut wait, timeout, meanwhile)
}

/// Locks an open file exclusively without waiting; `false` if somebody else holds a lock.
pub fn try_lock_file(file: &File, method: LockMethod) -> io::Result<bool> {
    match method {
        LockMethod::Fcntl => {
            let lock = whole_file(libc::F_WRLCK);
            match fcntl(file, FcntlArg::F_OFD_SETLK(&lock)) {
                Ok(_) => Ok(true),
                Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
                Err(error) => Err(error.into()),
            }
        }
        LockMethod::Flock => match file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        },
    }
}

fn wait_for(
    file: &File,
    path: &Path,
    method: LockMethod,
    wait: &mut Wait,
    timeout: Duration,
    meanwhile: &mut dyn FnMut() -> Result<()>,
) -> Result<()> {
    loop {
        match try_lock_file(file, method) {
            Ok(true) => return Ok(()),
            Ok(false) if wait.pause() => meanwhile()?,
            Ok(false) => {
                return Err(StorageError::new(
                    MailErrorClass::Temporary,
                    format!(
                        "cannot lock {}: timed out after {} seconds{}",
                        path.display(),
                        timeout.as_secs(),
                        holder(file, method)
                    ),
                ));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(StorageError::io("lock", path, &error)),
        }
    }
}

/// Who holds the lock, as far as the kernel tells.
fn holder(file: &File, method: LockMethod) -> String {
    let mut lock = whole_file(libc::F_WRLCK);
    if method == LockMethod::Fcntl
        && fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock)).is_ok()
        && lock.l_pid > 0
    {
        format!(" (held by pid {})", lock.l_pid)
    } else {
        " (held by another process or another run of this one)".to_owned()
    }
}

fn whole_file(kind: i32) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// Whether `path` is a name of the open file.
fn names_file(path: &Path, file: &File) -> Result<bool> {
    let open = file
        .metadata()
        .map_err(|error| StorageError::io("stat", path, &error))?;
    match std::fs::symlink_metadata(path) {
        Ok(named) => Ok(named.dev() == open.dev() && named.ino() == open.ino()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StorageError::io("stat", path, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(30);
    const LONG: Duration = Duration::from_secs(60);

    fn acquire(path: &Path, method: LockMethod, timeout: Duration) -> Result<FileLock> {
        FileLock::acquire(path, &CreateModes::default(), method, timeout)
    }

    #[test]
    fn excludes_a_second_locker_and_leaves_no_file() {
        for method in [LockMethod::Fcntl, LockMethod::Flock] {
            let root = tempfile::tempdir().unwrap();
            let path = root.path().join("mailboxes.lock");
            let lock = acquire(&path, method, SHORT).unwrap();
            let error = acquire(&path, method, SHORT).unwrap_err();
            assert_eq!(error.class, MailErrorClass::Temporary);
            assert!(error.message.contains("timed out"), "{error}");
            drop(lock);
            assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
            drop(acquire(&path, method, SHORT).unwrap());
        }
    }

    #[test]
    fn a_file_left_behind_is_used_again() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("l");
        std::fs::write(&path, "").unwrap();
        drop(acquire(&path, LockMethod::Fcntl, SHORT).unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn waits_for_the_holder() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("l");
        let lock = acquire(&path, LockMethod::Fcntl, SHORT).unwrap();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| acquire(&path, LockMethod::Fcntl, LONG).map(drop));
            std::thread::sleep(SHORT);
            drop(lock);
            waiter.join().unwrap().unwrap();
        });
    }

    #[test]
    fn many_threads_never_hold_it_together() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("l");
        let counter = root.path().join("counter");
        std::fs::write(&counter, "0").unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        let _lock = acquire(&path, LockMethod::Fcntl, LONG).unwrap();
                        let text = std::fs::read_to_string(&counter).unwrap();
                        let count: u32 = text.parse().unwrap();
                        std::fs::write(&counter, (count + 1).to_string()).unwrap();
                    }
                });
            }
        });
        assert_eq!(std::fs::read_to_string(&counter).unwrap(), "100");
    }

    #[test]
    fn a_missing_directory_is_told_apart() {
        let root = tempfile::tempdir().unwrap();
        let error = acquire(&root.path().join("no/l"), LockMethod::Fcntl, SHORT).unwrap_err();
        assert_eq!(error.class, MailErrorClass::NotFound);
    }
}
