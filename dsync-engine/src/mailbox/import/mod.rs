//! The receiving side of a mailbox (`spec/mailbox-sync.md` 5 to 13).

mod attributes;
mod bodies;
mod common_point;
mod entries;
mod finish;
mod flags;
mod incoming;
mod options;
mod plan;
mod saves;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use dsync_proto::header_hash::HeaderHash;
use dsync_proto::items::{Change, ChangeKind};
use dsync_proto::types::{Flags, MAX_UID, MailGuid, ModSeq, Uid};
use dsync_storage::{Mailbox, MessageTable};

use self::attributes::AttributeHistory;
use self::bodies::{Receiving, SinceCommit};
use self::common_point::CommonPoint;
use self::entries::Entries;
use self::flags::MergeContext;
use self::incoming::IncomingTable;
pub use self::options::{
    CommitInterval, Counters, DeleteMailbox, ImportOptions, ImportResult, MailBody,
};
use self::plan::Plan;
use super::header_hash::hash_message;
use super::{MailboxError, PeerFault, Result, Scan};
use crate::Problem;

/// Highest modseq that is believed. A store must be able to count on from it, and IMAP clients
/// know 63 bits (RFC 7162).
const MAX_MODSEQ: ModSeq = 1 << 62;

/// Receives the attributes, changes and bodies of one mailbox and brings the local one in step.
///
/// After an error every further call does nothing; [`Importer::finish`] then keeps what can be
/// kept safely and reports the error again.
pub struct Importer {
    scan: Arc<Scan>,
    options: ImportOptions,
    common: CommonPoint,
    /// Messages here that go.
    gone: BTreeSet<Uid>,
    entries: Entries,
    incoming: IncomingTable,
    bodies: Plan,
    /// The message whose body is coming.
    receiving: Option<Receiving>,
    since_commit: SinceCommit,
    /// Flags or attributes were changed since the last commit.
    changed: bool,
    /// Local messages that got another UID: old and new one.
    moved: BTreeMap<Uid, Uid>,
    undelivered: Vec<Uid>,
    /// Highest UID of a change so far.
    last_change: Uid,
    changes_ended: bool,
    /// Highest UID up to which both sides will agree.
    result_uid: Uid,
    /// Header hashes of local messages that were needed, in hash mode.
    hashes: HashMap<Uid, Option<HeaderHash>>,
    /// What a backup source said so far, to be applied again to an emptied mailbox.
    history: MessageTable,
    /// Attributes that a backup source sent, for the same purpose.
    attribute_history: AttributeHistory,
    /// UIDs that saved messages wanted, but could not get.
    lost_uids: BTreeSet<Uid>,
    /// Messages that lost their UID to others.
    conflicts: usize,
    warned_about_attributes: bool,
    unexpected: Option<String>,
    delete: Option<DeleteMailbox>,
    /// The mailbox was made anew for this import.
    restarted: bool,
    error: Option<MailboxError>,
    problems: Vec<Problem>,
    counters: Counters,
}

impl Importer {
    /// Prepares the import into what `scan` found.
    pub fn new(scan: &Arc<Scan>, options: ImportOptions) -> Self {
        let mut importer = Self {
            common: CommonPoint::new(scan),
            scan: Arc::clone(scan),
            gone: BTreeSet::new(),
            entries: Entries::default(),
            incoming: IncomingTable::default(),
            bodies: Plan::default(),
            receiving: None,
            since_commit: SinceCommit::default(),
            changed: false,
            moved: BTreeMap::new(),
            undelivered: Vec::new(),
            last_change: 0,
            changes_ended: false,
            result_uid: scan.state.last_common_uid,
            hashes: HashMap::new(),
            history: MessageTable::new(),
            attribute_history: AttributeHistory::default(),
            lost_uids: BTreeSet::new(),
            conflicts: 0,
            warned_about_attributes: false,
            unexpected: None,
            delete: None,
            restarted: false,
            error: None,
            problems: Vec::new(),
            counters: Counters::default(),
            options,
        };
        importer.check_peer();
        importer.check_state();
        importer
    }

    /// Counters that would leave no room for anything: taken over, they would ruin the mailbox.
    fn check_peer(&mut self) {
        let remote = &self.options.remote;
        let fault = if remote.uid_next > MAX_UID + 1 {
            PeerFault::InvalidUidNext {
                uid_next: remote.uid_next,
            }
        } else if remote.highest_modseq.max(remote.highest_pvt_modseq) > MAX_MODSEQ {
            PeerFault::InvalidModseq {
                modseq: remote.highest_modseq.max(remote.highest_pvt_modseq),
            }
        } else {
            return;
        };
        self.error = Some(MailboxError::peer(&self.scan.name, fault));
    }

