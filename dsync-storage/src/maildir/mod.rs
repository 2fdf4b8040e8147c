//! Maildir as Dovecot uses it (`spec/maildir.md`).

#[allow(dead_code, reason = "used by the mailbox, which follows")]
mod filename;
#[allow(dead_code, reason = "used by the mailbox, which follows")]
mod keywords;
#[allow(dead_code, reason = "used by the store, which follows")]
mod paths;
#[allow(dead_code, reason = "used by the store, which follows")]
mod uid_validity;
#[allow(dead_code, reason = "used by the mailbox, which follows")]
mod uidlist;
