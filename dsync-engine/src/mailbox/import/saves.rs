//! Messages above the common point: the merge pass, and what becomes of local ones
//! (`spec/mailbox-sync.md` 7.1 to 7.4).

use std::sync::Arc;

use dsync_proto::header_hash::HeaderHash;
use dsync_proto::items::Change;
use dsync_proto::types::{Flags, MailGuid, Uid};
use dsync_storage::{Mailbox, MessageRef, SaveMessage};

use super::Importer;
use super::entries::{Kind, NONE};
use crate::mailbox::{MailboxError, Result};

/// A message of the peer in the merge pass.
pub(super) struct Remote<'a> {
    change: &'a Change,
    incoming: u32,
}

impl Importer {
    /// A message of the peer above the common point.
    pub(super) fn save(&mut self, mailbox: &mut dyn Mailbox, change: &Change) -> Result<()> {
        let incoming = self.incoming.push(change);
        let remote = Remote { change, incoming };
        while self.delete.is_none() && !self.merge_step(mailbox, Some(&remote))? {}
        Ok(())
    }

    /// Takes the smaller of the local and the remote message, or both if they are the same;
    /// returns whether the remote one is used up.
    pub(super) fn merge_step(
        &mut self,
        mailbox: &mut dyn Mailbox,
        remote: Option<&Remote<'_>>,
    ) -> Result<bool> {
        let scan = Arc::clone(&self.scan);
        self.common.advance(&scan, 0);
        let local = self
            .common
            .current(&scan)
            .and_then(|uid| scan.messages.by_uid(uid));
        let order = match (&local, remote) {
            (None, None) => return Ok(true),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(local), Some(remote)) => self.compare(mailbox, local, remote)?,
        };
        let uid_next = (scan.status.uid_next, self.options.remote.uid_next);
        let incoming = remote.map_or(NONE, |remote| remote.incoming);
        match (order, local, remote) {
            (std::cmp::Ordering::Less, Some(local), _) => {
                self.common.use_up();
                if self.options.revert {
                    if remote.is_none() && local.uid >= uid_next.1 {
                        self.must_delete(format!(
                            "UID={} GUID={} exists only locally",
                            local.uid, local.guid
                        ));
                    }
                    self.gone.insert(local.uid);
                    return Ok(false);
                }
                let guid = if self.options.mails_have_guids {
                    local.guid.to_vec()
                } else {
                    Vec::new()
                };
                self.entries
                    .push(&guid, Kind::Local(local.uid), NONE, uid_next);
                Ok(false)
            }
            (std::cmp::Ordering::Greater, _, Some(remote)) => {
                let uid = remote.change.uid;
                let guid = remote
                    .change
                    .guid
                    .as_ref()
                    .map_or(&[][..], MailGuid::as_bytes);
                if self.options.revert && uid < uid_next.0 {
                    self.must_delete(format!(
                        "UID={uid} already exists locally for a different mail"
                    ));
                    return Ok(true);
                }
                self.entries
                    .push(guid, Kind::Remote(uid), incoming, uid_next);
                Ok(true)
            }
            (_, Some(local), Some(remote)) => {
                self.common.use_up();
                let guid = if self.options.mails_have_guids {
                    local.guid.to_vec()
                } else {
                    Vec::new()
                };
                let kind = Kind::Both(local.uid, remote.change.uid);
                self.entries.push(&guid, kind, incoming, uid_next);
                Ok(true)
            }
            _ => Ok(true),
        }
    }

    /// GUID or header hash first, then UID.
    fn compare(
        &mut self,
        mailbox: &mut dyn Mailbox,
        local: &MessageRef<'_>,
        remote: &Remote<'_>,
    ) -> Result<std::cmp::Ordering> {
        let uids = local.uid.cmp(&remote.change.uid);
        if self.options.mails_have_guids {
            let guid = remote
                .change
                .guid
                .as_ref()
                .map_or(&[][..], MailGuid::as_bytes);
            return Ok(AsRef::<[u8]>::as_ref(local.guid).cmp(guid).then(uids));
        }
        let hash = self.local_hash(mailbox, local.uid)?;
        let other = remote
            .change
            .hdr_hash
            .as_ref()
            .and_then(|hash| HeaderHash::from_hex(hash));
        let nothing_hashed = hash == Some(HeaderHash::EMPTY) || other == Some(HeaderHash::EMPTY);
        if self.options.empty_hdr_workaround && nothing_hashed {
            return Ok(uids);
        }
        Ok(hash.cmp(&other).then(uids))
    }

    /// 7.4: moves and copies what is here already; the rest is to be requested.
    pub(super) fn place_all(&mut self, mailbox: &mut dyn Mailbox) -> Result<()> {
        let scan = Arc::clone(&self.scan);
        let failed = || MailboxError::storage(&scan.name, "Copying failed");
        for chain in self.entries.chain_ids() {
            let placement = self.entries.place(chain);
            for (old, new) in placement.moves {
                let Some(row) = scan.messages.by_uid(old) else {
                    continue;
                };
                let message = moved_message(&row, new);
                if mailbox.copy(old, message).map_err(failed())? {
                    self.gone.insert(old);
                    self.moved.insert(old, new);
                }
            }
            self.gone.extend(placement.surplus);
            let mut wanted = false;
            for index in placement.missing {
                let copied = placement.source != 0
                    && self.copy_instance(mailbox, index, placement.source)?;
                if copied {
                    self.bodies.plan(&self.entries, index, true);
                } else if self
                    .entries
                    .get(index)
                    .is_some_and(|entry| entry.incoming != NONE)
                {
                    self.bodies.plan(&self.entries, index, false);
                    wanted = true;
                } else if let Some(entry) = self.entries.get_mut(index) {
                    // It was only here, and vanished meanwhile.
                    entry.skip = true;
                }
            }
            if wanted {
                self.bodies.want(chain);
            }
        }
        self.bodies.planned(!self.moved.is_empty());
        Ok(())
    }

    fn copy_instance(
        &mut self,
        mailbox: &mut dyn Mailbox,
        index: u32,
        source: Uid,
    ) -> Result<bool> {
        let scan = Arc::clone(&self.scan);
        let Some(row) = scan.messages.by_uid(source) else {
            return Ok(false);
        };
        let guid = MailGuid::new(row.guid.to_vec());
        let Some(message) = self.save_message(index, guid) else {
            return Ok(false);
        };
        let copied = mailbox
            .copy(source, message)
            .map_err(MailboxError::storage(&scan.name, "Copying failed"))?;
        if copied {
            self.counters.copied += 1;
            if let Some(entry) = self.entries.get_mut(index) {
                entry.skip = true;
            }
        }
        Ok(copied)
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

/// The same message under another UID.
fn moved_message(row: &MessageRef<'_>, uid: Uid) -> SaveMessage {
    SaveMessage {
        uid,
        guid: MailGuid::new(row.guid.to_vec()),
        flags: row.flags & Flags::WIRE,
        keywords: row
            .keywords
            .iter()
            .map(|keyword| keyword.to_vec().into())
            .collect(),
        min_modseq: 0,
        min_pvt_modseq: 0,
        received_date: 0,
        saved_date: 0,
        pop3_uidl: Default::default(),
        pop3_order: 0,
    }
}
