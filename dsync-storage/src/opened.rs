//! An open mailbox: what every format on disk does in the same way.

use std::sync::Arc;
use std::time::Duration;

use dsync_proto::items::CacheField;
use dsync_proto::types::{MailErrorClass, ModSeq, Uid};

use crate::attribute_dict::AttributeDict;
use crate::changes::Changes;
use crate::folders::MailboxPaths;
use crate::index::{Index, cache_fields};
use crate::lock::FileLock;
use crate::mailbox::counted_size;
use crate::{
    AttributeData, AttributeName, Capabilities, ChangeLog, CommitReport, FlagUpdate, Mailbox,
    MailboxStatus, MessageTable, MetadataUpdate, OpenMessage, OpenMode, Result, SaveMessage,
    StorageError, StoreSettings,
};

/// Names of the index files of a mailbox begin so.
pub(crate) const INDEX_PREFIX: &str = "dovecot.index";

/// One format's part of an open mailbox. Methods with a UID mean the message of the last
/// snapshot; there is one before they are called.
pub(crate) trait Format: Send {
    /// Where it lies.
    fn paths(&self) -> &MailboxPaths;

    /// How it is treated.
    fn settings(&self) -> &StoreSettings;

    /// Its index, as of the snapshot.
    fn index(&mut self) -> &mut Index;

    /// Ends what others began, and makes files and index agree. Modseqs are kept from then on.
    fn bring_in_step(&mut self) -> Result<()>;

    /// From now on everything is answered from what is known at this moment.
    fn take_snapshot(&mut self) -> Result<MailboxStatus>;

    /// The messages of the snapshot. `mode` tells whether what they cost may be cached.
    fn make_table(&mut self, mode: OpenMode) -> Result<MessageTable>;

    /// See [`Mailbox::open_message`].
    fn open_message(&mut self, uid: Uid) -> Result<Option<OpenMessage>>;

    /// See [`Mailbox::virtual_size`].
    fn virtual_size(&mut self, uid: Uid) -> Result<Option<u64>> {
        let message = self.open_message(uid)?;
        message
            .map(|message| counted_size(&self.paths().name, uid, message))
            .transpose()
    }

    /// See [`Mailbox::received_date`].
    fn received_date(&mut self, uid: Uid) -> Result<Option<i64>>;

    /// See [`Mailbox::save_begin`].
    fn save_begin(&mut self, message: SaveMessage) -> Result<()>;

    /// See [`Mailbox::save_write`].
    fn save_write(&mut self, bytes: &[u8]) -> Result<()>;

    /// See [`Mailbox::save_finish`].
    fn save_finish(&mut self) -> Result<()>;

    /// See [`Mailbox::save_abort`].
    fn save_abort(&mut self);

    /// See [`Mailbox::save_another`].
    fn save_another(&mut self, message: SaveMessage) -> Result<()>;

    /// See [`Mailbox::copy`].
    fn copy(&mut self, source: Uid, message: SaveMessage) -> Result<bool>;

    /// Whether messages wait for the commit.
    fn has_saves(&self) -> bool;

    /// Makes new messages and changes durable, then visible. Whatever comes of it, no message
    /// waits any more.
    fn commit(&mut self, changes: Changes) -> Result<CommitReport>;
}

/// An open mailbox of a format.
pub(crate) struct Opened<F> {
    format: F,
    attributes: Arc<AttributeDict>,
    mode: OpenMode,
    sync_lock: Option<FileLock>,
    status: Option<MailboxStatus>,
    table: Option<Arc<MessageTable>>,
    changes: Changes,
}

impl<F: Format> Opened<F> {
    pub(crate) fn new(format: F, attributes: Arc<AttributeDict>, mode: OpenMode) -> Self {
        Self {
            format,
            attributes,
            mode,
            sync_lock: None,
            status: None,
            table: None,
            changes: Changes::default(),
        }
    }

    /// Collects all messages for an expunge.
    pub(crate) fn expunge_all(&mut self) -> Result<()> {
        self.snapshot()?;
        let messages = self.format.index().state().messages();
        let uids = messages.map(|message| message.uid());
        self.changes.expunges.extend(uids);
        Ok(())
    }

