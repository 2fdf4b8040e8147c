//! Messages above the common point: who is who, and which UID each gets
//! (`spec/mailbox-sync.md` 7.1 to 7.4).
//!
//! Both sides walk the same two lists in the same order and so compute the same UIDs. Entries
//! refer to each other by index; messages with one GUID form a chain.

use std::collections::HashMap;
use std::sync::Arc;

use dsync_proto::types::Uid;

/// "No such entry", "no such chain".
pub(super) const NONE: u32 = u32::MAX;

/// A message that is above the common point on at least one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// UID that it gets, or has.
    pub(super) final_uid: Uid,
    /// UID here, 0 if it is not here.
    pub(super) local_uid: Uid,
    /// UID there, 0 if it is not there.
    pub(super) remote_uid: Uid,
    /// Index of what the peer said about it, or [`NONE`].
    pub(super) incoming: u32,
    /// The entry for the same message on the other side, itself, or [`NONE`].
    link: u32,
    chain: u32,
    next_in_chain: u32,
    /// `final_uid` is free on both sides.
    usable: bool,
    /// Nothing is left to do for it.
    pub(super) skip: bool,
}

/// All messages with one GUID.
#[derive(Clone, Debug)]
struct Chain {
    head: u32,
    tail: u32,
    /// First entry without link: all unlinked ones are on the same side, since the first of the
    /// other side links.
    unlinked: u32,
}

/// What must be done for the messages of one chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Placement {
    /// Local messages that move: old and new UID.
    pub(super) moves: Vec<(Uid, Uid)>,
    /// Local messages that go.
    pub(super) surplus: Vec<Uid>,
    /// Entries that are still to be saved, by index.
    pub(super) missing: Vec<u32>,
    /// A local message with this GUID to copy from; 0 if there is none.
    pub(super) source: Uid,
}

/// The list of entries.
#[derive(Clone, Debug, Default)]
pub(super) struct Entries {
    list: Vec<Entry>,
    chains: Vec<Chain>,
    by_guid: HashMap<Arc<[u8]>, u32>,
    guids: Vec<Arc<[u8]>>,
    /// Entries with a local UID, and those with a remote one, both by rising UID.
    local: Vec<u32>,
    remote: Vec<u32>,
}

/// How an entry came up in the merge pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only here. The UID is free there from the peer's UIDNEXT on.
    Local(Uid),
    /// Only there. The UID is free here from our UIDNEXT on.
    Remote(Uid),
    /// The same message at the same place on both sides: local and remote UID.
    Both(Uid, Uid),
}

