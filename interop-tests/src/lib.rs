//! Tests of dsync against real Dovecot; see `tests/`.
//!
//! A [`World`] is a place where one version of Dovecot and our programs run as an ordinary user:
//! the machine itself for 2.3, a folder made by debootstrap for 2.4. A [`Side`] is one account
//! in it. [`Facts`] is everything about an account that an IMAP client could see, as told by
//! Dovecot; two accounts are in sync exactly when their facts are equal.
//!
//! The tests run as root, because Dovecot refuses root and needs another user to become; `cargo
//! xtask test` installs what they need.

pub mod bench;
pub mod daemon;
pub mod diff;
mod facts;
pub mod history;
pub mod imap;
pub mod kill;
pub mod listener;
mod mutf7;
pub mod proxy;
mod side;
pub mod soak;
pub mod sshd;
mod world;

pub use facts::{Facts, MailboxFacts, MessageFacts};
pub use side::{ExtraNamespace, Run, Side, layout, run};
pub use world::{MAIL_UID, Version, World, own_all};
