//! A mail store in memory, for tests, dry runs and benchmarks.
//!
//! It behaves as the engine sees Dovecot's sdbox or Maildir: a change log with modseqs counted as
//! in `spec/dovecot-index.md` 7, a mailbox log, subscriptions, and either layout
//! ([`MemoryOptions::dbox`], [`MemoryOptions::maildir`]). Everything it makes up (GUIDs,
//! UIDVALIDITY, times) follows from [`MemoryOptions::seed`] and a clock that stands still until
//! somebody sets it, so that a run can be repeated exactly.
//!
//! A [`MemoryStore`] is a handle: its clones share one content, so that a test can keep one while
//! another is inside a brain. [`MemoryStore::user`] changes the content as an IMAP client would,
//! and [`MemoryStore::dump`] shows it.

mod contents;
mod dump;
mod load;
mod mailbox;
mod records;
mod store;
#[cfg(test)]
mod tests;
mod tree;
mod user;

pub use dump::{Dump, MailboxDump, MessageDump};
pub use load::{LoadMailbox, LoadMessage};
pub use records::{FlagRange, LogRecord, RecordChange, UidRange};
pub use store::MemoryStore;
pub use user::{LogGuid, MemoryUser, NewMail};

use dsync_proto::types::Flags;

use crate::{Capabilities, Namespace};

/// What a [`MemoryStore`] imitates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryOptions {
    /// Namespace that the store serves.
    pub namespace: Namespace,
    /// Decides GUIDs and UIDVALIDITY; two stores with one seed make the same ones.
    pub seed: u64,
    /// Names without a mailbox can exist (fs layout); else Maildir++ rules
    /// (`spec/brain-and-tree.md` 12.2).
    pub directories: bool,
    /// INBOX can be deleted (dbox); else its messages go and it gets a new identity (Maildir).
    pub inbox_deletable: bool,
    /// What messages can keep.
    pub capabilities: Capabilities,
    /// Attributes can be stored; else setting or looking one up fails with `NotPossible`, as
    /// Dovecot does without `mail_attribute_dict`.
    pub attributes: bool,
    /// Flags that lie in a private index with modseqs of its own; none for no such index.
    pub private_flags: Flags,
    /// CRLF becomes LF when a message is saved, as in Maildir and dbox; else bytes stay.
    pub lf_only: bool,
    /// Separator on disk if it differs from the namespace's; no name may contain it.
    pub storage_separator: Option<char>,
}

impl MemoryOptions {
    /// Like sdbox: directories, and INBOX can be deleted.
    pub fn dbox(seed: u64) -> Self {
        Self {
            namespace: Namespace::default(),
            seed,
            directories: true,
            inbox_deletable: true,
            capabilities: Capabilities::FULL,
            attributes: true,
            private_flags: Flags::NONE,
            lf_only: false,
            storage_separator: None,
        }
    }

    /// Like Maildir++ with separator `/`: no directories, no dots in names, INBOX stays.
    pub fn maildir(seed: u64) -> Self {
        Self {
            directories: false,
            inbox_deletable: false,
            storage_separator: Some('.'),
            ..Self::dbox(seed)
        }
    }
}
