//! Maildir as Dovecot uses it (`spec/maildir.md`).

mod apply;
mod commit;
mod create;
mod delete;
mod disk;
mod filename;
mod files;
mod journal;
mod keywords;
mod layout;
mod list;
mod mailbox;
mod mark;
mod paths;
mod read;
mod rename;
mod repair;
mod save;
mod scan;
mod store;
mod sync;
mod uid_validity;
mod uidlist;
mod uidlist_header;

pub(crate) use store::MaildirStore;
