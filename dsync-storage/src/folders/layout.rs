//! Where mailboxes lie below the root (`spec/maildir.md` 2, 5).

mod check;
mod reserved;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sha1::{Digest, Sha1};

pub(crate) use self::reserved::is_hidden_in_mbox;
use super::paths::MailboxPaths;
use crate::location::{Driver, IndexRoot, LayoutKind, Location};
use crate::names::NameMapping;
use crate::permissions::CreateModes;
use crate::{Namespace, Result, StoreSettings};

/// Where Dovecot and we put what is being deleted.
pub(crate) const TRASH: &str = "..DOVECOT-TRASHED";
/// The same with `DIRNAME` and `MAILBOXDIR`.
pub(crate) const TRASH_WITH_MAILBOXDIR: &str = "..DOVECOT-TrasH";

/// Directory of a dbox mailbox's files.
const DBOX_MAILS: &str = "dbox-Mails";
/// Directory of all dbox mailboxes below their root.
const DBOX_MAILBOXES: &str = "mailboxes";

/// Directory of index files beside mbox files.
pub(crate) const MBOX_INDEXES: &str = ".imap";
/// The file of INBOX in an mbox store, if nothing else is said.
const MBOX_INBOX: &str = "inbox";

/// Directory of the files that mdbox mailboxes share.
const MDBOX_STORAGE: &str = "storage";

/// Directories of a store. All decisions here are about paths; only the modes of new
/// files are read from disk.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    driver: Driver,
    kind: LayoutKind,
    root: PathBuf,
    inbox: Option<PathBuf>,
    index: IndexRoot,
    private_index: Option<PathBuf>,
    control: Option<PathBuf>,
    volatile: Option<PathBuf>,
    alt: Option<PathBuf>,
    subscriptions: String,
    list_index: String,
    directory_name: Option<String>,
    full_directory_name: bool,
    mailbox_root: Option<String>,
    no_noselect: bool,
}

impl Layout {
    /// The layout of a location.
    ///
    /// # Errors
    ///
    /// `NotPossible` for layouts and options that we do not support.
    pub(crate) fn new(location: &Location, namespace: &Namespace) -> Result<Self> {
        check::is_supported(location)?;
        let kind = location.layout_kind();
        let is_dbox = matches!(location.driver, Driver::Sdbox | Driver::Mdbox);
        let is_mbox = location.driver == Driver::Mbox;
        let in_root =
            location.inbox_in_root && namespace.inbox && kind != LayoutKind::ImapDir && !is_dbox;
        let or_dbox = |option: &Option<String>, name: &str| {
            let default = is_dbox.then(|| name.to_owned());
            option.clone().or(default)
        };
        let default_inbox = if is_mbox && namespace.inbox {
            Some(location.root.join(MBOX_INBOX))
        } else {
            in_root.then(|| location.root.clone())
        };
        Ok(Self {
            driver: location.driver,
            kind,
            root: location.root.clone(),
            inbox: location
                .inbox
                .clone()
                .filter(|_| namespace.inbox)
                .or(default_inbox),
            index: location.index.clone(),
            private_index: location.private_index.clone(),
            control: location.control.clone(),
            volatile: location.volatile.clone(),
            subscriptions: location.subscriptions.clone(),
            list_index: location.list_index.clone(),
            alt: location.alt.clone(),
            directory_name: or_dbox(&location.directory_name, DBOX_MAILS),
            full_directory_name: location.full_directory_name,
            mailbox_root: or_dbox(&location.mailbox_root, DBOX_MAILBOXES),
            no_noselect: location.no_noselect,
        })
    }

    /// The names of this layout.
    pub(crate) fn mapping(
        &self,
        location: &Location,
        namespace: Namespace,
        settings: &StoreSettings,
    ) -> NameMapping {
        NameMapping {
            namespace,
            list_separator: if self.is_fs() { '/' } else { '.' },
            utf8: location.utf8,
            broken_char: location.broken_char,
            list_escape: settings.list_escape,
            directory_name: self.directory_name.clone(),
            reserves_message_dirs: self.is_fs() && self.directory_name.is_none(),
            flat: !self.is_fs(),
        }
    }

    /// Whether names are trees of directories.
    pub(crate) fn is_fs(&self) -> bool {
        self.kind == LayoutKind::Fs
    }

    /// Whether file names of mailboxes begin with a dot.
    pub(crate) fn is_maildir_plus_plus(&self) -> bool {
        self.kind == LayoutKind::MaildirPlusPlus
    }

    /// Root of the mail.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Directory that is scanned for mailboxes.
    pub(crate) fn list_root(&self) -> PathBuf {
        self.below(&self.root)
    }

    /// Directory of the subscriptions and of the UIDVALIDITY counter.
    pub(crate) fn control_root(&self) -> &Path {
        self.control.as_ref().unwrap_or(&self.root)
    }

