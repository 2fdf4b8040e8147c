//! Every limit on what a peer may make us hold in memory, in one place.
//!
//! Dovecot itself has no limits. These are far above anything it sends, and a peer that exceeds
//! one gets a typed error that names the limit.

/// Default for [`Limits::line`]: 64 MiB. Cache fields, `D` lists and attribute values can be long.
pub const LINE: usize = 64 * 1024 * 1024;

/// Longest line before the first item: banner and header lines, in bytes.
pub const HEADER_LINE: usize = 64 * 1024;

/// Most lines in the header block, empty and unknown ones included.
pub const HEADER_LINES: usize = 512;

/// Most keys in one header line.
pub const HEADER_KEYS: usize = 1024;

/// Most elements of a list inside one value (keywords, name parts, masks, cache fields): an
/// element can be one byte on the wire, but takes many in memory.
pub const LIST: usize = 65_536;

/// Longest piece of a peer's bytes that an error text repeats.
pub const ERROR_EXCERPT: usize = 200;

/// Longest `-s` state string in bytes of base64: about a million mailboxes.
pub const STATE_STRING: usize = 64 * 1024 * 1024;

/// Longest header field name that is compared with the hashed headers; longer ones never match.
pub const HEADER_NAME: usize = 1024;

/// Longest line of the doveadm protocol that a server accepts, as in Dovecot.
pub const DOVEADM_COMMAND: usize = 1024 * 1024;

/// Longest handshake line that a doveadm client accepts, as in Dovecot.
pub const DOVEADM_HANDSHAKE: usize = 32 * 1024;

/// Longest answer to a doveadm command, printed fields included.
pub const DOVEADM_REPLY: usize = 64 * 1024 * 1024;

/// Longest line of the doveadm log channel; the rest of a longer one is cut off.
pub const DOVEADM_LOG: usize = 64 * 1024;

/// Limits that a caller may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest item line in bytes, without its line end. Bodies have no limit: they are streamed.
    pub line: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { line: LINE }
    }
}
