//! What a commit is about to do that a kill must not leave half done.
//!
//! Files get their names before the index tells of them, and lose them after it. Killed between,
//! files stay that no message stands for; Dovecot would stop at one with the next UID, and make
//! messages of all of them when it rebuilds the index. So a commit first writes down the UIDs of
//! all files that come or go, in `dsync-unfinished` beside them, under the lock of the index log.
//! The rule for whoever takes that lock next and finds the journal: a file in it whose message is
//! in the index stays, the others are removed. That is right whenever we were killed. A journal of
//! another mailbox, or one that is not complete, says nothing.
//!
//! The storage of an mdbox has such a journal, too, with the numbers of its files: one that no
//! record of the map is in goes.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use dsync_proto::types::{Guid, MailErrorClass, Uid};

use crate::index::IndexState;
use crate::permissions::CreateModes;
use crate::{Result, StorageError, path_io};

/// Name of the journal.
const NAME: &str = "dsync-unfinished";
/// More than any transaction needs.
const MAX_SIZE: u64 = 1 << 28;
/// The last line; without it the journal was never complete.
const END: &str = "end\n";

/// The journal in a directory.
#[derive(Clone, Debug)]
pub(super) struct Unfinished {
    path: PathBuf,
}

impl Unfinished {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            path: dir.join(NAME),
        }
    }

    /// Whether a commit was not finished, or is at work right now.
    pub(super) fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Writes down which files come or go. It need not be in the directory for sure before they
    /// do: both are names in one directory, and no file goes before the index is durable.
    pub(super) fn write(
        &self,
        mailbox: Guid,
        uids: &[Uid],
        modes: &CreateModes,
        sync: bool,
    ) -> Result<()> {
        let mut text = format!("{mailbox}\n");
        for uid in uids {
            text.push_str(&format!("{uid}\n"));
        }
        text.push_str(END);
        let write = || -> io::Result<()> {
            let mut file = modes.create_truncated(&self.path)?;
            file.write_all(text.as_bytes())?;
            if sync { file.sync_data() } else { Ok(()) }
        };
        write().map_err(|error| StorageError::io("write", &self.path, &error))
    }

    /// Everything in it is done, or undone.
    pub(super) fn remove(&self) -> Result<()> {
        path_io::remove(&self.path)
    }

    /// UIDs in the journal that have no message; nothing unless it is of this mailbox.
    pub(super) fn without_message(&self, mailbox: Guid, state: &IndexState) -> Result<Vec<Uid>> {
        let mut uids = self.listed(mailbox)?;
        uids.retain(|uid| state.message(*uid).is_none());
        Ok(uids)
    }

    /// What is in the journal; nothing unless it is of this mailbox.
    pub(super) fn listed(&self, mailbox: Guid) -> Result<Vec<u32>> {
        let text = match fs::metadata(&self.path) {
            Ok(data) if data.len() <= MAX_SIZE => fs::read(&self.path)
                .map_err(|error| StorageError::io("read", &self.path, &error))?,
            Ok(_) => {
                return Err(StorageError::new(
                    MailErrorClass::Limit,
                    format!("{} is too large: remove it", self.path.display()),
                ));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(StorageError::io("stat", &self.path, &error)),
        };
        Ok(parse(mailbox, &text))
    }
}

fn parse(mailbox: Guid, text: &[u8]) -> Vec<Uid> {
    let lines = text
        .strip_prefix(format!("{mailbox}\n").as_bytes())
        .and_then(|lines| lines.strip_suffix(END.as_bytes()));
    let number = |line: &[u8]| std::str::from_utf8(line).ok()?.parse().ok();
    lines
        .unwrap_or_default()
        .split(|byte| *byte == b'\n')
        .filter_map(number)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_complete_journals_of_this_mailbox_count() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Unfinished::new(dir.path());
        assert!(!journal.exists());
        let mailbox = Guid([7; 16]);
        journal
            .write(mailbox, &[5, 4_000_000_000], &CreateModes::default(), true)
            .unwrap();
        let text = fs::read(dir.path().join(NAME)).unwrap();
        assert_eq!(parse(mailbox, &text), [5, 4_000_000_000]);
        assert_eq!(parse(Guid([8; 16]), &text), []);
        for end in 0..text.len() {
            assert_eq!(parse(mailbox, &text[..end]), []);
        }
        let state = crate::index::Index::open(dir.path(), "x", Default::default()).unwrap();
        let found = journal.without_message(mailbox, state.state()).unwrap();
        assert_eq!(found, [5, 4_000_000_000]);
        journal.remove().unwrap();
        assert!(!journal.exists());
    }
}
