//! The merge pass over messages above the common point (`spec/mailbox-sync.md` 7.1), and what is
//! done with messages that are here already (7.4).

use std::cmp::Ordering;
use std::sync::Arc;

use dsync_proto::header_hash::HeaderHash;
use dsync_proto::items::Change;
use dsync_proto::types::{MailGuid, Uid};
use dsync_storage::{Mailbox, MessageRef, SaveMessage};

use super::Importer;
use super::bodies::moved_message;
use super::entries::{Kind, NONE};
use crate::mailbox::{MailboxError, Result};

/// A message of the peer in the merge pass, as small as it can be kept.
pub(super) struct Remote {
    pub(super) uid: Uid,
    guid: MailGuid,
    hash: Option<HeaderHash>,
    /// Its flags, keywords and modseqs in [`Importer::incoming`].
    incoming: u32,
}

impl Importer {
    /// Keeps what is needed of a new message of the peer.
    pub(super) fn remote_of(&mut self, change: &Change) -> Remote {
        let hash = change.hdr_hash.as_ref();
        Remote {
            uid: change.uid,
            guid: change.guid.clone().unwrap_or_default(),
            hash: hash.and_then(|hash| HeaderHash::from_hex(hash)),
            incoming: self.incoming.push(change),
        }
    }

    /// A message of the peer above the common point.
    pub(super) fn save(&mut self, mailbox: &mut dyn Mailbox, remote: &Remote) -> Result<()> {
        while self.delete.is_none() && !self.merge_step(mailbox, Some(remote))? {}
        Ok(())
    }

    /// Takes the smaller of the local and the remote message, or both if they are the same;
    /// returns whether the remote one is used up.
    pub(super) fn merge_step(
        &mut self,
        mailbox: &mut dyn Mailbox,
        remote: Option<&Remote>,
    ) -> Result<bool> {
        let scan = Arc::clone(&self.scan);
        self.common.advance(&scan, 0);
        let local = self
            .common
            .current(&scan)
            .and_then(|uid| scan.messages.by_uid(uid));
        match (local, remote) {
            (None, None) => Ok(true),
            (None, Some(remote)) => {
                self.only_there(remote);
                Ok(true)
            }
            (Some(local), None) => {
                self.only_here(&local, true);
                Ok(false)
            }
            (Some(local), Some(remote)) => {
                match self.compare(mailbox, &local, remote)? {
                    Ordering::Less => {
                        self.only_here(&local, false);
                        return Ok(false);
                    }
                    Ordering::Greater => self.only_there(remote),
                    Ordering::Equal => self.on_both_sides(&local, remote),
                }
                Ok(true)
            }
        }
    }

    /// `at_end`: the peer's list is complete.
    fn only_here(&mut self, local: &MessageRef<'_>, at_end: bool) {
        self.common.use_up();
        if self.options.revert {
            if at_end && !self.restarted && local.uid >= self.options.remote.uid_next {
                self.must_delete(format!(
                    "UID={} GUID={} exists only locally",
                    local.uid, local.guid
                ));
            }
            self.gone.insert(local.uid);
            return;
        }
        self.add_entry(self.local_key(local).to_vec(), Kind::Local(local.uid), NONE);
    }

    fn only_there(&mut self, remote: &Remote) {
        if self.options.revert && remote.uid < self.scan.status.uid_next {
            if !self.restarted {
                self.must_delete(format!(
                    "UID={} already exists locally for a different mail",
                    remote.uid
                ));
                return;
            }
            // Emptied, but its UIDs did not start anew: a backup with other UIDs, and a run that
            // must be repeated, are better than an empty one.
            self.conflicts += 1;
        }
        let guid = remote.guid.as_bytes().to_vec();
        self.add_entry(guid, Kind::Remote(remote.uid), remote.incoming);
    }

    fn on_both_sides(&mut self, local: &MessageRef<'_>, remote: &Remote) {
        self.common.use_up();
        let guid = self.local_key(local).to_vec();
        self.add_entry(guid, Kind::Both(local.uid), remote.incoming);
    }

    fn add_entry(&mut self, guid: Vec<u8>, kind: Kind, incoming: u32) {
        let uid_next = (self.scan.status.uid_next, self.options.remote.uid_next);
        self.entries.push(&guid, kind, incoming, uid_next);
    }

