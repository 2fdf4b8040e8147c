//! A mailbox's messages, counters and log, and every way to change them.

use std::collections::{BTreeMap, BTreeSet};

use bstr::{BStr, BString};
use bytes::Bytes;
use dsync_proto::items::CacheField;
use dsync_proto::types::{Flags, Guid, MAX_UID, MailErrorClass, MailGuid, ModSeq, Uid};

use super::records::{FlagRange, RecordChange, RecordLog, ranges};
use crate::{
    AttributeData, AttributeName, FlagUpdate, MailboxStatus, MessageTable, MetadataUpdate, Result,
    StorageError,
};

/// A message.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) guid: MailGuid,
    pub(crate) flags: Flags,
    /// In the mailbox's spelling.
    pub(crate) keywords: BTreeSet<BString>,
    pub(crate) modseq: ModSeq,
    pub(crate) pvt_modseq: ModSeq,
    pub(crate) received_date: i64,
    pub(crate) saved_date: i64,
    pub(crate) pop3_uidl: BString,
    pub(crate) pop3_order: u32,
    pub(crate) body: Bytes,
}

/// A message to append, with the UID that it wants (0 for any) and its lowest modseqs.
pub(crate) struct Append {
    pub(crate) uid: Uid,
    pub(crate) min_modseq: ModSeq,
    pub(crate) min_pvt_modseq: ModSeq,
    pub(crate) message: Message,
}

/// A mailbox.
#[derive(Clone)]
pub(crate) struct Contents {
    pub(crate) guid: Guid,
    pub(crate) uid_validity: u32,
    pub(crate) uid_next: Uid,
    pub(crate) first_recent_uid: Uid,
    pub(crate) messages: BTreeMap<Uid, Message>,
    pub(crate) log: RecordLog,
    /// Log of the private index.
    pub(crate) pvt_log: Option<RecordLog>,
    pub(crate) private_flags: Flags,
    pub(crate) attributes: BTreeMap<AttributeName, AttributeData>,
    pub(crate) cache_fields: Vec<CacheField>,
    /// The sync lock is taken.
    pub(crate) locked: bool,
    /// Spelling of each keyword by its lower-case form.
    keyword_names: BTreeMap<Vec<u8>, BString>,
}

impl Contents {
    pub(crate) fn new(guid: Guid, uid_validity: u32, private_flags: Flags) -> Self {
        Self {
            guid,
            uid_validity,
            uid_next: 1,
            first_recent_uid: 1,
            messages: BTreeMap::new(),
            log: RecordLog::new(),
            pvt_log: (!private_flags.is_empty()).then(RecordLog::new),
            private_flags,
            attributes: BTreeMap::new(),
            cache_fields: Vec::new(),
            locked: false,
            keyword_names: BTreeMap::new(),
        }
    }

    pub(crate) fn status(&self) -> MailboxStatus {
        MailboxStatus {
            guid: self.guid,
            uid_validity: self.uid_validity,
            uid_next: self.uid_next,
            messages: self.messages.len() as u32,
            first_recent_uid: self.first_recent_uid,
            highest_modseq: self.log.highest(),
            highest_pvt_modseq: self.pvt_log.as_ref().map_or(0, RecordLog::highest),
        }
    }

    pub(crate) fn table(&self, with_guids: bool) -> MessageTable {
        let mut table = MessageTable::new();
        table.reserve(self.messages.len());
        for (uid, message) in &self.messages {
            let keywords = table.keyword_set(
                message
                    .keywords
                    .iter()
                    .map(|name| BStr::new(name.as_slice())),
            );
            let mut flags = message.flags;
            if *uid >= self.first_recent_uid {
                flags |= Flags::RECENT;
            }
            let guid: &[u8] = if with_guids {
                message.guid.as_bytes()
            } else {
                b""
            };
            let added = table.push(*uid, flags, keywords, message.modseq, guid);
            debug_assert!(added, "the map is ordered");
            if self.pvt_log.is_some() {
                table.set_last_pvt_modseq(message.pvt_modseq);
            }
        }
        table
    }

