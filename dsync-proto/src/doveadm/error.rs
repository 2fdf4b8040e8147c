//! What can be wrong with the bytes of the other side.

use bstr::BString;
use thiserror::Error;

/// The other side broke the doveadm protocol; the connection must be closed.
///
/// Where Dovecot logs something, the text is Dovecot's.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DoveadmError {
    /// To a server: the first line is not a version that we know. Close without an answer.
    #[error("doveadm client sent invalid handshake: {0}")]
    ClientHandshake(BString),
    /// To a client: neither a version nor a status line. Is this a doveadm port?
    #[error("doveadm server sent invalid handshake: {0}")]
    ServerHandshake(BString),
    /// Something other than `PLAIN`. The line is not repeated: it may hold a password.
    #[error("doveadm client attempted non-PLAIN authentication")]
    NotPlain,
    /// The data after `PLAIN` is not base64, or does not hold a user name and a password.
    #[error("doveadm client sent invalid base64 auth PLAIN data")]
    InvalidPlain,
    /// The client wants to act as somebody else.
    #[error("doveadm client didn't authenticate as 'doveadm'")]
    NotDoveadm,
    /// A command line with an unknown flag. Close without a reply.
    #[error("doveadm client: Unknown flag: {}", .0.escape_ascii())]
    UnknownFlag(u8),
    /// A command line without a command. Close without a reply.
    #[error("doveadm client: No command given")]
    NoCommand,
    /// A reply that ends with neither `+` nor `-`.
    #[error("doveadm server sent invalid status line: {0}")]
    InvalidStatus(BString),
    /// The connection ended inside a packet.
    #[error("Unexpected EOF - {0} bytes remaining in packet")]
    EofInPacket(u32),
    /// A limit of [`crate::limits`] was exceeded.
    #[error("doveadm peer sent too much: {what} is limited to {limit}")]
    LimitExceeded {
        /// What is limited.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}
