//! The names of a store and what lies under them.

use std::collections::{BTreeMap, BTreeSet};

use dsync_proto::types::{Guid, MailErrorClass};
use sha1::{Digest, Sha1};

use super::MemoryOptions;
use super::contents::Contents;
use crate::{Created, MailboxLogKind, MailboxLogRecord, Result, StorageError};

/// Longest name in bytes that may be created (`spec/maildir.md` 4.4).
const MAX_NAME: usize = 4096;
/// Longest level of a name in bytes.
const MAX_LEVEL: usize = 255;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// A name without mailbox.
    Directory,
    /// Key in [`Tree::mailboxes`]; open mailboxes hold on to it, whatever happens to the name.
    Mailbox(u64),
}

/// Everything that the handles of one store share.
pub(crate) struct Tree {
    pub(crate) options: MemoryOptions,
    pub(crate) nodes: BTreeMap<String, Node>,
    pub(crate) mailboxes: BTreeMap<u64, Contents>,
    pub(crate) subscriptions: BTreeSet<String>,
    pub(crate) special_use: BTreeMap<String, Vec<String>>,
    pub(crate) log: Vec<MailboxLogRecord>,
    /// Present time in seconds since the epoch.
    pub(crate) clock: i64,
    pub(crate) purges: u32,
    made: u64,
}

pub(crate) fn not_found(name: &str) -> StorageError {
    StorageError::new(
        MailErrorClass::NotFound,
        format!("mailbox doesn't exist: {name}"),
    )
}

fn params(name: &str, why: &str) -> StorageError {
    StorageError::new(
        MailErrorClass::Params,
        format!("invalid mailbox name {name:?}: {why}"),
    )
}

impl Tree {
    pub(crate) fn new(options: MemoryOptions) -> Self {
        Self {
            options,
            nodes: BTreeMap::new(),
            mailboxes: BTreeMap::new(),
            subscriptions: BTreeSet::new(),
            special_use: BTreeMap::new(),
            log: Vec::new(),
            clock: 1_700_000_000,
            purges: 0,
            made: 0,
        }
    }

    /// A copy that makes up other GUIDs from now on.
    pub(crate) fn duplicate(&self, seed: u64) -> Self {
        let mut copy = Self::new(MemoryOptions {
            seed,
            ..self.options.clone()
        });
        copy.nodes.clone_from(&self.nodes);
        copy.mailboxes.clone_from(&self.mailboxes);
        for mailbox in copy.mailboxes.values_mut() {
            mailbox.locked = false;
        }
        copy.subscriptions.clone_from(&self.subscriptions);
        copy.special_use.clone_from(&self.special_use);
        copy.log.clone_from(&self.log);
        copy.clock = self.clock;
        // Keys of mailboxes come from this number, too.
        copy.made = self.made;
        copy
    }

