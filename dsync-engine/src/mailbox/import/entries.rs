//! Messages above the common point: who is who, and which UID each gets
//! (`spec/mailbox-sync.md` 7.1 to 7.4).
//!
//! Both sides walk the same two lists in the same order and so compute the same UIDs. Entries
//! refer to each other by index; messages with one GUID form a chain. Chains are made by sorting
//! when all entries are known: about 70 bytes per message with its GUID, and no step that is
//! slower than that sort, however many instances of a message there are.

use std::collections::VecDeque;

use dsync_proto::types::Uid;

/// "No such entry".
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
    /// `final_uid` is free on both sides.
    usable: bool,
    /// Nothing is left to do for it.
    pub(super) skip: bool,
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
    /// Local messages with this GUID to copy from.
    pub(super) sources: Vec<Uid>,
}

/// The list of entries.
#[derive(Clone, Debug, Default)]
pub(super) struct Entries {
    list: Vec<Entry>,
    /// GUIDs of all entries, one behind the other, and where each ends.
    guids: Vec<u8>,
    guid_ends: Vec<u64>,
    /// Entries that are there, by rising remote UID.
    remote: Vec<u32>,
    /// All entries by GUID, then by index, and where in that order the chains begin.
    order: Vec<u32>,
    chains: Vec<u32>,
}

/// How an entry came up in the merge pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only here. The UID is free there from the peer's UIDNEXT on.
    Local(Uid),
    /// Only there. The UID is free here from our UIDNEXT on.
    Remote(Uid),
    /// The same message at the same UID on both sides.
    Both(Uid),
}

