//! Maildir as Dovecot uses it (`spec/maildir.md`).

mod apply;
mod commit;
mod copy;
mod create;
mod delete;
mod disk;
mod filename;
mod files;
mod journal;
mod keywords;
mod mailbox;
mod mark;
mod read;
mod repair;
mod save;
mod scan;
mod store;
mod sync;
mod uidlist;
mod uidlist_header;

pub(crate) use store::MaildirStore;
