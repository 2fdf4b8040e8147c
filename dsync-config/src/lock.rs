//! The lock of a user against a second run (`spec/brain-and-tree.md` 4.1).

use std::path::PathBuf;
use std::time::Duration;

use dsync_engine::UserLock;
use dsync_proto::types::MailErrorClass;
use dsync_storage::StorageError;
use dsync_storage::lock::FileLock;
use dsync_storage::permissions::CreateModes;
use dsync_storage::settings::LockMethod;

use crate::User;

/// Name of the lock file in the user's home directory.
const FILE_NAME: &str = ".dovecot-sync.lock";

/// `.dovecot-sync.lock` in the user's home directory. Which side takes it is the brain's decision.
///
/// Always an fcntl lock, whatever `lock_method` says. Killed at any moment: the kernel unlocks,
/// and the file that stays behind is used again.
#[derive(Debug)]
pub struct HomeLock {
    home: Option<PathBuf>,
    held: Option<FileLock>,
}

impl HomeLock {
    /// The lock of this user, not taken yet.
    pub fn new(user: &User) -> Self {
        Self {
            home: user.home.clone(),
            held: None,
        }
    }
}

impl UserLock for HomeLock {
    fn lock(&mut self, timeout: Duration) -> Result<(), StorageError> {
        let Some(home) = &self.home else {
            return Err(StorageError::new(
                MailErrorClass::Temporary,
                "User has no home directory for the lock of -l; give -o mail_home=DIR",
            ));
        };
        let path = home.join(FILE_NAME);
        let acquire =
            || FileLock::acquire(&path, &CreateModes::default(), LockMethod::Fcntl, timeout);
        let lock = match acquire() {
            Err(error) if error.class == MailErrorClass::NotFound => {
                CreateModes::default()
                    .create_dir_all(home)
                    .map_err(|error| StorageError::io("create", home, &error))?;
                acquire()
            }
            result => result,
        };
        self.held = Some(lock.map_err(|error| {
            StorageError::new(
                error.class,
                format!("Couldn't lock {}: {}", path.display(), error.message),
            )
        })?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(home: Option<PathBuf>) -> HomeLock {
        HomeLock::new(&User {
            name: "joe".into(),
            home,
            ..User::default()
        })
    }

    #[test]
    fn only_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        let mut first = lock(Some(home.clone()));
        first.lock(Duration::ZERO).unwrap();
        assert!(home.join(FILE_NAME).exists());
        let mut second = lock(Some(home.clone()));
        let error = second.lock(Duration::ZERO).unwrap_err();
        assert_eq!(error.class.exit_code(), 75);
        assert!(error.message.starts_with("Couldn't lock "), "{error}");
        drop(first);
        assert!(!home.join(FILE_NAME).exists());
        second.lock(Duration::ZERO).unwrap();
    }

    #[test]
    fn no_home_no_lock() {
        let error = lock(None).lock(Duration::ZERO).unwrap_err();
        assert!(error.message.contains("mail_home"), "{error}");
    }
}
