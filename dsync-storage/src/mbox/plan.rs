//! What a transaction makes of the messages.

use std::collections::{BTreeMap, BTreeSet};

use bstr::BString;
use dsync_proto::types::{Flags, MailErrorClass, Uid};

use super::contents::{Item, Source};
use super::headers::Base;
use super::resolve::Resolved;
use super::staging::Staged;
use crate::changes::{Changes, apply_update};
use crate::index::{Index, IndexState, PendingKind, Transaction};
use crate::{CommitReport, Result, StorageError, StoreSettings};

/// What a log asks for.
#[derive(Debug, Default)]
pub(super) struct Requests {
    pub(super) expunges: Vec<(Uid, Uid)>,
    pub(super) changed: Vec<(Uid, Uid)>,
}

impl Requests {
    pub(super) fn of(index: &mut Index) -> Result<Self> {
        let mut requests = Self::default();
        for pending in index.pending()? {
            match pending.kind {
                PendingKind::Expunge(ranges) => requests.expunges.extend(ranges),
                PendingKind::ExpungeGuid(uids) => {
                    let ranges = uids.into_iter().map(|(uid, _)| (uid, uid));
                    requests.expunges.extend(ranges);
                }
                PendingKind::Flags(changes) => {
                    let ranges = changes.into_iter().map(|(first, last, ..)| (first, last));
                    requests.changed.extend(ranges);
                }
                PendingKind::Keyword(_, _, ranges) | PendingKind::KeywordsReset(ranges) => {
                    requests.changed.extend(ranges);
                }
                PendingKind::DeleteIndex => {}
            }
        }
        Ok(requests)
    }

    pub(super) fn within(ranges: &[(Uid, Uid)], uid: Uid) -> bool {
        ranges
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&uid))
    }
}

/// What a transaction makes of the messages.
pub(super) struct Plan {
    pub(super) items: Vec<Item>,
    pub(super) base: Base,
    /// UIDs of the new messages, in the order of [`Staged`].
    pub(super) saves: Vec<Uid>,
    pub(super) report: CommitReport,
    next: Uid,
    /// UIDVALIDITY or UIDNEXT is given: an empty file must keep it.
    pub(super) imposes: bool,
}

impl Plan {
    pub(super) fn new(
        resolved: &Resolved,
        items: &[Item],
        state: &IndexState,
        changes: &Changes,
        requests: &Requests,
        staged: &mut [Staged],
    ) -> Result<Self> {
        let next = resolved
            .base
            .last_uid
            .saturating_add(1)
            .max(state.header().next_uid());
        let mut plan = Self {
            items: Vec::with_capacity(items.len() + staged.len()),
            base: resolved.base.clone(),
            saves: Vec::new(),
            report: CommitReport::default(),
            next,
            imposes: changes.metadata.uid_validity.is_some()
                || changes
                    .metadata
                    .min_uid_next
                    .is_some_and(|wanted| wanted > next),
        };
        let reassign: BTreeSet<Uid> = changes.reassign.iter().copied().collect();
        let mut moved = BTreeMap::new();
        for item in items {
            if changes.expunges.contains(&item.uid)
                || Requests::within(&requests.expunges, item.uid)
            {
                continue;
            }
            let mut item = item.clone();
            if let Some(update) = changes.flags.get(&item.uid) {
                (item.flags, item.keywords) = apply_update(item.flags, item.keywords, Some(update));
            }
            match reassign.contains(&item.uid) {
                true => drop(moved.insert(item.uid, item)),
                false => plan.items.push(item),
            }
        }
        staged.sort_by_key(|staged| staged.message.uid);
        for (number, new) in staged.iter().enumerate() {
            let uid = plan.take(new.message.uid)?;
            if uid != new.message.uid {
                plan.report.moved.push((new.message.uid, uid));
            }
            plan.saves.push(uid);
            plan.items.push(Item {
                uid,
                flags: new.message.flags & Flags::USER,
                old: !new.message.flags.contains(Flags::RECENT),
                keywords: distinct(&new.message.keywords),
                source: Source::Staged(number),
            });
        }
        for uid in &changes.reassign {
            if let Some(mut item) = moved.remove(uid) {
                item.uid = plan.take(0)?;
                plan.items.push(item);
            }
        }
        Ok(plan)
    }

    fn take(&mut self, wanted: Uid) -> Result<Uid> {
        let uid = wanted.max(self.next);
        self.next = uid.checked_add(1).ok_or_else(|| {
            StorageError::new(MailErrorClass::Limit, "no UIDs are left in this mailbox")
        })?;
        Ok(uid)
    }

    /// What the first message says about the mailbox.
    pub(super) fn base_from(&mut self, resolved: &Resolved, state: &IndexState, changes: &Changes) {
        let metadata = &changes.metadata;
        let next = self.next.max(metadata.min_uid_next.unwrap_or(0));
        self.base.last_uid = next.saturating_sub(1).max(resolved.base.last_uid);
        if let Some(uid_validity) = metadata.uid_validity {
            self.base.uid_validity = uid_validity;
        } else if self.base.uid_validity == 0 {
            self.base.uid_validity = state.header().uid_validity();
        }
        let mut new: Vec<Vec<u8>> = Vec::new();
        for name in self.items.iter().flat_map(|item| &item.keywords) {
            let known = self.base.keywords.iter().chain(&new);
            if !known
                .into_iter()
                .any(|have| have.eq_ignore_ascii_case(name))
            {
                new.push(name.clone());
            }
        }
        new.sort();
        self.base.keywords.append(&mut new);
    }

    pub(super) fn saved_dates(&self, staged: &[Staged]) -> Vec<(Uid, u32)> {
        self.saves
            .iter()
            .zip(staged)
            .filter_map(|(uid, new)| Some((*uid, u32::try_from(new.message.saved_date).ok()?)))
            .filter(|(_, date)| *date != 0)
            .collect()
    }

    /// Everything that the file does not keep.
    pub(super) fn finish(
        &self,
        own: &mut Transaction,
        state: &IndexState,
        changes: &Changes,
        staged: &[Staged],
        settings: &StoreSettings,
    ) {
        let mut first_recent = changes.metadata.min_first_recent_uid.unwrap_or(0);
        for (uid, new) in self.saves.iter().zip(staged) {
            if new.message.min_modseq > 0 {
                own.min_modseq(*uid, new.message.min_modseq);
            }
            if !new.message.flags.contains(Flags::RECENT) {
                first_recent = first_recent.max(uid.saturating_add(1));
            }
        }
        for (uid, update) in &changes.flags {
            let message = state.message(*uid);
            if message.is_some_and(|message| update.min_modseq > message.modseq()) {
                own.min_modseq(*uid, update.min_modseq);
            }
        }
        changes.log_attributes(own, settings.clock.seconds());
        let next = self.base.last_uid.saturating_add(1);
        if next > self.next {
            own.min_next_uid(next);
        }
        let first_recent = first_recent.min(next);
        if first_recent > state.header().first_recent_uid() {
            own.set_first_recent_uid(first_recent);
        }
        if let Some(modseq) = changes.metadata.min_highest_modseq {
            own.min_highest_modseq(modseq);
        }
        if self.base.uid_validity != state.header().uid_validity() {
            own.set_uid_validity(self.base.uid_validity);
        }
    }
}

fn distinct(names: &[BString]) -> Vec<Vec<u8>> {
    let mut distinct: Vec<Vec<u8>> = Vec::new();
    for name in names {
        if !distinct.iter().any(|have| have.eq_ignore_ascii_case(name)) {
            distinct.push(name.to_vec());
        }
    }
    distinct
}
