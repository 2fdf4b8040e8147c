//! `dovecot.mailbox.log`: deletions, renames and subscriptions (`spec/maildir.md` 16).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use dsync_proto::types::Guid;

use crate::permissions::CreateModes;
use crate::{MailboxLogKind, MailboxLogRecord, Result, StorageError, path_io};

const RECORD_SIZE: usize = 24;
/// The log is rotated once it has this size.
const ROTATE_SIZE: u64 = 4096;
/// Biggest file that is read. Dovecot's files have about 4 KiB.
const MAX_FILE_SIZE: u64 = 16 * 1024 * 1024;

/// The mailbox log of one store.
#[derive(Clone, Debug)]
pub(crate) struct MailboxLog {
    path: PathBuf,
    old_path: PathBuf,
}

impl MailboxLog {
    /// The log in this index root.
    pub(crate) fn new(index_root: &Path) -> Self {
        Self {
            path: index_root.join("dovecot.mailbox.log"),
            old_path: index_root.join("dovecot.mailbox.log.2"),
        }
    }

    /// All records, oldest first. Reading stops at damage in a file, with a warning; nothing is
    /// deleted, because a forgotten deletion brings mail back.
    pub(crate) fn read(&self) -> Result<Vec<MailboxLogRecord>> {
        let mut records = Vec::new();
        for path in [&self.old_path, &self.path] {
            let bytes = path_io::read(path, MAX_FILE_SIZE)?.unwrap_or_default();
            let (mut good, used) = parse(&bytes);
            if used < bytes.len() {
                tracing::warn!(
                    "{} is damaged behind {used} of {} bytes; the rest of it is left out",
                    path.display(),
                    bytes.len()
                );
            }
            records.append(&mut good);
        }
        Ok(records)
    }

    /// Appends records with one write. The caller holds the lock of the list or of the
    /// subscriptions.
    pub(crate) fn append(
        &self,
        records: &[MailboxLogRecord],
        modes: &CreateModes,
        sync: bool,
    ) -> Result<()> {
        if let Some(root) = self.path.parent() {
            modes
                .create_dir_all(root)
                .map_err(|error| StorageError::io("create directory", root, &error))?;
        }
        let mut file = self.open_for_append(modes)?;
        self.repair_tail(&mut file, modes)?;
        let bytes: Vec<u8> = records.iter().flat_map(format).collect();
        // Killed inside the write: a torn record, which the next writer cuts off. The change
        // itself is done by then, so that a peer may undo it: the price of a log beside the data.
        file.write_all(&bytes)
            .map_err(|error| StorageError::io("write", &self.path, &error))?;
        if sync {
            file.sync_data()
                .map_err(|error| StorageError::io("sync", &self.path, &error))?;
        }
        let size = file
            .metadata()
            .map_err(|error| StorageError::io("stat", &self.path, &error))?
            .len();
        if size >= ROTATE_SIZE {
            std::fs::rename(&self.path, &self.old_path)
                .map_err(|error| StorageError::io("rename", &self.path, &error))?;
        }
        Ok(())
    }

    fn open_for_append(&self, modes: &CreateModes) -> Result<File> {
        loop {
            match OpenOptions::new().read(true).append(true).open(&self.path) {
                Ok(file) => return Ok(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(StorageError::io("open", &self.path, &error)),
            }
            match modes.create_new(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(StorageError::io("create", &self.path, &error));
                }
                _ => {}
            }
        }
    }

    /// Makes the end of the file a place where a record can stand and be read: cuts a torn record
    /// off, and sets a damaged file aside with its good part kept. (Dovecot would delete all of
    /// it at its next reading.)
    fn repair_tail(&self, file: &mut File, modes: &CreateModes) -> Result<()> {
        let bytes = path_io::read_open(file, &self.path, MAX_FILE_SIZE)?;
        let (_, used) = parse(&bytes);
        if used == bytes.len() {
            return Ok(());
        }
        if bytes.len() - used < RECORD_SIZE {
            tracing::warn!("{}: removing a torn record", self.path.display());
            return file
                .set_len(used as u64)
                .map_err(|error| StorageError::io("truncate", &self.path, &error));
        }
        let aside = self.path.with_extension("log.damaged");
        tracing::warn!(
            "{} is damaged behind {used} bytes; it is kept as {}",
            self.path.display(),
            aside.display()
        );
        // Killed after the first step: nothing has changed. Killed after the second: the good part
        // is in place.
        let replace = || -> io::Result<File> {
            let _ = std::fs::remove_file(&aside);
            std::fs::hard_link(&self.path, &aside)?;
            let temp = self.path.with_extension("log.tmp");
            modes.create_truncated(&temp)?.write_all(&bytes[..used])?;
            std::fs::rename(&temp, &self.path)?;
            OpenOptions::new().read(true).append(true).open(&self.path)
        };
        *file = replace().map_err(|error| StorageError::io("repair", &self.path, &error))?;
        Ok(())
    }
}

/// The records before the first damage, and how many bytes they take.
fn parse(bytes: &[u8]) -> (Vec<MailboxLogRecord>, usize) {
    let records: Vec<_> = bytes
        .chunks_exact(RECORD_SIZE)
        .map_while(parse_record)
        .collect();
    let used = records.len() * RECORD_SIZE;
    (records, used)
}

