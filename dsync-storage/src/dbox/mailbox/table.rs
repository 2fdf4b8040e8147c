//! All messages of a snapshot, with their GUIDs.

use std::time::Duration;

use dsync_proto::types::Uid;

use super::DboxMailbox;
use crate::dbox::message::damaged;
use crate::index::{CacheEntry, Origin, Transaction};
use crate::{MessageTable, OpenMode, Result};

/// From so many messages on that had to be opened for their GUIDs these are cached.
const CACHE_FROM: usize = 16;
/// Longest wait for the lock of the log for that.
const CACHE_LOCK_TIMEOUT: Duration = Duration::from_secs(5);

impl DboxMailbox {
    pub(super) fn table(&mut self, mode: OpenMode) -> Result<MessageTable> {
        self.read_guids(mode)?;
        let state = self.index.state();
        let mut table = MessageTable::new();
        table.reserve(state.len());
        let mut last_mask: Vec<u8> = Vec::new();
        let mut set = table.keyword_set([]);
        for message in state.messages() {
            // Without GUID it was expunged since the snapshot.
            let Some(guid) = self.guids.get(&message.uid()) else {
                continue;
            };
            let mask = message.keyword_mask();
            if mask != last_mask {
                last_mask = mask.to_vec();
                set = table.keyword_set(message.keywords());
            }
            // The index keeps UIDs in order.
            let _ = table.push(message.uid(), message.flags(), set, message.modseq(), guid);
        }
        Ok(table)
    }

    /// GUIDs are in the files only, unless they are cached.
    fn read_guids(&mut self, mode: OpenMode) -> Result<()> {
        self.open_cache();
        let (mut missing, mut opened) = (Vec::new(), Vec::new());
        for message in self.index.state().messages() {
            let uid = message.uid();
            if self.guids.contains_key(&uid) {
                continue;
            }
            let cached = self
                .cached
                .as_ref()
                .and_then(|cached| cached.guid(&message));
            if let Some(guid) = cached {
                self.guids.insert(uid, guid.into());
                continue;
            }
            match self.bodies.stored(&message)? {
                Some(stored) if stored.metadata.guid.is_empty() => {
                    return Err(damaged(stored.path(), 0, "a message has no GUID"));
                }
                Some(stored) => {
                    opened.push(uid);
                    self.guids.insert(uid, stored.metadata.guid);
                }
                None => missing.push(uid),
            }
        }
        self.still_there(&missing)?;
        if opened.len() >= CACHE_FROM && mode == OpenMode::Write {
            self.cache_guids(&opened);
        }
        Ok(())
    }

    pub(super) fn open_cache(&mut self) {
        if self.cached.is_none() {
            self.cached = self.index.cached().ok();
        }
    }

    /// Caches GUIDs that messages had to be opened for, so that the next run need not do it. The
    /// snapshot stays, hence another view of the index. Whatever fails is tried again next time.
    fn cache_guids(&self, uids: &[Uid]) {
        let cached = self.open_index_anew().and_then(|mut index| {
            let mut locked = index.lock(CACHE_LOCK_TIMEOUT)?;
            let exists = |uid: &&Uid| locked.state().message(**uid).is_some();
            let entries: Vec<CacheEntry> = uids
                .iter()
                .filter(exists)
                .filter_map(|uid| {
                    Some(CacheEntry {
                        uid: *uid,
                        saved_date: 0,
                        guid: self.guids.get(uid)?.clone(),
                    })
                })
                .collect();
            let mut transaction = Transaction::new(Origin::FACT);
            locked.cache(&entries, &mut transaction);
            locked.append(&transaction)?;
            locked.finish()
        });
        if let Err(error) = cached {
            tracing::debug!("GUIDs are not cached: {error}");
        }
    }
}
