//! Header hashes of local messages (`spec/wire.md` 9).

use std::io::Read;

use bstr::BString;
use dsync_proto::header_hash::{HashVersion, HashedHeaders, HeaderHash};
use dsync_proto::types::Uid;
use dsync_storage::Mailbox;

use super::{MailboxError, Result};

/// Longest header that is hashed, in octets; what follows is ignored.
const MAX_HEADER: usize = 16 * 1024 * 1024;

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

impl HashSettings {
    fn headers(&self) -> HashedHeaders {
        let version = match self.version {
            1 => HashVersion::V1,
            2 => HashVersion::V2,
            _ => HashVersion::V3,
        };
        HashedHeaders::new(version, &self.headers)
    }
}

/// Hash of a message; `None` if it is gone.
pub(crate) fn hash_message(
    mailbox: &mut dyn Mailbox,
    uid: Uid,
    settings: &HashSettings,
) -> Result<Option<HeaderHash>> {
    let name = mailbox.name().to_owned();
    let failed = MailboxError::storage(&name, "Can't lookup header hash");
    let Some(mut message) = mailbox.open_message(uid).map_err(failed)? else {
        return Ok(None);
    };
    let headers = settings.headers();
    let mut hasher = headers.hasher();
    let mut buffer = [0; 8 * 1024];
    let mut total = 0;
    while total < MAX_HEADER {
        let read = message
            .body
            .read(&mut buffer)
            .map_err(|error| MailboxError::read(&name, "Can't lookup header hash", uid, &error))?;
        total += read;
        if read == 0 || hasher.push(&buffer[..read]) {
            break;
        }
    }
    Ok(Some(hasher.finish()))
}
