//! Why there is no session with a doveadm server.

use std::io;

use dsync_proto::doveadm::DoveadmError;

/// A doveadm server could not be reached, or did not let us in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No connection, or it broke.
    #[error("{target}: {error}")]
    Io {
        /// The server.
        target: String,
        /// Why.
        error: io::Error,
    },
    /// It took too long.
    #[error("{target}: no answer for {seconds} seconds (while {doing}); check it and the network")]
    Timeout {
        /// The server.
        target: String,
        /// How long it was waited for.
        seconds: u64,
        /// What was waited for.
        doing: &'static str,
    },
    /// The server closed the connection.
    #[error("{target}: Disconnected from remote: EOF (while {doing}){}", eof_hint(.doing))]
    Closed {
        /// The server.
        target: String,
        /// What was waited for.
        doing: &'static str,
    },
    /// It does not speak the protocol.
    #[error(
        "{target}: {error} (is this a doveadm port, and is TLS used on both sides or on none?)"
    )]
    Protocol {
        /// The server.
        target: String,
        /// What is wrong.
        error: DoveadmError,
    },
    /// A password is needed, and there is none.
    #[error("{target}: doveadm_password not set, can't authenticate to remote server")]
    NoPassword {
        /// The server.
        target: String,
    },
    /// The password is wrong.
    #[error(
        "{target}: doveadm authentication failed (doveadm_password has to be the same on both sides)"
    )]
    WrongPassword {
        /// The server.
        target: String,
    },
    /// TLS was wanted after the greeting, but the server is too old.
    #[error("{target}: doveadm STARTTLS failed: Server does not support it")]
    NoStartTls {
        /// The server.
        target: String,
    },
}

fn eof_hint(doing: &str) -> &'static str {
    if doing == GREETING {
        "; is this a doveadm port, and is TLS used on both sides or on none?"
    } else {
        ""
    }
}

/// The step in which a stranger closes the connection.
pub(super) const GREETING: &str = "waiting for its greeting";

/// The step that depends on the user.
pub(super) const ANSWER: &str = "waiting for the answer to the command";

impl ConnectError {
    /// The server would do the same whoever's mail it was.
    pub fn is_for_all(&self) -> bool {
        match self {
            Self::Timeout { doing, .. } | Self::Closed { doing, .. } => *doing != ANSWER,
            _ => true,
        }
    }

    /// The exit code: always "try again" (`spec/transports-and-cli.md` 18).
    pub fn exit_code(&self) -> u8 {
        75
    }
}