    fn next_number(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    pub(crate) fn new_guid(&mut self) -> Guid {
        let number = self.next_number();
        let mut hash = Sha1::new();
        hash.update(b"memory store");
        hash.update(self.options.seed.to_be_bytes());
        hash.update(number.to_be_bytes());
        let mut guid = [0; 16];
        guid.copy_from_slice(&hash.finalize()[..16]);
        Guid(guid)
    }

    pub(crate) fn new_uid_validity(&mut self) -> u32 {
        let number = self.next_number() % 1_000_000;
        1_000_000_000 + (self.options.seed % 1000) as u32 * 1_000_000 + number as u32
    }

    pub(crate) fn mailbox_key(&self, name: &str) -> Result<u64> {
        match self.nodes.get(name) {
            Some(Node::Mailbox(key)) => Ok(*key),
            _ => Err(not_found(name)),
        }
    }

    pub(crate) fn mailbox(&self, name: &str) -> Result<&Contents> {
        let key = self.mailbox_key(name)?;
        self.mailboxes.get(&key).ok_or_else(|| not_found(name))
    }

    pub(crate) fn mailbox_mut(&mut self, name: &str) -> Result<&mut Contents> {
        let key = self.mailbox_key(name)?;
        self.mailboxes.get_mut(&key).ok_or_else(|| not_found(name))
    }

    pub(crate) fn find_guid(&self, guid: Guid) -> Option<&str> {
        let found = self.nodes.iter().find(|(_, node)| {
            matches!(node, Node::Mailbox(key)
                if self.mailboxes.get(key).is_some_and(|mailbox| mailbox.guid == guid))
        });
        found.map(|(name, _)| name.as_str())
    }

    pub(crate) fn record(&mut self, kind: MailboxLogKind, id: Guid) {
        self.log.push(MailboxLogRecord {
            kind,
            id,
            time: self.clock,
        });
    }

    fn record_name(&mut self, kind: MailboxLogKind, name: &str) {
        self.record(kind, Guid::of_mailbox_name(name.as_bytes()));
    }

    /// Whether the layout could hold this name.
    pub(crate) fn check_name(&self, name: &str) -> Result<()> {
        let namespace = &self.options.namespace;
        if name == "INBOX" && namespace.inbox {
            return Ok(());
        }
        let Some(rest) = name.strip_prefix(&namespace.prefix) else {
            return Err(params(name, "not in this namespace"));
        };
        if let Some(separator) = self.options.storage_separator
            && separator != namespace.separator
            && rest.contains(separator)
        {
            return Err(params(
                name,
                &format!("character not allowed: {separator:?}"),
            ));
        }
        if rest.contains('\0') {
            return Err(params(name, "a zero byte"));
        }
        if name.len() > MAX_NAME {
            return Err(params(name, "too long"));
        }
        for level in rest.split(namespace.separator) {
            match level {
                "" => return Err(params(name, "a level is empty")),
                "." | ".." => return Err(params(name, "a level is '.' or '..'")),
                long if long.len() > MAX_LEVEL => return Err(params(name, "a level is too long")),
                _ => {}
            }
        }
        Ok(())
    }

    fn child_prefix(&self, name: &str) -> String {
        format!("{name}{}", self.options.namespace.separator)
    }

    fn children(&self, name: &str) -> Vec<String> {
        let prefix = self.child_prefix(name);
        self.nodes
            .range(prefix.clone()..)
            .map(|(child, _)| child)
            .take_while(|child| child.starts_with(&prefix))
            .cloned()
            .collect()
    }

    /// Names above this one, nearest first, without the namespace prefix.
    fn parents(&self, name: &str) -> Vec<String> {
        let namespace = &self.options.namespace;
        let start = if name.starts_with(&namespace.prefix) {
            namespace.prefix.len()
        } else {
            0
        };
        let rest = name.get(start..).unwrap_or_default();
        rest.rmatch_indices(namespace.separator)
            .filter_map(|(end, _)| name.get(..start + end))
            .map(str::to_owned)
            .collect()
    }

    fn make_parents(&mut self, name: &str) {
        if self.options.directories {
            for parent in self.parents(name) {
                self.nodes.entry(parent).or_insert(Node::Directory);
            }
        }
    }

    pub(crate) fn create_mailbox(
        &mut self,
        name: &str,
        guid: Option<Guid>,
        uid_validity: Option<u32>,
    ) -> Result<Created> {
        self.check_name(name)?;
        if matches!(self.nodes.get(name), Some(Node::Mailbox(_))) {
            return Ok(Created::Existed);
        }
        let guid = guid.unwrap_or_else(|| self.new_guid());
        let uid_validity = uid_validity.unwrap_or_else(|| self.new_uid_validity());
        let contents = Contents::new(guid, uid_validity, self.options.private_flags);
        self.insert(name, contents);
        Ok(Created::New)
    }

    /// Puts a mailbox at a name, in place of what is there.
    pub(crate) fn insert(&mut self, name: &str, contents: Contents) {
        self.make_parents(name);
        let key = self.next_number();
        self.mailboxes.insert(key, contents);
        if let Some(Node::Mailbox(old)) = self.nodes.insert(name.to_owned(), Node::Mailbox(key)) {
            self.mailboxes.remove(&old);
        }
    }

    pub(crate) fn create_directory(&mut self, name: &str) -> Result<Created> {
        if !self.options.directories {
            return self.create_mailbox(name, None, None);
        }
        self.check_name(name)?;
        if self.nodes.contains_key(name) {
            return Ok(Created::Existed);
        }
        self.make_parents(name);
        self.nodes.insert(name.to_owned(), Node::Directory);
        Ok(Created::New)
    }

    pub(crate) fn delete_mailbox(&mut self, guid: Guid) -> Result<()> {
        let Some(name) = self.find_guid(guid).map(str::to_owned) else {
            return Err(not_found(&format!("GUID {guid}")));
        };
        let key = self.mailbox_key(&name)?;
        if name == "INBOX" && !self.options.inbox_deletable {
            // No record: the mailbox is still there, and a peer must not delete its own.
            let guid = self.new_guid();
            let uid_validity = self.new_uid_validity();
            let empty = Contents::new(guid, uid_validity, self.options.private_flags);
            self.mailboxes.insert(key, empty);
            return Ok(());
        }
        self.mailboxes.remove(&key);
        self.record(MailboxLogKind::DeleteMailbox, guid);
        if self.options.directories && !self.children(&name).is_empty() {
            self.nodes.insert(name, Node::Directory);
        } else {
            self.nodes.remove(&name);
            self.record_name(MailboxLogKind::DeleteDir, &name);
        }
        Ok(())
    }

    pub(crate) fn delete_directory(&mut self, name: &str) -> Result<()> {
        let exists = |why: &str| {
            StorageError::new(
                MailErrorClass::Exists,
                format!("cannot remove directory {name}: {why}"),
            )
        };
        match self.nodes.get(name) {
            None => Err(not_found(name)),
            Some(Node::Mailbox(_)) => Err(exists("it is a mailbox")),
            Some(Node::Directory) if !self.children(name).is_empty() => {
                Err(exists("it has children, delete them first"))
            }
            Some(Node::Directory) => {
                self.nodes.remove(name);
                self.record_name(MailboxLogKind::DeleteDir, name);
                Ok(())
            }
        }
    }

    pub(crate) fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        self.check_name(to)?;
        let refuse = |class, why: &str| {
            Err(StorageError::new(
                class,
                format!("cannot rename {from} to {to}: {why}"),
            ))
        };
        if from == "INBOX" {
            return refuse(
                MailErrorClass::NotPossible,
                "renaming INBOX isn't supported",
            );
        }
        if from == to {
            return refuse(MailErrorClass::Exists, "can't rename mailbox to itself");
        }
        if self.nodes.contains_key(to) {
            return refuse(MailErrorClass::Exists, "target mailbox already exists");
        }
        let children = self.children(from);
        if !self.nodes.contains_key(from) && (self.options.directories || children.is_empty()) {
            return Err(not_found(from));
        }
        if self.options.directories && to.starts_with(&self.child_prefix(from)) {
            return refuse(MailErrorClass::NotPossible, "it would be its own child");
        }
        self.make_parents(to);
        for old in std::iter::once(from.to_owned()).chain(children) {
            let Some(rest) = old.strip_prefix(from) else {
                continue;
            };
            let new = format!("{to}{rest}");
            // In Maildir++ `a` can become `a/b`, but what was `a/b` before then stays.
            let stays = old == to || old.starts_with(&self.child_prefix(to));
            if stays || self.nodes.contains_key(&new) {
                continue;
            }
            if let Some(node) = self.nodes.remove(&old) {
                self.nodes.insert(new, node);
            }
        }
        if self.options.directories {
            for parent in self.parents(from) {
                let empty = self.children(&parent).is_empty();
                if !empty || self.nodes.get(&parent) != Some(&Node::Directory) {
                    break;
                }
                self.nodes.remove(&parent);
            }
        }
        self.record_name(MailboxLogKind::Rename, to);
        Ok(())
    }

    pub(crate) fn set_subscribed(&mut self, name: &str, subscribed: bool) -> bool {
        let changed = if subscribed {
            self.subscriptions.insert(name.to_owned())
        } else {
            self.subscriptions.remove(name)
        };
        if changed {
            let kind = match subscribed {
                true => MailboxLogKind::Subscribe,
                false => MailboxLogKind::Unsubscribe,
            };
            self.record_name(kind, name);
        }
        changed
    }
}
