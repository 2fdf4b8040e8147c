//! Records of a commit that both formats write alike.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::SystemTime;

use dsync_proto::types::{Flags, Uid};

use super::identity::{FLAGS_OFFSET, header_spec};
use crate::body_file::sweep;
use crate::changes::{Changes, log_update, updated};
use crate::index::{ExtensionSpec, HeaderField, IndexState, Message, PendingKind, Transaction};
use crate::location::Driver;
use crate::{MetadataUpdate, Result, SaveMessage, StoreSettings};

/// Record flag: the message is in the alternative storage.
pub(super) const IN_ALT: u8 = 0x40;

/// Prefix of files that are being written; Dovecot removes them, too, when they are old.
pub(super) const TEMP_PREFIX: &str = ".temp.";
/// How often a directory is searched for them, in seconds (`mail_temp_scan_interval`).
const SWEEP_INTERVAL: u32 = 7 * 24 * 3600;

/// Removes what killed writers left in a directory, unless that was done a short time ago.
pub(super) fn sweep_if_due(
    transaction: &mut Transaction,
    state: &IndexState,
    dir: &Path,
    settings: &StoreSettings,
) {
    let now = settings.clock.seconds() as u32;
    let last = state.header().get(HeaderField::LastTempFileScan);
    if now.saturating_sub(last) >= SWEEP_INTERVAL {
        sweep(dir, TEMP_PREFIX, SystemTime::now());
        transaction.set_header(HeaderField::LastTempFileScan, now);
    }
}

/// The messages of an index in these ranges of UIDs; a range may name millions that do not exist.
fn existing(state: &IndexState, ranges: &[(Uid, Uid)]) -> BTreeSet<Uid> {
    let mut found = BTreeSet::new();
    for (first, last) in ranges {
        let uids = state.messages().map(|message| message.uid());
        found.extend(
            uids.skip_while(|uid| uid < first)
                .take_while(|uid| uid <= last),
        );
    }
    found
}

/// Requests in the log.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// Messages that shall go.
    pub(super) expunge: BTreeSet<Uid>,
    /// Something that we leave to Dovecot is asked for: moving messages to alternative storage.
    pub(super) others: bool,
}

/// What the log asks for. `is_meant` tells whether a UID is still the message with this GUID.
pub(super) fn requests(
    index: &mut crate::index::Index,
    mut is_meant: impl FnMut(Uid, dsync_proto::types::Guid) -> Result<bool>,
) -> Result<Requests> {
    let mut requests = Requests::default();
    for pending in index.pending()? {
        match pending.kind {
            PendingKind::Expunge(ranges) => {
                requests.expunge.extend(existing(index.state(), &ranges));
            }
            PendingKind::ExpungeGuid(uids) => {
                for (uid, guid) in uids {
                    if index.state().message(uid).is_some() && is_meant(uid, guid)? {
                        requests.expunge.insert(uid);
                    }
                }
            }
            PendingKind::Flags(changes) => {
                requests.others |= changes
                    .iter()
                    .any(|(.., add, remove)| (add.0 | remove.0) & IN_ALT != 0);
            }
            PendingKind::DeleteIndex => requests.others = true,
            PendingKind::Keyword(..) | PendingKind::KeywordsReset(_) => {}
        }
    }
    Ok(requests)
}

/// A new message with its flags, keywords and modseq.
pub(super) fn append(transaction: &mut Transaction, uid: Uid, message: &SaveMessage) {
    transaction.append(uid, message.flags & Flags::USER);
    for keyword in &message.keywords {
        transaction.add_keyword(keyword, uid..=uid);
    }
    if message.min_modseq > 0 {
        transaction.min_modseq(uid, message.min_modseq);
    }
}

/// A message under a new UID, with everything that it has and what changes with it.
pub(super) fn append_again(
    transaction: &mut Transaction,
    uid: Uid,
    message: &Message<'_>,
    changes: &Changes,
) {
    let (flags, keywords) = updated(message, changes.flags.get(&message.uid()));
    transaction.append_raw(uid, flags.0 | (message.raw_flags() & IN_ALT));
    for keyword in &keywords {
        transaction.add_keyword(keyword, uid..=uid);
    }
}

/// Flags, attributes and header fields. `next`: UIDNEXT after the new messages; `first_recent`:
/// above all new messages that are not recent.
pub(super) fn apply_changes(
    transaction: &mut Transaction,
    state: &IndexState,
    changes: &Changes,
    settings: &StoreSettings,
    next: Uid,
    first_recent: Uid,
) {
    if !state.has_modseqs() {
        transaction.enable_modseqs();
    }
    for (uid, update) in &changes.flags {
        if let Some(message) = state.message(*uid) {
            log_update(transaction, &message, update);
        }
    }
    changes.log_attributes(transaction, settings.clock.seconds());
    metadata(transaction, state, &changes.metadata, next, first_recent);
}

fn metadata(
    transaction: &mut Transaction,
    state: &IndexState,
    update: &MetadataUpdate,
    next: Uid,
    first_recent: Uid,
) {
    let mut next = next;
    if let Some(uid_next) = update.min_uid_next.filter(|wanted| *wanted > next) {
        next = uid_next;
        transaction.min_next_uid(uid_next);
    }
    let first_recent = update.min_first_recent_uid.unwrap_or(0).max(first_recent);
    let first_recent = first_recent.min(next);
    if first_recent > state.header().first_recent_uid() {
        transaction.set_first_recent_uid(first_recent);
    }
    if let Some(modseq) = update.min_highest_modseq {
        transaction.min_highest_modseq(modseq);
    }
    if let Some(uid_validity) = update.uid_validity {
        transaction.set_uid_validity(uid_validity);
    }
}

/// Tells Dovecot that the file of this new message has a POP3 UIDL or order.
pub(super) fn note_pop3(
    transaction: &mut Transaction,
    state: &IndexState,
    driver: Driver,
    highest: Uid,
    flags: u8,
) {
    if highest == 0 {
        return;
    }
    if state.extension(ExtensionSpec::HDR_POP3_UIDL.name).is_some() {
        let bytes = highest.to_le_bytes();
        transaction.set_extension_header(ExtensionSpec::HDR_POP3_UIDL, 0, &bytes);
    }
    let spec = header_spec(driver);
    let header = state.extension(spec.name).map(|known| &known.header);
    let old = header.and_then(|header| header.get(FLAGS_OFFSET));
    if let Some(old) = old.filter(|old| **old | flags != **old) {
        transaction.set_extension_header(spec, FLAGS_OFFSET as u32, &[old | flags, 0, 0, 0]);
    }
}
