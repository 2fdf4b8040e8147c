//! The store: a handle on shared contents.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dsync_proto::types::{Flags, Guid, MailErrorClass};

use super::dump::{Dump, MailboxDump, MessageDump};
use super::mailbox::MemoryMailbox;
use super::tree::{Node, Tree};
use super::{MemoryOptions, MemoryUser};
use crate::{
    Created, ListEntry, Mailbox, MailboxIdentity, MailboxLogRecord, Namespace, OpenMode, Result,
    StorageError, Store,
};

/// The contents, shared by all handles.
pub(crate) type Shared = Arc<Mutex<Tree>>;

pub(crate) fn lock(shared: &Shared) -> MutexGuard<'_, Tree> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A [`Store`] in memory. Clones are further handles on the same contents.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Shared,
    namespace: Namespace,
}

impl MemoryStore {
    /// An empty store, without INBOX.
    pub fn new(options: MemoryOptions) -> Self {
        Self {
            namespace: options.namespace.clone(),
            shared: Arc::new(Mutex::new(Tree::new(options))),
        }
    }

    /// Changes the contents as an IMAP client would.
    pub fn user(&self) -> MemoryUser {
        MemoryUser::new(Arc::clone(&self.shared))
    }

    /// A copy of everything that does not share anything with this store, as after `cp -a`. It
    /// makes up new GUIDs from `seed`.
    #[must_use]
    pub fn duplicate(&self, seed: u64) -> Self {
        let copy = lock(&self.shared).duplicate(seed);
        Self {
            namespace: self.namespace.clone(),
            shared: Arc::new(Mutex::new(copy)),
        }
    }

    /// Everything that an IMAP client can see.
    pub fn dump(&self) -> Dump {
        let tree = lock(&self.shared);
        let mut dump = Dump {
            subscriptions: tree.subscriptions.clone(),
            ..Dump::default()
        };
        for (name, node) in &tree.nodes {
            match node {
                Node::Directory => drop(dump.directories.insert(name.clone())),
                Node::Mailbox(key) => {
                    if let Some(contents) = tree.mailboxes.get(key) {
                        dump.mailboxes.insert(name.clone(), dump_mailbox(contents));
                    }
                }
            }
        }
        dump
    }

    /// How often [`Store::purge`] was called.
    pub fn purges(&self) -> u32 {
        lock(&self.shared).purges
    }
}

fn dump_mailbox(contents: &super::contents::Contents) -> MailboxDump {
    let messages = contents.messages.iter().map(|(uid, message)| {
        let dump = MessageDump {
            guid: message.guid.clone(),
            flags: message.flags & Flags::USER,
            keywords: message.keywords.clone(),
            modseq: message.modseq,
            received_date: message.received_date,
            saved_date: message.saved_date,
            pop3_uidl: message.pop3_uidl.clone(),
            pop3_order: message.pop3_order,
            body: message.body.clone(),
        };
        (*uid, dump)
    });
    MailboxDump {
        guid: contents.guid,
        uid_validity: contents.uid_validity,
        uid_next: contents.uid_next,
        first_recent_uid: contents.first_recent_uid,
        highest_modseq: contents.log.highest(),
        messages: messages.collect(),
        attributes: contents.attributes.clone(),
    }
}

impl Store for MemoryStore {
    fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    fn list(&mut self) -> Result<Vec<ListEntry>> {
        let tree = lock(&self.shared);
        let entries = tree.nodes.iter().map(|(name, node)| ListEntry {
            name: name.clone(),
            selectable: matches!(node, Node::Mailbox(_)),
            special_use: tree.special_use.get(name).cloned().unwrap_or_default(),
        });
        Ok(entries.collect())
    }

    fn subscriptions(&mut self) -> Result<Vec<String>> {
        Ok(lock(&self.shared).subscriptions.iter().cloned().collect())
    }

    fn mailbox_log(&mut self) -> Result<Vec<MailboxLogRecord>> {
        Ok(lock(&self.shared).log.clone())
    }

    fn identity(&mut self, name: &str) -> Result<MailboxIdentity> {
        let tree = lock(&self.shared);
        let mailbox = tree.mailbox(name)?;
        Ok(MailboxIdentity {
            guid: mailbox.guid,
            uid_validity: mailbox.uid_validity,
            uid_next: mailbox.uid_next,
        })
    }

    fn find_guid(&mut self, guid: Guid) -> Result<Option<String>> {
        Ok(lock(&self.shared).find_guid(guid).map(str::to_owned))
    }

    fn storage_separator(&self) -> Option<char> {
        let separator = lock(&self.shared).options.storage_separator;
        separator.filter(|separator| *separator != self.namespace.separator)
    }

    fn check_new_name(&self, name: &str) -> Result<()> {
        lock(&self.shared).check_name(name)
    }

    fn create_mailbox(
        &mut self,
        name: &str,
        guid: Option<Guid>,
        uid_validity: Option<u32>,
    ) -> Result<Created> {
        lock(&self.shared).create_mailbox(name, guid, uid_validity)
    }

    fn create_directory(&mut self, name: &str) -> Result<Created> {
        lock(&self.shared).create_directory(name)
    }

    fn delete_mailbox(&mut self, guid: Guid) -> Result<()> {
        lock(&self.shared).delete_mailbox(guid)
    }

    fn delete_directory(&mut self, name: &str) -> Result<()> {
        lock(&self.shared).delete_directory(name)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        lock(&self.shared).rename(from, to)
    }

    fn set_subscribed(&mut self, name: &str, subscribed: bool) -> Result<bool> {
        Ok(lock(&self.shared).set_subscribed(name, subscribed))
    }

    fn set_guid(&mut self, name: &str, guid: Guid) -> Result<()> {
        if guid.is_zero() {
            return Err(StorageError::new(
                MailErrorClass::Params,
                format!("cannot give mailbox {name} a zero GUID"),
            ));
        }
        lock(&self.shared).mailbox_mut(name)?.guid = guid;
        Ok(())
    }

    fn open(&mut self, name: &str, mode: OpenMode) -> Result<Box<dyn Mailbox>> {
        let key = lock(&self.shared).mailbox_key(name)?;
        let shared = Arc::clone(&self.shared);
        Ok(Box::new(MemoryMailbox::new(shared, key, name, mode)))
    }

    fn purge(&mut self) -> Result<()> {
        lock(&self.shared).purges += 1;
        Ok(())
    }

    fn set_lock_timeout(&mut self, _timeout: Duration) {}
}
