//! Settings of the header hash (`spec/wire.md` 9).

use bstr::BString;

/// What is hashed, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashSettings {
    /// Names of the header fields; empty names are ignored.
    pub headers: Vec<BString>,
    /// Version 1, 2 or 3; Dovecot 2.3 and 2.4 use 3 among themselves.
    pub version: u8,
}

impl Default for HashSettings {
    fn default() -> Self {
        Self {
            headers: vec!["Date".into(), "Message-ID".into()],
            version: 3,
        }
    }
}