    /// The mailbox's spelling of a keyword; the first one seen stays.
    pub(crate) fn spelling(&mut self, name: &BString) -> BString {
        self.keyword_names
            .entry(name.to_ascii_lowercase())
            .or_insert_with(|| name.clone())
            .clone()
    }

    /// Appends messages and returns their UIDs in the same order. A UID below UIDNEXT, or one
    /// that is wanted twice, is replaced by a free one behind all others.
    pub(crate) fn append(&mut self, appends: Vec<Append>, by_sync: bool) -> Result<Vec<Uid>> {
        let uids = self.assign_uids(&appends)?;
        if appends.is_empty() {
            return Ok(uids);
        }
        let mut sorted = uids.clone();
        sorted.sort_unstable();
        let modseq = self.log.push(by_sync, RecordChange::Append(ranges(sorted)));
        let mut keywords: BTreeMap<BString, Vec<Uid>> = BTreeMap::new();
        let mut modseqs = Vec::new();
        let mut pvt_modseqs = Vec::new();
        for (append, uid) in appends.into_iter().zip(&uids) {
            let mut message = append.message;
            message.flags = message.flags & Flags::USER;
            message.modseq = modseq;
            message.keywords = message
                .keywords
                .iter()
                .map(|name| self.spelling(name))
                .collect();
            for name in &message.keywords {
                keywords.entry(name.clone()).or_default().push(*uid);
            }
            if append.min_modseq > 1 {
                modseqs.push((*uid, append.min_modseq));
            }
            if append.min_pvt_modseq > 1 {
                pvt_modseqs.push((*uid, append.min_pvt_modseq));
            }
            self.uid_next = self.uid_next.max(uid + 1);
            self.messages.insert(*uid, message);
        }
        self.log_keywords(keywords, false, by_sync);
        self.raise_modseqs(modseqs, by_sync);
        self.log_appended_private_flags(&uids, by_sync);
        self.raise_pvt_modseqs(pvt_modseqs, by_sync);
        Ok(uids)
    }

    fn assign_uids(&self, appends: &[Append]) -> Result<Vec<Uid>> {
        let mut taken = BTreeSet::new();
        let mut uids: Vec<Uid> = appends
            .iter()
            .map(|append| {
                let free = append.uid >= self.uid_next && taken.insert(append.uid);
                if free { append.uid } else { 0 }
            })
            .collect();
        let mut next = taken
            .last()
            .map_or(self.uid_next, |last| last.saturating_add(1));
        for uid in uids.iter_mut().filter(|uid| **uid == 0) {
            *uid = next;
            next = next.saturating_add(1);
        }
        if uids.iter().any(|uid| *uid > MAX_UID) {
            return Err(StorageError::new(
                MailErrorClass::Limit,
                "the mailbox has used up all UIDs; give it a new UIDVALIDITY",
            ));
        }
        Ok(uids)
    }

    /// Private flags cannot be part of a save: they are set just after it.
    fn log_appended_private_flags(&mut self, uids: &[Uid], by_sync: bool) {
        let mask = self.private_flags;
        let Some(log) = &mut self.pvt_log else { return };
        let flags: Vec<FlagRange> = uids
            .iter()
            .filter_map(|uid| Some((*uid, self.messages.get(uid)?.flags & mask)))
            .filter(|(_, flags)| !flags.is_empty())
            .map(|(uid, add)| FlagRange {
                uids: uid..=uid,
                add,
                remove: Flags::NONE,
            })
            .collect();
        let flagged: BTreeSet<Uid> = flags.iter().map(|range| *range.uids.start()).collect();
        let initial = log.highest();
        let modseq = if flags.is_empty() {
            initial
        } else {
            log.push(by_sync, RecordChange::Flags(flags))
        };
        for uid in uids {
            if let Some(message) = self.messages.get_mut(uid) {
                message.pvt_modseq = if flagged.contains(uid) {
                    modseq
                } else {
                    initial
                };
            }
        }
    }

