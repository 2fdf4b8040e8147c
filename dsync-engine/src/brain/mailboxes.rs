//! From one mailbox to the next: what both sides say about it before messages are exchanged
//! (`spec/brain-and-tree.md` 6).

use std::time::Duration;

use dsync_proto::items::{Item, MailboxInfo, MailboxState, SyncType};
use dsync_proto::types::{Guid, MailErrorClass, ModSeq};
use dsync_storage::{Created, Mailbox, MetadataUpdate, OpenMode, StorageError};
use tracing::{debug, info, warn};

use super::agreement::{Agreement, scan_error};
use super::mails::{MailExchange, Terms};
use super::states::{counters_differ, digest, is_unchanged};
use super::{Brain, Opened, Phase};
use crate::mailbox::{CommitInterval, ExportOptions, HashSettings, ImportOptions, Scan, scan};
use crate::options::{Direction, Mode};
use crate::tree::{WalkEntry, adopt, is_absent};
use crate::{Problem, RunError};

/// Wait for the lock of a mailbox when no other is asked for.
const MAILBOX_LOCK_TIMEOUT: Duration = Duration::from_secs(30);

impl Brain {
    /// Client: opens the next mailbox that must be talked about and sends its `B`, or ends the
    /// list of mailboxes.
    pub(super) fn next_mailbox(&mut self) -> Result<(), RunError> {
        while let Some(entry) = self.walk.next() {
            self.environment.progress.mailboxes_done.add(1);
            if let Some(info) = self.equal.remove(&entry.guid) {
                self.states.insert_equal(&info);
                continue;
            }
            if self.start_mailbox(&entry) {
                return Ok(());
            }
        }
        self.environment.progress.set_current_mailbox("");
        self.out.push_back(Item::EndOfList);
        self.phase = Phase::AwaitFinish;
        Ok(())
    }

    /// Opens a mailbox and sends its `B`; `false` if there is nothing to say about it.
    fn start_mailbox(&mut self, entry: &WalkEntry) -> bool {
        self.environment.progress.set_current_mailbox(&entry.name);
        match self.open_for_client(entry) {
            Ok(Some(mut opened)) => {
                match self.check_state(entry, &mut opened) {
                    Ok(true) => {}
                    Ok(false) => return false,
                    Err(error) => {
                        self.note_problem(&entry.name, &error);
                        return false;
                    }
                }
                if self.is_found_equal(&opened.info) {
                    self.states.insert_skipped(&opened.info);
                    return false;
                }
                // What `-v` shows of a run.
                info!("mailbox {}", entry.name);
                debug!(mailbox = entry.name, guid = %opened.info.mailbox_guid, "next mailbox");
                self.out.push_back(Item::Mailbox(opened.info.clone()));
                self.phase = Phase::AwaitMailbox(Box::new(opened));
                true
            }
            Ok(None) => false,
            Err(error) => {
                self.note_problem(&entry.name, &error);
                false
            }
        }
    }

    /// Whether the answer of a Dovecot server to our `B` is known, and is that nothing is to do.
    fn is_found_equal(&self, info: &MailboxInfo) -> bool {
        let answer = self.findings.as_ref();
        let answer = answer.and_then(|findings| findings.get(&info.mailbox_guid));
        answer.is_some_and(|answer| !counters_differ(info, answer))
    }

    /// `None` if there is nothing to say: it vanished, or the saved state still fits.
    fn open_for_client(&mut self, entry: &WalkEntry) -> Result<Option<Opened>, StorageError> {
        let Some(mut mailbox) = self.open_mailbox(&entry.name)? else {
            return Ok(None);
        };
        if self.is_unchanged(entry, &mailbox_counters(mailbox.as_mut())?) {
            return Ok(None);
        }
        mailbox.lock_for_sync(self.mailbox_lock_timeout())?;
        mailbox.refresh()?;
        let mut info = mailbox_info(mailbox.as_mut())?;
        if self.is_unchanged(entry, &info) {
            return Ok(None);
        }
        info.digest = self.digest(mailbox.as_mut())?;
        Ok(Some(Opened {
            mailbox,
            info,
            entry: Some(entry.clone()),
            scan: None,
        }))
    }

    /// Stateful runs leave out what is as the state says: here, and as far as its tree told, at
    /// the peer. Of one of ours we know it better.
    fn is_unchanged(&self, entry: &WalkEntry, info: &MailboxInfo) -> bool {
        if self.options.sync_type != SyncType::State {
            return false;
        }
        let state = self.states.get(info.mailbox_guid);
        // A destination that keeps its own mail stays different, which is nothing to look at.
        let keeps_more = self.direction == Direction::Send && self.options.mode == Mode::OneWay;
        if self.has_survey() && !keeps_more {
            return false;
        }
        let peer_unchanged = entry.remote.is_some_and(|peer| {
            let next = state.last_common_uid.saturating_add(1);
            peer.uid_validity == state.last_uidvalidity
                && (peer.uid_next == next || (keeps_more && peer.uid_next > next))
        });
        peer_unchanged && is_unchanged(&state, info)
    }