impl Entries {
    pub(super) fn get(&self, index: u32) -> Option<&Entry> {
        self.list.get(index as usize)
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Entry> {
        self.list.get_mut(index as usize)
    }

    /// Adds an entry to the chain of this GUID (an empty one is never chained) and links it.
    /// `uid_next` are UIDNEXT here and there.
    pub(super) fn push(&mut self, guid: &[u8], kind: Kind, incoming: u32, uid_next: (Uid, Uid)) {
        let (final_uid, local_uid, remote_uid, usable) = match kind {
            Kind::Local(uid) => (uid, uid, 0, uid >= uid_next.1),
            Kind::Remote(uid) => (uid, 0, uid, uid >= uid_next.0),
            Kind::Both(local, remote) => (local, local, remote, true),
        };
        let index = self.list.len() as u32;
        let chain = self.chain(guid);
        self.list.push(Entry {
            final_uid,
            local_uid,
            remote_uid,
            incoming,
            link: NONE,
            chain,
            next_in_chain: NONE,
            usable,
            skip: false,
        });
        self.meet_same_uid(index);
        self.link(index, matches!(kind, Kind::Both(..)));
        if local_uid != 0 {
            self.local.push(index);
        }
        if remote_uid != 0 {
            self.remote.push(index);
        }
    }

    fn chain(&mut self, guid: &[u8]) -> u32 {
        if let (false, Some(chain)) = (guid.is_empty(), self.by_guid.get(guid)) {
            return *chain;
        }
        let id = self.chains.len() as u32;
        let guid: Arc<[u8]> = guid.into();
        if !guid.is_empty() {
            self.by_guid.insert(Arc::clone(&guid), id);
        }
        self.guids.push(guid);
        self.chains.push(Chain {
            head: NONE,
            tail: NONE,
            unlinked: NONE,
        });
        id
    }

    /// An earlier entry of the chain with the same UID: then that UID is right for both.
    fn meet_same_uid(&mut self, index: u32) {
        let Some(entry) = self.get(index) else { return };
        let (uid, chain) = (entry.final_uid, entry.chain);
        for earlier in [self.find(&self.local, uid), self.find(&self.remote, uid)] {
            if let Some(earlier) = earlier.and_then(|index| self.get_mut(index))
                && earlier.chain == chain
                && earlier.final_uid == uid
            {
                earlier.usable = true;
            }
        }
    }

    /// The entry with this final UID in a list that is sorted by it.
    fn find(&self, sorted: &[u32], uid: Uid) -> Option<u32> {
        let key = |index: &u32| self.get(*index).map_or(0, |entry| entry.final_uid);
        sorted
            .binary_search_by_key(&uid, key)
            .ok()
            .map(|position| sorted[position])
    }

    /// Appends to the chain; the first unlinked entry of the other side becomes the partner.
    fn link(&mut self, index: u32, itself: bool) {
        let Some(entry) = self.get(index) else { return };
        let is_local = entry.local_uid != 0;
        let chain_id = entry.chain as usize;
        let Some(chain) = self.chains.get(chain_id).cloned() else {
            return;
        };
        let partner = self
            .get(chain.unlinked)
            .filter(|earlier| !itself && (earlier.local_uid != 0) != is_local)
            .map_or(NONE, |_| chain.unlinked);
        if let Some(tail) = self.get_mut(chain.tail) {
            tail.next_in_chain = index;
        }
        let head = if chain.head == NONE {
            index
        } else {
            chain.head
        };
        let mut unlinked = chain.unlinked;
        if partner != NONE {
            if let Some(partner) = self.get_mut(partner) {
                partner.link = index;
            }
            unlinked = self.next_unlinked(partner);
        }
        let link = if itself { index } else { partner };
        if let Some(entry) = self.get_mut(index) {
            entry.link = link;
        }
        if link == NONE && unlinked == NONE {
            unlinked = index;
        }
        if let Some(chain) = self.chains.get_mut(chain_id) {
            *chain = Chain {
                head,
                tail: index,
                unlinked,
            };
        }
    }

    /// The next entry behind `index` in its chain that has no link.
    fn next_unlinked(&self, index: u32) -> u32 {
        let mut next = self.get(index).map_or(NONE, |entry| entry.next_in_chain);
        while let Some(entry) = self.get(next).filter(|entry| entry.link != NONE) {
            next = entry.next_in_chain;
        }
        // The entry that is being added is linked in a moment.
        match self.get(next) {
            Some(entry) if entry.link == NONE && next as usize + 1 < self.list.len() => next,
            _ => NONE,
        }
    }

    /// 7.3: gives every entry its UID, from `next` on where its own cannot be used. Returns the
    /// next free UID, or `None` if there are none left.
    pub(super) fn assign(&mut self, mut next: Uid) -> Option<Uid> {
        for index in 0..self.list.len() {
            let entry = self.list.get(index)?;
            if entry.skip {
                continue;
            }
            let link = entry.link;
            if !entry.usable {
                let final_uid = match self.get(link).filter(|partner| partner.usable) {
                    Some(partner) => partner.final_uid,
                    None => {
                        let uid = next;
                        next = next.checked_add(1).filter(|next| *next < Uid::MAX)?;
                        uid
                    }
                };
                self.list.get_mut(index)?.final_uid = final_uid;
            }
            if link != NONE
                && link as usize != index
                && let Some(partner) = self.get_mut(link)
            {
                partner.skip = true;
            }
        }
        Some(next)
    }

    /// Ids of all chains, in the order in which they came up.
    pub(super) fn chain_ids(&self) -> std::ops::Range<u32> {
        0..self.chains.len() as u32
    }

    /// GUID of a chain; empty if its message has none.
    pub(super) fn guid(&self, chain: u32) -> &[u8] {
        self.guids.get(chain as usize).map_or(&[], AsRef::as_ref)
    }

    /// The chain of a GUID.
    pub(super) fn chain_of(&self, guid: &[u8]) -> Option<u32> {
        self.by_guid.get(guid).copied()
    }

    /// The chain of the message that the peer has at this UID.
    pub(super) fn chain_of_remote(&self, uid: Uid) -> Option<u32> {
        let key = |index: &u32| self.get(*index).map_or(0, |entry| entry.remote_uid);
        let position = self.remote.binary_search_by_key(&uid, key).ok()?;
        self.get(*self.remote.get(position)?)
            .map(|entry| entry.chain)
    }

    /// Indexes of the entries of a chain.
    pub(super) fn members(&self, chain: u32) -> impl Iterator<Item = u32> {
        let head = self
            .chains
            .get(chain as usize)
            .map_or(NONE, |chain| chain.head);
        std::iter::successors(Some(head), |index| {
            self.get(*index).map(|e| e.next_in_chain)
        })
        .take_while(|index| *index != NONE)
    }

    /// UID on the remote side of the first entry that is there, 0 if none is.
    pub(super) fn remote_uid(&self, chain: u32) -> Uid {
        self.members(chain)
            .filter_map(|index| self.get(index))
            .map(|entry| entry.remote_uid)
            .find(|uid| *uid != 0)
            .unwrap_or(0)
    }

    /// 7.4: what local messages can serve. Entries that are served get `skip`.
    pub(super) fn place(&mut self, chain: u32) -> Placement {
        let members: Vec<u32> = self.members(chain).collect();
        let entries = || members.iter().filter_map(|index| self.get(*index));
        let mut have: Vec<Uid> = entries()
            .map(|entry| entry.local_uid)
            .filter(|uid| *uid != 0)
            .collect();
        have.sort_unstable();
        let mut want: Vec<Uid> = entries()
            .filter(|entry| !entry.skip)
            .map(|entry| entry.final_uid)
            .collect();
        want.sort_unstable();
        want.dedup();
        let mut placement = Placement {
            source: have.first().copied().unwrap_or(0),
            ..Placement::default()
        };
        let mut open = want.iter().copied().peekable();
        let mut served = Vec::new();
        let mut spare = Vec::new();
        for uid in have {
            if open.peek() == Some(&uid) {
                served.extend(open.next());
            } else {
                spare.push(uid);
            }
        }
        while let (Some(uid), Some(old)) = (open.peek().copied(), spare.last().copied()) {
            placement.moves.push((old, uid));
            served.extend(open.next());
            spare.pop();
        }
        placement.surplus = spare;
        served.sort_unstable();
        for index in members {
            let Some(entry) = self.get_mut(index) else {
                continue;
            };
            if served.binary_search(&entry.final_uid).is_ok() {
                entry.skip = true;
            } else if !entry.skip {
                placement.missing.push(index);
            }
        }
        placement
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S04: local a4 at 4, remote b4 at 4 and b5 at 5; UIDNEXT 5 here, 6 there.
    #[test]
    fn both_sides_compute_the_same_uids() {
        let mut here = Entries::default();
        here.push(b"11", Kind::Remote(4), 0, (5, 6));
        here.push(b"55", Kind::Remote(5), 1, (5, 6));
        here.push(b"99", Kind::Local(4), NONE, (5, 6));
        assert_eq!(here.assign(6), Some(8));
        let mut there = Entries::default();
        there.push(b"11", Kind::Local(4), NONE, (6, 5));
        there.push(b"55", Kind::Local(5), NONE, (6, 5));
        there.push(b"99", Kind::Remote(4), 0, (6, 5));
        assert_eq!(there.assign(6), Some(8));
        let finals = |entries: &Entries| -> Vec<Uid> {
            entries.list.iter().map(|entry| entry.final_uid).collect()
        };
        assert_eq!(finals(&here), [6, 5, 7]);
        assert_eq!(finals(&there), [6, 5, 7]);
        let moved = there.place(0);
        assert_eq!(moved.moves, [(4, 6)]);
        assert_eq!(here.place(0).missing, [0]);
        assert_eq!(here.place(2).moves, [(4, 7)]);
    }

    #[test]
    fn the_same_message_at_other_uids_is_linked() {
        let mut entries = Entries::default();
        entries.push(b"x", Kind::Local(4), NONE, (5, 6));
        entries.push(b"q", Kind::Remote(4), 0, (5, 6));
        entries.push(b"x", Kind::Remote(5), 1, (5, 6));
        assert_eq!(entries.assign(6), Some(7));
        let placed = entries.place(0);
        assert_eq!(placed.moves, [(4, 5)], "the usable UID of the remote side");
        assert!(placed.missing.is_empty());
    }

    #[test]
    fn very_many_instances_stay_linear() {
        let mut entries = Entries::default();
        for uid in 1..=200_000 {
            entries.push(b"x", Kind::Local(uid), NONE, (200_001, 200_001));
        }
        for uid in 1..=200_000 {
            entries.push(b"x", Kind::Remote(uid), uid, (200_001, 200_001));
        }
        assert_eq!(entries.assign(200_001), Some(200_001));
        let placed = entries.place(0);
        assert!(placed.moves.is_empty() && placed.missing.is_empty() && placed.surplus.is_empty());
    }
}
