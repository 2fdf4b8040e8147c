//! The list of mailboxes of one namespace.

use std::path::PathBuf;
use std::time::Duration;

use dsync_proto::types::{Guid, Uid};

use crate::{Mailbox, Namespace, Result};

/// One name of [`Store::list`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListEntry {
    /// Full name: UTF-8, namespace prefix included.
    pub name: String,
    /// Can be opened; if not, it is a directory that exists on its own (`\NoSelect`).
    pub selectable: bool,
    /// Special uses from the configuration, such as `\Sent`.
    pub special_use: Vec<String>,
}

/// What identifies a mailbox, read without looking at its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailboxIdentity {
    /// Mailbox GUID, never zero.
    pub guid: Guid,
    /// UIDVALIDITY, never 0.
    pub uid_validity: u32,
    /// UIDNEXT.
    pub uid_next: Uid,
}

/// Kind of a record of the mailbox log (`spec/maildir.md` 16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MailboxLogKind {
    /// 1: a mailbox was deleted; the id is its GUID.
    DeleteMailbox,
    /// 2: a name was deleted; the id is its hash, like below.
    DeleteDir,
    /// 3: a mailbox was renamed to this name.
    Rename,
    /// 4: the name was subscribed.
    Subscribe,
    /// 5: the name was unsubscribed.
    Unsubscribe,
}

/// A record of the mailbox log, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailboxLogRecord {
    /// What happened.
    pub kind: MailboxLogKind,
    /// Mailbox GUID or name hash ([`Guid::of_mailbox_name`]).
    pub id: Guid,
    /// Seconds since the epoch.
    pub time: i64,
}

/// Result of [`Store::create_mailbox`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It is new.
    New,
    /// A mailbox of this name was there already; it was not changed.
    Existed,
}

/// How a mailbox is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// The engine will not change messages, flags or metadata. What a store must repair or
    /// record to answer at all (a UID for a mail that has none) is still written.
    Read,
    /// Everything.
    Write,
}

/// The mailboxes of one namespace.
///
/// Names are full names as a user sees them ([`Namespace::prefix`] included). Operations that
/// change the list write the records of the mailbox log, with the present time, and take the
/// locks that Dovecot takes. Errors carry the class that decides between conflict and failure
/// (`spec/brain-and-tree.md` 12): `NotFound`, `Exists`, `NotPossible`, others.
pub trait Store: Send {
    /// The namespace that this store serves.
    fn namespace(&self) -> &Namespace;

    /// All mailboxes and directories, in no particular order. INBOX only if it exists on disk.
    /// Names that cannot be opened and alias symlinks are left out, with a warning in the log.
    fn list(&mut self) -> Result<Vec<ListEntry>>;

    /// Full names of all subscriptions that this store keeps, in no particular order.
    fn subscriptions(&mut self) -> Result<Vec<String>>;

    /// The mailbox log, oldest record first; a damaged tail is left out.
    fn mailbox_log(&mut self) -> Result<Vec<MailboxLogRecord>>;

    /// GUID, UIDVALIDITY and UIDNEXT of a mailbox; makes them if the mailbox has none yet.
    fn identity(&mut self, name: &str) -> Result<MailboxIdentity>;

    /// The name of the mailbox with this GUID, looked up on disk if it is not known yet.
    fn find_guid(&mut self, guid: Guid) -> Result<Option<String>>;

    /// The separator of names on disk, if it differs from the namespace's.
    fn storage_separator(&self) -> Option<char>;

    /// Whether this name may be created; `Err` with class `Params` says why not.
    fn check_new_name(&self, name: &str) -> Result<()>;

    /// Creates a selectable mailbox. GUID and UIDVALIDITY are chosen by the store if `None`.
    /// On [`Created::Existed`] the caller looks at [`Store::identity`].
    fn create_mailbox(
        &mut self,
        name: &str,
        guid: Option<Guid>,
        uid_validity: Option<u32>,
    ) -> Result<Created>;

    /// Creates a directory; in layouts without directories a selectable mailbox.
    fn create_directory(&mut self, name: &str) -> Result<Created>;

    /// Deletes a mailbox with all its messages, whatever it is named now. For a mailbox that
    /// cannot be removed (a Maildir INBOX) the messages go and it gets a new GUID and UIDVALIDITY.
    fn delete_mailbox(&mut self, guid: Guid) -> Result<()>;

    /// Removes an empty directory.
    fn delete_directory(&mut self, name: &str) -> Result<()>;

    /// Renames a mailbox or directory with all its children.
    fn rename(&mut self, from: &str, to: &str) -> Result<()>;

    /// Subscribes or unsubscribes a name; `Ok(false)` if it was so already (no log record then).
    fn set_subscribed(&mut self, name: &str, subscribed: bool) -> Result<bool>;

    /// Gives a mailbox another GUID.
    fn set_guid(&mut self, name: &str, guid: Guid) -> Result<()>;

    /// Opens a mailbox. Messages are not looked at before [`Mailbox::refresh`].
    fn open(&mut self, name: &str, mode: OpenMode) -> Result<Box<dyn Mailbox>>;

    /// Directory of the files `dovecot.index*` of a mailbox; `None` if it has no such files.
    /// Nothing is created.
    fn index_dir(&mut self, name: &str) -> Result<Option<PathBuf>> {
        let _ = name;
        Ok(None)
    }

    /// Removes what deleted messages left behind (mdbox); nothing for other formats.
    fn purge(&mut self) -> Result<()>;

    /// The lock of this user for whole runs (`spec/brain-and-tree.md` 4.1) lies in this home
    /// directory; see `dsync-config` for who takes it. Limits the wait for any lock of this store.
    fn set_lock_timeout(&mut self, timeout: Duration);
}
