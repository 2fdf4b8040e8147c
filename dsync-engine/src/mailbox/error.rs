//! What can go wrong with one mailbox, and who is at fault.

use dsync_proto::types::{MailErrorClass, MailGuid, Uid};
use dsync_storage::StorageError;

/// Result of an operation on one mailbox.
pub type Result<T, E = MailboxError> = std::result::Result<T, E>;

/// Why the synchronisation of a mailbox failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MailboxError {
    /// Our own mail store failed.
    #[error("Mailbox {mailbox}: {what}: {source}")]
    Storage {
        /// Name of the mailbox.
        mailbox: String,
        /// What was attempted, as in "Saving failed".
        what: &'static str,
        /// The error of the store.
        source: StorageError,
    },
    /// The remote side broke the protocol or did not keep a promise.
    #[error("Mailbox {mailbox}: {fault}")]
    Peer {
        /// Name of the mailbox.
        mailbox: String,
        /// What it did.
        fault: PeerFault,
    },
    /// There is no UID left for new messages.
    #[error("Mailbox {mailbox}: no UIDs are left; the mailbox must get a new UIDVALIDITY")]
    UidsExhausted {
        /// Name of the mailbox.
        mailbox: String,
    },
    /// A storage without message GUIDs in a run that needs them.
    #[error(
        "Mailbox {mailbox}: Backend doesn't support GUIDs, sync with header hashes instead \
         (message UID={uid} has none)"
    )]
    NoLocalGuid {
        /// Name of the mailbox.
        mailbox: String,
        /// A message without GUID.
        uid: Uid,
    },
}

impl MailboxError {
    /// Class that decides the exit code of the run.
    pub fn class(&self) -> MailErrorClass {
        match self {
            Self::Storage { source, .. } => source.class,
            Self::Peer { .. } | Self::UidsExhausted { .. } | Self::NoLocalGuid { .. } => {
                MailErrorClass::Temporary
            }
        }
    }

    /// Whether the remote side is to blame.
    pub fn is_peer_fault(&self) -> bool {
        matches!(self, Self::Peer { .. })
    }

    /// For `map_err`: a failure of the store while doing `what`.
    pub(crate) fn storage<'a>(
        mailbox: &'a str,
        what: &'static str,
    ) -> impl FnOnce(StorageError) -> Self + 'a {
        move |source| Self::Storage {
            mailbox: mailbox.to_owned(),
            what,
            source,
        }
    }

    /// A message that could be opened but not read.
    pub(crate) fn read(
        mailbox: &str,
        what: &'static str,
        uid: Uid,
        error: &std::io::Error,
    ) -> Self {
        Self::Storage {
            mailbox: mailbox.to_owned(),
            what,
            source: StorageError::new(
                MailErrorClass::Temporary,
                format!("cannot read UID={uid}: {error}"),
            ),
        }
    }

    pub(crate) fn peer(mailbox: &str, fault: PeerFault) -> Self {
        Self::Peer {
            mailbox: mailbox.to_owned(),
            fault,
        }
    }
}

/// How the remote side broke the protocol (`spec/mailbox-sync.md` 15 and 16).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerFault {
    /// `C` UIDs must rise.
    #[error("Remote sent changes out of order: UID={uid} after UID={previous}")]
    ChangesNotAscending {
        /// The UID that came too late.
        uid: Uid,
        /// The one before.
        previous: Uid,
    },
    /// A UID that no message can have.
    #[error("Remote sent a change for UID={uid}, which no message can have")]
    InvalidUid {
        /// The UID.
        uid: Uid,
    },
    /// A UIDNEXT that leaves no UIDs.
    #[error("Remote's UIDNEXT {uid_next} is not possible; the mailbox there is damaged")]
    InvalidUidNext {
        /// The UIDNEXT.
        uid_next: Uid,
    },
    /// A modseq that leaves no room to count on.
    #[error("Remote's modseq {modseq} is not possible; the mailbox there is damaged")]
    InvalidModseq {
        /// The modseq.
        modseq: u64,
    },
    /// `f` above the last common UID, or without any common state.
    #[error("Remote sent a flag change for UID={uid} above the last common UID={common}")]
    FlagsAboveCommonUid {
        /// The UID.
        uid: Uid,
        /// Last common UID of the run.
        common: Uid,
    },
    /// `s` below or at the last common UID of a stateful run.
    #[error("Remote sent a new message UID={uid} below the last common UID={common}")]
    SaveBelowCommonUid {
        /// The UID.
        uid: Uid,
        /// Last common UID of the run.
        common: Uid,
    },
    /// A new message without GUID, when messages are identified by GUID.
    #[error("Remote sent UID={uid} without GUID, though both sides announced GUIDs")]
    MissingGuid {
        /// The UID.
        uid: Uid,
    },
    /// A new message without header hash, when messages are identified by it.
    #[error(
        "GUIDs not supported, sync with header hashes instead (remote sent none for UID={uid})"
    )]
    MissingHash {
        /// The UID.
        uid: Uid,
    },
    /// A GUID of an expunge that is not 32 hex digits.
    #[error("Remote sent an expunge of UID={uid} with the GUID {guid}, which is not 128-bit")]
    InvalidExpungeGuid {
        /// The UID.
        uid: Uid,
        /// What was sent.
        guid: MailGuid,
    },
    /// A request for a GUID that was not announced.
    #[error("Remote requested unexpected GUID {guid}")]
    UnexpectedGuidRequested {
        /// The GUID.
        guid: MailGuid,
    },
    /// A request for a UID that was not announced.
    #[error("Remote requested unexpected UID={uid}")]
    UnexpectedUidRequested {
        /// The UID.
        uid: Uid,
    },
    /// A request with neither GUID nor UID.
    #[error("Remote sent a request for no message at all")]
    EmptyRequest,
    /// Requested messages did not come.
    #[error(
        "Remote didn't send mail GUID={guid} (UID={uid}) and {more} more; \
         run again, what arrived in order is kept"
    )]
    MailsMissing {
        /// GUID of the first one, may be empty.
        guid: MailGuid,
        /// Its UID on the remote side.
        uid: Uid,
        /// How many more.
        more: usize,
    },
    /// The last body has no end.
    #[error("Remote sent only a part of a message body")]
    IncompleteBody,
    /// A body without the message it belongs to.
    #[error("Remote sent a message body that belongs to no message")]
    UnexpectedBody,
    /// Changes after their end.
    #[error("Remote sent a change for UID={uid} after the end of the list")]
    ChangeAfterEnd {
        /// The UID.
        uid: Uid,
    },
    /// The end of the list came twice.
    #[error("Remote ended the list of changes twice")]
    SecondEnd,
    /// An attribute whose value did not come with it.
    #[error("Remote sent attribute {key} without a value")]
    AttributeWithoutValue {
        /// The key.
        key: String,
    },
}
