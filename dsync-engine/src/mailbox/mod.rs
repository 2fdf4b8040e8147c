//! Synchronisation of one mailbox (`spec/mailbox-sync.md`): nothing here knows sockets or order of
//! mailboxes; the brain calls.
//!
//! Order of the calls for a mailbox, after it was opened, locked and refreshed:
//!
//! 1. [`scan()`] the log and take the snapshot that everything else works on.
//! 2. Sender: [`Exporter::next_attribute`] until `None`, [`Exporter::next_change`] until `None`;
//!    then [`Exporter::add_request`] for every `R`, and after the last one
//!    [`Exporter::next_mail`] until `None`.
//! 3. Receiver: [`Importer::attribute`], [`Importer::change`], [`Importer::changes_end`]; then
//!    send what [`Importer::next_request`] gives; [`Importer::mail_begin`],
//!    [`Importer::mail_chunk`], [`Importer::mail_end`] for every `M`.
//! 4. When all bodies are sent and received: [`Importer::finish`]; on a cut connection
//!    [`Importer::abort`]. Then drop the mailbox.
//!
//! Decisions are pure functions of snapshots, log and changes; the glue calls the
//! [`Mailbox`](dsync_storage::Mailbox) trait.

mod error;
mod export;
mod filters;
mod header_hash;
mod import;
mod keywords;
mod scan;

pub use error::{MailboxError, PeerFault, Result};
pub use export::{ExportOptions, Exporter, OutAttribute, OutMail};
pub use header_hash::HashSettings;
pub use import::{
    CommitInterval, Counters, DeleteMailbox, ImportOptions, ImportResult, Importer, MailBody,
};
pub use scan::{Scan, ScanError, scan};
