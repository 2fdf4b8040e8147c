//! Merging flags and keywords of one message (`spec/mailbox-sync.md` 6).

use std::collections::{HashMap, HashSet};

use bstr::{BString, ByteSlice};
use dsync_proto::items::Change;
use dsync_proto::types::{Flags, KeywordOp, ModSeq};
use dsync_storage::{FlagUpdate, LoggedChange, MessageRef};

use crate::mailbox::keywords;

/// What one side says about one flag or keyword.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// It is set now.
    pub(super) set: bool,
    /// It was added since the last sync.
    pub(super) added: bool,
    /// It was removed since the last sync.
    pub(super) removed: bool,
}

/// Whether the flag shall be set on this side (6.2): who changed it wins; if both did, or nobody
/// knows, the side with the newer message.
pub(super) fn merge(local: Said, remote: Said, prefer_remote: bool) -> bool {
    let (mut local, mut remote) = (local, remote);
    if local.added && remote.removed {
        local.added &= !prefer_remote;
        remote.removed &= prefer_remote;
    }
    if local.removed && remote.added {
        local.removed &= !prefer_remote;
        remote.added &= prefer_remote;
    }
    let differs = local.set != remote.set;
    let added = differs && (local.added || remote.added);
    let removed = differs && (local.removed || remote.removed);
    let set = if prefer_remote { remote.set } else { local.set };
    (set || added) && !removed
}

/// What the importer knows besides the message itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct MergeContext {
    pub(super) is_master: bool,
    /// Backup destination: the source's values replace ours.
    pub(super) revert: bool,
    /// HIGHESTMODSEQ of the peer.
    pub(super) remote_highest_modseq: ModSeq,
    pub(super) remote_highest_pvt_modseq: ModSeq,
    /// Flags that are private here; none without private index.
    pub(super) private: Flags,
}

/// The update that brings a local message in step with the change; `None` if it is already.
pub(super) fn decide(
    row: &MessageRef<'_>,
    logged: Option<&LoggedChange>,
    change: &Change,
    context: MergeContext,
) -> Option<FlagUpdate> {
    if context.revert {
        return replace(row, change);
    }
    let prefer_remote = prefers_remote(row.modseq, change.modseq, context.is_master);
    let prefer_remote_pvt = prefers_remote(row.pvt_modseq, change.pvt_modseq, context.is_master);
    let mut update = FlagUpdate::default();
    for bit in [
        Flags::ANSWERED,
        Flags::FLAGGED,
        Flags::DELETED,
        Flags::SEEN,
        Flags::DRAFT,
    ] {
        let local = Said {
            set: row.flags.contains(bit),
            added: logged.is_some_and(|log| log.add_flags.contains(bit)),
            removed: logged.is_some_and(|log| log.remove_flags.contains(bit)),
        };
        let remote = Said {
            set: change.final_flags.contains(bit),
            added: change.add_flags.contains(bit),
            removed: change.remove_flags.contains(bit),
        };
        let private = context.private.contains(bit);
        let wanted = merge(
            local,
            remote,
            if private {
                prefer_remote_pvt
            } else {
                prefer_remote
            },
        );
        match (local.set, wanted) {
            (false, true) => update.add_flags |= bit,
            (true, false) => update.remove_flags |= bit,
            _ => {}
        }
    }
    merge_keywords(row, logged, change, prefer_remote, &mut update);
    set_modseqs(row, change, context, &mut update);
    (update != FlagUpdate::default()).then_some(update)
}

/// The higher modseq wins; on a tie the client's values win on both sides (6.1 step 3).
fn prefers_remote(local: ModSeq, remote: ModSeq, is_master: bool) -> bool {
    local < remote || (local == remote && !is_master)
}

