//! Homes of users, and options that tell the program about them.
#![allow(dead_code, clippy::unwrap_used, reason = "test helpers")]

use std::fs;
use std::os::unix::fs::lchown;
use std::path::Path;

use nix::unistd::{getegid, geteuid};

/// Who owns the mail in tests that run as root.
const MAIL_UID: u32 = 5000;

/// A folder with a home for each user; all of it belongs to whoever the sessions have to become.
pub(crate) struct Homes {
    folder: tempfile::TempDir,
}

impl Homes {
    /// Homes with an empty Maildir.
    pub(crate) fn new(users: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for user in users {
            for name in ["cur", "new", "tmp"] {
                fs::create_dir_all(folder.path().join(user).join("Maildir").join(name)).unwrap();
            }
        }
        own(folder.path());
        Self { folder }
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Options: where the mail is and whose it is.
    pub(crate) fn options(&self) -> Vec<String> {
        let (uid, gid) = owner();
        [
            format!("mail_home={}/%u", self.folder.path().display()),
            "mail_location=maildir:~/Maildir".to_owned(),
            "base_dir=/no/such/folder".to_owned(),
            "first_valid_uid=1".to_owned(),
            format!("mail_uid={uid}"),
            format!("mail_gid={gid}"),
        ]
        .into_iter()
        .flat_map(|setting| ["-o".to_owned(), setting])
        // Nothing from a Dovecot on this host.
        .chain(["-c".to_owned(), "/dev/null".to_owned()])
        .collect()
    }
}

/// Whom sessions become.
pub(crate) fn owner() -> (u32, u32) {
    if geteuid().is_root() {
        (MAIL_UID, MAIL_UID)
    } else {
        (geteuid().as_raw(), getegid().as_raw())
    }
}

fn own(path: &Path) {
    let (uid, gid) = owner();
    lchown(path, Some(uid), Some(gid)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            own(&entry.unwrap().path());
        }
    }
}
