//! What a run shall do.

use bstr::BString;
use dsync_proto::items::{Handshake, MailboxState, SyncType};
use dsync_proto::types::Guid;

/// Key in the handshake item by which two of ours recognise each other; Dovecot ignores it.
pub const EXTENSION_KEY: &str = "dsync_ext";

/// Direction of a run, as the client sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// `sync`: both sides get all changes.
    #[default]
    TwoWay,
    /// `backup`: the destination becomes equal to the source.
    Backup,
    /// `sync -1`: the destination gets the source's changes and keeps its own.
    OneWay,
}

/// What this side may do in this run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Reads and writes.
    #[default]
    Both,
    /// Source of a one-way run: never writes.
    Send,
    /// Destination of a one-way run.
    Receive,
}

/// Which messages are synced (`spec/mailbox-sync.md` 8); all conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    /// Received at or after; seconds since the epoch, 0 for no limit.
    pub since: i64,
    /// Received at or before; seconds since the epoch, 0 for no limit.
    pub until: i64,
    /// Largest size in octets with CRLF line ends, 0 for no limit.
    pub max_size: u64,
    /// A system flag or keyword that must be set, or with a leading `-` must not be set.
    pub flag: Option<BString>,
}

impl Filters {
    /// Whether every message passes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// All options of a run; the client sends them to the server in the handshake.
#[derive(Clone, Debug, PartialEq)]
pub struct SyncOptions {
    /// Two-way, backup or one-way.
    pub mode: Mode,
    /// `-R`: the server is the source of a one-way run.
    pub reverse: bool,
    /// How much is compared.
    pub sync_type: SyncType,
    /// `-s`: saved state of earlier runs, one entry per mailbox.
    pub state: Vec<MailboxState>,
    /// `-m`: only this mailbox, a LIST pattern, or a special use (`\Sent`).
    pub mailbox: Option<BString>,
    /// `-g`: only the mailbox with this GUID.
    pub mailbox_guid: Option<Guid>,
    /// `-x`: masks and special uses to leave out.
    pub exclude: Vec<BString>,
    /// `-n`: only namespaces with these prefixes.
    pub namespaces: Option<Vec<BString>>,
    /// `-N`: all visible namespaces.
    pub all_namespaces: bool,
    /// `-m ''`: only the mailbox tree.
    pub tree_only: bool,
    /// `-P`: the server purges its stores after a successful run.
    pub purge_remote: bool,
    /// `-a`: virtual mailbox with all messages, to copy from.
    pub virtual_all: Option<BString>,
    /// Which messages are synced.
    pub filters: Filters,
    /// `-l`: user lock with this timeout in seconds; 0 for none.
    pub lock_timeout: u32,
    /// `-D`
    pub debug: bool,
    /// Messages without any hashed header may be taken as equal.
    pub empty_hdr_workaround: bool,
    /// Header fields of the header hash, never empty.
    pub hashed_headers: Vec<BString>,
    /// Replaces what a mailbox name cannot hold.
    pub alt_char: u8,
    /// Messages per commit, at least 1.
    pub commit_interval: u32,
}

impl Default for SyncOptions {
    fn default() -> Self {
        Self {
            mode: Mode::TwoWay,
            reverse: false,
            sync_type: SyncType::Changed,
            state: Vec::new(),
            mailbox: None,
            mailbox_guid: None,
            exclude: Vec::new(),
            namespaces: None,
            all_namespaces: false,
            tree_only: false,
            purge_remote: false,
            virtual_all: None,
            filters: Filters::default(),
            lock_timeout: 0,
            debug: false,
            empty_hdr_workaround: false,
            hashed_headers: vec!["Date".into(), "Message-ID".into()],
            alt_char: b'_',
            commit_interval: 100,
        }
    }
}

impl SyncOptions {
    /// The direction of the client.
    pub fn client_direction(&self) -> Direction {
        match (self.mode, self.reverse) {
            (Mode::TwoWay, _) => Direction::Both,
            (_, false) => Direction::Send,
            (_, true) => Direction::Receive,
        }
    }

    /// The direction of the server.
    pub fn server_direction(&self) -> Direction {
        match self.client_direction() {
            Direction::Both => Direction::Both,
            Direction::Send => Direction::Receive,
            Direction::Receive => Direction::Send,
        }
    }

