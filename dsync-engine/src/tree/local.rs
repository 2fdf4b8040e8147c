//! Builds the tree of the local account (`spec/brain-and-tree.md` 3.2, 9.2, 9.3).

use std::collections::{HashMap, HashSet};

use dsync_proto::items::{DeleteEntry, Deletes, Existence};
use dsync_proto::types::{Guid, MailErrorClass};
use dsync_storage::{Account, ListEntry, MailboxLogKind, MailboxLogRecord, StorageError, Store};

use super::error::TreeError;
use super::names::{NameIndex, separator_byte};
use super::node::{MAX_LEVELS, NodeId, Tree};
use super::select::Selection;
use crate::Problem;

/// The local mailboxes that take part in a run, and what was deleted here.
///
/// A mailbox that exists but cannot be read is a node with [`super::Node::unsynced`]: it is in
/// [`LocalTree::problems`], no operation ever touches it, and [`LocalTree::shield`] keeps the
/// peer from taking it for missing.
#[derive(Clone, Debug)]
pub struct LocalTree {
    /// The tree.
    pub tree: Tree,
    /// What was deleted or unsubscribed, hashed with the local separator.
    pub deletes: Deletes,
    /// Mailboxes that exist and could not be read; the others are synced all the same.
    pub problems: Vec<Problem>,
    /// Listed names that do not take part.
    pub(super) hidden: Vec<String>,
    /// Special uses of listed names, those that do not take part included.
    pub(super) special_use: HashMap<String, Vec<String>>,
}

/// Reads all mailboxes, subscriptions and mailbox logs of an account whose stores are those of
/// the synced namespaces.
///
/// `new_guid` makes random GUIDs, for mailboxes that have the GUID of another one (9.3): nothing
/// else is written. Fails if a list, a subscription file or a log cannot be read: with a part of
/// the names missing a run could delete the others.
pub fn build_local(
    account: &mut Account,
    selection: &Selection,
    new_guid: &mut dyn FnMut() -> Guid,
) -> Result<LocalTree, TreeError> {
    let tree = Tree::for_account(account);
    let mut build = Build {
        selection,
        hidden_subscriptions: Vec::new(),
        local: LocalTree {
            deletes: Deletes {
                hierarchy_sep: separator_byte(tree.separator()),
                escape_char: tree
                    .namespaces()
                    .iter()
                    .find_map(|ns| ns.escape_char)
                    .map(separator_byte),
                mailboxes: Vec::new(),
                dirs: Vec::new(),
                unsubscribes: Vec::new(),
            },
            tree,
            problems: Vec::new(),
            hidden: Vec::new(),
            special_use: HashMap::new(),
        },
    };
    let mut log = Vec::new();
    for index in 0..account.stores().count() {
        let Some(store) = account.store(index) else {
            continue;
        };
        build.add_mailboxes(index, store)?;
        let subscriptions = store.subscriptions()?;
        log.extend(store.mailbox_log()?);
        build.add_subscriptions(index, subscriptions, account);
    }
    build.separate_duplicates(account, new_guid);
    build.apply_log(&log, account);
    Ok(build.local)
}

struct Build<'a> {
    selection: &'a Selection,
    hidden_subscriptions: Vec<String>,
    local: LocalTree,
}

