//! sdbox and mdbox as Dovecot uses them (`spec/dbox.md`).
//!
//! In both the index is the mailbox: UIDs, flags and identity are nowhere else. Message files
//! hold bodies, GUIDs and dates.
//!
//! * bytes: `format` and `message` – what stands in message files;
//! * mailboxes: `mailbox` – what both formats share, behind [`bodies::Bodies`]; `single` – one
//!   file for each message –, `multi` – many in one, with `storage`, the map of all of them,
//!   `references` (repairs) and `purge`;
//! * the list of mailboxes: `store`, `create`, `delete`.

mod bodies;
mod commit;
mod create;
mod delete;
mod format;
mod identity;
mod mailbox;
mod message;
mod multi;
mod multi_commit;
mod purge;
mod references;
mod single;
mod single_commit;
mod storage;
mod store;
mod unfinished;

#[cfg(test)]
mod tests;

pub(crate) use store::DboxStore;
