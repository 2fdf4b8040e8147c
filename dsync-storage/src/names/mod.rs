//! Mailbox names: how users see them and how they stand on disk (`spec/maildir.md` 4).

pub(crate) mod tab_escape;
