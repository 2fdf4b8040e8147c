//! What is saved in this run, by final UID, and how much of it is done.
//!
//! Saved messages become visible only from the lowest UID on, without gaps: a UID that is missing
//! below one that both sides have looks to the next run as if its message had been expunged here,
//! and the other side would delete its copy. So a crash, a cut link or a missing body costs at
//! most the transfer of what was not committed.

use std::collections::VecDeque;

use dsync_proto::types::Uid;

use super::entries::{Entries, NONE};

/// One message that gets a UID in this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Planned {
    /// The UID.
    pub(super) uid: Uid,
    /// UID of the local message that moves there; 0 if a message is saved.
    pub(super) from: Uid,
    /// The message that moves is on the other side, too.
    pub(super) shared: bool,
    /// Entry that is saved, else [`NONE`].
    entry: u32,
}

/// The plan, and the requests for what is not here.
#[derive(Debug, Default)]
pub(super) struct Plan {
    list: Vec<Planned>,
    /// The plan is complete.
    sorted: bool,
    /// That many from the start of the list are done.
    prefix: usize,
    /// Messages that are done, wherever they are in the list.
    done: usize,
    /// UIDs of messages that were saved or moved there.
    saved: Vec<Uid>,
    /// Chains to request, with the lowest UID that they serve.
    requests: VecDeque<(Uid, u32)>,
    /// By chain: its body has not come yet.
    waiting: Vec<bool>,
}

impl Plan {
    pub(super) fn plan_save(&mut self, uid: Uid, entry: u32) {
        self.list.push(Planned {
            uid,
            from: 0,
            shared: false,
            entry,
        });
    }

    pub(super) fn plan_move(&mut self, from: Uid, uid: Uid, shared: bool) {
        self.list.push(Planned {
            uid,
            from,
            shared,
            entry: NONE,
        });
    }

    /// The body of this chain must come from the peer.
    pub(super) fn want(&mut self, entries: &Entries, chain: u32) {
        let members = entries.members(chain).iter();
        let open = members
            .filter_map(|index| entries.get(*index))
            .filter(|e| !e.skip);
        let lowest = open.map(|entry| entry.final_uid).min().unwrap_or(0);
        self.requests.push_back((lowest, chain));
        if self.waiting.is_empty() {
            self.waiting = vec![false; entries.chain_ids().len()];
        }
        if let Some(waiting) = self.waiting.get_mut(chain as usize) {
            *waiting = true;
        }
    }

    /// Everything is planned.
    pub(super) fn planned(&mut self) {
        self.sorted = true;
        self.list.sort_unstable();
        self.requests.make_contiguous().sort_unstable();
    }

    /// The next chain to request, by the UID that it will get.
    pub(super) fn next_request(&mut self) -> Option<u32> {
        self.requests.pop_front().map(|(_, chain)| chain)
    }

    /// Whether the peer still owes the body of this chain; afterwards it does not.
    pub(super) fn arrives(&mut self, chain: u32) -> bool {
        self.waiting
            .get_mut(chain as usize)
            .is_some_and(std::mem::take)
    }

    /// The first chain whose body never came, and how many more there are.
    pub(super) fn missing(&self) -> Option<(u32, usize)> {
        let mut open = self.waiting.iter().enumerate().filter(|(_, open)| **open);
        let (first, _) = open.next()?;
        Some((first as u32, open.count()))
    }

    pub(super) fn has_requests(&self) -> bool {
        !self.requests.is_empty()
    }

    /// This UID has its message.
    pub(super) fn is_saved(&mut self, uid: Uid) {
        self.done += 1;
        self.saved.push(uid);
    }

    /// Nothing will stand at a UID, since its message is gone on the other side, too.
    pub(super) fn is_void(&mut self) {
        self.done += 1;
    }

    /// Whether what is done is exactly the lower part of the plan. Local messages move last, so
    /// nothing above one counts.
    pub(super) fn has_no_gap(&mut self, entries: &Entries) -> bool {
        let is_done = |planned: &Planned| {
            planned.from == 0 && entries.get(planned.entry).is_some_and(|entry| entry.skip)
        };
        while self.list.get(self.prefix).is_some_and(is_done) {
            self.prefix += 1;
        }
        self.sorted && self.prefix == self.done
    }

    /// Local messages that move, by new UID.
    pub(super) fn moves(&self) -> Vec<Planned> {
        let moves = self.list.iter().filter(|planned| planned.from != 0);
        moves.copied().collect()
    }

    /// UIDs that were saved so far, in no order.
    pub(super) fn saved(&self) -> &[Uid] {
        &self.saved
    }
}
