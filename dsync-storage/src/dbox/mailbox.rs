//! An open sdbox or mdbox mailbox.

mod table;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bstr::BString;
use dsync_proto::items::CacheField;
use dsync_proto::types::{Guid, MailErrorClass, MailGuid, ModSeq, Uid};

use super::bodies::{Bodies, Disk};
use super::identity::{self, INDEX_LOCK_TIMEOUT, INDEX_PREFIX};
use super::message::StoredMessage;
use crate::attribute_dict::AttributeDict;
use crate::changes::Changes;
use crate::index::{Cached, Index, Origin, Transaction, cache_fields};
use crate::location::Driver;
use crate::lock::FileLock;
use crate::mailbox::count_virtual_size;
use crate::{
    AttributeData, AttributeName, Capabilities, ChangeLog, CommitReport, FlagUpdate, Mailbox,
    MailboxStatus, MessageTable, MetadataUpdate, OpenMessage, OpenMode, Result, SaveMessage,
    StorageError,
};

/// An open mailbox.
pub(super) struct DboxMailbox {
    disk: Disk,
    driver: Driver,
    index: Index,
    bodies: Box<dyn Bodies>,
    attributes: Arc<AttributeDict>,
    mode: OpenMode,
    sync_lock: Option<FileLock>,
    status: Option<MailboxStatus>,
    table: Option<Arc<MessageTable>>,
    /// GUIDs that were read from files; a UID never becomes another message's.
    guids: BTreeMap<Uid, BString>,
    cached: Option<Cached>,
    /// The index as others see it, if it has news since the snapshot.
    present: Option<Index>,
    changes: Changes,
}

impl DboxMailbox {
    /// A mailbox with this index, which tells who it is.
    pub(super) fn new(
        disk: Disk,
        driver: Driver,
        index: Index,
        bodies: Box<dyn Bodies>,
        attributes: Arc<AttributeDict>,
        mode: OpenMode,
    ) -> Self {
        Self {
            disk,
            driver,
            index,
            bodies,
            attributes,
            mode,
            sync_lock: None,
            status: None,
            table: None,
            guids: BTreeMap::new(),
            cached: None,
            present: None,
            changes: Changes::default(),
        }
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

    /// Ends what others began; modseqs of messages are kept from now on.
    fn bring_in_step(&mut self) -> Result<()> {
        self.index.refresh()?;
        identity::check(&self.index, &self.disk.paths.name)?;
        if self.bodies.needs_repair(&mut self.index)? {
            self.bodies.repair(&mut self.index)?;
        }
        if !self.index.state().has_modseqs() {
            let mut locked = self.index.lock(INDEX_LOCK_TIMEOUT)?;
            let mut transaction = Transaction::new(Origin::FACT);
            transaction.enable_modseqs();
            locked.append(&transaction)?;
            locked.finish()?;
        }
        Ok(())
    }

    /// A new snapshot of what the index says; it does not change before the next one.
    fn take_snapshot(&mut self) {
        let state = self.index.state();
        let header = state.header();
        let status = MailboxStatus {
            guid: identity::guid_of(state, self.driver),
            uid_validity: header.uid_validity(),
            uid_next: header.next_uid(),
            messages: state.len() as u32,
            first_recent_uid: header.first_recent_uid().max(1),
            highest_modseq: state.highest_modseq(),
            highest_pvt_modseq: 0,
        };
        let renumbered = self
            .status
            .is_some_and(|before| before.uid_validity != status.uid_validity);
        if renumbered {
            self.guids.clear();
        }
        self.status = Some(status);
        self.table = None;
        self.cached = None;
        self.present = None;
    }

    fn snapshot(&mut self) -> Result<MailboxStatus> {
        match self.status {
            Some(status) => Ok(status),
            None => self.refresh(),
        }
    }

    /// Fails if one of these messages, which have no file, is in the index even now.
    fn still_there(&mut self, missing: &[Uid]) -> Result<()> {
        let mut there = None;
        for uid in missing {
            if !self.is_expunged(*uid)? {
                there = Some(uid);
                break;
            }
        }
        match there {
            Some(uid) => Err(StorageError::new(
                MailErrorClass::InvalidData,
                format!(
                    "mailbox {}: the file of message UID={uid} is missing: put it back, or run \
                     `doveadm force-resync` to give the message up",
                    self.disk.paths.name,
                ),
            )),
            None => Ok(()),
        }
    }

    /// Collects all messages of the snapshot for an expunge.
    pub(super) fn expunge_all(&mut self) {
        let uids = self.index.state().messages().map(|message| message.uid());
        self.changes.expunges.extend(uids);
    }

    /// Whether a message of the snapshot is not in the index any more, while the snapshot stays.
    fn is_expunged(&mut self, uid: Uid) -> Result<bool> {
        if !self.index.has_news()? {
            return Ok(self.index.state().message(uid).is_none());
        }
        if let Some(present) = &mut self.present {
            present.refresh()?;
            return Ok(present.state().message(uid).is_none());
        }
        let present = self.open_index_anew()?;
        let gone = present.state().message(uid).is_none();
        self.present = Some(present);
        Ok(gone)
    }

    fn open_index_anew(&self) -> Result<Index> {
        let dir = self.disk.paths.index_dir.as_ref();
        let dir = dir.unwrap_or(&self.disk.paths.box_dir);
        identity::open_index(dir, &self.disk.settings)
    }

    /// A message of the snapshot; `None` if it was expunged.
    fn stored(&mut self, uid: Uid) -> Result<Option<StoredMessage>> {
        self.snapshot()?;
        // The file of an expunged message may be there still (mdbox).
        if self.driver == Driver::Mdbox && self.is_expunged(uid)? {
            return Ok(None);
        }
        let Some(message) = self.index.state().message(uid) else {
            return Ok(None);
        };
        let stored = self.bodies.stored(&message)?;
        if stored.is_none() {
            self.still_there(&[uid])?;
        }
        Ok(stored)
    }

    fn saved_date(&mut self, uid: Uid, stored: &StoredMessage) -> i64 {
        self.open_cache();
        let Some(message) = self.index.state().message(uid) else {
            return 0;
        };
        let cached = self
            .cached
            .as_ref()
            .and_then(|cached| cached.saved_date(&message));
        cached.map_or_else(|| self.bodies.saved_date(&message, stored), i64::from)
    }

    fn with_guid(&self, mut message: SaveMessage) -> SaveMessage {
        let guid = message.guid.as_bytes();
        if guid.is_empty() {
            message.guid = MailGuid::from(self.disk.unique.guid());
        } else if guid.contains(&b'\n') || guid.contains(&b'\r') || guid.contains(&0) {
            // Every peer computes the same short form.
            message.guid = MailGuid::from(message.guid.short());
        }
        message
    }
}

impl Mailbox for DboxMailbox {
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
        let table = Arc::new(self.make_table()?);
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
        let Some(stored) = self.stored(uid)? else {
            return Ok(None);
        };
        Ok(Some(OpenMessage {
            received_date: stored.metadata.received.unwrap_or(0),
            saved_date: self.saved_date(uid, &stored),
            body: stored.open()?,
            pop3_uidl: stored.metadata.pop3_uidl,
            pop3_order: stored.metadata.pop3_order,
        }))
    }

