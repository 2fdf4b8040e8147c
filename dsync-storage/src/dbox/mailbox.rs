//! An open sdbox or mdbox mailbox.

mod table;

use std::collections::BTreeMap;

use bstr::BString;
use dsync_proto::types::{MailErrorClass, MailGuid, Uid};

use super::bodies::{Bodies, Disk};
use super::identity::{self, INDEX_LOCK_TIMEOUT};
use super::message::StoredMessage;
use crate::changes::Changes;
use crate::folders::MailboxPaths;
use crate::index::{Cached, Index, Origin, Transaction};
use crate::location::Driver;
use crate::mailbox::count_virtual_size;
use crate::opened::Format;
use crate::{
    CommitReport, MailboxStatus, MessageTable, OpenMessage, OpenMode, Result, SaveMessage,
    StorageError, StoreSettings,
};

/// An open mailbox.
pub(super) struct DboxMailbox {
    disk: Disk,
    driver: Driver,
    index: Index,
    bodies: Box<dyn Bodies>,
    /// UIDVALIDITY of the snapshot.
    uid_validity: u32,
    /// GUIDs that were read from files; a UID never becomes another message's.
    guids: BTreeMap<Uid, BString>,
    cached: Option<Cached>,
    /// The index as others see it, if it has news since the snapshot.
    present: Option<Index>,
}

impl DboxMailbox {
    /// A mailbox with this index, which tells who it is.
    pub(super) fn new(disk: Disk, driver: Driver, index: Index, bodies: Box<dyn Bodies>) -> Self {
        Self {
            disk,
            driver,
            index,
            bodies,
            uid_validity: 0,
            guids: BTreeMap::new(),
            cached: None,
            present: None,
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

impl Format for DboxMailbox {
    fn paths(&self) -> &MailboxPaths {
        &self.disk.paths
    }

    fn settings(&self) -> &StoreSettings {
        &self.disk.settings
    }

    fn index(&mut self) -> &mut Index {
        &mut self.index
    }

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

    fn take_snapshot(&mut self) -> Result<MailboxStatus> {
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
        if self.uid_validity != status.uid_validity {
            self.guids.clear();
        }
        self.uid_validity = status.uid_validity;
        self.cached = None;
        self.present = None;
        Ok(status)
    }

    fn make_table(&mut self, mode: OpenMode) -> Result<MessageTable> {
        self.table(mode)
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

    fn save_begin(&mut self, message: SaveMessage) -> Result<()> {
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
        let message = self.with_guid(message);
        self.bodies.another(message)
    }

    fn copy(&mut self, source: Uid, message: SaveMessage) -> Result<bool> {
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

    fn has_saves(&self) -> bool {
        self.bodies.has_saves()
    }

    fn commit(&mut self, changes: Changes) -> Result<CommitReport> {
        self.bodies.commit(&mut self.index, &changes)
    }
}