/// What both sides say about every keyword, in the order in which Dovecot meets the names: of
/// the change, of the log, of the message.
///
/// A name that no Dovecot can store is not sent by anybody: if the peer does not speak of it,
/// that says nothing, and if it does, we cannot store it.
fn said_keywords<'k>(
    row: &MessageRef<'k>,
    logged: Option<&'k LoggedChange>,
    change: &'k Change,
) -> Vec<(&'k [u8], Said, Said)> {
    let mut list: Vec<(&[u8], Said, Said)> = Vec::new();
    let mut places: HashMap<&[u8], usize> = HashMap::new();
    let mut place = |list: &mut Vec<_>, name: &'k [u8]| {
        *places.entry(name).or_insert_with(|| {
            list.push((name, Said::default(), Said::default()));
            list.len() - 1
        })
    };
    for keyword in &change.keyword_changes {
        let at = place(&mut list, keyword.name.as_bytes());
        let remote = &mut list[at].2;
        match keyword.op {
            KeywordOp::Add => remote.added = true,
            KeywordOp::Remove => remote.removed = true,
            KeywordOp::Final => remote.set = true,
            KeywordOp::AddFinal => (remote.set, remote.added) = (true, true),
        }
    }
    let spoken_of = list.len();
    for (op, name) in logged.map_or(&[][..], |log| &log.keywords) {
        let at = place(&mut list, name.as_bytes());
        let local = &mut list[at].1;
        match op {
            KeywordOp::Add | KeywordOp::AddFinal => local.added = true,
            KeywordOp::Remove | KeywordOp::Final => local.removed = true,
        }
    }
    for keyword in row.keywords {
        let at = place(&mut list, keyword);
        list[at].1.set = true;
    }
    let mut place = 0;
    list.retain(|(name, local, _)| {
        place += 1;
        keywords::is_valid(name) || (place <= spoken_of && local.set)
    });
    list
}

fn merge_keywords(
    row: &MessageRef<'_>,
    logged: Option<&LoggedChange>,
    change: &Change,
    prefer_remote: bool,
    update: &mut FlagUpdate,
) {
    if change.keyword_changes.is_empty() && row.keywords.is_empty() {
        return;
    }
    // Stores know names without case.
    let present: HashSet<Vec<u8>> = lower_case(row.keywords.iter().map(AsRef::as_ref));
    for (name, local, remote) in said_keywords(row, logged, change) {
        let wanted = merge(local, remote, prefer_remote);
        if wanted && !present.contains(&name.to_ascii_lowercase()) {
            update.add_keywords.push(name.into());
        } else if !wanted && local.set {
            update.remove_keywords.push(name.into());
        }
    }
}

fn lower_case<'k>(names: impl Iterator<Item = &'k [u8]>) -> HashSet<Vec<u8>> {
    names.map(<[u8]>::to_ascii_lowercase).collect()
}

/// 6.5: at least the peer's modseq; above all of its own if it will have to change, too.
fn set_modseqs(
    row: &MessageRef<'_>,
    change: &Change,
    context: MergeContext,
    update: &mut FlagUpdate,
) {
    let result = (row.flags | update.add_flags) & !update.remove_flags;
    // Dovecot compares \Recent, too, and then raises modseqs at every full run for nothing.
    let differs = |mask: Flags| (result & mask) != (change.final_flags & mask);
    let mut target = change.modseq;
    let public_differs = differs(Flags::USER & !context.private);
    if (public_differs || keywords_differ(row, change, update))
        && target <= context.remote_highest_modseq
    {
        target = context.remote_highest_modseq.saturating_add(1);
    }
    if row.modseq < target {
        update.min_modseq = target;
    }
    if context.private.is_empty() {
        return;
    }
    let mut target = change.pvt_modseq;
    if differs(context.private) && target <= context.remote_highest_pvt_modseq {
        target = context.remote_highest_pvt_modseq.saturating_add(1);
    }
    if row.pvt_modseq < target {
        update.min_pvt_modseq = target;
    }
}

