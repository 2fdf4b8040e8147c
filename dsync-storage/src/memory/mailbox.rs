//! An open mailbox: a snapshot and a list of pending changes.

use std::io::Cursor;
use std::sync::{Arc, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dsync_proto::items::CacheField;
use dsync_proto::types::{MailErrorClass, MailGuid, ModSeq, Uid};

use super::contents::{Append, Contents, Message};
use super::records::RecordLog;
use super::store::{Shared, lock};
use super::tree::{Tree, not_found};
use crate::{
    AttributeData, AttributeName, Capabilities, ChangeLog, CommitReport, FlagUpdate, Mailbox,
    MailboxStatus, MessageTable, MetadataUpdate, OpenMessage, OpenMode, Result, SaveMessage,
    StorageError,
};

pub(crate) struct MemoryMailbox {
    shared: Shared,
    key: u64,
    name: String,
    mode: OpenMode,
    capabilities: Capabilities,
    holds_lock: bool,
    snapshot: Option<Snapshot>,
    saving: Option<(SaveMessage, Vec<u8>)>,
    pending: Pending,
}

struct Snapshot {
    status: MailboxStatus,
    table: Arc<MessageTable>,
    /// Ends of the log and the private log.
    log_end: u64,
    pvt_log_end: u64,
}

#[derive(Default)]
struct Pending {
    saves: Vec<(SaveMessage, Bytes)>,
    /// Body of the last save that was finished.
    last_body: Option<Bytes>,
    flags: Vec<(Uid, FlagUpdate)>,
    expunges: Vec<Uid>,
    attributes: Vec<(AttributeName, Option<AttributeData>)>,
    metadata: Vec<MetadataUpdate>,
    reassigned: Vec<Uid>,
}

impl MemoryMailbox {
    pub(crate) fn new(shared: Shared, key: u64, name: &str, mode: OpenMode) -> Self {
        let capabilities = lock(&shared).options.capabilities;
        Self {
            shared,
            key,
            name: name.to_owned(),
            mode,
            capabilities,
            holds_lock: false,
            snapshot: None,
            saving: None,
            pending: Pending::default(),
        }
    }

    fn contents<T>(&self, read: impl FnOnce(&mut Contents) -> T) -> Result<T> {
        let mut tree = lock(&self.shared);
        let contents = tree.mailboxes.get_mut(&self.key);
        contents.map(read).ok_or_else(|| not_found(&self.name))
    }

    fn snapshot(&self) -> Result<&Snapshot> {
        self.snapshot.as_ref().ok_or_else(|| {
            StorageError::new(
                MailErrorClass::Temporary,
                format!(
                    "mailbox {} was not refreshed after it was opened",
                    self.name
                ),
            )
        })
    }

    fn writable(&self) -> Result<()> {
        if self.mode == OpenMode::Write {
            return Ok(());
        }
        Err(StorageError::new(
            MailErrorClass::NotPossible,
            format!("mailbox {} was opened for reading", self.name),
        ))
    }

    fn attributes_enabled(&self) -> Result<()> {
        if lock(&self.shared).options.attributes {
            return Ok(());
        }
        Err(StorageError::new(
            MailErrorClass::NotPossible,
            "mailbox attributes not enabled",
        ))
    }

    /// What [`Contents::append`] needs, with a GUID of the form that this store keeps.
    fn appends(
        &self,
        tree: &mut MutexGuard<'_, Tree>,
        saves: Vec<(SaveMessage, Bytes)>,
    ) -> Vec<Append> {
        let now = tree.clock;
        saves
            .into_iter()
            .map(|(save, body)| {
                let guid = if save.guid.is_empty() || !self.capabilities.have_save_guids {
                    MailGuid::from(tree.new_guid())
                } else if self.capabilities.have_only_guid128 {
                    MailGuid::from(save.guid.short())
                } else {
                    save.guid
                };
                Append {
                    uid: save.uid,
                    min_modseq: save.min_modseq,
                    min_pvt_modseq: save.min_pvt_modseq,
                    message: Message {
                        guid,
                        flags: save.flags,
                        keywords: save.keywords.into_iter().collect(),
                        modseq: 0,
                        pvt_modseq: 0,
                        received_date: save.received_date,
                        saved_date: if save.saved_date == 0 {
                            now
                        } else {
                            save.saved_date
                        },
                        pop3_uidl: save.pop3_uidl,
                        pop3_order: save.pop3_order,
                        body,
                    },
                }
            })
            .collect()
    }
}

impl Mailbox for MemoryMailbox {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn lock_for_sync(&mut self, timeout: Duration) -> Result<()> {
        let start = Instant::now();
        while !self.holds_lock {
            self.holds_lock = self.contents(|c| !std::mem::replace(&mut c.locked, true))?;
            if !self.holds_lock && start.elapsed() >= timeout {
                return Err(StorageError::new(
                    MailErrorClass::Temporary,
                    format!("another sync of mailbox {} holds its lock", self.name),
                ));
            }
            if !self.holds_lock {
                thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }

    fn refresh(&mut self) -> Result<MailboxStatus> {
        let with_guids = self.capabilities.have_guids;
        let snapshot = self.contents(|contents| Snapshot {
            status: contents.status(),
            table: Arc::new(contents.table(with_guids)),
            log_end: contents.log.end(),
            pvt_log_end: contents.pvt_log.as_ref().map_or(0, RecordLog::end),
        })?;
        let status = snapshot.status;
        self.snapshot = Some(snapshot);
        Ok(status)
    }

    fn status(&mut self) -> Result<MailboxStatus> {
        match &self.snapshot {
            Some(snapshot) => Ok(snapshot.status),
            None => self.contents(|contents| contents.status()),
        }
    }

    fn cache_fields(&mut self) -> Result<Vec<CacheField>> {
        self.contents(|contents| contents.cache_fields.clone())
    }

    fn messages(&mut self) -> Result<Arc<MessageTable>> {
        Ok(Arc::clone(&self.snapshot()?.table))
    }

    fn changes_since(
        &mut self,
        modseq: ModSeq,
        pvt_modseq: ModSeq,
        highest_uid: Uid,
    ) -> Result<ChangeLog> {
        let snapshot = self.snapshot()?;
        let exists = |uid| snapshot.table.position(uid).is_ok();
        let end = (snapshot.log_end, snapshot.status.highest_modseq);
        let pvt_end = (snapshot.pvt_log_end, snapshot.status.highest_pvt_modseq);
        self.contents(|contents| {
            let mut found = contents.log.scan(modseq, highest_uid, end, exists);
            if let Some(log) = &contents.pvt_log {
                let private = log.scan(pvt_modseq, highest_uid, pvt_end, exists);
                found.covered &= private.covered;
                for (uid, change) in private.changes {
                    let known = found.changes.entry(uid).or_insert_with(|| change.clone());
                    if known.kind == change.kind {
                        known.add_flags |= change.add_flags;
                        known.remove_flags |= change.remove_flags;
                    }
                }
            }
            found
        })
    }

    fn open_message(&mut self, uid: Uid) -> Result<Option<OpenMessage>> {
        self.contents(|contents| {
            let message = contents.messages.get(&uid)?;
            Some(OpenMessage {
                received_date: message.received_date,
                saved_date: message.saved_date,
                pop3_uidl: message.pop3_uidl.clone(),
                pop3_order: message.pop3_order,
                body: Box::new(Cursor::new(message.body.clone())),
            })
        })
    }

    fn attributes(&mut self) -> Result<Vec<AttributeName>> {
        let mut names: Vec<AttributeName> =
            self.contents(|contents| contents.attributes.keys().cloned().collect())?;
        // A Sieve script must exist before it can be made the active one.
        names.sort_by_key(|name| (name.kind, name.key.ends_with(b"/sieve/default")));
        Ok(names)
    }

    fn attribute(&mut self, name: &AttributeName) -> Result<Option<AttributeData>> {
        self.attributes_enabled()?;
        self.contents(|contents| contents.attributes.get(name).cloned())
    }

    fn save_begin(&mut self, message: SaveMessage) -> Result<()> {
        self.writable()?;
        self.saving = Some((message, Vec::new()));
        Ok(())
    }

    fn save_write(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.saving {
            Some((_, body)) => {
                body.extend_from_slice(bytes);
                Ok(())
            }
            None => Err(no_save(&self.name)),
        }
    }

    fn save_finish(&mut self) -> Result<()> {
        let (message, body) = self.saving.take().ok_or_else(|| no_save(&self.name))?;
        let lf_only = lock(&self.shared).options.lf_only;
        let body = if lf_only {
            bstr::ByteSlice::replace(body.as_slice(), "\r\n", "\n")
        } else {
            body
        };
        let body = Bytes::from(body);
        self.pending.last_body = Some(body.clone());
        self.pending.saves.push((message, body));
        Ok(())
    }

    fn save_abort(&mut self) {
        self.saving = None;
    }

    fn save_another(&mut self, message: SaveMessage) -> Result<()> {
        self.writable()?;
        let body = self.pending.last_body.clone();
        let body = body.ok_or_else(|| no_save(&self.name))?;
        self.pending.saves.push((message, body));
        Ok(())
    }

    fn copy(&mut self, source: Uid, mut message: SaveMessage) -> Result<bool> {
        self.writable()?;
        let found = self.contents(|contents| {
            let source = contents.messages.get(&source)?;
            message.received_date = source.received_date;
            message.saved_date = source.saved_date;
            message.pop3_uidl = source.pop3_uidl.clone();
            message.pop3_order = source.pop3_order;
            Some(source.body.clone())
        })?;
        let Some(body) = found else { return Ok(false) };
        self.pending.saves.push((message, body));
        Ok(true)
    }

    fn update_flags(&mut self, uid: Uid, update: FlagUpdate) -> Result<()> {
        self.writable()?;
        self.pending.flags.push((uid, update));
        Ok(())
    }

    fn expunge(&mut self, uid: Uid) -> Result<()> {
        self.writable()?;
        self.pending.expunges.push(uid);
        Ok(())
    }

    fn set_attribute(&mut self, name: &AttributeName, data: Option<AttributeData>) -> Result<()> {
        self.writable()?;
        self.attributes_enabled()?;
        self.pending.attributes.push((name.clone(), data));
        Ok(())
    }

    fn update_metadata(&mut self, update: MetadataUpdate) -> Result<()> {
        self.writable()?;
        self.pending.metadata.push(update);
        Ok(())
    }

    fn reassign_uids(&mut self, uids: &[Uid]) -> Result<()> {
        self.writable()?;
        self.pending.reassigned.extend_from_slice(uids);
        Ok(())
    }

    fn commit(&mut self) -> Result<CommitReport> {
        self.writable()?;
        if let Some((message, _)) = &self.saving {
            return Err(StorageError::new(
                MailErrorClass::Temporary,
                format!(
                    "a save to {} was not finished: UID={}",
                    self.name, message.uid
                ),
            ));
        }
        let pending = std::mem::take(&mut self.pending);
        let wanted: Vec<Uid> = pending.saves.iter().map(|(save, _)| save.uid).collect();
        let mut tree = lock(&self.shared);
        let appends = self.appends(&mut tree, pending.saves);
        let Some(contents) = tree.mailboxes.get_mut(&self.key) else {
            return Err(not_found(&self.name));
        };
        let real = contents.append(appends, true)?;
        contents.update_flags(pending.flags, true);
        contents.expunge(&pending.expunges, true, true);
        contents.set_attributes(pending.attributes, true);
        for update in &pending.metadata {
            contents.update_metadata(update, true);
        }
        contents.reassign(&pending.reassigned, true)?;
        drop(tree);
        self.refresh()?;
        let moved = wanted.into_iter().zip(real);
        Ok(CommitReport {
            moved: moved.filter(|(wanted, real)| wanted != real).collect(),
            gone: Vec::new(),
        })
    }
}

fn no_save(name: &str) -> StorageError {
    StorageError::new(
        MailErrorClass::Temporary,
        format!("no message is being saved to {name}"),
    )
}

impl Drop for MemoryMailbox {
    fn drop(&mut self) {
        if self.holds_lock {
            // A mailbox deleted meanwhile took its lock along.
            let _ = self.contents(|contents| contents.locked = false);
        }
    }
}