    /// The client's handshake item (`spec/brain-and-tree.md` 2.2).
    pub fn to_handshake(&self, hostname: BString) -> Handshake {
        let server = self.server_direction();
        Handshake {
            hostname,
            sync_ns_prefixes: self.namespaces.clone(),
            sync_box: self.mailbox.clone(),
            sync_box_guid: self.mailbox_guid,
            sync_type: Some(self.sync_type),
            debug: self.debug,
            sync_visible_namespaces: self.all_namespaces,
            exclude_mailboxes: self.exclude.clone(),
            send_mail_requests: true,
            backup_send: server == Direction::Send,
            backup_recv: server == Direction::Receive,
            lock_timeout: self.lock_timeout,
            no_mail_sync: self.tree_only,
            no_backup_overwrite: self.mode == Mode::OneWay,
            purge_remote: self.purge_remote,
            no_notify: false,
            sync_since_timestamp: self.filters.since,
            sync_max_size: self.filters.max_size,
            sync_flags: self.filters.flag.clone(),
            sync_until_timestamp: self.filters.until,
            virtual_all_box: self.virtual_all.clone(),
            empty_hdr_workaround: self.empty_hdr_workaround,
            import_commit_msgs_interval: self.commit_interval,
            hashed_headers: Some(self.hashed_headers.clone()),
            alt_char: Some(self.alt_char),
            extensions: extensions(),
        }
    }

    /// The options that a server takes from the client's handshake (`spec/brain-and-tree.md` 2.3).
    ///
    /// `alt_char` is the server's own setting for a client that sends none.
    pub fn from_handshake(handshake: &Handshake, alt_char: u8) -> Self {
        let defaults = Self::default();
        let mode = match (handshake.backup_send || handshake.backup_recv, handshake) {
            (false, _) => Mode::TwoWay,
            (true, handshake) if handshake.no_backup_overwrite => Mode::OneWay,
            (true, _) => Mode::Backup,
        };
        let hashed_headers: Vec<BString> = handshake
            .hashed_headers
            .iter()
            .flatten()
            .filter(|name| !name.is_empty())
            .cloned()
            .collect();
        Self {
            mode,
            reverse: handshake.backup_send,
            sync_type: handshake.sync_type.unwrap_or(SyncType::Full),
            state: Vec::new(),
            mailbox: handshake.sync_box.clone(),
            mailbox_guid: handshake.sync_box_guid,
            exclude: handshake.exclude_mailboxes.clone(),
            namespaces: handshake.sync_ns_prefixes.clone(),
            all_namespaces: handshake.sync_visible_namespaces,
            tree_only: handshake.no_mail_sync,
            purge_remote: handshake.purge_remote,
            virtual_all: handshake.virtual_all_box.clone(),
            filters: Filters {
                since: handshake.sync_since_timestamp,
                until: handshake.sync_until_timestamp,
                max_size: handshake.sync_max_size,
                flag: handshake.sync_flags.clone(),
            },
            lock_timeout: handshake.lock_timeout,
            debug: handshake.debug,
            empty_hdr_workaround: handshake.empty_hdr_workaround,
            hashed_headers: if hashed_headers.is_empty() {
                defaults.hashed_headers
            } else {
                hashed_headers
            },
            alt_char: handshake.alt_char.unwrap_or(alt_char),
            commit_interval: match handshake.import_commit_msgs_interval {
                0 => defaults.commit_interval,
                interval => interval,
            },
        }
    }
}

/// The extra keys of our own handshake.
pub(crate) fn extensions() -> Vec<(BString, BString)> {
    vec![(EXTENSION_KEY.into(), "1".into())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_survive_the_handshake() {
        for (mode, reverse) in [
            (Mode::TwoWay, false),
            (Mode::Backup, false),
            (Mode::Backup, true),
            (Mode::OneWay, false),
            (Mode::OneWay, true),
        ] {
            let options = SyncOptions {
                mode,
                reverse,
                sync_type: SyncType::State,
                exclude: vec!["Trash".into()],
                lock_timeout: 3,
                ..SyncOptions::default()
            };
            let handshake = options.to_handshake("host".into());
            assert_eq!(SyncOptions::from_handshake(&handshake, b'?'), options);
        }
    }

    #[test]
    fn reverse_without_one_way_has_no_effect() {
        let options = SyncOptions {
            reverse: true,
            ..SyncOptions::default()
        };
        assert_eq!(options.client_direction(), Direction::Both);
    }
}