fn parse_record(bytes: &[u8]) -> Option<MailboxLogRecord> {
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    let (id, rest) = rest.split_first_chunk::<16>()?;
    let (time, _) = rest.split_first_chunk::<4>()?;
    let kind = match head {
        [1, 0, 0, 0] => MailboxLogKind::DeleteMailbox,
        [2, 0, 0, 0] => MailboxLogKind::DeleteDir,
        [3, 0, 0, 0] => MailboxLogKind::Rename,
        [4, 0, 0, 0] => MailboxLogKind::Subscribe,
        [5, 0, 0, 0] => MailboxLogKind::Unsubscribe,
        _ => return None,
    };
    Some(MailboxLogRecord {
        kind,
        id: Guid(*id),
        time: i64::from(u32::from_be_bytes(*time)),
    })
}

fn format(record: &MailboxLogRecord) -> [u8; RECORD_SIZE] {
    let mut bytes = [0; RECORD_SIZE];
    bytes[0] = match record.kind {
        MailboxLogKind::DeleteMailbox => 1,
        MailboxLogKind::DeleteDir => 2,
        MailboxLogKind::Rename => 3,
        MailboxLogKind::Subscribe => 4,
        MailboxLogKind::Unsubscribe => 5,
    };
    bytes[4..20].copy_from_slice(&record.id.0);
    let time = u32::try_from(record.time).unwrap_or(if record.time < 0 { 0 } else { u32::MAX });
    bytes[20..].copy_from_slice(&time.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(kind: MailboxLogKind, byte: u8) -> MailboxLogRecord {
        MailboxLogRecord {
            kind,
            id: Guid([byte; 16]),
            time: 1_795_447_637,
        }
    }

    fn append(log: &MailboxLog, records: &[MailboxLogRecord]) {
        log.append(records, &CreateModes::default(), true).unwrap();
    }

    #[test]
    fn capture_of_the_specification() {
        let root = tempfile::tempdir().unwrap();
        let log = MailboxLog::new(root.path());
        let guid = |hex: &str| Guid::from_hex(hex.as_bytes()).unwrap();
        let records = [
            (MailboxLogKind::Rename, "52fa55a9600a714fd2b5822d72f645d3"),
            (
                MailboxLogKind::DeleteMailbox,
                "7be98329405b046b0f54000083ecc375",
            ),
            (
                MailboxLogKind::DeleteDir,
                "cae0435c41e816c24f0838fdf4e76c04",
            ),
        ]
        .map(|(kind, id)| MailboxLogRecord {
            kind,
            id: guid(id),
            time: 0x6b04_5b55,
        });
        append(&log, &records);
        let hex: String = std::fs::read(&log.path)
            .unwrap()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            hex,
            "0300000052fa55a9600a714fd2b5822d72f645d36b045b55\
             010000007be98329405b046b0f54000083ecc3756b045b55\
             02000000cae0435c41e816c24f0838fdf4e76c046b045b55"
        );
        assert_eq!(log.read().unwrap(), records);
    }

    /// First byte of the id of each record.
    fn first_bytes(log: &MailboxLog) -> Vec<u8> {
        let records = log.read().unwrap();
        records.iter().map(|record| record.id.0[0]).collect()
    }

    #[test]
    fn nothing_is_there_at_first() {
        let root = tempfile::tempdir().unwrap();
        let log = MailboxLog::new(&root.path().join("later"));
        assert_eq!(log.read().unwrap(), []);
        append(&log, &[record(MailboxLogKind::Subscribe, 1)]);
        assert_eq!(log.read().unwrap().len(), 1);
    }

    #[test]
    fn rotates_and_still_reads_the_older_file_first() {
        let root = tempfile::tempdir().unwrap();
        let log = MailboxLog::new(root.path());
        for number in 0..200_u8 {
            append(&log, &[record(MailboxLogKind::Rename, number)]);
        }
        let numbers = first_bytes(&log);
        assert_eq!(numbers, (0..200).collect::<Vec<_>>());
        assert_eq!(log.old_path.metadata().unwrap().len(), 171 * 24);
    }

    #[test]
    fn a_torn_record_is_cut_off_before_the_next_one() {
        for torn in 1..24 {
            let root = tempfile::tempdir().unwrap();
            let log = MailboxLog::new(root.path());
            append(&log, &[record(MailboxLogKind::Rename, 1)]);
            let mut bytes = std::fs::read(&log.path).unwrap();
            bytes.extend_from_slice(&format(&record(MailboxLogKind::Rename, 2))[..torn]);
            std::fs::write(&log.path, bytes).unwrap();
            assert_eq!(log.read().unwrap().len(), 1);
            append(&log, &[record(MailboxLogKind::Subscribe, 3)]);
            let ids = first_bytes(&log);
            assert_eq!(ids, [1, 3]);
        }
    }

    #[test]
    fn a_damaged_file_keeps_its_good_part_and_takes_new_records() {
        let root = tempfile::tempdir().unwrap();
        let log = MailboxLog::new(root.path());
        append(
            &log,
            &[1, 2, 3].map(|byte| record(MailboxLogKind::Rename, byte)),
        );
        let mut bytes = std::fs::read(&log.path).unwrap();
        bytes[24] = 6;
        std::fs::write(&log.path, &bytes).unwrap();
        assert_eq!(log.read().unwrap().len(), 1);
        assert_eq!(
            std::fs::read(&log.path).unwrap(),
            bytes,
            "reading changes nothing"
        );
        append(&log, &[record(MailboxLogKind::Subscribe, 4)]);
        let ids = first_bytes(&log);
        assert_eq!(ids, [1, 4]);
        assert_eq!(
            std::fs::read(root.path().join("dovecot.mailbox.log.damaged")).unwrap(),
            bytes
        );
    }

    proptest! {
        #[test]
        fn what_is_read_was_there(bytes: Vec<u8>) {
            let (records, used) = parse(&bytes);
            let back: Vec<u8> = records.iter().flat_map(format).collect();
            prop_assert_eq!(&bytes[..used], back.as_slice());
        }
    }
}
