//! What goes wrong, and the lines about it.

use std::io::{self, Write};

use dsync_config::ConfigError;
use dsync_server::PrefixError;
use dsync_transport::net::TlsError;

/// Why nothing could be served: one line and an exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) exit_code: u8,
}

impl Failure {
    fn new(exit_code: u8, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            exit_code,
        }
    }

    pub(crate) fn temporary(message: impl Into<String>) -> Self {
        Self::new(75, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(64, message)
    }

    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::new(78, message)
    }
}

impl From<PrefixError> for Failure {
    fn from(error: PrefixError) -> Self {
        Self::new(error.exit_code(), error.to_string())
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(error.exit_code(), error.to_string())
    }
}

impl From<TlsError> for Failure {
    fn from(error: TlsError) -> Self {
        Self::config(error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::temporary(format!("cannot start: {error}"))
    }
}

/// A line about what went wrong. It is ignored if nobody listens.
pub(crate) fn say(text: &str) {
    note(&format!("error: {text}"));
}

/// A line about what happens.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "dsync-server: {text}");
}

/// Nothing is lost by it: every step of the stores is safe against a sudden end.
#[expect(
    clippy::exit,
    reason = "the sender of the signal does not want to wait"
)]
pub(crate) fn leave_at_once(signal: &str) {
    say(&format!(
        "ended at once by a second signal ({signal}); run it again"
    ));
    std::process::exit(75);
}
