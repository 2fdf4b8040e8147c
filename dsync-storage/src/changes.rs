//! Changes of a mailbox, collected until its commit.

use std::collections::{BTreeMap, BTreeSet};

use bstr::BString;
use dsync_proto::types::{Flags, MailErrorClass, Uid};

use crate::index::{Message, Transaction};
use crate::{AttributeData, AttributeName, FlagUpdate, MetadataUpdate, Result, StorageError};

/// Everything since the last commit, but for new messages.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) flags: BTreeMap<Uid, FlagUpdate>,
    pub(crate) expunges: BTreeSet<Uid>,
    pub(crate) attributes: Vec<(AttributeName, Option<AttributeData>)>,
    pub(crate) metadata: MetadataUpdate,
    pub(crate) reassign: Vec<Uid>,
}

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        let Self {
            flags,
            expunges,
            attributes,
            metadata,
            reassign,
        } = self;
        flags.is_empty()
            && expunges.is_empty()
            && attributes.is_empty()
            && *metadata == MetadataUpdate::default()
            && reassign.is_empty()
    }

    /// Of several updates of one message the later one wins.
    pub(crate) fn update_flags(&mut self, uid: Uid, update: FlagUpdate) {
        merge_updates(self.flags.entry(uid).or_default(), update);
    }

    /// Collects new values of header fields.
    pub(crate) fn update_metadata(&mut self, mailbox: &str, update: MetadataUpdate) -> Result<()> {
        if update.uid_validity == Some(0) {
            return Err(StorageError::new(
                MailErrorClass::Params,
                format!("mailbox {mailbox}: UIDVALIDITY cannot be 0"),
            ));
        }
        let metadata = &mut self.metadata;
        metadata.uid_validity = update.uid_validity.or(metadata.uid_validity);
        metadata.min_uid_next = metadata.min_uid_next.max(update.min_uid_next);
        metadata.min_first_recent_uid = metadata
            .min_first_recent_uid
            .max(update.min_first_recent_uid);
        metadata.min_highest_modseq = metadata.min_highest_modseq.max(update.min_highest_modseq);
        Ok(())
    }

    /// Names and new values of attributes.
    pub(crate) fn attribute_values(&self) -> Vec<(AttributeName, Option<BString>)> {
        self.attributes
            .iter()
            .map(|(name, data)| (name.clone(), data.as_ref().map(|data| data.value.clone())))
            .collect()
    }

    /// Tells the log which attributes have changed.
    pub(crate) fn log_attributes(&self, transaction: &mut Transaction, now: i64) {
        for (name, data) in &self.attributes {
            let size = data.as_ref().map(|data| data.value.len() as u32);
            transaction.attribute(name.kind, &name.key, size, now as u32);
        }
    }
}

/// A later update of the same message: what it says wins.
fn merge_updates(into: &mut FlagUpdate, update: FlagUpdate) {
    let FlagUpdate {
        add_flags,
        remove_flags,
        add_keywords,
        remove_keywords,
        ..
    } = update;
    into.add_flags = (into.add_flags & !remove_flags) | add_flags;
    into.remove_flags = (into.remove_flags & !add_flags) | remove_flags;
    let same = |list: &[BString], name: &BString| list.iter().any(|k| k.eq_ignore_ascii_case(name));
    into.add_keywords
        .retain(|name| !same(&remove_keywords, name));
    into.remove_keywords
        .retain(|name| !same(&add_keywords, name));
    into.add_keywords.extend(add_keywords);
    into.remove_keywords.extend(remove_keywords);
    into.min_modseq = into.min_modseq.max(update.min_modseq);
    into.min_pvt_modseq = into.min_pvt_modseq.max(update.min_pvt_modseq);
}

/// Adds the records of an update to a transaction; gives flags and keywords as they are then.
pub(crate) fn log_update(
    transaction: &mut Transaction,
    message: &Message<'_>,
    update: &FlagUpdate,
) -> (Flags, Vec<Vec<u8>>) {
    let uid = message.uid();
    let have = message.flags() & Flags::USER;
    let had: Vec<Vec<u8>> = message.keywords().map(|name| name.to_vec()).collect();
    let (flags, present) = updated(message, Some(update));
    if flags != have {
        transaction.update_flags(uid..=uid, flags & !have, have & !flags);
    }
    for name in had.iter().filter(|name| !has(&present, name)) {
        transaction.remove_keyword(name, uid..=uid);
    }
    for name in present.iter().filter(|name| !has(&had, name)) {
        transaction.add_keyword(name, uid..=uid);
    }
    if update.min_modseq > message.modseq() {
        transaction.min_modseq(uid, update.min_modseq);
    }
    (flags, present)
}

fn has(keywords: &[Vec<u8>], name: &[u8]) -> bool {
    keywords
        .iter()
        .any(|known| known.eq_ignore_ascii_case(name))
}

/// Flags and keywords of a message after an update.
pub(crate) fn updated(message: &Message<'_>, update: Option<&FlagUpdate>) -> (Flags, Vec<Vec<u8>>) {
    let keywords = message.keywords().map(|name| name.to_vec()).collect();
    apply_update(message.flags() & Flags::USER, keywords, update)
}

/// The same for flags and keywords that are not in an index.
pub(crate) fn apply_update(
    mut flags: Flags,
    mut keywords: Vec<Vec<u8>>,
    update: Option<&FlagUpdate>,
) -> (Flags, Vec<Vec<u8>>) {
    if let Some(update) = update {
        flags = (flags | update.add_flags & Flags::USER) & !(update.remove_flags & Flags::USER);
        keywords.retain(|known| {
            let removes = |name: &BString| name.eq_ignore_ascii_case(known);
            !update.remove_keywords.iter().any(removes)
        });
        for name in &update.add_keywords {
            if !has(&keywords, name) {
                keywords.push(name.to_vec());
            }
        }
    }
    (flags, keywords)
}
