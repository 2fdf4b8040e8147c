//! Flags and expunges between one message's file and the index.

use std::fs;
use std::io;

use bstr::{BStr, BString};
use dsync_proto::types::Flags;

use super::disk::{Disk, Known};
use super::filename::{self, NameFlags};
use super::files::{FileRef, match_files};
use super::scan::{Dir, Scan, path_of};
use crate::index::{Message, Transaction};
use crate::{Result, StorageError};

/// How often a file is looked for that others rename meanwhile.
const ATTEMPTS: usize = 3;

impl Disk {
    /// A message that the index does not know. It is `\Recent` even in `cur/`: only a session
    /// takes that away.
    pub(super) fn append_message(
        &self,
        known: &Known,
        position: usize,
        transaction: &mut Transaction,
    ) {
        let (Some(entry), Some(file)) = (
            known.uidlist.get(position),
            known.files.as_ref().and_then(|files| files.get(position)),
        ) else {
            return;
        };
        let flags = file.flags();
        let mut user_flags = flags.flags;
        if self.paths.private_seen {
            user_flags = user_flags & !Flags::SEEN;
        }
        transaction.append(entry.uid, user_flags);
        for name in known.letter_names(flags.letters) {
            transaction.add_keyword(&name, entry.uid..=entry.uid);
        }
    }

    /// The file tells the flags: another program changed them.
    pub(super) fn pull_flags(
        &self,
        known: &Known,
        position: usize,
        message: &Message<'_>,
        transaction: &mut Transaction,
    ) {
        let Some(file) = known.files.as_ref().and_then(|files| files.get(position)) else {
            return;
        };
        let uid = message.uid();
        let (have, in_file) = (message.flags() & Flags::USER, file.flags());
        let mut wanted = in_file.flags;
        if self.paths.private_seen {
            wanted = (wanted & !Flags::SEEN) | (have & Flags::SEEN);
        }
        if have != wanted {
            transaction.update_flags(uid..=uid, wanted & !have, have & !wanted);
        }
        let mask = message.keyword_mask();
        if in_file.letters == 0 && mask.iter().all(|byte| *byte == 0) {
            return;
        }
        let present: Vec<&BStr> = message.keywords().collect();
        for letter in 0..26 {
            let Some(name) = known.keywords.name(letter) else {
                continue;
            };
            let is_set = present
                .iter()
                .any(|keyword| keyword.eq_ignore_ascii_case(name));
            match (in_file.letters & (1 << letter) != 0, is_set) {
                (true, false) => transaction.add_keyword(name, uid..=uid),
                (false, true) => transaction.remove_keyword(name, uid..=uid),
                _ => {}
            }
        }
    }

    /// The index tells the flags: the file is renamed. If that fails, the next sync tries again.
    pub(super) fn push_flags(
        &self,
        known: &mut Known,
        position: usize,
        message: &Message<'_>,
    ) -> Result<()> {
        let keywords: Vec<BString> = message.keywords().map(ToOwned::to_owned).collect();
        let letters = keywords
            .iter()
            .filter_map(|name| known.keywords.find_or_add(name))
            .fold(0, |letters, letter| letters | (1 << letter));
        if letters & !known.written_letters != 0 {
            self.write_keywords(known)?;
        }
        self.set_file_flags(known, position, message.flags() & Flags::USER, letters)
    }

    /// Renames a message file to other flags, into `cur/` if it has any. Flags that another program
    /// gave it meanwhile stay; the next sync tells the index of them.
    pub(super) fn set_file_flags(
        &self,
        known: &mut Known,
        position: usize,
        flags: Flags,
        letters: u32,
    ) -> Result<()> {
        let Some((file, _)) = known.file(position) else {
            return Ok(());
        };
        let before = file.flags();
        let mut flags = flags;
        if self.paths.private_seen {
            flags = (flags & !Flags::SEEN) | (before.flags & Flags::SEEN);
        }
        for _ in 0..ATTEMPTS {
            let Some((file, base)) = known.file(position) else {
                return Ok(());
            };
            let now = file.flags();
            let wanted = NameFlags {
                flags: (now.flags & !(before.flags & !flags)) | (flags & !before.flags),
                letters: (now.letters & !(before.letters & !letters)) | (letters & !before.letters),
            };
            if now == wanted {
                return Ok(());
            }
            let old_name = [base, file.info].concat();
            let new_name = filename::with_flags(&old_name, wanted);
            let old = path_of(&self.paths.box_dir, file.dir, &old_name);
            let new = path_of(&self.paths.box_dir, Dir::Cur, &new_name);
            let info = new_name[base.len()..].to_vec();
            match fs::rename(&old, &new) {
                Ok(()) => {
                    if let Some(files) = &mut known.files {
                        files.set(position, Dir::Cur, &info);
                    }
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.look_again(known)?;
                }
                Err(error) => return Err(StorageError::io("rename", &old, &error)),
            }
        }
        // Renamed all the time, or gone: the next sync records what it is.
        Ok(())
    }

    /// Removes a message file; one that is gone is no error.
    pub(super) fn unlink(&self, known: &mut Known, position: usize) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let Some((file, base)) = known.file(position) else {
                return Ok(());
            };
            let path = self.message(file.dir, base, file.info);
            match fs::remove_file(&path) {
                Ok(()) => {
                    if let Some(files) = &mut known.files {
                        files.remove(position);
                    }
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.look_again(known)?;
                }
                Err(error) => return Err(StorageError::io("remove", &path, &error)),
            }
        }
        Ok(())
    }

    /// A file is not where it was: a program that does not take the lock has renamed or removed
    /// it. All are looked up again, so that many such files cost one look and not one each.
    pub(super) fn look_again(&self, known: &mut Known) -> Result<()> {
        let scan = Scan::read(&self.paths.box_dir, || Ok(()))?;
        known.files = Some(match_files(&known.uidlist, &scan).files);
        Ok(())
    }
}

impl Known {
    /// Where the file of a record is, and its base name.
    pub(super) fn file(&self, position: usize) -> Option<(FileRef<'_>, &[u8])> {
        let file = self.files.as_ref()?.get(position)?;
        Some((file, self.uidlist.get(position)?.base))
    }

    /// Names of keyword letters.
    pub(super) fn letter_names(&self, letters: u32) -> Vec<BString> {
        (0..26)
            .filter(|letter| letters & (1 << letter) != 0)
            .filter_map(|letter| self.keywords.name(letter).map(ToOwned::to_owned))
            .collect()
    }
}
