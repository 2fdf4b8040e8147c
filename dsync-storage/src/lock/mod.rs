//! Locks that Dovecot takes too (`spec/maildir.md` 7, 11; `spec/brain-and-tree.md` 4).
//!
//! Order, never the reverse: `mailboxes.lock`, `dovecot-uidlist.lock`, `dovecot-keywords.lock`,
//! index log. All locks are given up when their value is dropped, and by the kernel or by age
//! when the process dies.

mod dotlock;
mod file_lock;
mod wait;

pub use dotlock::{Dotlock, DotlockSettings, ReplaceLock};
pub use file_lock::{FileLock, lock_file, try_lock_file};
