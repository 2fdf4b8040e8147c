//! mbox as Dovecot uses it: all messages of a mailbox in one file (`spec/mbox.md`).
//!
//! The file is the truth for messages, UIDs, flags and keywords; GUID of the mailbox, modseqs and
//! saved dates are in Dovecot's index only.
//!
//! * bytes: `from_line`, `headers` – what stands in the file, `scan` – where it stands;
//! * decisions: `resolve` (UIDs), `contents` (what shall stand there), `records` (what the index
//!   has to learn);
//! * the disk: `locks`, `rewrite` (in place, with a `journal`), `guids`, `staging` (new messages);
//! * `mailbox`, `plan` and `commit`; the list of mailboxes: `store`.

mod commit;
mod contents;
mod from_line;
mod guids;
mod headers;
mod journal;
mod locks;
mod mailbox;
mod plan;
mod records;
mod resolve;
mod rewrite;
mod scan;
mod staging;
mod store;

#[cfg(test)]
mod tests;

pub(crate) use store::MboxStore;