    /// 5.1: a mailbox that is behind its state.
    fn check_state(&mut self) {
        let (status, state) = (&self.scan.status, &self.scan.state);
        if !self.scan.is_stateful() {
            return;
        }
        let reason = if status.uid_next <= state.last_common_uid {
            format!(
                "local UIDNEXT {} <= last common UID {}",
                status.uid_next, state.last_common_uid
            )
        } else if status.highest_modseq < state.last_common_modseq {
            format!(
                "local HIGHESTMODSEQ {} < last common HIGHESTMODSEQ {}",
                status.highest_modseq, state.last_common_modseq
            )
        } else if status.highest_pvt_modseq < state.last_common_pvt_modseq {
            format!(
                "local private HIGHESTMODSEQ {} < last common one {}",
                status.highest_pvt_modseq, state.last_common_pvt_modseq
            )
        } else {
            return;
        };
        self.unexpected_state(&reason);
    }

    /// 5.9: later changes are ignored, and a run without state is needed.
    fn unexpected_state(&mut self, reason: &str) {
        let name = &self.scan.name;
        if self.scan.is_stateful() {
            tracing::warn!(
                "Mailbox {name} doesn't match previous state: {reason} (run again without the state)"
            );
        } else {
            tracing::error!("Mailbox {name}: {reason}");
        }
        self.unexpected.get_or_insert_with(|| reason.to_owned());
    }

    /// A change; they come strictly by rising UID.
    pub fn change(&mut self, mailbox: &mut dyn Mailbox, change: Change) -> Result<()> {
        if self.error.is_some() {
            return Ok(());
        }
        let result = self.try_change(mailbox, change);
        self.remember(result)
    }

    fn remember<T>(&mut self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result {
            self.error = Some(error.clone());
        }
        result
    }

    fn try_change(&mut self, mailbox: &mut dyn Mailbox, change: Change) -> Result<()> {
        if let Some(fault) = self.fault(&change) {
            return Err(MailboxError::peer(&self.scan.name, fault));
        }
        self.last_change = change.uid;
        self.keep_history(&change);
        if self.unexpected.is_some() || self.delete.is_some() {
            return Ok(());
        }
        self.apply(mailbox, change)
    }

    /// What a peer must not send (`spec/mailbox-sync.md` 16).
    fn fault(&self, change: &Change) -> Option<PeerFault> {
        let uid = change.uid;
        let common = self.scan.state.last_common_uid;
        let stateful = self.scan.is_stateful();
        if self.changes_ended {
            return Some(PeerFault::ChangeAfterEnd { uid });
        }
        if uid == 0 || uid > MAX_UID {
            return Some(PeerFault::InvalidUid { uid });
        }
        if uid <= self.last_change {
            return Some(PeerFault::ChangesNotAscending {
                uid,
                previous: self.last_change,
            });
        }
        let modseq = change.modseq.max(change.pvt_modseq);
        if modseq > MAX_MODSEQ {
            return Some(PeerFault::InvalidModseq { modseq });
        }
        match change.kind {
            ChangeKind::Save if stateful && uid <= common => {
                Some(PeerFault::SaveBelowCommonUid { uid, common })
            }
            ChangeKind::Flags if !stateful || uid > common => {
                Some(PeerFault::FlagsAboveCommonUid { uid, common })
            }
            ChangeKind::Save if self.options.mails_have_guids => change
                .guid
                .as_ref()
                .is_none_or(MailGuid::is_empty)
                .then_some(PeerFault::MissingGuid { uid }),
            ChangeKind::Save if change.hdr_hash.is_none() => Some(PeerFault::MissingHash { uid }),
            ChangeKind::Expunge => change
                .guid
                .clone()
                .filter(|guid| !guid.is_empty() && guid.as_bytes().len() != 32)
                .map(|guid| PeerFault::InvalidExpungeGuid { uid, guid }),
            _ => None,
        }
    }

    fn merge_context(&self) -> MergeContext {
        MergeContext {
            is_master: self.options.is_master,
            revert: self.options.revert,
            remote_highest_modseq: self.options.remote.highest_modseq,
            remote_highest_pvt_modseq: self.options.remote.highest_pvt_modseq,
            private: match self.scan.status.highest_pvt_modseq {
                0 => Flags::NONE,
                _ => Flags::SEEN,
            },
        }
    }

    /// 6: flags, keywords and modseq of a common message.
    fn merge_flags(&mut self, mailbox: &mut dyn Mailbox, change: &Change) -> Result<()> {
        if !self.verify(change) {
            return Ok(());
        }
        let scan = Arc::clone(&self.scan);
        let Some(row) = scan.messages.by_uid(change.uid) else {
            return Ok(());
        };
        let logged = scan.log.changes.get(&change.uid);
        if let Some(update) = flags::decide(&row, logged, change, self.merge_context()) {
            self.counters.flags_changed += u64::from(flags::is_visible(&update));
            self.changed = true;
            mailbox
                .update_flags(change.uid, update)
                .map_err(MailboxError::storage(&scan.name, "Changing flags failed"))?;
        }
        Ok(())
    }

