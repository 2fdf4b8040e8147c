//! What the peer said about messages that may have to be saved, kept small.

use std::collections::HashMap;

use bstr::{BStr, BString};
use dsync_proto::items::{Change, ChangeKind};
use dsync_proto::types::{Flags, KeywordChange, KeywordOp, MailGuid, ModSeq};
use dsync_storage::MessageRef;

use super::Importer;
use super::flags::saved_keywords;

/// Flags, keywords and modseqs that a saved message gets (7.7).
#[derive(Clone, Copy, Debug)]
pub(super) struct Incoming {
    pub(super) flags: Flags,
    keywords: u32,
    pub(super) modseq: ModSeq,
    pub(super) pvt_modseq: ModSeq,
}

/// All of them; a mailbox has few distinct sets of keywords.
#[derive(Clone, Debug, Default)]
pub(super) struct IncomingTable {
    list: Vec<Incoming>,
    sets: Vec<Vec<BString>>,
    set_ids: HashMap<Vec<BString>, u32>,
}

impl IncomingTable {
    /// Keeps what a change says; returns its index.
    pub(super) fn push(&mut self, change: &Change) -> u32 {
        let keywords: Vec<BString> = saved_keywords(change).cloned().collect();
        let keywords = match self.set_ids.get(&keywords) {
            Some(id) => *id,
            None => {
                let id = self.sets.len() as u32;
                self.sets.push(keywords.clone());
                self.set_ids.insert(keywords, id);
                id
            }
        };
        self.list.push(Incoming {
            flags: change.final_flags & Flags::WIRE,
            keywords,
            modseq: change.modseq,
            pvt_modseq: change.pvt_modseq,
        });
        self.list.len() as u32 - 1
    }

    pub(super) fn get(&self, index: u32) -> Option<&Incoming> {
        self.list.get(index as usize)
    }

    pub(super) fn keywords(&self, incoming: &Incoming) -> &[BString] {
        self.sets
            .get(incoming.keywords as usize)
            .map_or(&[], Vec::as_slice)
    }
}

impl Importer {
    /// A backup destination may have to be emptied and filled again from the same change list.
    pub(super) fn keep_history(&mut self, change: &Change) {
        let restartable = self.options.revert && !self.scan.is_stateful();
        if !restartable || change.kind != ChangeKind::Save || !self.options.filters.accept(change) {
            return;
        }
        let names = saved_keywords(change).map(|name| BStr::new(name.as_slice()));
        let names: Vec<&BStr> = names.collect();
        let set = self.history.keyword_set(names);
        let guid = change.guid.as_ref().map_or(&[][..], MailGuid::as_bytes);
        // The order of changes was checked.
        let _ = self
            .history
            .push(change.uid, change.final_flags, set, change.modseq, guid);
        if change.pvt_modseq != 0 {
            self.history.set_last_pvt_modseq(change.pvt_modseq);
        }
    }
}

/// The change that a row of the history stands for.
pub(super) fn change_of(row: &MessageRef<'_>) -> Change {
    let keywords = row.keywords.iter();
    Change {
        guid: Some(MailGuid::new(row.guid.to_vec())),
        modseq: row.modseq,
        pvt_modseq: row.pvt_modseq,
        final_flags: row.flags,
        keyword_changes: keywords
            .map(|name| KeywordChange::new(KeywordOp::Final, name.to_vec()))
            .collect(),
        ..Change::new(ChangeKind::Save, row.uid)
    }
}
