//! Requests and arriving bodies (`spec/mailbox-sync.md` 7.6 to 7.8).

use std::sync::Arc;

use dsync_proto::items::{Mail, MailRequest};
use dsync_proto::types::{Flags, MailGuid, Uid};
use dsync_storage::{Mailbox, MessageRef, SaveMessage};

use super::entries::NONE;
use super::plan::Planned;
use super::{Importer, MailBody};
use crate::Problem;
use crate::mailbox::{MailboxError, PeerFault, Result};

/// What came since the last commit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SinceCommit {
    messages: u32,
    bytes: u64,
}

/// A message that is being received, and the entries that it is for.
pub(super) struct Receiving {
    message: SaveMessage,
    entries: Vec<u32>,
}

impl Importer {
    /// The next request to send; `None` after the last one and before [`Importer::changes_end`].
    pub fn next_request(&mut self) -> Option<MailRequest> {
        if !self.options.want_requests || self.error.is_some() {
            return None;
        }
        let chain = self.bodies.next_request()?;
        let guid = self.entries.guid(chain);
        let guid = if guid.is_empty() {
            None
        } else {
            Some(MailGuid::new(guid))
        };
        Some(MailRequest {
            guid,
            uid: self.entries.remote_uid(chain),
        })
    }

    /// A message; if it has a stream, its body must follow, also if the answer is
    /// [`MailBody::Ignore`].
    pub fn mail_begin(&mut self, mailbox: &mut dyn Mailbox, mail: &Mail) -> Result<MailBody> {
        if self.error.is_some() {
            return Ok(MailBody::Ignore);
        }
        let result = self.try_mail_begin(mailbox, mail);
        self.remember(result)
    }

    fn try_mail_begin(&mut self, mailbox: &mut dyn Mailbox, mail: &Mail) -> Result<MailBody> {
        let guid = mail.guid.clone().unwrap_or_default();
        let chain = match guid.is_empty() {
            true => self.entries.chain_of_remote(mail.uid),
            false => self.entries.chain_of(guid.as_bytes()),
        };
        let Some(chain) = chain.filter(|chain| self.bodies.arrives(*chain)) else {
            if self.options.want_requests {
                tracing::error!(
                    "Mailbox {}: Remote sent unwanted message body for GUID={guid} UID={}",
                    self.scan.name,
                    mail.uid
                );
            }
            return Ok(MailBody::Ignore);
        };
        let entries = &self.entries;
        let is_open = |index: &u32| {
            entries
                .get(*index)
                .is_some_and(|entry| !entry.skip && entry.incoming != NONE)
        };
        let members = entries.members(chain).iter().copied();
        let open: Vec<u32> = members.filter(is_open).collect();
        if !mail.stream {
            tracing::info!(
                "Mailbox {}: remote message GUID={guid} was expunged",
                self.scan.name
            );
            for index in open {
                self.bodies.is_void();
                self.skip(index);
            }
            return Ok(MailBody::Ignore);
        }
        let first = open.first().copied().unwrap_or(NONE);
        let Some(message) = self.save_message(first, guid) else {
            return Ok(MailBody::Ignore);
        };
        let message = SaveMessage {
            received_date: mail.received_date,
            saved_date: mail.saved_date,
            pop3_uidl: mail.pop3_uidl.clone(),
            pop3_order: mail.pop3_order,
            ..message
        };
        let failed = MailboxError::storage(&self.scan.name, "Saving failed");
        mailbox.save_begin(message.clone()).map_err(failed)?;
        self.receiving = Some(Receiving {
            message,
            entries: open,
        });
        Ok(MailBody::Wanted)
    }

    pub(super) fn skip(&mut self, index: u32) {
        if let Some(entry) = self.entries.get_mut(index) {
            entry.skip = true;
        }
    }

    /// A piece of the body.
    pub fn mail_chunk(&mut self, mailbox: &mut dyn Mailbox, bytes: &[u8]) -> Result<()> {
        if self.error.is_some() || self.receiving.is_none() {
            return Ok(());
        }
        self.counters.bytes += bytes.len() as u64;
        self.since_commit.bytes += bytes.len() as u64;
        let failed = MailboxError::storage(&self.scan.name, "Saving failed");
        let result = mailbox.save_write(bytes).map_err(failed);
        self.remember(result)
    }

    /// The body is complete.
    pub fn mail_end(&mut self, mailbox: &mut dyn Mailbox) -> Result<()> {
        let Some(receiving) = self.receiving.take() else {
            return Ok(());
        };
        if self.error.is_some() {
            mailbox.save_abort();
            return Ok(());
        }
        let result = self.try_mail_end(mailbox, receiving);
        self.remember(result)
    }