    fn writable(&self) -> Result<()> {
        match self.mode {
            OpenMode::Write => Ok(()),
            OpenMode::Read => Err(StorageError::new(
                MailErrorClass::Permission,
                format!("mailbox {} was opened for reading only", self.name()),
            )),
        }
    }

    fn snapshot(&mut self) -> Result<MailboxStatus> {
        match self.status {
            Some(status) => Ok(status),
            None => self.refresh(),
        }
    }

    fn take_snapshot(&mut self) -> Result<MailboxStatus> {
        self.table = None;
        self.status = None;
        let status = self.format.take_snapshot()?;
        self.status = Some(status);
        Ok(status)
    }
}

impl<F: Format> Mailbox for Opened<F> {
    fn name(&self) -> &str {
        &self.format.paths().name
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::FULL
    }

    fn lock_for_sync(&mut self, timeout: Duration) -> Result<()> {
        if self.sync_lock.is_none() {
            let settings = self.format.settings();
            self.sync_lock = self.format.paths().lock_for_sync(settings, timeout)?;
        }
        Ok(())
    }

    fn refresh(&mut self) -> Result<MailboxStatus> {
        self.format.bring_in_step()?;
        self.take_snapshot()
    }

    fn status(&mut self) -> Result<MailboxStatus> {
        self.snapshot()
    }

    fn cache_fields(&mut self) -> Result<Vec<CacheField>> {
        match &self.format.paths().index_dir {
            Some(dir) => cache_fields(dir, INDEX_PREFIX),
            None => Ok(Vec::new()),
        }
    }

    fn messages(&mut self) -> Result<Arc<MessageTable>> {
        self.snapshot()?;
        if let Some(table) = &self.table {
            return Ok(Arc::clone(table));
        }
        let table = Arc::new(self.format.make_table(self.mode)?);
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
        self.format.index().changes_since(modseq, highest_uid)
    }

    fn open_message(&mut self, uid: Uid) -> Result<Option<OpenMessage>> {
        self.snapshot()?;
        self.format.open_message(uid)
    }

    fn virtual_size(&mut self, uid: Uid) -> Result<Option<u64>> {
        self.snapshot()?;
        self.format.virtual_size(uid)
    }

    fn received_date(&mut self, uid: Uid) -> Result<Option<i64>> {
        self.snapshot()?;
        self.format.received_date(uid)
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
        self.format.save_begin(message)
    }

    fn save_write(&mut self, bytes: &[u8]) -> Result<()> {
        self.format.save_write(bytes)
    }

    fn save_finish(&mut self) -> Result<()> {
        self.format.save_finish()
    }

    fn save_abort(&mut self) {
        self.format.save_abort();
    }

    fn save_another(&mut self, message: SaveMessage) -> Result<()> {
        self.writable()?;
        self.format.save_another(message)
    }

    fn copy(&mut self, source: Uid, message: SaveMessage) -> Result<bool> {
        self.writable()?;
        self.snapshot()?;
        self.format.copy(source, message)
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
        let name = &self.format.paths().name;
        self.changes.update_metadata(name, update)
    }

    fn reassign_uids(&mut self, uids: &[Uid]) -> Result<()> {
        self.writable()?;
        self.changes.reassign.extend_from_slice(uids);
        Ok(())
    }

    fn commit(&mut self) -> Result<CommitReport> {
        self.format.save_abort();
        let mut changes = std::mem::take(&mut self.changes);
        if !self.format.has_saves() && changes.is_empty() {
            return Ok(CommitReport::default());
        }
        let status = self.snapshot()?;
        // The same value again would only make the index anew, without its history.
        let uid_validity = &mut changes.metadata.uid_validity;
        *uid_validity = uid_validity.filter(|wanted| *wanted != status.uid_validity);
        let attributes = changes.attribute_values();
        if !attributes.is_empty() {
            // Before the log tells of them: a change that nobody was told of is found by the
            // next full run, one that was told but not made would be lost.
            self.attributes.set(status.guid, &attributes)?;
        }
        let result = self.format.commit(changes);
        self.status = None;
        self.table = None;
        let report = result?;
        self.take_snapshot()?;
        Ok(report)
    }
}
