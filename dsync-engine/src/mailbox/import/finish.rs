//! The end of a mailbox: commit, counters, messages that came meanwhile
//! (`spec/mailbox-sync.md` 11).

use std::sync::Arc;

use dsync_proto::types::Uid;
use dsync_storage::{Mailbox, MetadataUpdate};

use super::{ImportResult, Importer};
use crate::mailbox::{MailboxError, Result};

impl Importer {
    /// Everything was sent and received: commits and reports. Drop the mailbox afterwards.
    pub fn finish(&mut self, mailbox: &mut dyn Mailbox) -> ImportResult {
        if self.delete.is_some() && self.error.is_none() {
            // Nothing that was decided so far is worth anything.
            return self.result();
        }
        let complete = match &self.error {
            Some(error) => Err(error.clone()),
            None => self.check_all_came(),
        };
        if let Err(error) = complete {
            let result = self.abort(mailbox);
            return ImportResult {
                failure: Some(error),
                ..result
            };
        }
        let counted = self.try_finish(mailbox).and_then(|()| {
            let failed = MailboxError::storage(&self.scan.name, "Sync failed");
            mailbox.status().map_err(failed)
        });
        match counted {
            Ok(status) => ImportResult {
                messages_count: status.messages,
                ..self.result()
            },
            Err(error) => {
                self.error = Some(error.clone());
                ImportResult {
                    failure: Some(error),
                    ..self.result()
                }
            }
        }
    }

    /// The session ended early: keeps what can be kept without a later run taking half of the
    /// work for deletions. Drop the mailbox afterwards.
    ///
    /// Killed in it: as if the session had ended after the last commit before.
    pub fn abort(&mut self, mailbox: &mut dyn Mailbox) -> ImportResult {
        mailbox.save_abort();
        self.receiving = None;
        let saved = !self.bodies.saved().is_empty();
        let safe = !saved || self.bodies.has_no_gap(&self.entries);
        if (saved || self.changed)
            && safe
            && self.delete.is_none()
            && let Err(error) = self.commit(mailbox)
        {
            tracing::warn!("{error}");
        }
        self.result()
    }

    fn try_finish(&mut self, mailbox: &mut dyn Mailbox) -> Result<()> {
        self.make_moves(mailbox)?;
        self.expunge_gone(mailbox)?;
        if self.unexpected.is_none() {
            self.update_metadata(mailbox)?;
        }
        self.commit(mailbox)?;
        if !self.bodies.saved().is_empty() {
            self.move_latecomers(mailbox)?;
        }
        self.move_undelivered(mailbox)
    }

    /// 11.2
    fn update_metadata(&self, mailbox: &mut dyn Mailbox) -> Result<()> {
        let (own, remote) = (&self.scan.status, &self.options.remote);
        let first_recent = remote
            .first_recent_uid
            .min(self.result_uid.saturating_add(1));
        let raise = |own: u64, wanted: u64| (wanted > own).then_some(wanted);
        let update = MetadataUpdate {
            uid_validity: None,
            min_uid_next: (remote.uid_next > own.uid_next).then_some(remote.uid_next),
            min_first_recent_uid: (first_recent > own.first_recent_uid).then_some(first_recent),
            min_highest_modseq: raise(own.highest_modseq, remote.highest_modseq),
            min_highest_pvt_modseq: raise(own.highest_pvt_modseq, remote.highest_pvt_modseq),
            cache_fields: Vec::new(),
        };
        if update == MetadataUpdate::default() {
            return Ok(());
        }
        mailbox
            .update_metadata(update)
            .map_err(MailboxError::storage(&self.scan.name, "Update failed"))
    }

    /// Only at the end: the peer may ask for what goes here.
    fn expunge_gone(&mut self, mailbox: &mut dyn Mailbox) -> Result<()> {
        for uid in &self.gone {
            self.counters.expunged += u64::from(!self.moved.contains_key(uid));
            let failed = MailboxError::storage(&self.scan.name, "Expunging failed");
            mailbox.expunge(*uid).map_err(failed)?;
        }
        Ok(())
    }

    pub(super) fn commit(&mut self, mailbox: &mut dyn Mailbox) -> Result<()> {
        let failed = MailboxError::storage(&self.scan.name, "Commit failed");
        let report = mailbox.commit().map_err(failed)?;
        self.conflicts += report.moved.len() + report.gone.len();
        let moved = report.moved.iter().map(|(wanted, _)| *wanted);
        self.lost_uids.extend(moved.chain(report.gone));
        self.changed = false;
        Ok(())
    }

    /// 11.3: messages that came here during the run took UIDs that the peer has for others.
    fn move_latecomers(&mut self, mailbox: &mut dyn Mailbox) -> Result<()> {
        let scan = Arc::clone(&self.scan);
        let failed = || MailboxError::storage(&scan.name, "Sync failed");
        let mut ours = self.bodies.saved().to_vec();
        ours.sort_unstable();
        let highest = ours.last().copied().unwrap_or(0);
        let is_ours = |uid: &Uid| ours.binary_search(uid).is_ok() && !self.lost_uids.contains(uid);
        let end = self.options.remote.uid_next.saturating_sub(1).max(highest);
        let messages = mailbox.messages().map_err(failed())?;
        let first = messages
            .position(scan.status.uid_next)
            .unwrap_or_else(|place| place);
        let latecomers: Vec<Uid> = (first..messages.len())
            .filter_map(|index| messages.get(index))
            .map(|row| row.uid)
            .take_while(|uid| *uid <= end)
            .filter(|uid| !is_ours(uid))
            .collect();
        if latecomers.is_empty() {
            return Ok(());
        }
        self.conflicts += latecomers.len();
        mailbox.reassign_uids(&latecomers).map_err(failed())?;
        self.commit(mailbox)
    }

    /// Messages that the peer could not get keep out of the common range.
    fn move_undelivered(&mut self, mailbox: &mut dyn Mailbox) -> Result<()> {
        if self.undelivered.is_empty() {
            return Ok(());
        }
        let failed = MailboxError::storage(&self.scan.name, "Sync failed");
        let messages = mailbox.messages().map_err(failed)?;
        let mut uids: Vec<Uid> = self
            .undelivered
            .iter()
            .map(|uid| self.moved.get(uid).copied().unwrap_or(*uid))
            .filter(|uid| messages.position(*uid).is_ok())
            .collect();
        if uids.is_empty() {
            return Ok(());
        }
        uids.sort_unstable();
        uids.dedup();
        let failed = MailboxError::storage(&self.scan.name, "Sync failed");
        mailbox.reassign_uids(&uids).map_err(failed)?;
        self.commit(mailbox)
    }

    fn result(&mut self) -> ImportResult {
        let status = &self.scan.status;
        let conflicts = self.conflicts;
        let (uid, modseq, pvt_modseq) = match conflicts {
            0 => (
                self.result_uid,
                self.options.remote.highest_modseq,
                self.options.remote.highest_pvt_modseq,
            ),
            _ => (
                status.uid_next.saturating_sub(1).min(self.result_uid),
                status.highest_modseq,
                status.highest_pvt_modseq,
            ),
        };
        let changes = match conflicts {
            0 => None,
            count => Some(format!("{count} UIDs changed due to UID conflicts")),
        };
        ImportResult {
            last_common_uid: uid,
            modseq,
            pvt_modseq,
            messages_count: status.messages,
            changes_during_sync: changes,
            require_full_resync: self.unexpected.is_some(),
            delete_mailbox: self.delete.clone(),
            failure: None,
            problems: std::mem::take(&mut self.problems),
            counters: self.counters,
        }
    }
}