    /// Between two of ours a mailbox is skipped only if it is equal, not already when a change on
    /// each side has left the counters equal.
    pub(super) fn digest(&self, mailbox: &mut dyn Mailbox) -> Result<u64, StorageError> {
        match self.has_survey() {
            true => Ok(digest(mailbox.messages()?.as_ref())),
            false => Ok(0),
        }
    }

    fn open_mailbox(&mut self, name: &str) -> Result<Option<Box<dyn Mailbox>>, StorageError> {
        let mode = match self.direction {
            Direction::Send => OpenMode::Read,
            Direction::Both | Direction::Receive => OpenMode::Write,
        };
        self.open_mailbox_as(name, mode)
    }

    pub(super) fn open_mailbox_as(
        &mut self,
        name: &str,
        mode: OpenMode,
    ) -> Result<Option<Box<dyn Mailbox>>, StorageError> {
        let Some(store) = self.account.store_for(name) else {
            return Ok(None);
        };
        match store.open(name, mode) {
            Ok(mailbox) => Ok(Some(mailbox)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn mailbox_lock_timeout(&self) -> Duration {
        match self.options.lock_timeout {
            0 => MAILBOX_LOCK_TIMEOUT,
            seconds => Duration::from_secs(seconds.into()),
        }
    }

    /// Client: the server's answer to our `B`.
    pub(super) fn mailbox_answer(
        &mut self,
        opened: Opened,
        answer: &MailboxInfo,
    ) -> Result<(), RunError> {
        let mut opened = opened;
        let guid = opened.info.mailbox_guid;
        self.phase = Phase::Mailboxes;
        if answer.mailbox_guid != guid {
            return Err(RunError::peer(format!(
                "Remote sent mailbox with a wrong GUID: {} instead of {guid}",
                answer.mailbox_guid
            )));
        }
        if answer.mailbox_ignore {
            return Ok(());
        }
        if answer.mailbox_lost {
            if self.adopt_guid_of_peer(opened)? {
                return Ok(());
            }
            self.run_again(format!(
                "Remote lost mailbox GUID {guid} (maybe it was just deleted?)"
            ));
            self.outcome.require_full_resync = true;
            return Ok(());
        }
        match self.agree(&mut opened, answer)? {
            Agreement::Exchange(scan) => self.start_exchange(opened, answer, *scan),
            Agreement::Equal => {
                self.states.insert_skipped(&opened.info);
                Ok(())
            }
            // The server has begun to send already.
            Agreement::Desync(reason) => {
                self.outcome.require_full_resync = true;
                Err(RunError::local(
                    MailErrorClass::Temporary,
                    format!(
                        "Failed to do incremental sync for mailbox {}, run again without the \
                         state ({reason})",
                        opened.mailbox.name()
                    ),
                ))
            }
        }
    }

    /// Client: the peer kept its own GUID of a mailbox that both sides had made by themselves.
    /// Takes it and talks about the mailbox once more; `false` if that is not the reason.
    fn adopt_guid_of_peer(&mut self, opened: Opened) -> Result<bool, RunError> {
        let guid = opened.info.mailbox_guid;
        let alias = self.guid_aliases.iter().position(|alias| alias.own == guid);
        let (Some(index), Some(entry)) = (alias, &opened.entry) else {
            return Ok(false);
        };
        let entry = entry.clone();
        let alias = self.guid_aliases.swap_remove(index);
        drop(opened);
        adopt(&mut self.account, &alias)?;
        Ok(self.start_mailbox(&entry))
    }

    /// Server: the client wants to talk about this mailbox.
    pub(super) fn answer_mailbox(&mut self, remote: &MailboxInfo) -> Result<(), RunError> {
        let guid = remote.mailbox_guid;
        let Some(mut opened) = self.open_for_server(guid)? else {
            let ignore = self.direction == Direction::Send && self.options.mode == Mode::OneWay;
            if !ignore {
                self.run_again(format!("Mailbox GUID {guid} was lost"));
            }
            self.answer_lost(guid, ignore);
            return Ok(());
        };
        self.environment.progress.mailboxes_done.add(1);
        self.environment
            .progress
            .set_current_mailbox(opened.mailbox.name());
        match self.agree(&mut opened, remote)? {
            Agreement::Exchange(scan) => {
                self.out.push_back(Item::Mailbox(opened.info.clone()));
                self.start_exchange(opened, remote, *scan)
            }
            Agreement::Equal => {
                self.out.push_back(Item::Mailbox(opened.info));
                Ok(())
            }
            Agreement::Desync(reason) => {
                let name = opened.mailbox.name();
                warn!("incremental sync of mailbox {name} is impossible ({reason})");
                self.run_again(format!("Incremental sync failed: {reason}"));
                self.outcome.require_full_resync = true;
                self.answer_lost(guid, false);
                Ok(())
            }
        }
    }

    fn answer_lost(&mut self, guid: Guid, ignore: bool) {
        self.out.push_back(Item::Mailbox(MailboxInfo {
            mailbox_guid: guid,
            mailbox_lost: !ignore,
            mailbox_ignore: ignore,
            ..MailboxInfo::default()
        }));
    }

    /// A mailbox that cannot be opened is answered as lost: the others go on.
    fn open_for_server(&mut self, guid: Guid) -> Result<Option<Opened>, RunError> {
        if let Some(index) = self
            .guid_aliases
            .iter()
            .position(|alias| alias.wanted == guid)
        {
            adopt(&mut self.account, &self.guid_aliases.swap_remove(index))?;
        }
        let Some((_, name)) = self.account.find_guid(guid)? else {
            return Ok(None);
        };
        let timeout = self.mailbox_lock_timeout();
        let opened = self.open_mailbox(&name).and_then(|mailbox| {
            let Some(mut mailbox) = mailbox else {
                return Ok(None);
            };
            mailbox.lock_for_sync(timeout)?;
            mailbox.refresh()?;
            let mut info = mailbox_info(mailbox.as_mut())?;
            info.digest = self.digest(mailbox.as_mut())?;
            Ok(Some(Opened {
                mailbox,
                info,
                entry: None,
                scan: None,
            }))
        });
        match opened {
            Ok(opened) => Ok(opened),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => {
                self.note_problem(&name, &error);
                Ok(None)
            }
        }
    }

    fn start_exchange(
        &mut self,
        opened: Opened,
        remote: &MailboxInfo,
        scan: Scan,
    ) -> Result<(), RunError> {
        let Opened {
            mailbox,
            info,
            entry,
            ..
        } = opened;
        let direction = self.direction;
        let terms = Terms {
            direction,
            requests: self.requests,
            attributes: self.peer.minor >= 1,
        };
        let save_guids =
            |info: &MailboxInfo| info.have_save_guids || (self.peer.minor < 2 && info.have_guids);
        let (own, peer) = (&info, remote);
        let export_guids = save_guids(peer)
            && (own.have_save_guids || (direction == Direction::Send && own.have_guids));
        let import_guids = own.have_save_guids
            && (save_guids(peer) || (direction == Direction::Receive && peer.have_guids));
        let hashes = HashSettings {
            headers: self.options.hashed_headers.clone(),
            version: if self.peer.minor >= 4 { 3 } else { 1 },
        };
        let filters = &self.options.filters;
        let export = ExportOptions {
            mails_have_guids: export_guids,
            send_all_unasked: !self.requests,
            with_received: filters.by_date(),
            with_virtual_size: filters.max_size > 0,
            no_header_hashes: peer.messages_count == 0,
            hashes: hashes.clone(),
            peer_is_dovecot: !self.peer_is_ours,
        };
        let import = ImportOptions {
            is_master: self.is_client,
            revert: direction == Direction::Receive && self.options.mode == Mode::Backup,
            mails_have_guids: import_guids,
            guid128_only: own.have_only_guid128 || peer.have_only_guid128,
            want_requests: self.requests,
            remote: remote.clone(),
            filters: filters.clone(),
            safe_filters: true,
            hashes,
            empty_hdr_workaround: self.options.empty_hdr_workaround,
            commit: CommitInterval::default(),
        };
        let progress = std::sync::Arc::clone(&self.environment.progress);
        progress.mailboxes_synced.add(1);
        let is_renewed = entry.is_some_and(|entry| entry.apart)
            || self.renewed.contains(&info.mailbox_guid)
            || info.uid_validity != remote.uid_validity;
        let mut exchange = MailExchange::new(mailbox, info, scan, terms, export, import, progress)?;
        exchange.has_nothing_in_common = is_renewed;
        self.phase = Phase::Mails(Box::new(exchange));
        Ok(())
    }

    /// Makes the destination of a backup anew where Dovecot would delete it and fail.
    ///
    /// Killed after the deletion: the next run finds no mailbox, or an empty one, and fills it.
    pub(super) fn empty_and_restart(
        &mut self,
        exchange: MailExchange,
    ) -> Result<MailExchange, RunError> {
        let name = exchange.mailbox.name().to_owned();
        let guid = exchange.local.mailbox_guid;
        let uid_validity = exchange.remote_uid_validity();
        warn!("mailbox {name} differs from its source; emptying and refilling it");
        let timeout = self.mailbox_lock_timeout();
        let Some(store) = self.account.store_for(&name) else {
            return Err(RunError::local(
                MailErrorClass::NotFound,
                format!("no mailbox {name}"),
            ));
        };
        exchange.restart(|| {
            store.delete_mailbox(guid)?;
            if store.create_mailbox(&name, Some(guid), Some(uid_validity))? == Created::Existed {
                store.set_guid(&name, guid)?;
            }
            let mut mailbox = store.open(&name, OpenMode::Write)?;
            mailbox.lock_for_sync(timeout)?;
            let status = mailbox.refresh()?;
            if status.uid_validity != uid_validity {
                let uid_validity = Some(uid_validity);
                mailbox.update_metadata(MetadataUpdate {
                    uid_validity,
                    ..Default::default()
                })?;
                mailbox.commit()?;
            }
            let status = mailbox.status()?;
            let state = MailboxState {
                mailbox_guid: guid,
                ..MailboxState::default()
            };
            let scan = scan(mailbox.as_mut(), status, &state).map_err(scan_error)?;
            Ok((mailbox, scan))
        })
    }

    /// A copy that stays different until the next run, which may go by counters only.
    fn differ_in_counters(&mut self, name: &str, highest: ModSeq) -> Result<(), RunError> {
        let Some(mut mailbox) = self.open_mailbox(name)? else {
            return Ok(());
        };
        mailbox.refresh()?;
        mailbox.update_metadata(MetadataUpdate {
            min_highest_modseq: Some(highest.saturating_add(1)),
            ..MetadataUpdate::default()
        })?;
        mailbox.commit()?;
        Ok(())
    }

    /// When everything of a mailbox is through: commit, tell the result.
    pub(super) fn finish_exchange(&mut self, exchange: &mut MailExchange) -> Result<(), RunError> {
        let (mut state, result) = exchange.finish()?;
        let name = exchange.mailbox.name().to_owned();
        self.note_results(&result);
        if result.require_full_resync {
            self.outcome.require_full_resync = true;
        }
        if let Some(delete) = result.delete_mailbox {
            self.outcome.require_full_resync = true;
            self.run_again(format!(
                "mailbox {name} cannot be made equal incrementally: {delete}"
            ));
            let highest = exchange.local.highest_modseq.max(result.modseq);
            self.differ_in_counters(&name, highest)?;
        }
        if let Some(reason) = result.changes_during_sync {
            self.run_again(format!("mailbox {name}: {reason}"));
        }
        if self.outcome.require_full_resync {
            state.last_uidvalidity = 0;
            state.changes_during_sync = true;
        }
        self.own_state = Some(state);
        self.out.push_back(Item::State(state));
        Ok(())
    }

    /// The peer's result for the mailbox that we finished.
    pub(super) fn peer_state(&mut self, own: &MailboxState, peer: &MailboxState) {
        if peer.mailbox_guid != own.mailbox_guid {
            // Dovecot would abort; nothing depends on it but the next incremental run.
            warn!(
                "the remote sent the state of mailbox {} instead of {}",
                peer.mailbox_guid, own.mailbox_guid
            );
            self.outcome.require_full_resync = true;
            return;
        }
        if peer.changes_during_sync {
            self.run_again("Remote notified that changes happened during sync".to_owned());
        }
        let state = super::states::common_state(own, peer);
        self.states.insert(MailboxState {
            changes_during_sync: false,
            ..state
        });
    }

    pub(super) fn note_problem(&mut self, mailbox: &str, error: &StorageError) {
        self.outcome.problems.push(Problem {
            mailbox: mailbox.to_owned(),
            uid: 0,
            guid: Default::default(),
            reason: error.message.clone(),
        });
    }
}

/// A mailbox as `B` tells it, under its own GUID.
pub(super) fn mailbox_info(mailbox: &mut dyn Mailbox) -> Result<MailboxInfo, StorageError> {
    Ok(MailboxInfo {
        cache_fields: mailbox.cache_fields()?,
        ..mailbox_counters(mailbox)?
    })
}

/// The same without the cache decisions, which stand in a file of their own.
pub(super) fn mailbox_counters(mailbox: &mut dyn Mailbox) -> Result<MailboxInfo, StorageError> {
    let status = mailbox.status()?;
    let capabilities = mailbox.capabilities();
    Ok(MailboxInfo {
        mailbox_guid: status.guid,
        uid_validity: status.uid_validity,
        uid_next: status.uid_next,
        messages_count: status.messages,
        first_recent_uid: status.first_recent_uid,
        highest_modseq: status.highest_modseq,
        highest_pvt_modseq: status.highest_pvt_modseq,
        mailbox_lost: false,
        mailbox_ignore: false,
        cache_fields: Vec::new(),
        have_guids: capabilities.have_guids,
        have_save_guids: capabilities.have_save_guids,
        have_only_guid128: capabilities.have_only_guid128,
        digest: 0,
        ignore_state: false,
    })
}
