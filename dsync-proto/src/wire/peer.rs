//! What the peer's banner and header lines say.

use bstr::BString;

use super::dialect::{Dialect, MINOR};
use crate::header_hash::HashVersion;
use crate::wire::codec::ALL_SPECS;

/// The peer's version and the keys that it knows (`spec/wire.md` 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// Minor version and header lines, as received. Unknown keys and item types are included.
    pub dialect: Dialect,
}

impl PeerInfo {
    /// Minor version that the peer announced, any number.
    pub fn minor(&self) -> u32 {
        self.dialect.minor
    }

    /// What both sides can do: the lower of the peer's minor version and ours.
    pub fn effective_minor(&self) -> u32 {
        self.minor().min(MINOR)
    }

    /// Whether attribute lists are exchanged with this peer (from minor 1).
    pub fn has_attributes(&self) -> bool {
        self.minor() >= 1
    }

    /// Whether a `B` with `have_guids` implies `have_save_guids` (below minor 2). The decoder
    /// has applied it already.
    pub fn implies_save_guids(&self) -> bool {
        self.minor() < 2
    }

    /// Whether a client waits for `F` from this peer (from minor 3).
    pub fn has_finish(&self) -> bool {
        self.minor() >= 3
    }

    /// Version of the header hash to use with this peer.
    ///
    /// Minor 4 should mean version 2, but Dovecot uses 3 then, too (`spec/wire.md` 3.2).
    pub fn hash_version(&self) -> HashVersion {
        match self.minor() {
            0..=3 => HashVersion::V1,
            _ => HashVersion::V3,
        }
    }

    /// Whether `H` carries `import_commit_msgs_interval`: Dovecot up to 2.3, but not 2.4.
    pub fn has_commit_interval(&self) -> bool {
        self.dialect.has_key(b'H', b"import_commit_msgs_interval")
    }

    /// Keys of `H` that Dovecot does not know, in the peer's order.
    pub fn extra_handshake_keys(&self) -> impl Iterator<Item = &BString> {
        let handshake = ALL_SPECS.iter().find(|spec| spec.letter == b'H');
        let known = move |name: &BString| {
            handshake.is_some_and(|spec| spec.keys.iter().any(|key| name == key.name))
        };
        self.dialect
            .keys(b'H')
            .iter()
            .filter(move |name| !known(name))
    }
}