    fn virtual_size(&mut self, uid: Uid) -> Result<Option<u64>> {
        let Some(stored) = self.stored(uid)? else {
            return Ok(None);
        };
        let counted = || {
            let mut body = stored.open()?;
            count_virtual_size(&mut body)
                .map_err(|error| StorageError::io("read", stored.path(), &error))
        };
        let known = stored.metadata.virtual_size;
        known.map_or_else(counted, Ok).map(Some)
    }

    fn received_date(&mut self, uid: Uid) -> Result<Option<i64>> {
        let stored = self.stored(uid)?;
        Ok(stored.map(|stored| stored.metadata.received.unwrap_or(0)))
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
        let message = self.with_guid(message);
        self.bodies.begin(message)
    }

    fn save_write(&mut self, bytes: &[u8]) -> Result<()> {
        self.bodies.write(bytes)
    }

    fn save_finish(&mut self) -> Result<()> {
        self.bodies.finish()
    }

    fn save_abort(&mut self) {
        self.bodies.abort();
    }

    fn save_another(&mut self, message: SaveMessage) -> Result<()> {
        self.writable()?;
        let message = self.with_guid(message);
        self.bodies.another(message)
    }

    fn copy(&mut self, source: Uid, message: SaveMessage) -> Result<bool> {
        self.writable()?;
        let Some(stored) = self.stored(source)? else {
            return Ok(false);
        };
        let mut message = self.with_guid(message);
        message.saved_date = self.saved_date(source, &stored);
        let Some(original) = self.index.state().message(source) else {
            return Ok(false);
        };
        self.bodies.copy(&original, &stored, message)?;
        Ok(true)
    }

    fn update_flags(&mut self, uid: Uid, update: FlagUpdate) -> Result<()> {
        self.writable()?;
        self.changes.update_flags(uid, update);
        Ok(())
    }

    fn expunge(&mut self, uid: Uid) -> Result<()> {
        self.writable()?;
        self.changes.expunges.insert(uid);
        Ok(())
    }

    fn set_attribute(&mut self, name: &AttributeName, data: Option<AttributeData>) -> Result<()> {
        self.writable()?;
        self.attributes.require()?;
        self.changes.attributes.push((name.clone(), data));
        Ok(())
    }

    fn update_metadata(&mut self, update: MetadataUpdate) -> Result<()> {
        self.writable()?;
        self.changes.update_metadata(&self.disk.paths.name, update)
    }

    fn reassign_uids(&mut self, uids: &[Uid]) -> Result<()> {
        self.writable()?;
        self.changes.reassign.extend_from_slice(uids);
        Ok(())
    }

    fn commit(&mut self) -> Result<CommitReport> {
        let mut changes = std::mem::take(&mut self.changes);
        if !self.bodies.has_saves() && changes.is_empty() {
            self.bodies.abort();
            return Ok(CommitReport::default());
        }
        let status = self.snapshot()?;
        changes.metadata.uid_validity = changes
            .metadata
            .uid_validity
            .filter(|wanted| *wanted != status.uid_validity);
        set_attributes(&self.attributes, status.guid, &changes)?;
        let result = self.bodies.commit(&mut self.index, &changes);
        if result.is_err() {
            self.status = None;
            self.table = None;
        } else {
            self.take_snapshot();
        }
        result
    }
}

/// Before the log tells of them: a change that nobody was told of is found by the next full run,
/// one that was told but not made would be lost.
fn set_attributes(dict: &AttributeDict, mailbox: Guid, changes: &Changes) -> Result<()> {
    let attributes = changes.attribute_values();
    if attributes.is_empty() {
        return Ok(());
    }
    dict.set(mailbox, &attributes)
}
