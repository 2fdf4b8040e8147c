//! An index without files (`INDEX=MEMORY`): the log is a file in memory that has no name.
//!
//! Nobody else sees it, so there is no lock and no snapshot; it goes with the process, however
//! that ends.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::files::{FileId, Files};
use super::load::OpenLog;
use super::log_header::LogHeader;
use super::pending::LogCursor;
use super::store::{Index, IndexSettings};
use crate::{Result, StorageError};

/// Stands for the folder in messages; nothing is ever opened there.
const NOWHERE: &str = "INDEX=MEMORY";

impl Index {
    /// An empty index that has no files and never will.
    pub fn in_memory(prefix: &str, settings: IndexSettings) -> Self {
        let mut index = Self::empty(Files::new(Path::new(NOWHERE), prefix), settings);
        index.in_memory = true;
        index
    }

    /// The first log of an index in memory.
    pub(super) fn start_in_memory(&mut self, header: &LogHeader, records: &[u8]) -> Result<()> {
        let log = self.new_log_in_memory(header, records)?;
        self.log = Some((log, LogCursor::new(header, None)));
        self.state.set_index_id(header.index_id);
        self.absorb(records);
        Ok(())
    }

    /// A log with these records in it.
    pub(super) fn new_log_in_memory(&self, header: &LogHeader, records: &[u8]) -> Result<OpenLog> {
        let create = || -> io::Result<OpenLog> {
            let mut file = File::from(memfd_create(c"dovecot.index.log", MFdFlags::MFD_CLOEXEC)?);
            fcntl(file.as_fd(), FcntlArg::F_SETFL(OFlag::O_APPEND))?;
            file.write_all(&header.encode())?;
            file.write_all(records)?;
            Ok(OpenLog {
                id: FileId::of(&file)?,
                file,
                header: *header,
            })
        };
        create().map_err(|error| StorageError::io("create", &self.files.log(), &error))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Origin, Transaction};
    use super::*;
    use crate::settings::LogRotation;

    fn first() -> Transaction {
        let mut first = Transaction::new(Origin::FACT);
        first.set_uid_validity(7);
        first.enable_modseqs();
        first
    }

    #[test]
    fn works_like_an_index_with_files() {
        let root = tempfile::tempdir().unwrap();
        let settings = IndexSettings {
            rotation: LogRotation {
                max_size: 600,
                ..LogRotation::default()
            },
            ..IndexSettings::default()
        };
        let mut on_disk = Index::open(root.path(), "dovecot.index", settings.clone()).unwrap();
        let mut in_memory = Index::in_memory("dovecot.index", settings);
        for index in [&mut on_disk, &mut in_memory] {
            assert!(!index.exists());
            index.create(&first()).unwrap();
            assert!(index.create(&first()).is_err());
            for round in 0..40 {
                let mut locked = index.lock(Duration::ZERO).unwrap();
                let mut transaction = Transaction::new(Origin::FACT);
                transaction.append(round + 1, dsync_proto::types::Flags::SEEN);
                if round > 1 {
                    transaction.expunge(round, dsync_proto::types::Guid::ZERO);
                }
                locked.append(&transaction).unwrap();
                locked.finish().unwrap();
                assert!(!index.refresh().unwrap());
            }
        }
        let facts = |index: &mut Index| {
            let uids: Vec<_> = index.state().messages().map(|m| m.uid()).collect();
            let seq = index.log_header().unwrap().file_seq;
            let known = index.state().highest_modseq() - 4;
            (uids, seq, index.changes_since(known, 100).unwrap())
        };
        assert!(on_disk.log_header().unwrap().file_seq > 3, "never rotated");
        assert_eq!(facts(&mut on_disk), facts(&mut in_memory));

        let mut locked = in_memory.lock(Duration::ZERO).unwrap();
        locked.reset(&first(), 1000).unwrap();
        locked.finish().unwrap();
        assert_eq!(in_memory.state().len(), 0);
        assert!(in_memory.state().highest_modseq() >= 1000);
        assert!(!Path::new(NOWHERE).exists());
    }
}