impl Build<'_> {
    fn add_mailboxes(&mut self, index: usize, store: &mut dyn Store) -> Result<(), TreeError> {
        let prefix = store.namespace().prefix_name().to_owned();
        if !prefix.is_empty() {
            let id = self.local.tree.ensure_path(&prefix);
            self.local.tree.node_mut(id).namespace = Some(index);
        }
        let separator = self.local.tree.separator();
        for entry in store.list()? {
            if !is_usable(&entry.name, separator) {
                self.problem(&entry.name, "the name has an empty or too many levels");
                continue;
            }
            let accepted = self
                .selection
                .accepts(&entry.name, separator, &entry.special_use);
            if !entry.special_use.is_empty() {
                self.local
                    .special_use
                    .insert(entry.name.clone(), entry.special_use.clone());
            }
            if accepted {
                self.add_mailbox(index, store, &entry)?;
            } else {
                self.local.hidden.push(entry.name);
            }
        }
        Ok(())
    }

    fn add_mailbox(
        &mut self,
        index: usize,
        store: &mut dyn Store,
        entry: &ListEntry,
    ) -> Result<(), TreeError> {
        if !entry.selectable {
            if self.selection.sync_box_guid.is_some() {
                self.local.hidden.push(entry.name.clone());
            } else {
                let id = self.place(index, &entry.name)?;
                self.local.tree.node_mut(id).existence = Existence::Exists;
            }
            return Ok(());
        }
        match store.identity(&entry.name) {
            Ok(identity) if !self.selection.accepts_guid(identity.guid) => {
                self.local.hidden.push(entry.name.clone());
            }
            Ok(identity) => {
                let id = self.place(index, &entry.name)?;
                let node = self.local.tree.node_mut(id);
                node.existence = Existence::Exists;
                node.guid = identity.guid;
                node.uid_validity = identity.uid_validity;
                node.uid_next = identity.uid_next;
            }
            // Deleted since it was listed, or a thing that only looks like a mailbox.
            Err(error) if is_absent(&error) => {
                tracing::debug!(mailbox = entry.name, %error, "left out");
            }
            Err(error) => {
                let id = self.place(index, &entry.name)?;
                self.local.tree.node_mut(id).unsynced = true;
                self.problem(&entry.name, &error.message);
            }
        }
        Ok(())
    }

    fn problem(&mut self, name: &str, reason: &str) {
        tracing::error!(mailbox = name, reason, "mailbox cannot be synced");
        self.local.problems.push(Problem {
            mailbox: name.to_owned(),
            uid: 0,
            guid: "".into(),
            reason: reason.to_owned(),
        });
    }

    fn place(&mut self, index: usize, name: &str) -> Result<NodeId, TreeError> {
        let tree = &mut self.local.tree;
        let id = tree.ensure_path(name);
        let node = tree.node_mut(id);
        if (node.exists() || node.unsynced) && node.namespace != Some(index) {
            return Err(TreeError::TwoNamespaces { name: name.into() });
        }
        node.namespace = Some(index);
        Ok(id)
    }

    fn add_subscriptions(&mut self, index: usize, names: Vec<String>, account: &Account) {
        let separator = self.local.tree.separator();
        for name in names {
            if !is_usable(&name, separator) {
                tracing::warn!(name, "subscription of an impossible name left out");
                continue;
            }
            if !self.selection.accepts_subscription(&name, separator) {
                self.hidden_subscriptions.push(name);
                continue;
            }
            // A store may keep the subscriptions of other namespaces too.
            let index = account.index_for(&name).unwrap_or(index);
            let id = self.local.tree.ensure_path(&name);
            let node = self.local.tree.node_mut(id);
            node.namespace = Some(index);
            node.subscribed = true;
        }
    }

    /// Of the mailboxes with one GUID only the one with the greatest name keeps it; the peer
    /// chooses the same one. Then enters all GUIDs into the index.
    ///
    /// Killed between two of these: the next run finds fewer duplicates and goes on.
    fn separate_duplicates(&mut self, account: &mut Account, new_guid: &mut dyn FnMut() -> Guid) {
        let mut mailboxes: Vec<(Guid, String, NodeId)> = self
            .local
            .tree
            .paths()
            .map(|(id, path)| (self.local.tree.node(id).guid, path, id))
            .filter(|(guid, _, _)| !guid.is_zero())
            .collect();
        mailboxes.sort_unstable_by(|a, b| b.cmp(a));
        let mut duplicates = Vec::new();
        for (guid, path, id) in mailboxes {
            if let Err(keeper) = self.local.tree.set_guid(id, guid) {
                duplicates.push((id, path, keeper));
            }
        }
        for (id, path, keeper) in duplicates {
            let old = self.local.tree.node(id).guid;
            let guid = loop {
                let guid = new_guid();
                if !guid.is_zero() && self.local.tree.find(guid).is_none() {
                    break guid;
                }
            };
            let keeper = self.local.tree.path(keeper);
            tracing::error!(
                "Duplicate mailbox GUID {old} for mailboxes {path} and {keeper} - giving a new \
                 GUID {guid} to {path}"
            );
            let store = account.store_for(&path);
            let result = store.map_or_else(
                || {
                    Err(StorageError::new(
                        MailErrorClass::NotFound,
                        "no such namespace",
                    ))
                },
                |store| store.set_guid(&path, guid),
            );
            // The index still means the keeper under the old GUID, so the new one always fits.
            self.local.tree.node_mut(id).guid = Guid::ZERO;
            match result {
                Ok(()) => {
                    let _ = self.local.tree.set_guid(id, guid);
                }
                Err(error) => {
                    let node = self.local.tree.node_mut(id);
                    node.existence = Existence::Nonexistent;
                    node.unsynced = true;
                    let reason =
                        format!("has the GUID of {keeper} and it cannot be changed: {error}");
                    self.problem(&path, &reason);
                }
            }
        }
    }

    /// Turns the records of the mailbox logs into timestamps of nodes and into deletions (9.2).
    /// Hashes are of full names, so the logs of all namespaces are looked up in one index.
    fn apply_log(&mut self, log: &[MailboxLogRecord], account: &mut Account) {
        if log.is_empty() {
            return;
        }
        let index = NameIndex::new(&self.local.tree, None);
        let hidden_names: HashSet<Guid> = self
            .local
            .hidden
            .iter()
            .chain(&self.hidden_subscriptions)
            .map(|name| Guid::of_mailbox_name(name.as_bytes()))
            .collect();
        let mut hidden_guids = None;
        let LocalTree {
            tree,
            deletes,
            hidden,
            ..
        } = &mut self.local;
        for record in log {
            let entry = DeleteEntry {
                guid: record.id,
                time: record.time,
            };
            if record.kind == MailboxLogKind::DeleteMailbox {
                // A GUID that is in use again must not be announced as deleted.
                if tree.find(record.id).is_none()
                    && !hidden_guids
                        .get_or_insert_with(|| guids_of(hidden, account))
                        .contains_key(&record.id)
                {
                    deletes.mailboxes.push(entry);
                }
                continue;
            }
            if hidden_names.contains(&record.id) {
                continue;
            }
            match (record.kind, index.name(record.id)) {
                (MailboxLogKind::DeleteDir, _) => {
                    let exists = index.directory(record.id).is_some_and(|id| {
                        let node = tree.node(id);
                        node.exists() || node.unsynced
                    });
                    if !exists {
                        deletes.dirs.push(entry);
                    }
                }
                (MailboxLogKind::Rename, Some(id)) => {
                    tree.node_mut(id).last_renamed_or_created = record.time;
                }
                (MailboxLogKind::Subscribe | MailboxLogKind::Unsubscribe, Some(id)) => {
                    tree.node_mut(id).last_subscription_change = record.time;
                }
                (MailboxLogKind::Unsubscribe, None) => deletes.unsubscribes.push(entry),
                _ => {}
            }
        }
    }
}

/// GUIDs of the mailboxes with these names, as far as they can be read.
pub(super) fn guids_of(names: &[String], account: &mut Account) -> HashMap<Guid, String> {
    names
        .iter()
        .filter_map(|name| {
            let identity = account.store_for(name)?.identity(name).ok()?;
            Some((identity.guid, name.clone()))
        })
        .collect()
}

/// Whether an error means that there is no such mailbox (any more), or none that can be selected;
/// no reason to complain.
pub(crate) fn is_absent(error: &StorageError) -> bool {
    matches!(
        error.class,
        MailErrorClass::NotFound | MailErrorClass::NotPossible
    )
}

fn is_usable(name: &str, separator: char) -> bool {
    name.split(separator).all(|level| !level.is_empty())
        && name.split(separator).count() <= MAX_LEVELS
}
