//! Requests and arriving bodies (`spec/mailbox-sync.md` 7.6 to 7.8).

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use dsync_proto::items::{Mail, MailRequest};
use dsync_proto::types::{MailGuid, Uid};
use dsync_storage::{Mailbox, SaveMessage};

use super::entries::{Entries, NONE};
use super::{Importer, MailBody};
use crate::mailbox::{MailboxError, PeerFault, Result};

/// Largest body that is kept in memory because it is saved more than once, in octets. Further
/// instances of a larger one are left to the next run.
const MAX_SPOOL: usize = 64 * 1024 * 1024;

/// What is wanted from the peer, and what of the plan is saved.
#[derive(Default)]
pub(super) struct Bodies {
    requests: VecDeque<u32>,
    /// Chains whose body has not come yet.
    waiting: BTreeSet<u32>,
    /// Entries that are saved in this run, by UID.
    plan: Vec<(Uid, u32)>,
    /// That many from the start of the plan are saved.
    prefix: usize,
    saved: usize,
    /// Local messages move to other UIDs: then everything must become visible at once.
    moves: bool,
    messages_since_commit: u32,
    bytes_since_commit: u64,
    /// The message that is being received.
    current: Option<Current>,
    /// Something was committed before the end.
    pub(super) committed: bool,
}

/// A message that is being received, and the entries that it is for.
struct Current {
    message: SaveMessage,
    entries: Vec<u32>,
}

/// The body of a message that is saved more than once.
#[derive(Default)]
pub(super) struct Spool {
    bytes: Vec<u8>,
    wanted: bool,
    too_large: bool,
}

impl Bodies {
    pub(super) fn want(&mut self, chain: u32) {
        self.requests.push_back(chain);
        self.waiting.insert(chain);
    }

    /// Notes an entry that is saved in this run, or was just now.
    pub(super) fn plan(&mut self, entries: &Entries, index: u32, saved: bool) {
        if let Some(entry) = entries.get(index) {
            self.plan.push((entry.final_uid, index));
            self.saved += usize::from(saved);
        }
    }

    pub(super) fn planned(&mut self, moves: bool) {
        self.plan.sort_unstable();
        self.moves = moves;
    }

    pub(super) fn next_request(&mut self, entries: &Entries) -> Option<MailRequest> {
        let chain = self.requests.pop_front()?;
        let guid = entries.guid(chain);
        Some(MailRequest {
            guid: (!guid.is_empty()).then(|| MailGuid::new(guid)),
            uid: entries.remote_uid(chain),
        })
    }

    /// The first chain whose body never came, and how many more there are.
    pub(super) fn missing(&self) -> Option<(u32, usize)> {
        Some((*self.waiting.first()?, self.waiting.len() - 1))
    }

    /// Whether exactly the lowest UIDs of the plan are saved. A gap would look to the next run as
    /// if the missing message had been expunged here, and the peer would lose it.
    pub(super) fn is_safe_to_commit(&mut self, entries: &Entries) -> bool {
        let is_saved = |place: &(Uid, u32)| entries.get(place.1).is_some_and(|entry| entry.skip);
        while self.plan.get(self.prefix).is_some_and(is_saved) {
            self.prefix += 1;
        }
        !self.moves && self.prefix == self.saved
    }

    pub(super) fn has_saved(&self) -> bool {
        self.saved > 0
    }

    /// Highest UID of a saved message, and the UIDs of all.
    pub(super) fn saved_uids(&self, entries: &Entries) -> BTreeSet<Uid> {
        let saved = self
            .plan
            .iter()
            .filter(|place| entries.get(place.1).is_some_and(|entry| entry.skip));
        saved.map(|place| place.0).collect()
    }
}