    /// GUID by which a local message finds others; none in hash mode (13).
    fn local_key<'m>(&self, local: &MessageRef<'m>) -> &'m [u8] {
        match self.options.mails_have_guids {
            true => local.guid,
            false => &[],
        }
    }

    /// GUID or header hash first, then UID.
    fn compare(
        &mut self,
        mailbox: &mut dyn Mailbox,
        local: &MessageRef<'_>,
        remote: &Remote,
    ) -> Result<Ordering> {
        let uids = local.uid.cmp(&remote.uid);
        if self.options.mails_have_guids {
            let guid: &[u8] = local.guid;
            return Ok(guid.cmp(remote.guid.as_bytes()).then(uids));
        }
        let hash = self.local_hash(mailbox, local.uid)?;
        let nothing_hashed =
            hash == Some(HeaderHash::EMPTY) || remote.hash == Some(HeaderHash::EMPTY);
        if self.options.empty_hdr_workaround && nothing_hashed {
            return Ok(uids);
        }
        Ok(hash.cmp(&remote.hash).then(uids))
    }

    /// 7.4: what is here already is copied, or planned to move; the rest is to be requested.
    pub(super) fn place_all(&mut self, mailbox: &mut dyn Mailbox) -> Result<()> {
        for chain in self.entries.chain_ids() {
            let placement = self.entries.place(chain);
            let shared = self.entries.remote_uid(chain) != 0;
            for (old, new) in placement.moves {
                self.bodies.plan_move(old, new, shared);
            }
            self.gone.extend(placement.surplus);
            let mut sources = placement.sources.as_slice();
            let mut wanted = false;
            for index in placement.missing {
                let incoming = self.entries.adopt_incoming(index);
                if let Some(entry) = self.entries.get(index) {
                    self.bodies.plan_save(entry.final_uid, index);
                }
                if self.copy_instance(mailbox, index, &mut sources)? {
                    continue;
                }
                if incoming == NONE {
                    // It was only here, and vanished meanwhile.
                    self.bodies.is_void();
                    self.skip(index);
                } else {
                    wanted = true;
                }
            }
            if wanted {
                self.bodies.want(&self.entries, chain);
            }
        }
        self.bodies.planned();
        Ok(())
    }

    /// Saves an entry from the first of the local messages that can be read; those that cannot
    /// are taken off. `false` if there is none.
    fn copy_instance(
        &mut self,
        mailbox: &mut dyn Mailbox,
        index: u32,
        sources: &mut &[Uid],
    ) -> Result<bool> {
        let scan = Arc::clone(&self.scan);
        while let Some((source, rest)) = sources.split_first() {
            let row = scan.messages.by_uid(*source);
            let guid = row.map(|row| MailGuid::new(row.guid.to_vec()));
            let message = self.save_message(index, guid.unwrap_or_default());
            let Some(message) = message.or_else(|| self.local_message(index)) else {
                return Ok(false);
            };
            match mailbox.copy(*source, message) {
                Ok(true) => {
                    self.counters.copied += 1;
                    self.mark_saved(index);
                    return Ok(true);
                }
                Ok(false) => {}
                Err(error) if mailbox.open_message(*source).is_err() => tracing::warn!(
                    "Mailbox {}: Failed to copy mail from UID={source}: {error} - falling back to other means",
                    scan.name
                ),
                Err(error) => {
                    return Err(MailboxError::storage(&scan.name, "Copying failed")(error));
                }
            }
            *sources = rest;
        }
        Ok(false)
    }

    /// A message to save with the flags that it has here. Its own instance serves another UID.
    fn local_message(&self, index: u32) -> Option<SaveMessage> {
        let entry = self.entries.get(index)?;
        let row = self.scan.messages.by_uid(entry.local_uid)?;
        Some(moved_message(&row, entry.final_uid))
    }

    /// A message to save with the flags that the peer has for this entry; dates are filled in
    /// later, or kept by a copy.
    pub(super) fn save_message(&self, index: u32, guid: MailGuid) -> Option<SaveMessage> {
        let entry = self.entries.get(index)?;
        let incoming = self.incoming.get(entry.incoming)?;
        Some(SaveMessage {
            uid: entry.final_uid,
            guid,
            flags: incoming.flags,
            keywords: self.incoming.keywords(incoming).to_vec(),
            min_modseq: incoming.modseq,
            min_pvt_modseq: incoming.pvt_modseq,
            received_date: 0,
            saved_date: 0,
            pop3_uidl: Default::default(),
            pop3_order: 0,
        })
    }
}
