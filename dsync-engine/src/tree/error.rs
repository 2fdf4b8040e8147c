//! Errors of the tree phase.

use bstr::BString;
use dsync_proto::types::{Guid, MailErrorClass};
use dsync_storage::StorageError;

/// Why the mailbox trees could not be brought together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// The local store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The configuration lets two namespaces serve one mailbox.
    #[error("Mailbox '{name}' exists in two namespaces; check their prefixes")]
    TwoNamespaces {
        /// Full name.
        name: String,
    },
    /// The peer has a name that no synced namespace covers.
    #[error("Couldn't find namespace for mailbox {name}; both sides need the same namespaces")]
    NoNamespace {
        /// Full name, with the local separator.
        name: BString,
    },
    /// The peer broke the protocol: one GUID, two nodes.
    #[error("Remote sent duplicate mailbox GUID {guid} for mailboxes {first} and {second}")]
    DuplicateGuid {
        /// The GUID.
        guid: Guid,
        /// Full name of the first in tree order.
        first: String,
        /// Full name of the second.
        second: String,
    },
    /// The peer broke the protocol: a name without levels.
    #[error("Remote sent a mailbox without a name")]
    EmptyName,
    /// The peer sent a name that is deeper than [`super::MAX_LEVELS`].
    #[error(
        "Remote sent a mailbox name with {levels} levels, at most {} are supported",
        super::MAX_LEVELS
    )]
    TooDeep {
        /// Number of levels.
        levels: usize,
    },
    /// The peer sent more than [`super::MAX_NODES`] nodes.
    #[error("Remote sent more than {} mailboxes", super::MAX_NODES)]
    TooManyNodes,
}

impl TreeError {
    /// Class of the error; decides the exit code.
    pub fn class(&self) -> MailErrorClass {
        match self {
            Self::Storage(error) => error.class,
            _ => MailErrorClass::Temporary,
        }
    }
}