    /// Changes flags and keywords; messages that are gone are left out.
    pub(crate) fn update_flags(&mut self, updates: Vec<(Uid, FlagUpdate)>, by_sync: bool) {
        let mut shared = Vec::new();
        let mut private = Vec::new();
        let mut added: BTreeMap<BString, Vec<Uid>> = BTreeMap::new();
        let mut removed: BTreeMap<BString, Vec<Uid>> = BTreeMap::new();
        let mut modseqs = Vec::new();
        let mut pvt_modseqs = Vec::new();
        for (uid, update) in updates {
            let add_keywords: Vec<BString> = update
                .add_keywords
                .iter()
                .map(|name| self.spelling(name))
                .collect();
            let remove_keywords: Vec<BString> = update
                .remove_keywords
                .iter()
                .map(|name| self.spelling(name))
                .collect();
            let mask = self.private_flags;
            let Some(message) = self.messages.get_mut(&uid) else {
                continue;
            };
            let add = update.add_flags & Flags::USER & !message.flags;
            let remove = update.remove_flags & Flags::USER & message.flags & !update.add_flags;
            message.flags = (message.flags | add) & !remove;
            if !(add | remove).is_empty() {
                let range = |mask| FlagRange {
                    uids: uid..=uid,
                    add: add & mask,
                    remove: remove & mask,
                };
                // A private change raises the modseq that all users see, too.
                shared.push(range(!mask));
                if !((add | remove) & mask).is_empty() {
                    private.push(range(mask));
                }
            }
            for name in add_keywords {
                if message.keywords.insert(name.clone()) {
                    added.entry(name).or_default().push(uid);
                }
            }
            for name in remove_keywords {
                if message.keywords.remove(&name) {
                    removed.entry(name).or_default().push(uid);
                }
            }
            if update.min_modseq > 0 {
                modseqs.push((uid, update.min_modseq));
            }
            if update.min_pvt_modseq > 0 {
                pvt_modseqs.push((uid, update.min_pvt_modseq));
            }
        }
        self.log_flags(shared, by_sync);
        self.log_keywords(added, false, by_sync);
        self.log_keywords(removed, true, by_sync);
        self.raise_modseqs(modseqs, by_sync);
        self.log_private_flags(private, by_sync);
        self.raise_pvt_modseqs(pvt_modseqs, by_sync);
    }

    fn log_flags(&mut self, updates: Vec<FlagRange>, by_sync: bool) {
        if updates.is_empty() {
            return;
        }
        let uids: Vec<Uid> = updates.iter().map(|range| *range.uids.start()).collect();
        let modseq = self.log.push(by_sync, RecordChange::Flags(updates));
        self.touch(&uids, modseq);
    }

    fn log_private_flags(&mut self, updates: Vec<FlagRange>, by_sync: bool) {
        let Some(log) = &mut self.pvt_log else { return };
        if updates.is_empty() {
            return;
        }
        let uids: Vec<Uid> = updates.iter().map(|range| *range.uids.start()).collect();
        let modseq = log.push(by_sync, RecordChange::Flags(updates));
        for uid in uids {
            if let Some(message) = self.messages.get_mut(&uid) {
                message.pvt_modseq = message.pvt_modseq.max(modseq);
            }
        }
    }

    fn log_keywords(&mut self, by_name: BTreeMap<BString, Vec<Uid>>, removed: bool, by_sync: bool) {
        for (name, mut uids) in by_name {
            uids.sort_unstable();
            let change = RecordChange::Keyword {
                removed,
                name,
                uids: ranges(uids.iter().copied()),
            };
            let modseq = self.log.push(by_sync, change);
            self.touch(&uids, modseq);
        }
    }

