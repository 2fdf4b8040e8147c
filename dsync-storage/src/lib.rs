//! Mail stores: the traits that the engine works on, and the back-ends behind them.
//!
//! A [`Store`] is the list of mailboxes of one namespace; a [`Mailbox`] is an open mailbox with
//! one implicit transaction; an [`Account`] joins the stores of a user's namespaces. All calls
//! block. Nothing here decides what to delete: policy lives in the engine.

mod account;
pub mod attribute_dict;
mod body_file;
mod changes;
mod compression;
mod dbox;
mod error;
mod folders;
pub mod index;
mod list_index;
pub mod location;
pub mod lock;
mod log;
mod mailbox;
mod mailbox_log;
mod maildir;
mod mbox;
pub mod memory;
mod message_table;
mod names;
mod namespace;
mod open;
mod opened;
mod path_io;
pub mod permissions;
pub mod settings;
mod store;
mod subscriptions;
pub mod unique;

pub use account::Account;
pub use error::{Result, StorageError};
pub use log::{ChangeLog, LoggedAttribute, LoggedChange, LoggedKind};
pub use mailbox::{
    AttributeData, AttributeName, Capabilities, CommitReport, FlagUpdate, Mailbox, MailboxStatus,
    MetadataUpdate, OpenMessage, SaveMessage,
};
pub use message_table::{KeywordSet, MessageRef, MessageTable};
pub use namespace::Namespace;
pub use open::open_store;
pub use settings::StoreSettings;
pub use store::{
    Created, ListEntry, MailboxIdentity, MailboxLogKind, MailboxLogRecord, OpenMode, Store,
};
