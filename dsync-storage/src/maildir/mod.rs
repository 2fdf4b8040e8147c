//! Maildir as Dovecot uses it (`spec/maildir.md`).

mod create;
mod delete;
#[allow(dead_code, reason = "used by the mailbox, which follows")]
mod filename;
#[allow(dead_code, reason = "used by the mailbox, which follows")]
mod keywords;
mod layout;
mod list;
#[allow(dead_code, reason = "used by the mailbox, which follows")]
mod paths;
mod rename;
mod store;
mod uid_validity;
#[allow(dead_code, reason = "used by the mailbox, which follows")]
mod uidlist;
mod uidlist_header;

pub(crate) use store::MaildirStore;
