//! Failures of a run, in words.

use dsync_proto::items::Item;

use crate::mailbox::MailboxError;
use crate::{Fault, RunError};

/// An item that must not come now.
pub(super) fn unexpected(item: &Item, expected: &str) -> RunError {
    RunError::peer(format!(
        "Received unexpected input: {} instead of {expected}; the remote side does not follow the \
         protocol",
        item.name()
    ))
}

/// A failure inside a mailbox.
pub(super) fn mailbox_error(error: MailboxError) -> RunError {
    let fault = if error.is_peer_fault() {
        Fault::Peer
    } else {
        Fault::Local
    };
    RunError {
        fault,
        ..RunError::local(error.class(), error.to_string())
    }
}
