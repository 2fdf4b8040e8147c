//! An open Maildir mailbox.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use dsync_proto::items::CacheField;
use dsync_proto::types::{MailErrorClass, ModSeq, Uid};

use super::commit::{Pending, PendingSave};
use super::disk::{Disk, Known};
use super::save::{self, BodyWriter};
use crate::attribute_dict::AttributeDict;
use crate::folders::MailboxPaths;
use crate::index::{Cached, Index, IndexSettings, cache_fields};
use crate::lock::FileLock;
use crate::{
    AttributeData, AttributeName, Capabilities, ChangeLog, CommitReport, FlagUpdate, Mailbox,
    MailboxStatus, MessageTable, MetadataUpdate, OpenMessage, OpenMode, Result, SaveMessage,
    StorageError, StoreSettings,
};

/// Names of the index files begin so.
const INDEX_PREFIX: &str = "dovecot.index";

/// An open mailbox.
pub(crate) struct MaildirMailbox {
    pub(super) disk: Disk,
    pub(super) known: Known,
    pub(super) index: Index,
    attributes: Arc<AttributeDict>,
    mode: OpenMode,
    sync_lock: Option<FileLock>,
    status: Option<MailboxStatus>,
    table: Option<Arc<MessageTable>>,
    pub(super) cached: Option<Cached>,
    writing: Option<(BodyWriter, SaveMessage)>,
    pending: Pending,
    /// Where in [`Pending::saves`] the last message is whose body came here.
    last_save: Option<usize>,
}

impl MaildirMailbox {
    /// Opens the mailbox at these paths; its box directory exists.
    pub(crate) fn open(
        paths: MailboxPaths,
        settings: &StoreSettings,
        attributes: Arc<AttributeDict>,
        mode: OpenMode,
    ) -> Result<Self> {
        let disk = Disk {
            unique: settings.unique(),
            settings: settings.clone(),
            paths,
        };
        for path in disk.paths.message_dirs() {
            disk.create_dir(&path)?;
        }
        let index_settings = IndexSettings {
            fsync: settings.fsync,
            lock_method: settings.lock_method,
            ..IndexSettings::default()
        };
        let index = match &disk.paths.index_dir {
            Some(dir) => {
                disk.create_dir(dir)?;
                Index::open(dir, INDEX_PREFIX, index_settings)?
            }
            None => Index::in_memory(INDEX_PREFIX, index_settings),
        };
        Ok(Self {
            disk,
            known: Known::default(),
            index,
            attributes,
            mode,
            sync_lock: None,
            status: None,
            table: None,
            cached: None,
            writing: None,
            pending: Pending::default(),
            last_save: None,
        })
    }

    fn writable(&self) -> Result<()> {
        match self.mode {
            OpenMode::Write => Ok(()),
            OpenMode::Read => Err(StorageError::new(
                MailErrorClass::Permission,
                format!(
                    "mailbox {} was opened for reading only",
                    self.disk.paths.name
                ),
            )),
        }
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

    /// Whether every message of the index has its record.
    fn is_consistent(&self) -> bool {
        let (list, state) = (&self.known.uidlist, self.index.state());
        let known = |uid: Uid| list.position(uid).is_some();
        list.uid_validity == state.header().uid_validity()
            && !list.guid.is_zero()
            && !list.rewrite
            && state.messages().all(|message| known(message.uid()))
    }

    /// A new snapshot of what index and UID list say. Neither changes before the next one, so
    /// that the table is made only when somebody wants it.
    fn take_snapshot(&mut self) {
        let state = self.index.state();
        let header = state.header();
        let list = &self.known.uidlist;
        self.status = Some(MailboxStatus {
            guid: list.guid,
            uid_validity: header.uid_validity(),
            uid_next: header.next_uid().max(list.next_uid()),
            messages: state.len() as u32,
            first_recent_uid: header.first_recent_uid().max(1),
            highest_modseq: state.highest_modseq(),
            highest_pvt_modseq: 0,
        });
        self.table = None;
        self.cached = None;
    }

    fn make_table(&self) -> MessageTable {
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
        table
    }

    fn snapshot(&mut self) -> Result<MailboxStatus> {
        match self.status {
            Some(status) => Ok(status),
            None => self.refresh(),
        }
    }
}

impl Mailbox for MaildirMailbox {
    fn name(&self) -> &str {
        &self.disk.paths.name
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::FULL
    }

    fn lock_for_sync(&mut self, timeout: Duration) -> Result<()> {
        if self.sync_lock.is_none() {
            self.sync_lock = self
                .disk
                .paths
                .lock_for_sync(&self.disk.settings, timeout)?;
        }
        Ok(())
    }

    fn refresh(&mut self) -> Result<MailboxStatus> {
        self.bring_in_step()?;
        self.take_snapshot();
        self.snapshot()
    }

    fn status(&mut self) -> Result<MailboxStatus> {
        self.snapshot()
    }

