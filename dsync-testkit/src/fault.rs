//! A store that fails on purpose.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dsync_proto::items::CacheField;
use dsync_proto::types::{Guid, MailErrorClass, ModSeq, Uid};
use dsync_storage::{
    AttributeData, AttributeName, Capabilities, ChangeLog, CommitReport, Created, FlagUpdate,
    ListEntry, Mailbox, MailboxIdentity, MailboxLogRecord, MailboxStatus, MessageTable,
    MetadataUpdate, Namespace, OpenMessage, OpenMode, Result, SaveMessage, StorageError, Store,
};

/// What goes wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing; operations are only counted.
    #[default]
    None,
    /// This operation (the first is 1) fails with an error of this class and does nothing.
    FailAt(u64, MailErrorClass),
    /// From this operation on everything fails and nothing is done any more, as after a kill.
    CrashAt(u64),
}

#[derive(Default)]
struct Plan {
    fault: Fault,
    operations: u64,
    failed: Option<String>,
    /// Messages that cannot be read, by GUID.
    unreadable: BTreeSet<Vec<u8>>,
}

/// The switch of one or more [`FaultStore`]s; clones share it.
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<Plan>>);

impl Faults {
    /// This fault.
    pub fn new(fault: Fault) -> Self {
        let faults = Self::default();
        faults.plan(|plan| plan.fault = fault);
        faults
    }

    /// From now on no message with this GUID can be read or copied, under whatever UID.
    pub fn damage(&self, guid: &str) {
        self.plan(|plan| plan.unreadable.insert(guid.as_bytes().to_vec()));
    }

    /// All messages can be read again.
    pub fn repair(&self) {
        self.plan(|plan| plan.unreadable.clear());
    }

    fn read(&self, guid: &[u8]) -> Result<()> {
        self.plan(|plan| match plan.unreadable.contains(guid) {
            true => Err(StorageError::new(
                MailErrorClass::Temporary,
                "injected fault: the message cannot be read",
            )),
            false => Ok(()),
        })
    }

