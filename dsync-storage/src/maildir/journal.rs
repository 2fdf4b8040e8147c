//! What a commit is about to do that a kill must not leave half done.
//!
//! A message whose GUID is not its base name gets its GUID with its record only. A message that
//! moves to another UID is there twice until the old file is removed. So before such files get
//! their names, the commit writes them down in `dovecot-uidlist.dsync`, beside the UID list and
//! under its lock, and removes the file when the index knows everything. Whoever synchronises the
//! mailbox next and still finds it finishes or undoes what was begun; no message is then lost or
//! there twice. Killed while the journal is written: nothing in it has happened yet.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use dsync_proto::types::{Guid, Uid};

use super::disk::{Disk, Known, read_limited};
use super::filename;
use super::files::Matched;
use super::scan::{Dir, Scan};
use crate::index::IndexState;
use crate::{Result, StorageError, path_io};

/// More than any transaction needs.
const MAX_SIZE: u64 = 1 << 28;
/// The last line; without it the journal was never complete.
const END: &[u8] = b"end\n";

/// A file that is about to get its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    /// The message that it replaces; 0 for none.
    pub(super) old: Uid,
    /// Its base name.
    pub(super) base: Vec<u8>,
}

fn encode(mailbox: Guid, planned: &[Planned]) -> Vec<u8> {
    let mut text = format!("{mailbox}\n").into_bytes();
    for file in planned {
        text.extend_from_slice(format!("{} ", file.old).as_bytes());
        text.extend_from_slice(&file.base);
        text.push(b'\n');
    }
    text.extend_from_slice(END);
    text
}

/// Nothing unless the journal is complete, and of this mailbox: with another GUID the UID list was
/// lost, and no file has its record.
fn parse(mailbox: Guid, text: &[u8]) -> Vec<Planned> {
    let header = format!("{mailbox}\n");
    let lines = text.strip_prefix(header.as_bytes());
    let Some(lines) = lines.and_then(|lines| lines.strip_suffix(END)) else {
        return Vec::new();
    };
    let planned = |line: &[u8]| {
        let space = memchr::memchr(b' ', line)?;
        let old = std::str::from_utf8(&line[..space]).ok()?.parse().ok()?;
        let base = line[space + 1..].to_vec();
        Some(Planned { old, base })
    };
    lines
        .split(|byte| *byte == b'\n')
        .filter_map(planned)
        .collect()
}

impl Disk {
    fn journal(&self) -> PathBuf {
        self.paths.control_dir.join("dovecot-uidlist.dsync")
    }

    /// Whether a commit was not finished, or is at work right now.
    pub(super) fn has_journal(&self) -> bool {
        self.journal().exists()
    }

    /// Writes down what is about to happen. The UID list must be locked.
    pub(super) fn write_journal(&self, mailbox: Guid, planned: &[Planned]) -> Result<()> {
        if planned.is_empty() {
            return Ok(());
        }
        let path = self.journal();
        let write = || -> io::Result<()> {
            let mut file = self.paths.modes.create_truncated(&path)?;
            file.write_all(&encode(mailbox, planned))?;
            if self.settings.syncs() {
                file.sync_data()?;
            }
            Ok(())
        };
        write().map_err(|error| StorageError::io("write", &path, &error))?;
        match self.settings.syncs() {
            true => path_io::sync(&self.paths.control_dir),
            false => Ok(()),
        }
    }

    /// Everything in the journal is done, or undone.
    pub(super) fn remove_journal(&self) -> Result<()> {
        path_io::remove(&self.journal())
    }

    /// Brings a commit that was killed to an end. Returns whether files were removed.
    ///
    /// A file without record is removed: nobody was told that the message is there, and it comes
    /// again. A message that is there under its old and its new UID loses the new one, or the old
    /// one if the index knows the new one already. Removed files go to `tmp/` for 36 hours.
    pub(super) fn end_unfinished(
        &self,
        known: &Known,
        state: &IndexState,
        scan: &Scan,
        matched: &Matched,
    ) -> Result<bool> {
        let Some((_, text)) = read_limited(&self.journal(), MAX_SIZE)? else {
            return Ok(false);
        };
        let order = known.uidlist.by_base();
        let record = |base: &[u8]| {
            let at = order
                .binary_search_by(|at| {
                    let entry = known.uidlist.get(*at as usize);
                    entry.map_or(&b""[..], |entry| entry.base).cmp(base)
                })
                .ok()?;
            Some(order[at] as usize)
        };
        let mut removed = false;
        for Planned { old, base } in parse(known.uidlist.guid, &text) {
            let old_position = known.uidlist.position(old);
            let has_file = |at: &usize| matched.files.get(*at).is_some();
            let old_position = old_position.filter(has_file);
            let unfinished = match record(&base).filter(has_file) {
                // A copy whose source has gone meanwhile is the last one: it stays.
                None if old == 0 || old_position.is_some() => self.unrecorded(scan, &base),
                None => None,
                Some(new) => old_position.and_then(|old| {
                    let entry = known.uidlist.get(new)?;
                    let is_known = entry.uid < state.header().next_uid();
                    self.file_at(known, matched, if is_known { old } else { new })
                }),
            };
            if let Some(path) = unfinished {
                tracing::info!("ending an interrupted commit: removing {}", path.display());
                let tmp = self.paths.box_dir.join("tmp").join(self.unique.base_name());
                match fs::rename(&path, tmp) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(StorageError::io("remove", &path, &error));
                    }
                    _ => removed = true,
                }
            }
        }
        Ok(removed)
    }

    fn unrecorded(&self, scan: &Scan, base: &[u8]) -> Option<PathBuf> {
        let (dir, name): (Dir, &[u8]) = scan.find(base)?;
        Some(self.message(dir, filename::base(name), &name[base.len()..]))
    }

    fn file_at(&self, known: &Known, matched: &Matched, position: usize) -> Option<PathBuf> {
        let entry = known.uidlist.get(position)?;
        let file = matched.files.get(position)?;
        Some(self.message(file.dir, entry.base, file.info))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_complete_journals_count() {
        let planned = [
            Planned {
                old: 0,
                base: b"1.M2.host,S=1".to_vec(),
            },
            Planned {
                old: 77,
                base: b"with space".to_vec(),
            },
        ];
        let mailbox = Guid([7; 16]);
        let text = encode(mailbox, &planned);
        assert_eq!(parse(mailbox, &text), planned);
        assert_eq!(parse(Guid([8; 16]), &text), []);
        for end in 0..text.len() {
            assert_eq!(parse(mailbox, &text[..end]), []);
        }
        let garbage = format!("{mailbox}\nx y\n\n5\nend\n");
        assert_eq!(parse(mailbox, garbage.as_bytes()), []);
    }
}
