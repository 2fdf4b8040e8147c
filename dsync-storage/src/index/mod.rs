//! Dovecot's index files: `dovecot.index`, `.log`, `.log.2`, `.backup` (`spec/dovecot-index.md`).
//!
//! The index log is our change log too: a live Dovecot and we share one truth about flags,
//! keywords, modseqs and expunges.
//!
//! * bytes: `format`, `header`, `log_header`, `record`, `payload`, `snapshot` – what stands on
//!   disk;
//! * values: [`IndexState`] (all messages in one flat array) and `apply` (a log record changes
//!   the state), [`Transaction`] and `encode` (changes become records), `scan` (what happened
//!   since a modseq);
//! * files: [`Index`] (open, refresh) and [`LockedIndex`] (append, snapshot, rotate, reset).
//!
//! ```no_run
//! use std::time::Duration;
//! use dsync_proto::types::Flags;
//! use dsync_storage::index::{Index, IndexSettings, Origin, Transaction};
//!
//! # fn main() -> dsync_storage::Result<()> {
//! let mut index = Index::open("/mail/Maildir".as_ref(), "dovecot.index", IndexSettings::default())?;
//! let mut changes = Transaction::new(Origin::DSYNC_FACT);
//! changes.update_flags(1..=100, Flags::SEEN, Flags::NONE);
//! let mut locked = index.lock(Duration::from_secs(60))?;
//! locked.append(&changes)?;
//! locked.finish()?;
//! # Ok(())
//! # }
//! ```

mod apply;
mod apply_extensions;
mod cache;
mod cache_write;
mod damage;
mod dump;
mod encode;
mod encode_extensions;
mod extension;
mod files;
mod format;
mod header;
mod keywords;
mod load;
mod lock;
mod log_header;
mod memory;
mod modseq;
mod new_log;
mod payload;
mod pending;
mod ranges;
mod record;
mod records;
mod repair;
mod rotate;
mod scan;
mod snapshot;
mod state;
mod store;
mod transaction;

#[cfg(test)]
mod tests;

pub use cache::{Cached, cache_fields};
pub use cache_write::CacheEntry;
pub use damage::Damage;
pub use dump::dump;
pub use extension::{Extension, ExtensionSpec};
pub use header::{HeaderField, IndexHeader};
pub use log_header::LogHeader;
pub use pending::{PendingChange, PendingKind};
pub use state::{IndexState, Message};
pub use store::{Index, IndexSettings, LockedIndex};

pub use crate::settings::{Fsync, LockMethod};
pub use transaction::{Origin, Transaction};
