//! `H` handshake: hostname, and from the client all options of the run.

use bstr::BString;

use crate::types::Guid;

/// How much of a mailbox is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SyncType {
    /// `f`: every mailbox, every message.
    Full,
    /// `c`: only mailboxes whose counters differ.
    #[default]
    Changed,
    /// `s`: changes since the saved state.
    State,
}

/// Hostname and options; a server fills only `hostname` and `hashed_headers` (`spec/wire.md` 5).
///
/// `None` and `false` mean that the key is absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Handshake {
    /// Fully qualified name of the sender's host; decides who takes the user lock.
    pub hostname: BString,
    /// Prefixes of the namespaces to sync; `None` for the default selection.
    pub sync_ns_prefixes: Option<Vec<BString>>,
    /// Only mailboxes that match this pattern or special use.
    pub sync_box: Option<BString>,
    /// Only the mailbox with this GUID.
    pub sync_box_guid: Option<Guid>,
    /// How much is compared; absent behaves as [`SyncType::Full`].
    pub sync_type: Option<SyncType>,
    /// The client wants debug output.
    pub debug: bool,
    /// All visible namespaces.
    pub sync_visible_namespaces: bool,
    /// Masks and special uses to leave out.
    pub exclude_mailboxes: Vec<BString>,
    /// Bodies are sent only on request.
    pub send_mail_requests: bool,
    /// The server is the source of a one-way run.
    pub backup_send: bool,
    /// The server is the destination of a one-way run.
    pub backup_recv: bool,
    /// Timeout of the user lock in seconds; 0 for no lock.
    pub lock_timeout: u32,
    /// Only the mailbox tree.
    pub no_mail_sync: bool,
    /// One-way merge: nothing is deleted in the destination.
    pub no_backup_overwrite: bool,
    /// The server purges its storage at the end.
    pub purge_remote: bool,
    /// No notifications about changes.
    pub no_notify: bool,
    /// Only messages received since then, seconds since the epoch; 0 for all.
    pub sync_since_timestamp: i64,
    /// Only messages of at most this many octets; 0 for all.
    pub sync_max_size: u64,
    /// A flag or keyword that messages must have, or must not have (leading `-`).
    pub sync_flags: Option<BString>,
    /// Only messages received until then, seconds since the epoch; 0 for all.
    pub sync_until_timestamp: i64,
    /// Virtual mailbox with all messages, to copy from.
    pub virtual_all_box: Option<BString>,
    /// Messages without any of the hashed headers may be taken as equal.
    pub empty_hdr_workaround: bool,
    /// Messages per commit; 0 if absent.
    pub import_commit_msgs_interval: u32,
    /// Header fields of the header hash. Empty from a server; never empty from a client.
    pub hashed_headers: Option<Vec<BString>>,
    /// Replaces what a mailbox name cannot hold.
    pub alt_char: Option<u8>,
    /// Keys that Dovecot does not know: how two of ours recognise each other.
    pub extensions: Vec<(BString, BString)>,
}
