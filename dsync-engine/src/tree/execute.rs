//! Carries out the operations of the merge (`spec/brain-and-tree.md` 12).
//!
//! Every operation is complete before the next begins, and each is one step of the store: a run
//! that is killed between two of them leaves a tree that the next run merges like any other.
//!
//! # One name, two GUIDs
//!
//! When both sides have made a mailbox of one name by themselves, both trees ask for a
//! [`TreeOperation::CreateBox`] with the GUID of the other, and one GUID has to win (12.1). What
//! the peer does with ours (`own`) and its own (`wanted` here) depends on its kind:
//!
//! * ours, and Dovecot with sdbox or mdbox: the bytewise higher GUID wins on both sides;
//! * Dovecot with Maildir takes the GUID that it is told, always (`spec/wire.md` 13). Two of
//!   them swap their GUIDs in every run; one that meets the rule above swaps with it once.
//!
//! If `own` is higher, the peer has `own` after its operations in any case: nothing to do. If
//! `wanted` is higher, the peer has `own` (Maildir) or still `wanted` (dbox), and nothing in the
//! protocol tells which until its first `B` for this mailbox. So with a Dovecot peer, two-way
//! ([`GuidRule::KeepOwn`]), nothing is changed yet and a [`GuidAlias`] says that the question is
//! open. Then:
//!
//! * as server: the client's `B` carries the GUID that it has. Is it `wanted`, then [`adopt`] it
//!   and answer; is it `own`, the question is closed as well.
//! * as client: send `B` with `own`. A Maildir peer knows it. If the answer is "lost", the peer
//!   kept `wanted`: [`adopt`] it and send `B` once more with that one. (A Dovecot server goes on
//!   after "lost" and its exit code is not concerned.)
//!
//! Both sides have one GUID after this run in all cases, and the messages are merged in it.
//! Killed before the answer: the next run finds the same two GUIDs or one, both are fine.

use std::collections::HashMap;

use dsync_proto::types::{Guid, MailErrorClass};
use dsync_storage::{Account, MetadataUpdate, OpenMode, Result, StorageError, Store};

use super::local::{LocalTree, guids_of, is_absent};
use super::operation::TreeOperation;

/// Who decides when a mailbox of this name exists with another GUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GuidRule {
    /// Two-way with one of ours: the bytewise higher GUID.
    HigherWins,
    /// Two-way with a Dovecot: found out later, see the module documentation of `execute`.
    KeepOwn,
    /// The destination of a one-way run takes GUID and UIDVALIDITY of the source.
    TakeWanted,
}

/// How to execute.
#[derive(Clone, Copy, Debug)]
pub struct ExecutionContext<'a> {
    /// Who decides about GUIDs.
    pub guid_rule: GuidRule,
    /// Only the tree is synced: GUIDs are not looked at (`-m ''`).
    pub tree_only: bool,
    /// The local tree, for the names that do not take part in this run.
    pub local: &'a LocalTree,
}

/// A mailbox that keeps its own GUID until the peer shows which one it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuidAlias {
    /// Full name.
    pub name: String,
    /// GUID that the mailbox has here.
    pub own: Guid,
    /// GUID that the peer's tree said, and that the merged local tree says.
    pub wanted: Guid,
}

/// How many operations were done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExecutionCounts {
    /// Mailboxes and directories created.
    pub created: usize,
    /// Mailboxes and directories deleted.
    pub deleted: usize,
    /// Renames.
    pub renamed: usize,
    /// Subscriptions changed.
    pub subscriptions: usize,
    /// Mailboxes that got another GUID.
    pub guids: usize,
}

/// What came of the operations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecutionReport {
    /// Operations that somebody else's changes have made impossible; the run should be repeated.
    pub conflicts: Vec<String>,
    /// Why the rest was not done, if so.
    pub error: Option<StorageError>,
    /// What was done.
    pub counts: ExecutionCounts,
    /// Mailboxes whose GUID is still open ([`GuidRule::KeepOwn`]).
    pub aliases: Vec<GuidAlias>,
    /// GUIDs of mailboxes that became others, or may do so at the peer. Their logs do not reach
    /// back.
    pub renewed: Vec<Guid>,
    /// Mailboxes that were not created because the GUID is here under a name that does not take
    /// part: wanted name and present name. Their messages are synced by GUID.
    pub elsewhere: Vec<(String, String)>,
}