    fn cache_fields(&mut self) -> Result<Vec<CacheField>> {
        match &self.disk.paths.index_dir {
            Some(dir) => cache_fields(dir, INDEX_PREFIX),
            None => Ok(Vec::new()),
        }
    }

    fn messages(&mut self) -> Result<Arc<MessageTable>> {
        self.snapshot()?;
        if let Some(table) = &self.table {
            return Ok(Arc::clone(table));
        }
        let table = Arc::new(self.make_table());
        self.table = Some(Arc::clone(&table));
        Ok(table)
    }

    fn changes_since(
        &mut self,
        modseq: ModSeq,
        _pvt_modseq: ModSeq,
        highest_uid: Uid,
    ) -> Result<ChangeLog> {
        self.snapshot()?;
        self.index.changes_since(modseq, highest_uid)
    }

    fn open_message(&mut self, uid: Uid) -> Result<Option<OpenMessage>> {
        self.snapshot()?;
        self.read_message(uid)
    }

    fn received_date(&mut self, uid: Uid) -> Result<Option<i64>> {
        self.snapshot()?;
        self.with_file(uid, "stat", |path| Ok(fs::metadata(path)?.mtime()))
    }

    fn attributes(&mut self) -> Result<Vec<AttributeName>> {
        if !self.attributes.is_enabled() {
            return Ok(Vec::new());
        }
        let guid = self.snapshot()?.guid;
        self.attributes.list(guid)
    }

    fn attribute(&mut self, name: &AttributeName) -> Result<Option<AttributeData>> {
        let guid = self.snapshot()?.guid;
        let value = self.attributes.get(guid, name)?;
        Ok(value.map(|value| AttributeData {
            value,
            stream: false,
            last_change: 0,
        }))
    }

    fn save_begin(&mut self, message: SaveMessage) -> Result<()> {
        self.writable()?;
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
        self.last_save = Some(self.pending.saves.len());
        self.pending.saves.push(PendingSave {
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
        self.writable()?;
        let last = self.last_save.and_then(|at| self.pending.saves.get(at));
        let last = last.ok_or_else(no_save)?;
        let Disk { paths, unique, .. } = &self.disk;
        let tmp = save::link(last.tmp.path(), &paths.box_dir, unique, &paths.modes)?;
        let (size, source) = (last.size, last.source);
        self.pending.saves.push(PendingSave {
            tmp,
            size,
            source,
            message,
        });
        Ok(())
    }

    /// A hard link: both messages share one file, which nobody ever changes.
    fn copy(&mut self, source: Uid, message: SaveMessage) -> Result<bool> {
        self.writable()?;
        self.snapshot()?;
        let copy = self.disk.copy(&mut self.known, source, message)?;
        let Some((mut copy, changed)) = copy else {
            return Ok(false);
        };
        copy.message.saved_date = self.saved_date(source, changed);
        self.pending.saves.push(copy);
        Ok(true)
    }

    fn update_flags(&mut self, uid: Uid, update: FlagUpdate) -> Result<()> {
        self.writable()?;
        self.pending.changes.update_flags(uid, update);
        Ok(())
    }

    fn expunge(&mut self, uid: Uid) -> Result<()> {
        self.writable()?;
        self.pending.changes.expunges.insert(uid);
        Ok(())
    }

    fn set_attribute(&mut self, name: &AttributeName, data: Option<AttributeData>) -> Result<()> {
        self.writable()?;
        self.attributes.require()?;
        self.pending.changes.attributes.push((name.clone(), data));
        Ok(())
    }

    fn update_metadata(&mut self, update: MetadataUpdate) -> Result<()> {
        self.writable()?;
        let name = &self.disk.paths.name;
        self.pending.changes.update_metadata(name, update)
    }

    fn reassign_uids(&mut self, uids: &[Uid]) -> Result<()> {
        self.writable()?;
        self.pending.changes.reassign.extend_from_slice(uids);
        Ok(())
    }

    fn commit(&mut self) -> Result<CommitReport> {
        let mut pending = std::mem::take(&mut self.pending);
        self.writing = None;
        self.last_save = None;
        if pending.saves.is_empty() && pending.changes.is_empty() {
            return Ok(CommitReport::default());
        }
        let status = self.snapshot()?;
        // The same value again would only make the index anew, without its history.
        pending.changes.metadata.uid_validity = pending
            .changes
            .metadata
            .uid_validity
            .filter(|wanted| *wanted != status.uid_validity);
        let attributes = pending.changes.attribute_values();
        if !attributes.is_empty() {
            // Before the log tells of them: a change that nobody was told of is found by the
            // next full run, one that was told but not made would be lost.
            self.attributes.set(status.guid, &attributes)?;
        }
        let result = self.disk.commit(&mut self.known, &mut self.index, pending);
        if result.is_err() {
            self.status = None;
            self.table = None;
        } else {
            self.take_snapshot();
        }
        result
    }
}

fn no_save() -> StorageError {
    StorageError::new(MailErrorClass::Params, "no message is being saved")
}

#[cfg(test)]
mod tests;
