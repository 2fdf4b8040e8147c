//! Mistakes on the command line.

/// What is wrong with the command line, what to do, and the exit code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct UsageError {
    /// One line.
    pub message: String,
    /// 64 for usage, 75 where Dovecot gives 75 (`spec/transports-and-cli.md` 18).
    pub exit_code: u8,
}

impl UsageError {
    /// An error with exit code 64.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            exit_code: 64,
        }
    }

    /// A wrong option value that Dovecot treats as a failed run: exit code 75.
    pub fn value(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            exit_code: 75,
        }
    }
}
