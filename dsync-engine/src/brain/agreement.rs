//! Whether and from where a mailbox is compared: with the saved state, as a whole, or not at all
//! (`spec/brain-and-tree.md` 6.3 to 6.5).

use dsync_proto::items::{MailboxInfo, SyncType};
use dsync_proto::types::MailErrorClass;
use dsync_storage::{LoggedKind, MetadataUpdate, StorageError};
use tracing::{info, warn};

use super::states::{counters_differ, is_stateful, takes_uid_validity};
use super::{Brain, Opened};
use crate::RunError;
use crate::mailbox::{Scan, ScanError, scan};
use crate::options::{Direction, Mode};
use crate::tree::WalkEntry;

const LACKS_MAIL: &str = "messages were expunged here since the last run";
const UID_VALIDITY_CHANGED: &str = "UIDVALIDITY changed during a stateful sync, need to restart";

/// What came of the talk about a mailbox.
pub(super) enum Agreement {
    /// Both sides exchange messages.
    Exchange(Box<Scan>),
    /// Nothing to do.
    Equal,
    /// Cannot be synced incrementally.
    Desync(String),
}

impl Brain {
    /// Looks whether the saved state of a mailbox can be used. If not, one of ours hears so, and
    /// both compare all of the mailbox. A Dovecot knows the state already, and would fail or end
    /// the run: `false`, the mailbox waits for the next run, which has no state.
    pub(super) fn check_state(
        &mut self,
        entry: &WalkEntry,
        opened: &mut Opened,
    ) -> Result<bool, StorageError> {
        let state = self.states.get(opened.info.mailbox_guid);
        if self.options.sync_type != SyncType::State || !is_stateful(&state) {
            return Ok(true);
        }
        let status = opened.mailbox.status()?;
        let reason = match scan(opened.mailbox.as_mut(), status, &state) {
            Ok(scan) => {
                opened.scan = Some(scan);
                let peer = entry.remote.map(|peer| peer.uid_validity);
                let differs = peer.is_some_and(|peer| peer != opened.info.uid_validity);
                let lacks_mail = opened
                    .scan
                    .as_ref()
                    .is_some_and(|scan| self.lacks_mail(scan));
                match (differs && state.last_common_uid > 0, lacks_mail) {
                    (true, _) => Some(UID_VALIDITY_CHANGED.to_owned()),
                    (false, true) => Some(LACKS_MAIL.to_owned()),
                    (false, false) => None,
                }
            }
            Err(ScanError::Desync(reason)) => Some(reason),
            Err(ScanError::Storage(error)) => return Err(error),
        };
        let Some(reason) = reason else {
            return Ok(true);
        };
        self.states.remove(opened.info.mailbox_guid);
        opened.scan = None;
        opened.info.ignore_state = true;
        if self.peer_is_ours {
            info!("mailbox {}: the state is of no use: {reason}", entry.name);
            return Ok(true);
        }
        warn!(
            "incremental sync of mailbox {} is impossible ({reason})",
            entry.name
        );
        self.run_again(format!("Incremental sync failed: {reason}"));
        self.outcome.require_full_resync = true;
        Ok(false)
    }

    /// Decides with the two `B` what is done (6.3 to 6.5). Both sides come to the same result.
    pub(super) fn agree(
        &mut self,
        opened: &mut Opened,
        remote: &MailboxInfo,
    ) -> Result<Agreement, RunError> {
        let wanted = match self.options.sync_type {
            SyncType::Changed => counters_differ(&opened.info, remote),
            SyncType::Full | SyncType::State => true,
        };
        let guid = opened.info.mailbox_guid;
        let differs = opened.info.uid_validity != remote.uid_validity;
        let common = self.states.get(guid).last_common_uid;
        let is_behind = opened.info.uid_next.min(remote.uid_next) <= common;
        let is_void = common > 0 && (differs || (self.peer_is_ours && is_behind));
        let new_uid_validity =
            takes_uid_validity(&opened.info, remote) && self.direction != Direction::Send;
        if new_uid_validity {
            opened.mailbox.update_metadata(MetadataUpdate {
                uid_validity: Some(remote.uid_validity),
                // The peer counts on the UIDNEXT that it was told.
                min_uid_next: Some(opened.info.uid_next),
                ..MetadataUpdate::default()
            })?;
            opened.mailbox.commit()?;
        }
        if is_void && !self.peer_is_ours {
            return Ok(Agreement::Desync(UID_VALIDITY_CHANGED.into()));
        }
        if !wanted || self.options.tree_only {
            return Ok(Agreement::Equal);
        }
        if is_void || remote.ignore_state {
            self.forget_state(opened);
        }
        let status = opened.mailbox.status()?;
        if let Some(scan) = opened.scan.take() {
            return Ok(Agreement::Exchange(Box::new(Scan { status, ..scan })));
        }
        let state = self.states.get(guid);
        let scanned = match scan(opened.mailbox.as_mut(), status, &state) {
            Ok(scan) if !self.is_client && self.lacks_mail(&scan) => {
                Err(ScanError::Desync(LACKS_MAIL.into()))
            }
            scanned => scanned,
        };
        match scanned {
            Ok(scan) => Ok(Agreement::Exchange(Box::new(scan))),
            // The client reads our answer before it does anything.
            Err(ScanError::Desync(reason)) if self.peer_is_ours && !self.is_client => {
                info!(
                    "mailbox {}: the state is of no use: {reason}",
                    opened.mailbox.name()
                );
                self.forget_state(opened);
                let state = self.states.get(guid);
                let scan = scan(opened.mailbox.as_mut(), status, &state).map_err(scan_error)?;
                Ok(Agreement::Exchange(Box::new(scan)))
            }
            Err(ScanError::Desync(reason)) => Ok(Agreement::Desync(reason)),
            Err(ScanError::Storage(error)) => Err(error.into()),
        }
    }

    /// Whether this is a backup destination from which messages were expunged that its source, one
    /// of ours, does not mention because they are in the state. A Dovecot does not notice either.
    fn lacks_mail(&self, scan: &Scan) -> bool {
        let is_destination =
            self.direction == Direction::Receive && self.options.mode == Mode::Backup;
        let mut changes = scan.log.changes.values();
        self.peer_is_ours
            && is_destination
            && scan.is_stateful()
            && changes.any(|change| change.kind == LoggedKind::Expunge)
    }

    /// This mailbox is compared as a whole, here and, since it is told so, at the peer.
    fn forget_state(&mut self, opened: &mut Opened) {
        self.states.remove(opened.info.mailbox_guid);
        opened.scan = None;
        opened.info.ignore_state = true;
    }
}

/// Without a state a scan fails only where the store does.
pub(super) fn scan_error(error: ScanError) -> RunError {
    match error {
        ScanError::Storage(error) => error.into(),
        ScanError::Desync(reason) => RunError::local(MailErrorClass::Temporary, reason),
    }
}