    fn raise_modseqs(&mut self, updates: Vec<(Uid, ModSeq)>, by_sync: bool) {
        if updates.is_empty() {
            return;
        }
        for (uid, modseq) in &updates {
            self.touch(&[*uid], *modseq);
        }
        self.log.push(by_sync, RecordChange::Modseq(updates));
    }

    fn raise_pvt_modseqs(&mut self, updates: Vec<(Uid, ModSeq)>, by_sync: bool) {
        let Some(log) = &mut self.pvt_log else { return };
        if updates.is_empty() {
            return;
        }
        for (uid, modseq) in &updates {
            if let Some(message) = self.messages.get_mut(uid) {
                message.pvt_modseq = message.pvt_modseq.max(*modseq);
            }
        }
        log.push(by_sync, RecordChange::Modseq(updates));
    }

    fn touch(&mut self, uids: &[Uid], modseq: ModSeq) {
        for uid in uids {
            if let Some(message) = self.messages.get_mut(uid) {
                message.modseq = message.modseq.max(modseq);
            }
        }
    }

    /// Expunges messages; those that are gone are left out.
    pub(crate) fn expunge(&mut self, uids: &[Uid], log_guid: bool, by_sync: bool) {
        let mails: Vec<(Uid, Guid)> = uids
            .iter()
            .filter_map(|uid| {
                let message = self.messages.remove(uid)?;
                let known = log_guid && !message.guid.is_empty();
                let guid = if known {
                    message.guid.short()
                } else {
                    Guid::ZERO
                };
                Some((*uid, guid))
            })
            .collect();
        if !mails.is_empty() {
            let change = RecordChange::ExpungeGuid {
                mails,
                request_only: false,
            };
            self.log.push(by_sync, change);
        }
    }

    /// Sets or deletes attributes.
    pub(crate) fn set_attributes(
        &mut self,
        changes: Vec<(AttributeName, Option<AttributeData>)>,
        by_sync: bool,
    ) {
        for (name, data) in changes {
            let record = vec![(name.kind, name.key.clone(), data.is_none())];
            match data {
                Some(data) => drop(self.attributes.insert(name, data)),
                None => drop(self.attributes.remove(&name)),
            }
            self.log.push(by_sync, RecordChange::Attributes(record));
        }
    }

    /// Changes header fields.
    pub(crate) fn update_metadata(&mut self, update: &MetadataUpdate, by_sync: bool) {
        if let Some(uid_validity) = update.uid_validity {
            self.uid_validity = uid_validity;
        }
        if let Some(uid_next) = update.min_uid_next {
            self.uid_next = self.uid_next.max(uid_next);
        }
        if let Some(uid) = update.min_first_recent_uid {
            self.first_recent_uid = self.first_recent_uid.max(uid);
        }
        if let Some(modseq) = update.min_highest_modseq
            && modseq > self.log.highest()
        {
            self.log
                .push(by_sync, RecordChange::Modseq(vec![(0, modseq)]));
        }
        if let (Some(modseq), Some(log)) = (update.min_highest_pvt_modseq, &mut self.pvt_log)
            && modseq > log.highest()
        {
            log.push(by_sync, RecordChange::Modseq(vec![(0, modseq)]));
        }
        for field in &update.cache_fields {
            self.cache_fields.retain(|known| known.name != field.name);
            self.cache_fields.push(field.clone());
        }
    }

    /// Gives messages new UIDs from UIDNEXT on.
    pub(crate) fn reassign(&mut self, uids: &[Uid], by_sync: bool) -> Result<()> {
        let mut seen = BTreeSet::new();
        let moved = uids
            .iter()
            .filter(|uid| seen.insert(**uid))
            .filter_map(|uid| self.messages.get(uid))
            .map(|message| Append {
                uid: 0,
                min_modseq: 0,
                min_pvt_modseq: 0,
                message: message.clone(),
            })
            .collect();
        self.append(moved, by_sync)?;
        self.expunge(uids, true, by_sync);
        Ok(())
    }
}
