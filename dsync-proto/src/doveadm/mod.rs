//! The doveadm protocol: what a client and a server say before a dsync session over TCP
//! (`spec/transports-and-cli.md` 9).
//!
//! Only bytes to values and back. In the order in which it happens:
//!
//! 1. [`Greeting`] - versions, and whether a password is needed.
//! 2. [`AuthLine`] - TLS, user name and password.
//! 3. From here on the server's side is split into packets ([`multiplex`]) if both minor
//!    versions are at least 1; its log channel carries [`LogLine`]s.
//! 4. [`ClientLine`] - commands.
//! 5. [`Reply`] - printed fields and [`Status`]. After a successful `dsync-server` command both
//!    directions are a dsync session.

mod auth;
mod command;
mod error;
mod greeting;
mod lines;
mod log;
pub mod multiplex;
mod reply;
mod status;

pub use auth::{AuthLine, Credentials};
pub use command::{ClientLine, Command};
pub use error::DoveadmError;
pub use greeting::{Greeting, client_version, parse_client_version};
pub use lines::Lines;
pub use log::{LogDecoder, LogLevel, LogLine};
pub use reply::{Reply, ReplyDecoder};
pub use status::{Status, StatusName};

/// The minor version to announce: TLS on request and packets, but neither `OPTION` nor extra
/// fields.
pub const MINOR: u32 = 2;

/// From this minor version on, of both sides, the server's side is split into packets.
pub const MINOR_MULTIPLEX: u32 = 1;

/// From this minor version on, a server takes `STARTTLS`.
pub const MINOR_STARTTLS: u32 = 2;

/// From this minor version on, there are `OPTION` lines and extra fields.
pub const MINOR_EXTRA_FIELDS: u32 = 3;

/// The only user name that a Dovecot server takes.
pub const USERNAME: &str = "doveadm";
