//! Header hash: how messages are recognised where GUIDs cannot be used (`spec/wire.md` 9).

/// Version of the normalisation, see [`PeerInfo::hash_version`](crate::wire::PeerInfo).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HashVersion {
    /// As it is.
    V1,
    /// 8-bit and control characters count as one `?`.
    V2,
    /// As version 2, and blanks are dropped.
    V3,
}