    fn try_mail_end(&mut self, mailbox: &mut dyn Mailbox, receiving: Receiving) -> Result<()> {
        let scan = Arc::clone(&self.scan);
        let failed = || MailboxError::storage(&scan.name, "Saving failed");
        let Receiving { message, entries } = receiving;
        mailbox.save_finish().map_err(failed())?;
        for (place, index) in entries.into_iter().enumerate() {
            if place > 0 {
                let Some(instance) = self.save_message(index, message.guid.clone()) else {
                    continue;
                };
                let instance = SaveMessage {
                    received_date: message.received_date,
                    saved_date: message.saved_date,
                    pop3_uidl: message.pop3_uidl.clone(),
                    pop3_order: message.pop3_order,
                    ..instance
                };
                mailbox.save_another(instance).map_err(failed())?;
            }
            self.counters.saved += 1;
            self.since_commit.messages += 1;
            self.mark_saved(index);
        }
        self.commit_if_due(mailbox)
    }

    /// An entry has its message.
    pub(super) fn mark_saved(&mut self, index: u32) {
        if let Some(entry) = self.entries.get_mut(index) {
            entry.skip = true;
            self.bodies.is_saved(entry.final_uid);
        }
    }

    /// 7.8: in the middle only what leaves no gap.
    ///
    /// Killed after it: the next run finds the lower part of what this one wanted, and goes on.
    fn commit_if_due(&mut self, mailbox: &mut dyn Mailbox) -> Result<()> {
        let (interval, since) = (self.options.commit, self.since_commit);
        if since.messages < interval.messages.max(1) && since.bytes < interval.bytes {
            return Ok(());
        }
        if !self.bodies.has_no_gap(&self.entries) {
            return Ok(());
        }
        self.since_commit = SinceCommit::default();
        self.commit(mailbox)
    }

    /// Local messages that get another UID. Only at the end: until then the peer may ask for them
    /// under the old one, and a message must never be committed under both.
    pub(super) fn make_moves(&mut self, mailbox: &mut dyn Mailbox) -> Result<()> {
        for planned in self.bodies.moves() {
            self.make_move(mailbox, planned)?;
        }
        Ok(())
    }

    /// 7.4 step 3. A message that is only here and cannot be read stays where it is, and is told.
    fn make_move(&mut self, mailbox: &mut dyn Mailbox, planned: Planned) -> Result<()> {
        let scan = Arc::clone(&self.scan);
        let (old, new) = (planned.from, planned.uid);
        let Some(row) = scan.messages.by_uid(old) else {
            self.bodies.is_void();
            return Ok(());
        };
        match mailbox.copy(old, moved_message(&row, new)) {
            Ok(true) => {
                self.gone.insert(old);
                self.moved.insert(old, new);
                self.counters.copied += 1;
                self.bodies.is_saved(new);
            }
            Ok(false) => self.bodies.is_void(),
            Err(error) if !planned.shared && mailbox.open_message(old).is_err() => {
                self.problems.push(Problem {
                    mailbox: scan.name.clone(),
                    uid: old,
                    guid: row.guid.to_owned(),
                    reason: format!("cannot be read, it stays as it is: {error}"),
                });
                self.undelivered.push(old);
                self.bodies.is_void();
            }
            Err(error) => return Err(MailboxError::storage(&scan.name, "Copying failed")(error)),
        }
        Ok(())
    }

    /// Every body that is needed must have come.
    pub(super) fn check_all_came(&self) -> Result<()> {
        if self.receiving.is_some() {
            return Err(MailboxError::peer(
                &self.scan.name,
                PeerFault::IncompleteBody,
            ));
        }
        let Some((chain, more)) = self.bodies.missing() else {
            return Ok(());
        };
        let fault = PeerFault::MailsMissing {
            guid: MailGuid::new(self.entries.guid(chain)),
            uid: self.entries.remote_uid(chain),
            more,
        };
        Err(MailboxError::peer(&self.scan.name, fault))
    }
}

/// The same message under another UID.
pub(super) fn moved_message(row: &MessageRef<'_>, uid: Uid) -> SaveMessage {
    let keywords = row.keywords.iter();
    SaveMessage {
        uid,
        guid: MailGuid::new(row.guid.to_vec()),
        flags: row.flags & Flags::WIRE,
        keywords: keywords.map(|keyword| keyword.to_vec().into()).collect(),
        min_modseq: 0,
        min_pvt_modseq: 0,
        received_date: 0,
        saved_date: 0,
        pop3_uidl: Default::default(),
        pop3_order: 0,
    }
}