/// Carries out operations in order. Ends at the first error that is not a conflict; what was
/// done stays.
pub fn execute(
    account: &mut Account,
    operations: &[TreeOperation],
    context: ExecutionContext<'_>,
) -> ExecutionReport {
    let mut execution = Execution {
        account,
        context,
        hidden: None,
        report: ExecutionReport::default(),
    };
    for operation in operations {
        if let Err(error) = execution.one(operation) {
            execution.report.error = Some(error);
            break;
        }
    }
    execution.report
}

/// Gives a mailbox the GUID that the peer turned out to have.
pub fn adopt(account: &mut Account, alias: &GuidAlias) -> Result<()> {
    set_guid(store_for(account, &alias.name)?, &alias.name, alias.wanted)
}

struct Execution<'a> {
    account: &'a mut Account,
    context: ExecutionContext<'a>,
    /// Mailboxes that do not take part, by GUID; read when first needed.
    hidden: Option<HashMap<Guid, String>>,
    report: ExecutionReport,
}

impl Execution<'_> {
    fn one(&mut self, operation: &TreeOperation) -> Result<()> {
        match operation {
            TreeOperation::CreateBox {
                name,
                guid,
                uid_validity,
            } => self.create_box(name, *guid, *uid_validity),
            TreeOperation::CreateDir { name } => self.create_dir(name),
            TreeOperation::DeleteBox { name, guid } => self.delete_box(name, *guid),
            TreeOperation::DeleteDir { name } => {
                let done = store_for(self.account, name)?.delete_directory(name);
                let done = self.conflict(done, || format!("Directory {name} deletion conflict"))?;
                self.report.counts.deleted += usize::from(done.is_some());
                Ok(())
            }
            TreeOperation::Rename { from, to } => self.rename(from, to),
            TreeOperation::Subscribe { name, subscribed } => {
                let done = store_for(self.account, name)?.set_subscribed(name, *subscribed);
                let done = self.conflict(done, || format!("Subscription conflict for {name}"))?;
                self.report.counts.subscriptions += usize::from(done == Some(true));
                Ok(())
            }
        }
    }

    /// Turns an error that means "changed meanwhile" into a conflict; other errors pass.
    fn conflict<T>(&mut self, result: Result<T>, what: impl Fn() -> String) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error)
                if matches!(
                    error.class,
                    MailErrorClass::Exists | MailErrorClass::NotFound
                ) =>
            {
                self.report.conflicts.push(format!("{}: {error}", what()));
                Ok(None)
            }
            Err(error) => Err(StorageError::new(
                error.class,
                format!("{}: {error}", what()),
            )),
        }
    }

    fn create_box(&mut self, name: &str, guid: Guid, uid_validity: u32) -> Result<()> {
        let local = self.context.local;
        if !local.hidden.is_empty() || !local.problems.is_empty() {
            let account = &mut *self.account;
            // A mailbox that could not be read may be the one that the peer renamed.
            let known = self.hidden.get_or_insert_with(|| {
                let unread = local.problems.iter().map(|problem| problem.mailbox.clone());
                let names: Vec<String> = local.hidden.iter().cloned().chain(unread).collect();
                guids_of(&names, account)
            });
            if let Some(present) = known.get(&guid) {
                tracing::info!("mailbox {name} is here as {present}, not created again");
                let entry = (name.to_owned(), present.clone());
                self.report.elsewhere.push(entry);
                return Ok(());
            }
        }
        let failed = |error: StorageError| {
            StorageError::new(error.class, format!("Can't create mailbox {name}: {error}"))
        };
        let store = store_for(self.account, name)?;
        let uid_validity = (uid_validity != 0).then_some(uid_validity);
        match store.create_mailbox(name, Some(guid), uid_validity) {
            Ok(dsync_storage::Created::New) => self.report.counts.created += 1,
            Ok(dsync_storage::Created::Existed) => {}
            Err(error) if error.class == MailErrorClass::Exists => {}
            Err(error) => return Err(failed(error)),
        }
        if self.context.tree_only {
            return Ok(());
        }
        let identity = store.identity(name).map_err(failed)?;
        let own = identity.guid;
        let take = match self.context.guid_rule {
            GuidRule::TakeWanted => guid != own,
            GuidRule::HigherWins => guid > own,
            GuidRule::KeepOwn => {
                let alias = GuidAlias {
                    name: name.to_owned(),
                    own,
                    wanted: guid,
                };
                if guid != own {
                    self.report.renewed.extend([own, guid]);
                }
                if guid > own && !self.report.aliases.contains(&alias) {
                    self.report.aliases.push(alias);
                }
                false
            }
        };
        if take {
            if self.context.guid_rule == GuidRule::TakeWanted
                && let Some(uid_validity) = uid_validity
                && uid_validity != identity.uid_validity
            {
                set_uid_validity(store, name, uid_validity)?;
            }
            set_guid(store, name, guid)?;
            self.report.renewed.push(guid);
            self.report.counts.guids += 1;
        }
        Ok(())
    }

    fn create_dir(&mut self, name: &str) -> Result<()> {
        match store_for(self.account, name)?.create_directory(name) {
            Err(error) if error.class == MailErrorClass::Exists => Ok(()),
            result => {
                let done = self.conflict(result, || format!("Can't create directory {name}"))?;
                let new = done == Some(dsync_storage::Created::New);
                self.report.counts.created += usize::from(new);
                Ok(())
            }
        }
    }

    fn delete_box(&mut self, name: &str, guid: Guid) -> Result<()> {
        let what = |why: &str| format!("Mailbox {name} GUID {guid} deletion conflict: {why}");
        let found = match self.account.find_guid(guid) {
            Err(error) if is_absent(&error) => None,
            found => found?,
        };
        let Some((index, _)) = found else {
            self.report.conflicts.push(what("it is gone"));
            return Ok(());
        };
        let Some(store) = self.account.store(index) else {
            return Ok(());
        };
        match store.delete_mailbox(guid) {
            Ok(()) => self.report.counts.deleted += 1,
            Err(error)
                if matches!(
                    error.class,
                    MailErrorClass::Exists | MailErrorClass::NotFound
                ) =>
            {
                self.report.conflicts.push(what(&error.message));
            }
            Err(error) => {
                return Err(StorageError::new(
                    error.class,
                    format!("Can't delete mailbox {name}: {error}"),
                ));
            }
        }
        Ok(())
    }

    /// Between namespaces nothing can be renamed. Dovecot ends the run there, and the next ones
    /// too; here the mailbox keeps its name and its messages are synced.
    fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        let what = || format!("Mailbox {from} rename to {to} conflict");
        let index = self.account.index_for(from);
        let result = if from == to {
            Err(StorageError::new(
                MailErrorClass::Exists,
                "the name is the same",
            ))
        } else if index != self.account.index_for(to) {
            Err(StorageError::new(
                MailErrorClass::Exists,
                "the names are in different namespaces",
            ))
        } else {
            store_for(self.account, from)?.rename(from, to)
        };
        let done = self.conflict(result, what)?;
        self.report.counts.renamed += usize::from(done.is_some());
        Ok(())
    }
}

