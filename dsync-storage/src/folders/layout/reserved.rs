//! Names that belong to the store itself.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::{Layout, MBOX_INDEXES, TRASH, TRASH_WITH_MAILBOXDIR};
use crate::names::split;

impl Layout {
    /// Whether an entry of the list root is a file or directory of the store itself.
    pub(crate) fn is_own_file(&self, entry: &OsStr) -> bool {
        let path = self.list_root().join(entry);
        if self.mailbox_root.is_some() {
            return self.other_roots().contains(&path.as_path())
                || self.volatile.as_ref() == Some(&path);
        }
        entry == OsStr::new(&self.subscriptions)
            || [TRASH, TRASH_WITH_MAILBOXDIR]
                .map(OsStr::new)
                .contains(&entry)
            || self.other_roots().contains(&path.as_path())
            || self.volatile.as_ref() == Some(&path)
    }

    /// Whether a new mailbox of this name would stand where files of the store or of its parent
    /// belong. Dovecot lets such mailboxes be made, never lists them, or breaks their parent.
    pub(crate) fn collides(&self, storage: &[u8]) -> bool {
        if self.is_mbox() {
            let top = split(storage, '/').next().unwrap_or_default();
            return split(storage, '/').any(is_hidden_in_mbox)
                || self.is_own_file(OsStr::from_bytes(top));
        }
        if self.is_maildir_plus_plus() {
            return false;
        }
        if self.mailbox_root.is_some() && self.other_roots().is_empty() {
            return false;
        }
        let separator = if self.is_fs() { '/' } else { '\0' };
        let mut parts = split(storage, separator);
        let top = parts.next().unwrap_or_default();
        // Index files lie beside children there.
        let apart = self.directory_name.is_some() && self.other_roots().is_empty();
        let beside_mail = !apart && self.is_fs();
        self.is_own_file(OsStr::from_bytes(top))
            || is_store_file(top)
            || (beside_mail && parts.any(is_store_file))
    }
}

/// Whether an entry of a directory of mbox files is never a mailbox.
pub(crate) fn is_hidden_in_mbox(name: &[u8]) -> bool {
    name == MBOX_INDEXES.as_bytes() || (name.len() > 5 && name.ends_with(b".lock"))
}

/// Names of files that Dovecot or we keep beside mail.
fn is_store_file(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 4] = [
        b"maildirfolder",
        b"mailboxes.lock",
        b"dovecot-shared",
        b".dovecot-box-sync.lock",
    ];
    const PREFIXES: [&[u8]; 6] = [
        b"dovecot.index",
        b"dovecot.list.index",
        b"dovecot.mailbox.log",
        b"dovecot-uidlist",
        b"dovecot-keywords",
        b"dovecot-uidvalidity",
    ];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}
