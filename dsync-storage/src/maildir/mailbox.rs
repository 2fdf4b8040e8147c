//! An open Maildir mailbox.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use dsync_proto::types::{MailErrorClass, Uid};

use super::commit::{Pending, PendingSave};
use super::disk::{Disk, Known};
use super::save::{self, BodyWriter};
use crate::attribute_dict::AttributeDict;
use crate::changes::Changes;
use crate::folders::MailboxPaths;
use crate::index::{Cached, Index};
use crate::opened::{Format, INDEX_PREFIX, Opened};
use crate::{
    CommitReport, MailboxStatus, MessageTable, OpenMessage, OpenMode, Result, SaveMessage,
    StorageError, StoreSettings,
};

/// An open mailbox.
pub(crate) struct MaildirMailbox {
    pub(super) disk: Disk,
    pub(super) known: Known,
    pub(super) index: Index,
    pub(super) cached: Option<Cached>,
    writing: Option<(BodyWriter, SaveMessage)>,
    saves: Vec<PendingSave>,
    /// Where among them the last message is whose body came here.
    last_save: Option<usize>,
}

impl MaildirMailbox {
    /// Opens the mailbox at these paths; its box directory exists.
    pub(crate) fn open(
        paths: MailboxPaths,
        settings: &StoreSettings,
        attributes: Arc<AttributeDict>,
        mode: OpenMode,
    ) -> Result<Opened<Self>> {
        let disk = Disk {
            unique: settings.unique(),
            settings: settings.clone(),
            paths,
        };
        let index = match &disk.paths.index_dir {
            Some(dir) => {
                if *dir != disk.paths.box_dir {
                    disk.create_dir(dir)?;
                }
                Index::open(dir, INDEX_PREFIX, settings.into())?
            }
            None => Index::in_memory(INDEX_PREFIX, settings.into()),
        };
        let format = Self {
            disk,
            known: Known::default(),
            index,
            cached: None,
            writing: None,
            saves: Vec::new(),
            last_save: None,
        };
        Ok(Opened::new(format, attributes, mode))
    }

    /// Whether every message of the index has its record.
    fn is_consistent(&self) -> bool {
        let (list, state) = (&self.known.uidlist, self.index.state());
        let known = |uid: Uid| list.position(uid).is_some();
        list.uid_validity == state.header().uid_validity()
            && !list.guid.is_zero()
            && !list.rewrite
            && state.messages().all(|message| known(message.uid()))
    }
}

impl Format for MaildirMailbox {
    fn paths(&self) -> &MailboxPaths {
        &self.disk.paths
    }

    fn settings(&self) -> &StoreSettings {
        &self.disk.settings
    }

    fn index(&mut self) -> &mut Index {
        &mut self.index
    }

    /// Files, UID list and index in step.
    fn bring_in_step(&mut self) -> Result<()> {
        self.index.refresh()?;
        if self.disk.is_settled(&mut self.index)? {
            self.disk.read_uidlist(&mut self.known)?;
            self.known.files = None;
            if self.is_consistent() {
                return Ok(());
            }
        }
        self.known.uidlist_stamp = None;
        self.disk.synchronise(&mut self.known, &mut self.index)
    }

    /// Neither index nor UID list changes before the next one, so that the table is made only
    /// when somebody wants it.
    fn take_snapshot(&mut self) -> Result<MailboxStatus> {
        self.cached = None;
        let state = self.index.state();
        let header = state.header();
        let list = &self.known.uidlist;
        Ok(MailboxStatus {
            guid: list.guid,
            uid_validity: header.uid_validity(),
            uid_next: header.next_uid().max(list.next_uid()),
            messages: state.len() as u32,
            first_recent_uid: header.first_recent_uid().max(1),
            highest_modseq: state.highest_modseq(),
            highest_pvt_modseq: 0,
        })
    }

    fn make_table(&mut self, _mode: OpenMode) -> Result<MessageTable> {
        let state = self.index.state();
        let list = &self.known.uidlist;
        let mut table = MessageTable::new();
        table.reserve(state.len());
        let mut last_mask: Vec<u8> = Vec::new();
        let mut set = table.keyword_set([]);
        for message in state.messages() {
            let mask = message.keyword_mask();
            if mask != last_mask {
                last_mask = mask.to_vec();
                set = table.keyword_set(message.keywords());
            }
            let entry = list
                .position(message.uid())
                .and_then(|position| list.get(position));
            let guid = entry.map_or(&b""[..], |entry| entry.guid());
            // The index keeps UIDs in order.
            let _ = table.push(message.uid(), message.flags(), set, message.modseq(), guid);
        }
        Ok(table)
    }

    fn open_message(&mut self, uid: Uid) -> Result<Option<OpenMessage>> {
        self.read_message(uid)
    }

    fn received_date(&mut self, uid: Uid) -> Result<Option<i64>> {
        self.with_file(uid, "stat", |path| Ok(fs::metadata(path)?.mtime()))
    }

    fn save_begin(&mut self, message: SaveMessage) -> Result<()> {
        let Disk { paths, unique, .. } = &self.disk;
        let writer = BodyWriter::create(&paths.box_dir, unique, &paths.modes)?;
        self.writing = Some((writer, message));
        Ok(())
    }

    fn save_write(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.writing {
            Some((writer, _)) => writer.write(bytes),
            None => Err(no_save()),
        }
    }

    fn save_finish(&mut self) -> Result<()> {
        let (writer, message) = self.writing.take().ok_or_else(no_save)?;
        let (tmp, size) = writer.finish(message.received_date, self.disk.settings.fsync)?;
        self.last_save = Some(self.saves.len());
        self.saves.push(PendingSave {
            tmp,
            size: Some(size),
            source: 0,
            message,
        });
        Ok(())
    }

    fn save_abort(&mut self) {
        self.writing = None;
    }

    fn save_another(&mut self, message: SaveMessage) -> Result<()> {
        let last = self.last_save.and_then(|at| self.saves.get(at));
        let last = last.ok_or_else(no_save)?;
        let Disk { paths, unique, .. } = &self.disk;
        let tmp = save::link(last.tmp.path(), &paths.box_dir, unique, &paths.modes)?;
        let (size, source) = (last.size, last.source);
        self.saves.push(PendingSave {
            tmp,
            size,
            source,
            message,
        });
        Ok(())
    }

    /// A hard link: both messages share one file, which nobody ever changes.
    fn copy(&mut self, source: Uid, message: SaveMessage) -> Result<bool> {
        let copy = self.disk.copy(&mut self.known, source, message)?;
        let Some((mut copy, changed)) = copy else {
            return Ok(false);
        };
        copy.message.saved_date = self.saved_date(source, changed);
        self.saves.push(copy);
        Ok(true)
    }

    fn has_saves(&self) -> bool {
        !self.saves.is_empty()
    }

    fn commit(&mut self, changes: Changes) -> Result<CommitReport> {
        self.last_save = None;
        let pending = Pending {
            saves: std::mem::take(&mut self.saves),
            changes,
        };
        self.disk.commit(&mut self.known, &mut self.index, pending)
    }
}

fn no_save() -> StorageError {
    StorageError::new(MailErrorClass::Params, "no message is being saved")
}

#[cfg(test)]
mod tests;