fn set_guid(store: &mut dyn Store, name: &str, guid: Guid) -> Result<()> {
    store.set_guid(name, guid)?;
    if store.identity(name)?.guid == guid {
        return Ok(());
    }
    Err(StorageError::new(
        MailErrorClass::Temporary,
        format!("Backend didn't update mailbox {name} GUID to {guid}"),
    ))
}

/// A copy of another mailbox has that one's UIDVALIDITY, or a Dovecot source with fewer messages
/// would take over ours (`spec/brain-and-tree.md` 12.1).
///
/// Before the GUID is set: killed between the two, the next run does both again.
fn set_uid_validity(store: &mut dyn Store, name: &str, uid_validity: u32) -> Result<()> {
    let mut mailbox = store.open(name, OpenMode::Write)?;
    mailbox.refresh()?;
    mailbox.update_metadata(MetadataUpdate {
        uid_validity: Some(uid_validity),
        ..MetadataUpdate::default()
    })?;
    mailbox.commit().map(drop)
}

fn store_for<'a>(account: &'a mut Account, name: &str) -> Result<&'a mut dyn Store> {
    account.store_for(name).ok_or_else(|| {
        StorageError::new(
            MailErrorClass::NotFound,
            format!("no namespace for mailbox {name}"),
        )
    })
}
