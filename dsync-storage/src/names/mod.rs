//! Mailbox names: how users see them and how they stand on disk (`spec/maildir.md` 3, 4).
//!
//! A *vname* is a name as users see it: UTF-8, with the prefix and the separator of its namespace.
//! A *storage name* is what is left of it inside one store: without the prefix, with the separator
//! of the layout, and encoded. Storage names are bytes, because what lies on disk can be anything.

mod mapping;
mod mutf7;
pub(crate) mod tab_escape;

pub(crate) use mapping::{NameMapping, split};
