//! Layouts and options that we do not support.

use dsync_proto::types::MailErrorClass;

use crate::location::{Driver, IndexRoot, LayoutKind, Location};
use crate::{Result, StorageError};

/// Refuses a location whose mail we would read or write in another way than Dovecot.
///
/// # Errors
///
/// `NotPossible`, with what can be used instead.
pub(super) fn is_supported(location: &Location) -> Result<()> {
    let kind = location.layout_kind();
    let is_dbox = matches!(location.driver, Driver::Sdbox | Driver::Mdbox);
    if matches!(kind, LayoutKind::Index | LayoutKind::None) {
        return Err(not_possible(
            "LAYOUT=index and LAYOUT=none are not supported; use maildir++, fs or imapdir",
        ));
    }
    if is_dbox && (kind != LayoutKind::Fs || location.inbox.is_some()) {
        return Err(not_possible(
            "for dbox only LAYOUT=fs without INBOX is supported",
        ));
    }
    let is_mbox = location.driver == Driver::Mbox;
    if is_mbox && kind != LayoutKind::Fs {
        return Err(not_possible("for mbox only LAYOUT=fs is supported"));
    }
    if is_mbox && (location.directory_name.is_some() || location.mailbox_root.is_some()) {
        return Err(not_possible(
            "DIRNAME and MAILBOXDIR are not supported for mbox",
        ));
    }
    if is_mbox && location.index == IndexRoot::Memory {
        return Err(not_possible(
            "INDEX=MEMORY cannot be used with mbox: mailboxes have no permanent GUIDs then",
        ));
    }
    if is_dbox && location.index == IndexRoot::Memory {
        return Err(not_possible(
            "INDEX=MEMORY cannot be used with dbox: flags are kept in the index only",
        ));
    }
    if location.iterate_index {
        return Err(not_possible(
            "ITERINDEX is not supported: mailboxes are listed from the mail directory",
        ));
    }
    Ok(())
}

fn not_possible(why: &str) -> StorageError {
    StorageError::new(MailErrorClass::NotPossible, why)
}
