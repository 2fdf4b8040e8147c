//! Between two of ours: which mailboxes are equal is found out for all at once.
//!
//! A Dovecot client asks for one mailbox after the other and waits for each answer, a round trip
//! even where nothing has changed. Two of ours tell each other the counters and the digest of all
//! their mailboxes as soon as the trees are merged, as `B` items with an end of list, without
//! waiting. What is equal is not mentioned again.
//!
//! Nothing is locked meanwhile: a mailbox that changes after it was looked at is seen by the next
//! run, as if it had changed after this one.

use std::collections::HashMap;

use dsync_proto::items::{Item, MailboxInfo, SyncType};
use dsync_proto::types::Guid;
use dsync_storage::{OpenMode, StorageError};

use super::errors::unexpected;
use super::mailboxes::mailbox_counters;
use super::states::counters_differ;
use super::{Brain, Phase};
use crate::RunError;
use crate::tree::WalkEntry;

/// Both lists while they travel.
#[derive(Default)]
pub(super) struct Survey {
    /// Entries of the walk that were told.
    told: usize,
    own: HashMap<Guid, MailboxInfo>,
    own_done: bool,
    /// Only of mailboxes that are here too, so that the peer cannot make it large.
    peer: HashMap<Guid, MailboxInfo>,
    peer_done: bool,
}

impl Brain {
    /// Both sides come to the same answer.
    pub(super) fn has_survey(&self) -> bool {
        let by_counters = matches!(self.options.sync_type, SyncType::Changed | SyncType::State);
        self.peer_is_ours && by_counters && !self.options.tree_only
    }

    /// Tells the next mailbox; `false` if all are told.
    pub(super) fn step_survey(&mut self, survey: &mut Survey) -> bool {
        if survey.own_done {
            return false;
        }
        let Some(entry) = self.walk.get(survey.told) else {
            survey.own_done = true;
            self.out.push_back(Item::EndOfList);
            return true;
        };
        survey.told += 1;
        // What cannot be read now is found out when it is talked about.
        if let Ok(Some(info)) = self.look_at(&entry) {
            self.out.push_back(Item::Mailbox(info.clone()));
            survey.own.insert(info.mailbox_guid, info);
        }
        true
    }

    fn look_at(&mut self, entry: &WalkEntry) -> Result<Option<MailboxInfo>, StorageError> {
        let Some(mut mailbox) = self.open_mailbox_as(&entry.name, OpenMode::Read)? else {
            return Ok(None);
        };
        mailbox.refresh()?;
        let info = MailboxInfo {
            digest: self.digest(mailbox.as_mut())?,
            ..mailbox_counters(mailbox.as_mut())?
        };
        Ok(Some(info))
    }

    /// Takes one item of the peer's list.
    pub(super) fn receive_survey(
        &mut self,
        survey: &mut Survey,
        item: Item,
    ) -> Result<(), RunError> {
        match item {
            Item::Mailbox(info) if !survey.peer_done => {
                if self.walk.knows(info.mailbox_guid) {
                    survey.peer.insert(info.mailbox_guid, info);
                }
                Ok(())
            }
            Item::EndOfList if !survey.peer_done => {
                survey.peer_done = true;
                Ok(())
            }
            item => Err(unexpected(&item, "mailbox")),
        }
    }

    /// Goes on when both lists are through.
    pub(super) fn put_back_survey(&mut self, survey: Box<Survey>) {
        if !(survey.own_done && survey.peer_done) {
            self.phase = Phase::Survey(survey);
            return;
        }
        let Survey { mut own, peer, .. } = *survey;
        own.retain(|guid, info| {
            peer.get(guid)
                .is_some_and(|peer| !counters_differ(info, peer))
        });
        self.equal = own;
        self.phase = Phase::Mailboxes;
    }
}