    fn plan<T>(&self, read: impl FnOnce(&mut Plan) -> T) -> T {
        read(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Operations so far.
    pub fn operations(&self) -> u64 {
        self.plan(|plan| plan.operations)
    }

    /// The operation that was the first to fail.
    pub fn failed(&self) -> Option<String> {
        self.plan(|plan| plan.failed.clone())
    }

    /// Counts an operation and decides its fate.
    fn step(&self, what: &str) -> Result<()> {
        self.plan(|plan| {
            plan.operations += 1;
            let class = match plan.fault {
                Fault::FailAt(at, class) if plan.operations == at => class,
                Fault::CrashAt(at) if plan.operations >= at => MailErrorClass::Temporary,
                _ => return Ok(()),
            };
            plan.failed.get_or_insert_with(|| what.to_owned());
            let number = plan.operations;
            Err(StorageError::new(
                class,
                format!("injected fault in operation {number}: {what}"),
            ))
        })
    }
}

/// Wraps a store; see [`Fault`].
pub struct FaultStore {
    inner: Box<dyn Store>,
    faults: Faults,
}

impl FaultStore {
    /// Wraps `inner`; its operations count for `faults`.
    pub fn new(inner: Box<dyn Store>, faults: Faults) -> Self {
        Self { inner, faults }
    }
}

impl Store for FaultStore {
    fn namespace(&self) -> &Namespace {
        self.inner.namespace()
    }

    fn list(&mut self) -> Result<Vec<ListEntry>> {
        self.faults.step("list")?;
        self.inner.list()
    }

    fn subscriptions(&mut self) -> Result<Vec<String>> {
        self.faults.step("subscriptions")?;
        self.inner.subscriptions()
    }

    fn mailbox_log(&mut self) -> Result<Vec<MailboxLogRecord>> {
        self.faults.step("mailbox_log")?;
        self.inner.mailbox_log()
    }

    fn identity(&mut self, name: &str) -> Result<MailboxIdentity> {
        self.faults.step("identity")?;
        self.inner.identity(name)
    }

    fn find_guid(&mut self, guid: Guid) -> Result<Option<String>> {
        self.faults.step("find_guid")?;
        self.inner.find_guid(guid)
    }

    fn storage_separator(&self) -> Option<char> {
        self.inner.storage_separator()
    }

    fn check_new_name(&self, name: &str) -> Result<()> {
        self.inner.check_new_name(name)
    }

    fn create_mailbox(
        &mut self,
        name: &str,
        guid: Option<Guid>,
        uid_validity: Option<u32>,
    ) -> Result<Created> {
        self.faults.step("create_mailbox")?;
        self.inner.create_mailbox(name, guid, uid_validity)
    }

    fn create_directory(&mut self, name: &str) -> Result<Created> {
        self.faults.step("create_directory")?;
        self.inner.create_directory(name)
    }

    fn delete_mailbox(&mut self, guid: Guid) -> Result<()> {
        self.faults.step("delete_mailbox")?;
        self.inner.delete_mailbox(guid)
    }

    fn delete_directory(&mut self, name: &str) -> Result<()> {
        self.faults.step("delete_directory")?;
        self.inner.delete_directory(name)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        self.faults.step("rename")?;
        self.inner.rename(from, to)
    }

    fn set_subscribed(&mut self, name: &str, subscribed: bool) -> Result<bool> {
        self.faults.step("set_subscribed")?;
        self.inner.set_subscribed(name, subscribed)
    }

    fn set_guid(&mut self, name: &str, guid: Guid) -> Result<()> {
        self.faults.step("set_guid")?;
        self.inner.set_guid(name, guid)
    }

    fn open(&mut self, name: &str, mode: OpenMode) -> Result<Box<dyn Mailbox>> {
        self.faults.step("open")?;
        Ok(Box::new(FaultMailbox {
            inner: self.inner.open(name, mode)?,
            faults: self.faults.clone(),
            broken: false,
        }))
    }

    fn purge(&mut self) -> Result<()> {
        self.faults.step("purge")?;
        self.inner.purge()
    }

    fn set_lock_timeout(&mut self, timeout: Duration) {
        self.inner.set_lock_timeout(timeout);
    }
}

struct FaultMailbox {
    inner: Box<dyn Mailbox>,
    faults: Faults,
    /// A commit failed. What it was about must never be done by a later one.
    broken: bool,
}

impl FaultMailbox {
    fn step(&self, what: &str) -> Result<()> {
        self.faults.step(what)?;
        if self.broken {
            return Err(StorageError::new(
                MailErrorClass::Temporary,
                format!("{what} after a commit of this mailbox failed"),
            ));
        }
        Ok(())
    }

    fn read(&mut self, uid: Uid) -> Result<()> {
        let messages = self.inner.messages()?;
        messages
            .by_uid(uid)
            .map_or(Ok(()), |message| self.faults.read(message.guid))
    }
}

impl Mailbox for FaultMailbox {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn lock_for_sync(&mut self, timeout: Duration) -> Result<()> {
        self.step("lock_for_sync")?;
        self.inner.lock_for_sync(timeout)
    }

    fn refresh(&mut self) -> Result<MailboxStatus> {
        self.step("refresh")?;
        self.inner.refresh()
    }

    fn status(&mut self) -> Result<MailboxStatus> {
        self.step("status")?;
        self.inner.status()
    }

    fn cache_fields(&mut self) -> Result<Vec<CacheField>> {
        self.step("cache_fields")?;
        self.inner.cache_fields()
    }

    fn messages(&mut self) -> Result<Arc<MessageTable>> {
        self.step("messages")?;
        self.inner.messages()
    }

    fn changes_since(
        &mut self,
        modseq: ModSeq,
        pvt_modseq: ModSeq,
        highest_uid: Uid,
    ) -> Result<ChangeLog> {
        self.step("changes_since")?;
        self.inner.changes_since(modseq, pvt_modseq, highest_uid)
    }

    fn open_message(&mut self, uid: Uid) -> Result<Option<OpenMessage>> {
        self.step("open_message")?;
        self.read(uid)?;
        self.inner.open_message(uid)
    }

    fn virtual_size(&mut self, uid: Uid) -> Result<Option<u64>> {
        self.step("virtual_size")?;
        self.inner.virtual_size(uid)
    }

    fn received_date(&mut self, uid: Uid) -> Result<Option<i64>> {
        self.step("received_date")?;
        self.inner.received_date(uid)
    }

    fn attributes(&mut self) -> Result<Vec<AttributeName>> {
        self.step("attributes")?;
        self.inner.attributes()
    }

    fn attribute(&mut self, name: &AttributeName) -> Result<Option<AttributeData>> {
        self.step("attribute")?;
        self.inner.attribute(name)
    }

    fn save_begin(&mut self, message: SaveMessage) -> Result<()> {
        self.step("save_begin")?;
        self.inner.save_begin(message)
    }

    fn save_write(&mut self, bytes: &[u8]) -> Result<()> {
        self.step("save_write")?;
        self.inner.save_write(bytes)
    }

    fn save_finish(&mut self) -> Result<()> {
        self.step("save_finish")?;
        self.inner.save_finish()
    }

    fn save_abort(&mut self) {
        self.inner.save_abort();
    }

    fn save_another(&mut self, message: SaveMessage) -> Result<()> {
        self.step("save_another")?;
        self.inner.save_another(message)
    }

    fn copy(&mut self, source: Uid, message: SaveMessage) -> Result<bool> {
        self.step("copy")?;
        self.read(source)?;
        self.inner.copy(source, message)
    }

    fn update_flags(&mut self, uid: Uid, update: FlagUpdate) -> Result<()> {
        self.step("update_flags")?;
        self.inner.update_flags(uid, update)
    }

    fn expunge(&mut self, uid: Uid) -> Result<()> {
        self.step("expunge")?;
        self.inner.expunge(uid)
    }

    fn set_attribute(&mut self, name: &AttributeName, data: Option<AttributeData>) -> Result<()> {
        self.step("set_attribute")?;
        self.inner.set_attribute(name, data)
    }

    fn update_metadata(&mut self, update: MetadataUpdate) -> Result<()> {
        self.step("update_metadata")?;
        self.inner.update_metadata(update)
    }

    fn reassign_uids(&mut self, uids: &[Uid]) -> Result<()> {
        self.step("reassign_uids")?;
        self.inner.reassign_uids(uids)
    }

    fn commit(&mut self) -> Result<CommitReport> {
        if let Err(error) = self.step("commit") {
            self.broken = true;
            return Err(error);
        }
        self.inner.commit()
    }
}

#[cfg(test)]
mod tests {
    use dsync_storage::memory::{MemoryOptions, MemoryStore};

    use super::*;

    #[test]
    fn fails_once_or_for_ever() {
        let store = MemoryStore::new(MemoryOptions::dbox(1));
        let fail = Faults::new(Fault::FailAt(2, MailErrorClass::Quota));
        let mut faulty = FaultStore::new(Box::new(store.clone()), fail.clone());
        assert!(faulty.create_mailbox("a", None, None).is_ok());
        let error = faulty.create_mailbox("b", None, None).unwrap_err();
        assert_eq!(error.class, MailErrorClass::Quota);
        assert!(faulty.create_mailbox("c", None, None).is_ok());
        assert_eq!(fail.failed().as_deref(), Some("create_mailbox"));
        assert_eq!(fail.operations(), 3);

        let crash = Faults::new(Fault::CrashAt(2));
        let mut faulty = FaultStore::new(Box::new(store.clone()), crash);
        let mut mailbox = faulty.open("a", OpenMode::Write).unwrap();
        assert!(mailbox.refresh().is_err());
        assert!(mailbox.commit().is_err());
        assert!(faulty.list().is_err());
        assert_eq!(store.dump().mailboxes.len(), 2);
    }
}
