//! Flags and expunges between one message's file and the index.

use std::fs;
use std::io;

use bstr::{BStr, BString};
use dsync_proto::types::Flags;

use super::disk::{Disk, Known};
use super::filename::{self, NameFlags};
use super::scan::{Dir, path_of};
use crate::index::{Message, Transaction};
use crate::{Result, StorageError};

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

    /// Renames a message file to other flags, into `cur/` if it has any.
    pub(super) fn set_file_flags(
        &self,
        known: &mut Known,
        position: usize,
        flags: Flags,
        letters: u32,
    ) -> Result<()> {
        let Some(files) = &mut known.files else {
            return Ok(());
        };
        let (Some(entry), Some(file)) = (known.uidlist.get(position), files.get(position)) else {
            return Ok(());
        };
        let mut flags = flags;
        if self.paths.private_seen {
            flags = (flags & !Flags::SEEN) | (file.flags().flags & Flags::SEEN);
        }
        let wanted = NameFlags { flags, letters };
        if file.flags() == wanted {
            return Ok(());
        }
        let old_name = [entry.base, file.info].concat();
        let new_name = filename::with_flags(&old_name, wanted);
        let old = path_of(&self.paths.box_dir, file.dir, &old_name);
        let new = path_of(&self.paths.box_dir, Dir::Cur, &new_name);
        match fs::rename(&old, &new) {
            Ok(()) => {
                let info = new_name[entry.base.len()..].to_vec();
                files.set(position, Dir::Cur, &info);
                Ok(())
            }
            // Gone since the scan: the next sync records it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(StorageError::io("rename", &old, &error)),
        }
    }

    /// Removes a message file; one that is gone is no error.
    pub(super) fn unlink(&self, known: &mut Known, position: usize) -> Result<()> {
        let Some(files) = &mut known.files else {
            return Ok(());
        };
        let (Some(entry), Some(file)) = (known.uidlist.get(position), files.get(position)) else {
            return Ok(());
        };
        let path = self.message(file.dir, entry.base, file.info);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StorageError::io("remove", &path, &error))
            }
            _ => {
                files.remove(position);
                Ok(())
            }
        }
    }
}

impl Known {
    /// Names of keyword letters.
    pub(super) fn letter_names(&self, letters: u32) -> Vec<BString> {
        (0..26)
            .filter(|letter| letters & (1 << letter) != 0)
            .filter_map(|letter| self.keywords.name(letter).map(ToOwned::to_owned))
            .collect()
    }
}