    /// Whether the change is about the local message with its UID. One with another GUID means
    /// that the sides have never been in the state that was saved. In hash mode each side has
    /// GUIDs of its own, which say nothing about the other's (13, P05).
    fn verify(&mut self, change: &Change) -> bool {
        let scan = Arc::clone(&self.scan);
        let Some(row) = scan.messages.by_uid(change.uid) else {
            return false;
        };
        let Some(guid) = change.guid.as_ref().filter(|guid| !guid.is_empty()) else {
            return true;
        };
        let both_known = !row.guid.is_empty() && self.options.mails_have_guids;
        if both_known && !self.same_guid(change.kind, guid, row.guid) {
            self.unexpected_state(&format!(
                "Unexpected GUID mismatch for UID={}: {} != {guid}",
                change.uid, row.guid
            ));
            return false;
        }
        true
    }

    /// Expunges carry only the short form.
    fn same_guid(&self, kind: ChangeKind, remote: &MailGuid, local: &[u8]) -> bool {
        if kind == ChangeKind::Expunge || self.options.guid128_only {
            return remote.short() == MailGuid::short_of(local);
        }
        remote.as_bytes() == local
    }

    /// Header hash of a local message; `None` if it is gone.
    fn local_hash(&mut self, mailbox: &mut dyn Mailbox, uid: Uid) -> Result<Option<HeaderHash>> {
        if let Some(hash) = self.hashes.get(&uid) {
            return Ok(*hash);
        }
        let hash = hash_message(mailbox, uid, &self.options.hashes)?;
        self.hashes.insert(uid, hash);
        Ok(hash)
    }

    /// The changes are complete: new UIDs are decided, messages that exist here already are
    /// copied or moved, and the requests are ready.
    pub fn changes_end(&mut self, mailbox: &mut dyn Mailbox) -> Result<()> {
        if self.error.is_some() {
            return Ok(());
        }
        if self.changes_ended {
            let error = MailboxError::peer(&self.scan.name, PeerFault::SecondEnd);
            return self.remember(Err(error));
        }
        let result = self.try_changes_end(mailbox);
        self.remember(result)
    }

    fn try_changes_end(&mut self, mailbox: &mut dyn Mailbox) -> Result<()> {
        if self.delete.is_some() {
            return Ok(());
        }
        self.merge_rest(mailbox)?;
        if self.delete.is_some() {
            return Ok(());
        }
        self.changes_ended = true;
        let next = self
            .scan
            .status
            .uid_next
            .max(self.options.remote.uid_next)
            .max(1);
        let Some(next) = self.entries.assign(next) else {
            return Err(MailboxError::UidsExhausted {
                mailbox: self.scan.name.clone(),
            });
        };
        self.result_uid = next - 1;
        self.place_all(mailbox)?;
        // Bodies may take long: flags of common messages are kept already.
        if self.changed && self.bodies.has_requests() && self.bodies.has_no_gap(&self.entries) {
            self.commit(mailbox)?;
        }
        Ok(())
    }

    /// In a backup: the mailbox must be deleted, since it cannot be made equal to the source
    /// (`spec/mailbox-sync.md` 9.2). Look at it after [`Importer::change`] and
    /// [`Importer::changes_end`]. Either finish, delete the mailbox and let the run fail as
    /// Dovecot does, or empty it and go on with [`Importer::restart_empty`].
    pub fn delete_mailbox(&self) -> Option<&DeleteMailbox> {
        self.delete.as_ref()
    }

    fn must_delete(&mut self, reason: String) {
        let mailbox = self.scan.name.clone();
        self.delete.get_or_insert(DeleteMailbox { mailbox, reason });
    }

    /// The mailbox was deleted and created anew, empty, with the GUID and UIDVALIDITY of the
    /// source; `mailbox` and `scan` are the new one. Everything received so far is applied to it;
    /// then go on where the run was. Possible once, and only before the first request was taken.
    pub fn restart_empty(&mut self, mailbox: &mut dyn Mailbox, scan: &Arc<Scan>) -> Result<()> {
        let history = std::mem::take(&mut self.history);
        let mut fresh = Self::new(scan, self.options.clone());
        fresh.restarted = true;
        fresh.common.found = true;
        fresh.problems = std::mem::take(&mut self.problems);
        fresh.last_change = self.last_change;
        let attributes = std::mem::take(&mut self.attribute_history);
        *self = fresh;
        self.restore_attributes(mailbox, attributes)?;
        for row in history.iter() {
            let change = incoming::change_of(&row);
            let result = self.apply(mailbox, change);
            self.remember(result)?;
        }
        Ok(())
    }

    /// UIDs of messages here that the peer asked for and that could not be read: they get new
    /// UIDs at the end, so that a later run does not take them for expunged by the peer.
    pub fn undelivered(&mut self, uids: &[Uid]) {
        self.undelivered.extend_from_slice(uids);
    }
}
