//! A compact snapshot of the messages of a mailbox.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bstr::{BStr, ByteSlice};
use dsync_proto::types::{Flags, ModSeq, Uid};

/// Index of an interned set of keywords in a [`MessageTable`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct KeywordSet(u32);

/// One message of a [`MessageTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageRef<'a> {
    /// UID.
    pub uid: Uid,
    /// The five user flags, and `\Recent` where `uid >= first_recent_uid`.
    pub flags: Flags,
    /// Keywords in the mailbox's spelling, no particular order.
    pub keywords: &'a [Arc<[u8]>],
    /// Modseq.
    pub modseq: ModSeq,
    /// Modseq of private flags, 0 without private index.
    pub pvt_modseq: ModSeq,
    /// GUID text; empty if the storage has none.
    pub guid: &'a BStr,
}

/// Messages by rising UID: about 30 bytes each plus the GUID text.
///
/// Keyword sets are interned, since a mailbox has few distinct ones.
#[derive(Clone, Debug, Default)]
pub struct MessageTable {
    rows: Vec<Row>,
    /// Private modseqs, empty without private index.
    pvt_modseqs: Vec<ModSeq>,
    guids: Vec<u8>,
    sets: Vec<Vec<Arc<[u8]>>>,
    set_ids: HashMap<Vec<Arc<[u8]>>, KeywordSet>,
    names: HashSet<Arc<[u8]>>,
}

#[derive(Clone, Debug)]
struct Row {
    modseq: ModSeq,
    guid_end: u64,
    uid: Uid,
    keywords: KeywordSet,
    flags: Flags,
}

impl MessageTable {
    /// An empty table.
    pub fn new() -> Self {
        let mut table = Self::default();
        table.sets.push(Vec::new());
        table.set_ids.insert(Vec::new(), KeywordSet(0));
        table
    }

    /// Reserves room for that many more messages.
    pub fn reserve(&mut self, messages: usize) {
        self.rows.reserve(messages);
    }

    /// Interns a set of keywords; order does not matter.
    pub fn keyword_set<'k>(&mut self, names: impl IntoIterator<Item = &'k BStr>) -> KeywordSet {
        let mut set: Vec<Arc<[u8]>> = names.into_iter().map(|name| self.keyword(name)).collect();
        set.sort_unstable();
        set.dedup();
        if let Some(id) = self.set_ids.get(&set) {
            return *id;
        }
        if self.sets.is_empty() {
            self.sets.push(Vec::new());
            self.set_ids.insert(Vec::new(), KeywordSet(0));
            if set.is_empty() {
                return KeywordSet(0);
            }
        }
        let id = KeywordSet(self.sets.len() as u32);
        self.sets.push(set.clone());
        self.set_ids.insert(set, id);
        id
    }

    fn keyword(&mut self, name: &BStr) -> Arc<[u8]> {
        if let Some(known) = self.names.get(name.as_bytes()) {
            return Arc::clone(known);
        }
        let shared: Arc<[u8]> = Arc::from(name.as_bytes());
        self.names.insert(Arc::clone(&shared));
        shared
    }

    /// Adds a message; its UID must be higher than all before, else nothing is added and
    /// `false` returned.
    #[must_use]
    pub fn push(
        &mut self,
        uid: Uid,
        flags: Flags,
        keywords: KeywordSet,
        modseq: ModSeq,
        guid: &[u8],
    ) -> bool {
        if self.rows.last().is_some_and(|last| last.uid >= uid) {
            return false;
        }
        self.guids.extend_from_slice(guid);
        let guid_end = self.guids.len() as u64;
        self.rows.push(Row {
            modseq,
            guid_end,
            uid,
            keywords,
            flags,
        });
        true
    }

    /// Sets the private modseq of the last message.
    pub fn set_last_pvt_modseq(&mut self, modseq: ModSeq) {
        if let Some(last) = self.rows.len().checked_sub(1) {
            self.pvt_modseqs.resize(last, 0);
            self.pvt_modseqs.push(modseq);
        }
    }

    /// Number of messages.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no messages.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The message at this position (0-based), in UID order.
    pub fn get(&self, index: usize) -> Option<MessageRef<'_>> {
        let row = self.rows.get(index)?;
        let start = index
            .checked_sub(1)
            .map_or(0, |before| self.rows[before].guid_end);
        let guid = self.guids.get(start as usize..row.guid_end as usize)?;
        Some(MessageRef {
            uid: row.uid,
            flags: row.flags,
            keywords: self
                .sets
                .get(row.keywords.0 as usize)
                .map_or(&[], Vec::as_slice),
            modseq: row.modseq,
            pvt_modseq: self.pvt_modseqs.get(index).copied().unwrap_or(0),
            guid: guid.as_bstr(),
        })
    }

    /// Position of a UID: `Ok` if it exists, `Err` where it would stand.
    pub fn position(&self, uid: Uid) -> Result<usize, usize> {
        self.rows.binary_search_by_key(&uid, |row| row.uid)
    }

    /// The message with this UID.
    pub fn by_uid(&self, uid: Uid) -> Option<MessageRef<'_>> {
        self.get(self.position(uid).ok()?)
    }

    /// All messages by rising UID.
    pub fn iter(&self) -> impl Iterator<Item = MessageRef<'_>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_and_guids() {
        let mut table = MessageTable::new();
        let none = table.keyword_set([]);
        let work = table.keyword_set([BStr::new("work"), BStr::new("a")]);
        assert_eq!(work, table.keyword_set([BStr::new("a"), BStr::new("work")]));
        assert!(table.push(3, Flags::SEEN, none, 7, b"three"));
        assert!(!table.push(3, Flags::SEEN, none, 7, b"again"));
        assert!(table.push(9, Flags::NONE, work, 8, b""));
        assert_eq!(table.by_uid(3).unwrap().guid, "three");
        assert_eq!(table.by_uid(9).unwrap().guid, "");
        assert_eq!(table.by_uid(9).unwrap().keywords.len(), 2);
        assert_eq!(table.position(5), Err(1));
        assert_eq!(table.iter().count(), 2);
    }

    #[test]
    fn default_table_works_too() {
        let mut table = MessageTable::default();
        let work = table.keyword_set([BStr::new("work")]);
        assert!(table.push(1, Flags::NONE, work, 1, b"g"));
        assert_eq!(table.by_uid(1).unwrap().keywords.len(), 1);
    }
}