impl Importer {
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
        let Some(chain) = chain.filter(|chain| self.bodies.waiting.remove(chain)) else {
            if self.options.want_requests {
                tracing::error!(
                    "Mailbox {}: Remote sent unwanted message body for GUID={guid} UID={}",
                    self.scan.name,
                    mail.uid
                );
            }
            return Ok(MailBody::Ignore);
        };
        let entries: Vec<u32> = self
            .entries
            .members(chain)
            .filter(|index| {
                self.entries
                    .get(*index)
                    .is_some_and(|e| !e.skip && e.incoming != NONE)
            })
            .collect();
        if !mail.stream {
            tracing::info!(
                "Mailbox {}: remote message GUID={guid} was expunged",
                self.scan.name
            );
            self.forget(&entries);
            return Ok(MailBody::Ignore);
        }
        let first = entries.first().copied().unwrap_or(NONE);
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
        let scan = Arc::clone(&self.scan);
        mailbox
            .save_begin(message.clone())
            .map_err(MailboxError::storage(&scan.name, "Saving failed"))?;
        self.spool = super::Spool {
            wanted: entries.len() > 1,
            ..Default::default()
        };
        self.bodies.current = Some(Current { message, entries });
        Ok(MailBody::Wanted)
    }

    /// Entries that will not be saved: they leave the plan, so that they are no gap.
    fn forget(&mut self, indexes: &[u32]) {
        for index in indexes {
            if let Some(entry) = self.entries.get_mut(*index) {
                entry.skip = true;
            }
        }
        let prefix = self.bodies.prefix;
        self.bodies.plan.retain(|place| !indexes.contains(&place.1));
        self.bodies.prefix = prefix.min(self.bodies.plan.len());
    }

    /// A piece of the body.
    pub fn mail_chunk(&mut self, mailbox: &mut dyn Mailbox, bytes: &[u8]) -> Result<()> {
        if self.error.is_some() || self.bodies.current.is_none() {
            return Ok(());
        }
        self.counters.bytes += bytes.len() as u64;
        self.bodies.bytes_since_commit += bytes.len() as u64;
        if self.spool.wanted {
            if self.spool.bytes.len() + bytes.len() > MAX_SPOOL {
                self.spool.too_large = true;
            } else {
                self.spool.bytes.extend_from_slice(bytes);
            }
        }
        let name = &self.scan.name;
        let result = mailbox
            .save_write(bytes)
            .map_err(MailboxError::storage(name, "Saving failed"));
        self.remember(result)
    }

    /// The body is complete.
    pub fn mail_end(&mut self, mailbox: &mut dyn Mailbox) -> Result<()> {
        let Some(current) = self.bodies.current.take() else {
            return Ok(());
        };
        if self.error.is_some() {
            mailbox.save_abort();
            return Ok(());
        }
        let result = self.try_mail_end(mailbox, current);
        self.remember(result)
    }

    fn try_mail_end(&mut self, mailbox: &mut dyn Mailbox, current: Current) -> Result<()> {
        let scan = Arc::clone(&self.scan);
        let failed = || MailboxError::storage(&scan.name, "Saving failed");
        mailbox.save_finish().map_err(failed())?;
        let mut entries = current.entries.into_iter();
        if let Some(first) = entries.next() {
            self.mark_saved(first);
        }
        for index in entries {
            if self.spool.too_large {
                self.run_again_for_instances();
                self.forget(&[index]);
                continue;
            }
            let Some(message) = self.save_message(index, current.message.guid.clone()) else {
                continue;
            };
            let message = SaveMessage {
                received_date: current.message.received_date,
                saved_date: current.message.saved_date,
                pop3_uidl: current.message.pop3_uidl.clone(),
                pop3_order: current.message.pop3_order,
                ..message
            };
            mailbox.save_begin(message).map_err(failed())?;
            mailbox.save_write(&self.spool.bytes).map_err(failed())?;
            mailbox.save_finish().map_err(failed())?;
            self.mark_saved(index);
        }
        self.spool = super::Spool::default();
        self.commit_if_due(mailbox)
    }

    fn run_again_for_instances(&mut self) {
        self.instances_left = true;
    }

    fn mark_saved(&mut self, index: u32) {
        self.counters.saved += 1;
        self.bodies.saved += 1;
        self.bodies.messages_since_commit += 1;
        if let Some(entry) = self.entries.get_mut(index) {
            entry.skip = true;
        }
    }

    /// 7.8: in the middle only what leaves no gap.
    fn commit_if_due(&mut self, mailbox: &mut dyn Mailbox) -> Result<()> {
        let interval = self.options.commit;
        let due = self.bodies.messages_since_commit >= interval.messages.max(1)
            || self.bodies.bytes_since_commit >= interval.bytes;
        if !due || !self.bodies.is_safe_to_commit(&self.entries) {
            return Ok(());
        }
        self.bodies.messages_since_commit = 0;
        self.bodies.bytes_since_commit = 0;
        self.bodies.committed = true;
        self.commit(mailbox)
    }

    /// Every body that was asked for must have come.
    pub(super) fn check_all_came(&self) -> Result<()> {
        let Some((chain, more)) = self.bodies.missing().filter(|_| self.options.want_requests)
        else {
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