fn keywords_differ(row: &MessageRef<'_>, change: &Change, update: &FlagUpdate) -> bool {
    if row.keywords.is_empty() && change.keyword_changes.is_empty() {
        return false;
    }
    let valid = |name: &&[u8]| keywords::is_valid(name);
    let own = row.keywords.iter().map(AsRef::as_ref);
    let added = update.add_keywords.iter().map(|name| name.as_bytes());
    let mut result = lower_case(own.chain(added).filter(valid));
    for name in &update.remove_keywords {
        result.remove(&name.to_ascii_lowercase());
    }
    let remote = present_keywords(change).map(|name| name.as_bytes());
    result != lower_case(remote.filter(valid))
}

/// Keywords that the message has on the remote side now.
fn present_keywords(change: &Change) -> impl Iterator<Item = &BString> {
    change
        .keyword_changes
        .iter()
        .filter(|keyword| matches!(keyword.op, KeywordOp::Final | KeywordOp::AddFinal))
        .map(|keyword| &keyword.name)
}

/// Keywords that a saved message gets (7.7).
pub(super) fn saved_keywords(change: &Change) -> impl Iterator<Item = &BString> {
    change
        .keyword_changes
        .iter()
        .filter(|keyword| keyword.op != KeywordOp::Remove && keywords::is_valid(&keyword.name))
        .map(|keyword| &keyword.name)
}

/// Backup: flags and keywords of the source replace ours (6.7).
fn replace(row: &MessageRef<'_>, change: &Change) -> Option<FlagUpdate> {
    let wanted = (change.add_flags | change.final_flags) & Flags::USER;
    let have = row.flags & Flags::USER;
    let names: Vec<&BString> = saved_keywords(change).collect();
    let update = FlagUpdate {
        add_flags: wanted & !have,
        remove_flags: have & !wanted,
        add_keywords: names
            .iter()
            .filter(|name| !row.keywords.iter().any(|k| k.eq_ignore_ascii_case(name)))
            .map(|name| (*name).clone())
            .collect(),
        remove_keywords: row
            .keywords
            .iter()
            .filter(|keyword| keywords::is_valid(keyword))
            .filter(|keyword| !names.iter().any(|name| name.eq_ignore_ascii_case(keyword)))
            .map(|keyword| keyword.as_bstr().to_owned())
            .collect(),
        min_modseq: if row.modseq < change.modseq {
            change.modseq
        } else {
            0
        },
        min_pvt_modseq: if row.pvt_modseq < change.pvt_modseq {
            change.pvt_modseq
        } else {
            0
        },
    };
    (update != FlagUpdate::default()).then_some(update)
}

/// Whether flags or keywords change, not only the modseq.
pub(super) fn is_visible(update: &FlagUpdate) -> bool {
    let modseqs_only = FlagUpdate {
        min_modseq: update.min_modseq,
        min_pvt_modseq: update.min_pvt_modseq,
        ..FlagUpdate::default()
    };
    *update != modseqs_only
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Said {
        Said {
            set: text.contains('1'),
            added: text.contains('+'),
            removed: text.contains('-'),
        }
    }

    /// The truth table of 6.3; "r" and "l": the remote or local side is newer.
    #[test]
    fn truth_table() {
        for (local, remote, wins_remote, wins_local) in [
            ("1+", "0", true, true),
            ("1", "0-", false, false),
            ("1+", "0-", false, true),
            ("1", "0", false, true),
            ("1", "0+", true, true),
            ("1+", "0+", true, true),
            ("1-", "0", false, false),
            ("1-", "0-", false, false),
            ("1-", "0+", true, false),
            ("1", "1", true, true),
            ("0", "0", false, false),
            ("1-", "1+", true, true),
        ] {
            let merged = |prefer| merge(said(local), said(remote), prefer);
            assert_eq!(merged(true), wins_remote, "{local} {remote} remote newer");
            assert_eq!(merged(false), wins_local, "{local} {remote} local newer");
            let mirrored = |prefer| merge(said(remote), said(local), prefer);
            assert_eq!(
                mirrored(false),
                wins_remote,
                "{local} {remote} on the other side"
            );
            assert_eq!(
                mirrored(true),
                wins_local,
                "{local} {remote} on the other side"
            );
        }
    }
}