    /// Directory of the UIDVALIDITY counter.
    pub(crate) fn uid_validity_root(&self) -> PathBuf {
        match &self.control {
            None if self.is_mbox() => self.root.join(MBOX_INDEXES),
            _ => self.control_root().to_owned(),
        }
    }

    /// Whether mailboxes are files.
    pub(crate) fn is_mbox(&self) -> bool {
        self.driver == Driver::Mbox
    }

    /// Directory of the mailbox log; `None` without index files.
    pub(crate) fn index_root(&self) -> Option<PathBuf> {
        let root = match &self.index {
            IndexRoot::Mail => &self.root,
            IndexRoot::Memory => return None,
            IndexRoot::Path(path) => path,
        };
        Some(match self.is_mbox() {
            true => root.join(MBOX_INDEXES),
            false => root.clone(),
        })
    }

    /// Roots, beside the mail's own, that hold a directory for each mailbox.
    pub(crate) fn other_roots(&self) -> Vec<&Path> {
        let index = match &self.index {
            IndexRoot::Path(path) => Some(path),
            IndexRoot::Mail | IndexRoot::Memory => None,
        };
        let mut roots: Vec<&Path> = Vec::new();
        for root in [self.control.as_ref(), index, self.private_index.as_ref()]
            .into_iter()
            .flatten()
        {
            if *root != self.root && !roots.contains(&root.as_path()) {
                roots.push(root);
            }
        }
        roots
    }

    /// Root of the alternative storage (`ALT`).
    pub(crate) fn alt(&self) -> Option<&Path> {
        self.alt.as_deref()
    }

    /// Directory of the files that mdbox mailboxes share, and the alternative one.
    pub(crate) fn storage(&self) -> (PathBuf, Option<PathBuf>) {
        let alt = self.alt.as_ref().map(|alt| alt.join(MDBOX_STORAGE));
        (self.root.join(MDBOX_STORAGE), alt)
    }

    /// Directory of the index of these files.
    pub(crate) fn map_index(&self) -> PathBuf {
        self.index_root()
            .unwrap_or_else(|| self.root.clone())
            .join(MDBOX_STORAGE)
    }

    /// File of the subscriptions.
    pub(crate) fn subscriptions(&self) -> PathBuf {
        self.control_root().join(&self.subscriptions)
    }

    /// The list index; `None` without index files. An absolute path stands for itself.
    pub(crate) fn list_index(&self) -> Option<PathBuf> {
        self.index_root().map(|root| root.join(&self.list_index))
    }

    /// The lock for changes of the list.
    pub(crate) fn list_lock(&self, prefix: &str) -> PathBuf {
        match &self.volatile {
            Some(dir) => dir.join(format!("mailboxes.lock{}", sha1_hex(prefix.as_bytes()))),
            None => self
                .index_root()
                .unwrap_or_else(|| self.root.clone())
                .join("mailboxes.lock"),
        }
    }

    /// Directory of a name: what is renamed, and what holds the children in the fs layout.
    pub(crate) fn name_dir(&self, storage: &[u8]) -> PathBuf {
        self.name_dir_in(&self.root, storage)
    }

    /// The same below one of the [`Layout::other_roots`].
    pub(crate) fn name_dir_in(&self, root: &Path, storage: &[u8]) -> PathBuf {
        if self.is_maildir_plus_plus() {
            root.join(OsStr::from_bytes(&[b".", storage].concat()))
        } else {
            self.below(root).join(OsStr::from_bytes(storage))
        }
    }

    /// Directory that holds `cur`, `new` and `tmp`.
    pub(crate) fn box_dir(&self, storage: &[u8]) -> PathBuf {
        if let Some(inbox) = self.inbox_dir(storage) {
            return inbox.to_owned();
        }
        let dir = self.name_dir(storage);
        match &self.directory_name {
            Some(name) => dir.join(name),
            None => dir,
        }
    }

    /// Directory of INBOX if that is not where its name would lead to.
    pub(crate) fn inbox_dir(&self, storage: &[u8]) -> Option<&Path> {
        self.inbox.as_deref().filter(|_| storage == b"INBOX")
    }

    /// Whether the mailbox cannot be removed or renamed: it is in the root.
    pub(crate) fn is_fixed(&self, storage: &[u8]) -> bool {
        storage == b"INBOX" || storage.is_empty()
    }

    /// What shows that a name is a mailbox.
    pub(crate) fn selectable_marker(&self, storage: &[u8]) -> PathBuf {
        if self.directory_name.is_some() {
            self.box_dir(storage)
        } else {
            self.message_dir(storage)
        }
    }

    /// Directory that holds messages.
    pub(crate) fn message_dir(&self, storage: &[u8]) -> PathBuf {
        let dir = self.box_dir(storage);
        match self.driver {
            Driver::Maildir => dir.join("cur"),
            Driver::Sdbox | Driver::Mdbox | Driver::Mbox => dir,
        }
    }

