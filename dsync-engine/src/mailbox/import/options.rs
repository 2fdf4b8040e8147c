//! What an importer is told, and what it reports.

use dsync_proto::items::MailboxInfo;
use dsync_proto::types::{ModSeq, Uid};

use crate::mailbox::{HashSettings, MailboxError};
use crate::{Filters, Problem};

/// How a mailbox is imported (`spec/brain-and-tree.md` 6.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportOptions {
    /// This is the client; its values win a tie.
    pub is_master: bool,
    /// Backup destination: local changes are undone.
    pub revert: bool,
    /// Messages are identified by GUID, not by header hash.
    pub mails_have_guids: bool,
    /// One of the stores keeps only 128-bit GUIDs.
    pub guid128_only: bool,
    /// Bodies come on request; else the peer sends all of them unasked.
    pub want_requests: bool,
    /// The peer's counters.
    pub remote: MailboxInfo,
    /// Which messages are saved.
    pub filters: Filters,
    /// With filters, a message that the peer does not have is taken for expunged only if the peer
    /// says so. Off: as Dovecot, which deletes in a later run what the filter refused
    /// (`spec/mailbox-sync.md` 8).
    pub safe_filters: bool,
    /// How header hashes are made.
    pub hashes: HashSettings,
    /// Messages without any hashed header are taken as equal.
    pub empty_hdr_workaround: bool,
    /// How often saved messages are committed.
    pub commit: CommitInterval,
}

/// A commit is due when one of these is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitInterval {
    /// Messages since the last commit; 0 commits after every one.
    pub messages: u32,
    /// Octets of bodies since the last commit.
    pub bytes: u64,
}

impl Default for CommitInterval {
    fn default() -> Self {
        Self {
            messages: 1000,
            bytes: 64 * 1024 * 1024,
        }
    }
}

/// What to do with the body of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailBody {
    /// Pass it to [`super::Importer::mail_chunk`]. Needed only if a body comes.
    Wanted,
    /// Nobody needs it; passing it on does no harm.
    Ignore,
}

/// Why a backup destination cannot be made equal to its source in place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Deleting mailbox '{mailbox}': {reason}")]
pub struct DeleteMailbox {
    /// Name of the mailbox.
    pub mailbox: String,
    /// Such as `UID=3 GUID=abc is missing locally`.
    pub reason: String,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages saved from a body, all instances counted.
    pub saved: u64,
    /// Messages copied or moved inside the mailbox, without transfer.
    pub copied: u64,
    /// Messages whose flags or keywords changed.
    pub flags_changed: u64,
    /// Messages expunged (not those that only got another UID).
    pub expunged: u64,
    /// Attributes set or removed.
    pub attributes: u64,
    /// Octets of bodies received.
    pub bytes: u64,
}

/// Result of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportResult {
    /// For the state: highest UID up to which both sides agree.
    pub last_common_uid: Uid,
    /// For the state: modseq of the peer up to which its changes were applied.
    pub modseq: ModSeq,
    /// The same for private flags.
    pub pvt_modseq: ModSeq,
    /// Number of messages now.
    pub messages_count: u32,
    /// Something else changed the mailbox meanwhile; the next run will go on.
    pub changes_during_sync: Option<String>,
    /// The mailbox must be synced again without state (`spec/mailbox-sync.md` 5.9).
    pub require_full_resync: bool,
    /// The destination of a backup must be deleted (9.2).
    pub delete_mailbox: Option<DeleteMailbox>,
    /// The mailbox failed; what is safe was kept.
    pub failure: Option<MailboxError>,
    /// Messages that could not be synced.
    pub problems: Vec<Problem>,
    /// What was done.
    pub counters: Counters,
}
