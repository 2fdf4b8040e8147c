//! Errors of mail stores.

use std::io;
use std::path::Path;

use dsync_proto::types::MailErrorClass;

/// Result of a storage operation.
pub type Result<T, E = StorageError> = std::result::Result<T, E>;

/// Why a storage operation failed, in words for the person who runs the program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StorageError {
    /// Class; decides the exit code and what the engine does next.
    pub class: MailErrorClass,
    /// What failed, with the path, and what can be done where that is known.
    pub message: String,
}

impl StorageError {
    /// An error of this class.
    pub fn new(class: MailErrorClass, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
        }
    }

    /// A failed system call: `what` is a verb phrase such as `open`, the path follows.
    pub fn io(what: &str, path: &Path, error: &io::Error) -> Self {
        let class = match error.kind() {
            io::ErrorKind::NotFound => MailErrorClass::NotFound,
            io::ErrorKind::PermissionDenied => MailErrorClass::Permission,
            io::ErrorKind::AlreadyExists => MailErrorClass::Exists,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => MailErrorClass::Quota,
            _ => MailErrorClass::Temporary,
        };
        Self::new(class, format!("cannot {what} {}: {error}", path.display()))
    }
}