    /// Directory of a mailbox below one of the [`Layout::other_roots`].
    pub(crate) fn dir_in(&self, root: &Path, storage: &[u8]) -> PathBuf {
        let dir = self.name_dir_in(root, storage);
        match &self.directory_name {
            Some(name) if self.full_directory_name => dir.join(name),
            _ => dir,
        }
    }

    /// Directory of a mailbox's messages in the alternative storage.
    fn alt_dir(&self, alt: &Path, storage: &[u8]) -> PathBuf {
        let dir = self.name_dir_in(alt, storage);
        match &self.directory_name {
            Some(name) => dir.join(name),
            None => dir,
        }
    }

    /// All paths of a mailbox.
    pub(crate) fn paths(&self, storage: &[u8], name: &str) -> MailboxPaths {
        let box_dir = self.box_dir(storage);
        let index_dir = match &self.index {
            _ if self.is_mbox() => self.mbox_index_dir(storage),
            IndexRoot::Mail => Some(box_dir.clone()),
            IndexRoot::Memory => None,
            IndexRoot::Path(root) => Some(self.dir_in(root, storage)),
        };
        let separate_index = matches!(self.index, IndexRoot::Path(_));
        let sync_lock = index_dir.as_ref().map(|dir| match &self.volatile {
            Some(volatile) => {
                volatile.join(format!(".dovecot-box-sync.lock.{}", sha1_hex(storage)))
            }
            None => dir.join(".dovecot-box-sync.lock"),
        });
        MailboxPaths {
            name: name.to_owned(),
            control_dir: match &self.control {
                Some(root) => self.dir_in(root, storage),
                None => box_dir.clone(),
            },
            index_dir,
            private_index_dir: self
                .private_index
                .as_ref()
                .map(|root| self.dir_in(root, storage)),
            control_root: self.uid_validity_root(),
            sync_lock,
            private_seen: self.private_index.is_some()
                || (separate_index && box_dir.join("dovecot-shared").exists()),
            is_inbox: storage == b"INBOX",
            alt_dir: self.alt.as_ref().map(|alt| self.alt_dir(alt, storage)),
            modes: self.modes(storage),
            box_dir,
        }
    }

    /// `Par/.imap/Kid` below the root of the indexes.
    fn mbox_index_dir(&self, storage: &[u8]) -> Option<PathBuf> {
        let root = match &self.index {
            IndexRoot::Mail => &self.root,
            IndexRoot::Memory => return None,
            IndexRoot::Path(path) => path,
        };
        let (parent, name) = match memchr::memrchr(b'/', storage) {
            Some(end) => (&storage[..end], &storage[end + 1..]),
            None => (&storage[..0], storage),
        };
        let dir = root.join(OsStr::from_bytes(parent)).join(MBOX_INDEXES);
        Some(dir.join(OsStr::from_bytes(name)))
    }

    /// Modes of new files in a mailbox: as the mailbox, the nearest parent that exists, the root.
    pub(crate) fn modes(&self, storage: &[u8]) -> CreateModes {
        let separator = if self.is_fs() { b'/' } else { b'.' };
        let mut sources = Vec::new();
        let mut name = storage;
        sources.push(
            self.inbox_dir(name)
                .map_or_else(|| self.name_dir(name), Path::to_owned),
        );
        while let Some(end) = memchr::memrchr(separator, name) {
            name = &name[..end];
            sources.push(self.name_dir(name));
        }
        sources.push(self.root.clone());
        CreateModes::from_first(sources.iter().map(PathBuf::as_path))
    }

    /// Directory that deleted mailboxes are moved to. It is never listed: in the fs layout it lies
    /// in the root's `tmp`, or, where that is no reserved name, beside the mailboxes.
    pub(crate) fn trash(&self) -> PathBuf {
        match (&self.directory_name, &self.mailbox_root) {
            _ if matches!(self.driver, Driver::Sdbox | Driver::Mdbox) => self.root.join("trash"),
            _ if !self.is_fs() => self.root.join(TRASH),
            (None, None) => self.root.join("tmp").join("dsync-trash"),
            (_, Some(_)) => self.root.join(TRASH_WITH_MAILBOXDIR),
            (Some(_), None) => self.root.join(TRASH),
        }
    }

    /// Whether directories without a mailbox go with their last child (`NO-NOSELECT`).
    pub(crate) fn drops_empty_parents(&self) -> bool {
        self.is_fs() && self.no_noselect
    }

    /// Modes of new files of the store itself.
    pub(crate) fn root_modes(&self) -> CreateModes {
        CreateModes::from_first([self.root.as_path()])
    }

    fn below(&self, root: &Path) -> PathBuf {
        match &self.mailbox_root {
            Some(name) => root.join(name),
            None => root.to_owned(),
        }
    }
}

fn sha1_hex(bytes: &[u8]) -> String {
    Sha1::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests;
