//! How a run ended.

use std::fmt;

use bstr::BString;
use dsync_proto::items::MailboxState;
use dsync_proto::types::{MailErrorClass, Uid};

/// Exit code of a run that met changes which it could not bring together: run it again.
pub const EXIT_RUN_AGAIN: u8 = 2;

/// One message or mailbox that could not be synced while everything else was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Mailbox name.
    pub mailbox: String,
    /// UID on this side, 0 if it is not about one message.
    pub uid: Uid,
    /// GUID of the message, empty if unknown.
    pub guid: BString,
    /// What is wrong, with the path.
    pub reason: String,
}

impl Problem {
    /// Something about a mailbox, not about one message.
    pub(crate) fn in_mailbox(mailbox: &str, reason: String) -> Self {
        Self {
            mailbox: mailbox.to_owned(),
            uid: 0,
            guid: BString::default(),
            reason,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mailbox {}", self.mailbox)?;
        if self.uid != 0 {
            write!(f, ", UID {}", self.uid)?;
        }
        if !self.guid.is_empty() {
            write!(f, ", GUID {}", self.guid)?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// Who is at fault when a run fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This side: its store, its settings.
    Local,
    /// The peer said or did something wrong, or failed itself.
    Peer,
    /// Somebody asked us to stop.
    Stopped,
}

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RunError {
    /// Who is at fault.
    pub fault: Fault,
    /// Class; decides the exit code.
    pub class: MailErrorClass,
    /// What failed and what to do, in one line.
    pub message: String,
    /// The peer has reported it to its own log; nothing more is known here.
    pub reported_by_peer: bool,
}

impl RunError {
    /// A failure of this side.
    pub fn local(class: MailErrorClass, message: impl Into<String>) -> Self {
        Self {
            fault: Fault::Local,
            class,
            message: message.into(),
            reported_by_peer: false,
        }
    }

    /// A failure of the peer.
    pub fn peer(message: impl Into<String>) -> Self {
        Self {
            fault: Fault::Peer,
            class: MailErrorClass::Temporary,
            message: message.into(),
            reported_by_peer: false,
        }
    }
}

impl From<dsync_storage::StorageError> for RunError {
    fn from(error: dsync_storage::StorageError) -> Self {
        Self::local(error.class, error.message)
    }
}

/// Result of one side of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Why the run failed, if it did.
    pub error: Option<RunError>,
    /// Changes that were met during the run, first reason; the run should be repeated.
    pub run_again: Option<String>,
    /// Some mailbox needs a run without state.
    pub require_full_resync: bool,
    /// State for the next run; meaningless if `require_full_resync` is set.
    pub state: Vec<MailboxState>,
    /// What could not be synced while the rest was.
    pub problems: Vec<Problem>,
}

impl Outcome {
    /// The exit code (`spec/brain-and-tree.md` 8).
    pub fn exit_code(&self) -> u8 {
        match &self.error {
            Some(error) if self.run_again.is_some() && error.class.exit_code() != 75 => {
                EXIT_RUN_AGAIN
            }
            Some(error) => error.class.exit_code(),
            None if self.run_again.is_some() || !self.problems.is_empty() => EXIT_RUN_AGAIN,
            None => 0,
        }
    }
}