impl Entries {
    pub(super) fn get(&self, index: u32) -> Option<&Entry> {
        self.list.get(index as usize)
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Entry> {
        self.list.get_mut(index as usize)
    }

    /// Adds an entry with this GUID (one without is in no chain with others). `uid_next` are
    /// UIDNEXT here and there.
    pub(super) fn push(&mut self, guid: &[u8], kind: Kind, incoming: u32, uid_next: (Uid, Uid)) {
        let index = self.list.len() as u32;
        let (uid, local_uid, remote_uid, usable) = match kind {
            Kind::Local(uid) => (uid, uid, 0, uid >= uid_next.1),
            Kind::Remote(uid) => (uid, 0, uid, uid >= uid_next.0),
            Kind::Both(uid) => (uid, uid, uid, true),
        };
        self.list.push(Entry {
            final_uid: uid,
            local_uid,
            remote_uid,
            incoming,
            link: match kind {
                Kind::Both(_) => index,
                _ => NONE,
            },
            usable,
            skip: false,
        });
        self.guids.extend_from_slice(guid);
        self.guid_ends.push(self.guids.len() as u64);
        if remote_uid != 0 {
            self.remote.push(index);
        }
    }

    fn guid_of(&self, index: u32) -> &[u8] {
        let index = index as usize;
        let end = self.guid_ends.get(index).copied().unwrap_or(0) as usize;
        let start = index
            .checked_sub(1)
            .and_then(|before| self.guid_ends.get(before))
            .map_or(0, |start| *start as usize);
        self.guids.get(start..end).unwrap_or_default()
    }

    /// All entries are known: sorts them into chains and links them (7.2).
    fn seal(&mut self) {
        let mut order: Vec<u32> = (0..self.list.len() as u32).collect();
        order.sort_unstable_by_key(|index| (self.guid_of(*index), *index));
        let mut chains = Vec::new();
        for (place, index) in order.iter().enumerate() {
            let before = place.checked_sub(1).and_then(|before| order.get(before));
            let guid = self.guid_of(*index);
            if guid.is_empty() || before.is_none_or(|before| self.guid_of(*before) != guid) {
                chains.push(place as u32);
            }
        }
        self.order = order;
        self.chains = chains;
        for chain in self.chain_ids() {
            let members = self.members(chain);
            if members.len() > 1 {
                let members = members.to_vec();
                self.meet_same_uids(&members);
                self.link(&members);
            }
        }
    }

    /// Two entries of a chain with the same UID: that UID is right for the earlier one.
    fn meet_same_uids(&mut self, members: &[u32]) {
        let uid = |index: &u32| self.get(*index).map_or(0, |entry| entry.final_uid);
        let mut by_uid: Vec<(Uid, u32)> = members.iter().map(|i| (uid(i), *i)).collect();
        by_uid.sort_unstable();
        for pair in by_uid.windows(2) {
            if let [(uid, earlier), (same, _)] = pair
                && uid == same
                && let Some(earlier) = self.get_mut(*earlier)
            {
                earlier.usable = true;
            }
        }
    }

    /// The first unlinked entry of the other side becomes the partner. So those that wait are
    /// always on one side.
    fn link(&mut self, members: &[u32]) {
        let mut waiting: VecDeque<(u32, bool)> = VecDeque::new();
        for index in members {
            let Some(entry) = self.get(*index).filter(|entry| entry.link == NONE) else {
                continue;
            };
            let is_local = entry.local_uid != 0;
            match waiting.front().copied() {
                Some((partner, other)) if other != is_local => {
                    waiting.pop_front();
                    for (one, two) in [(*index, partner), (partner, *index)] {
                        if let Some(entry) = self.get_mut(one) {
                            entry.link = two;
                        }
                    }
                }
                _ => waiting.push_back((*index, is_local)),
            }
        }
    }

    /// 7.3: gives every entry its UID, from `next` on where its own cannot be used. Returns the
    /// next free UID, or `None` if there are none left.
    pub(super) fn assign(&mut self, mut next: Uid) -> Option<Uid> {
        self.seal();
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

    /// What the peer said about the message of this entry, be it under another UID; [`NONE`] if
    /// it does not have it.
    pub(super) fn adopt_incoming(&mut self, index: u32) -> u32 {
        let Some(entry) = self.get(index) else {
            return NONE;
        };
        let incoming = match entry.incoming {
            NONE => self
                .get(entry.link)
                .map_or(NONE, |partner| partner.incoming),
            own => own,
        };
        if let Some(entry) = self.get_mut(index) {
            entry.incoming = incoming;
        }
        incoming
    }

    /// Ids of all chains, after [`Entries::assign`].
    pub(super) fn chain_ids(&self) -> std::ops::Range<u32> {
        0..self.chains.len() as u32
    }

    /// Indexes of the entries of a chain, in the order in which they came up.
    pub(super) fn members(&self, chain: u32) -> &[u32] {
        let start = self.chains.get(chain as usize).map(|start| *start as usize);
        let end = self.chains.get(chain as usize + 1);
        let end = end.map_or(self.order.len(), |end| *end as usize);
        start
            .and_then(|start| self.order.get(start..end))
            .unwrap_or_default()
    }

    /// GUID of a chain; empty if its message has none.
    pub(super) fn guid(&self, chain: u32) -> &[u8] {
        let first = self.members(chain).first();
        first.map_or(&[], |index| self.guid_of(*index))
    }

    /// The chain of a GUID that is not empty.
    pub(super) fn chain_of(&self, guid: &[u8]) -> Option<u32> {
        let id = self.chains.binary_search_by(|start| {
            let first = self.order.get(*start as usize).copied().unwrap_or(NONE);
            self.guid_of(first).cmp(guid)
        });
        id.ok().map(|id| id as u32)
    }

    /// The chain of the message that the peer has at this UID.
    pub(super) fn chain_of_remote(&self, uid: Uid) -> Option<u32> {
        let key = |index: &u32| self.get(*index).map_or(0, |entry| entry.remote_uid);
        let position = self.remote.binary_search_by_key(&uid, key).ok()?;
        let index = *self.remote.get(position)?;
        let wanted = (self.guid_of(index), index);
        let place = self
            .order
            .binary_search_by_key(&wanted, |other| (self.guid_of(*other), *other))
            .ok()?;
        let behind = self
            .chains
            .partition_point(|start| *start as usize <= place);
        behind.checked_sub(1).map(|id| id as u32)
    }

    /// UID on the remote side of the first entry that is there, 0 if none is.
    pub(super) fn remote_uid(&self, chain: u32) -> Uid {
        let members = self.members(chain).iter();
        members
            .filter_map(|index| self.get(*index))
            .map(|entry| entry.remote_uid)
            .find(|uid| *uid != 0)
            .unwrap_or(0)
    }

    /// 7.4: what local messages can serve. Entries that are served get `skip`.
    pub(super) fn place(&mut self, chain: u32) -> Placement {
        let members = self.members(chain).to_vec();
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
        let mut placement = place_uids(&have, &want);
        // What is served is the lower part of what is wanted.
        let served = want.len() - placement.open;
        let served = want.get(..served).unwrap_or_default();
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
        Placement {
            moves: placement.moves,
            surplus: placement.surplus,
            missing: placement.missing,
            sources: have,
        }
    }
}

/// Result of [`place_uids`].
#[derive(Debug, Default, PartialEq, Eq)]
struct Places {
    moves: Vec<(Uid, Uid)>,
    surplus: Vec<Uid>,
    missing: Vec<u32>,
    /// That many of the highest wanted UIDs are not served.
    open: usize,
}

/// 7.4 steps 2 to 4: messages at `have` shall stand at `want`; both rising.
fn place_uids(have: &[Uid], want: &[Uid]) -> Places {
    let mut open = want;
    let mut places = Places::default();
    for uid in have {
        match open.split_first() {
            Some((first, rest)) if first == uid => open = rest,
            _ => places.surplus.push(*uid),
        }
    }
    while let (Some((wanted, rest)), Some(old)) = (open.split_first(), places.surplus.last()) {
        places.moves.push((*old, *wanted));
        places.surplus.pop();
        open = rest;
    }
    places.open = open.len();
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finals(entries: &Entries) -> Vec<Uid> {
        entries.list.iter().map(|entry| entry.final_uid).collect()
    }

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
        assert_eq!(finals(&here), [6, 5, 7]);
        assert_eq!(finals(&there), [6, 5, 7]);
        assert_eq!(there.place(0).moves, [(4, 6)]);
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
        let chain = entries.chain_of(b"x").unwrap();
        let placed = entries.place(chain);
        assert_eq!(placed.moves, [(4, 5)], "the usable UID of the remote side");
        assert!(placed.missing.is_empty());
        assert_eq!(entries.chain_of(b"y"), None);
        assert_eq!(entries.chain_of_remote(4), entries.chain_of(b"q"));
        assert_eq!(entries.chain_of_remote(6), None);
    }

    #[test]
    fn without_guids_every_message_is_alone() {
        let mut entries = Entries::default();
        entries.push(b"", Kind::Remote(3), 0, (4, 5));
        entries.push(b"", Kind::Local(3), NONE, (4, 5));
        entries.push(b"", Kind::Remote(4), 1, (4, 5));
        assert_eq!(entries.assign(5), Some(7));
        assert_eq!(finals(&entries), [5, 6, 4]);
        assert_eq!(entries.chain_ids().len(), 3);
        assert_eq!(entries.chain_of_remote(4), Some(2));
        assert_eq!(entries.remote_uid(2), 4);
        assert_eq!(entries.place(1).moves, [(3, 6)]);
    }

    #[test]
    fn local_messages_serve_wanted_uids() {
        for (have, want, moves, surplus, open) in [
            (&[3][..], &[3][..], &[][..], &[][..], 0),
            (&[], &[4, 5], &[], &[], 2),
            (&[3], &[7], &[(3, 7)], &[], 0),
            (&[3, 4], &[7], &[(4, 7)], &[3], 0),
            (&[3, 4], &[4, 7, 8], &[(3, 7)], &[], 1),
            (&[1, 2, 3], &[8, 9], &[(3, 8), (2, 9)], &[1], 0),
            (&[1, 2, 3], &[], &[], &[1, 2, 3], 0),
        ] {
            let places = place_uids(have, want);
            assert_eq!(places.moves, moves, "{have:?} {want:?}");
            assert_eq!(places.surplus, surplus, "{have:?} {want:?}");
            assert_eq!(places.open, open, "{have:?} {want:?}");
        }
    }

    #[test]
    fn uids_end_before_the_highest_number() {
        let mut entries = Entries::default();
        entries.push(b"a", Kind::Remote(1), 0, (2, 2));
        assert_eq!(entries.clone().assign(4_294_967_293), Some(4_294_967_294));
        assert_eq!(entries.assign(4_294_967_294), None);
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
