//! Saved states: what both sides had in common after earlier runs (`spec/brain-and-tree.md` 7).

use std::collections::BTreeMap;

use dsync_proto::items::{MailboxInfo, MailboxState};
use dsync_proto::types::{Flags, Guid};
use dsync_storage::MessageTable;
use md5::{Digest, Md5};

/// States by mailbox, in GUID order so that the exported string does not change by itself.
#[derive(Clone, Debug, Default)]
pub(super) struct States(BTreeMap<Guid, MailboxState>);

impl States {
    pub(super) fn new(states: impl IntoIterator<Item = MailboxState>) -> Self {
        Self(
            states
                .into_iter()
                .map(|state| (state.mailbox_guid, state))
                .collect(),
        )
    }

    /// The state of a mailbox; zeros without one.
    pub(super) fn get(&self, guid: Guid) -> MailboxState {
        self.0.get(&guid).copied().unwrap_or(MailboxState {
            mailbox_guid: guid,
            ..MailboxState::default()
        })
    }

    pub(super) fn insert(&mut self, state: MailboxState) {
        self.0.insert(state.mailbox_guid, state);
    }

    pub(super) fn remove(&mut self, guid: Guid) {
        self.0.remove(&guid);
    }

    /// Records a mailbox that was looked at but not exchanged: its old state stays good; without
    /// one the next stateful run compares it as a whole.
    pub(super) fn insert_skipped(&mut self, info: &MailboxInfo) {
        self.0.entry(info.mailbox_guid).or_insert(MailboxState {
            mailbox_guid: info.mailbox_guid,
            last_uidvalidity: info.uid_validity,
            ..MailboxState::default()
        });
    }

    /// Records a mailbox of which both sides said the same, down to each message.
    pub(super) fn insert_equal(&mut self, info: &MailboxInfo) {
        self.insert(MailboxState {
            mailbox_guid: info.mailbox_guid,
            last_uidvalidity: info.uid_validity,
            last_common_uid: info.uid_next.saturating_sub(1),
            last_common_modseq: info.highest_modseq,
            last_common_pvt_modseq: info.highest_pvt_modseq,
            last_messages_count: info.messages_count,
            changes_during_sync: false,
        });
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(Guid) -> bool) {
        self.0.retain(|guid, _| keep(*guid));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &MailboxState> {
        self.0.values()
    }

    pub(super) fn into_vec(self) -> Vec<MailboxState> {
        self.0.into_values().collect()
    }
}

/// What this side tells and keeps about a finished mailbox once the peer has told its own:
/// the lower of the two where both must agree (`spec/brain-and-tree.md` 7.2).
pub(super) fn common_state(own: &MailboxState, peer: &MailboxState) -> MailboxState {
    MailboxState {
        last_common_uid: own.last_common_uid.min(peer.last_common_uid),
        last_common_modseq: own.last_common_modseq.min(peer.last_common_modseq),
        last_common_pvt_modseq: own.last_common_pvt_modseq.min(peer.last_common_pvt_modseq),
        ..*own
    }
}

/// Whether there is anything that both sides had in common.
pub(super) fn is_stateful(state: &MailboxState) -> bool {
    state.last_common_uid != 0 || state.last_common_modseq != 0
}

/// Whether a mailbox is exactly as the state says (`spec/brain-and-tree.md` 6.1).
pub(super) fn is_unchanged(state: &MailboxState, info: &MailboxInfo) -> bool {
    state.last_uidvalidity == info.uid_validity
        && state.last_common_uid.checked_add(1) == Some(info.uid_next)
        && state.last_common_modseq == info.highest_modseq
        && state.last_common_pvt_modseq == info.highest_pvt_modseq
        && state.last_messages_count == info.messages_count
}

/// Whether two mailboxes differ in a counter, so that a run of type "changed" exchanges them.
/// Both sides compute it from the two items as sent and received, or they lose step.
pub(super) fn counters_differ(one: &MailboxInfo, two: &MailboxInfo) -> bool {
    let counters = |info: &MailboxInfo| {
        (
            info.uid_validity,
            info.uid_next,
            info.messages_count,
            info.highest_modseq,
            info.highest_pvt_modseq,
            info.first_recent_uid,
        )
    };
    let digests_differ = one.digest != two.digest && one.digest != 0 && two.digest != 0;
    counters(one) != counters(two) || digests_differ
}

/// Digest of UIDs, GUIDs, flags and keywords; never 0.
pub(super) fn digest(messages: &MessageTable) -> u64 {
    let mut hash = Md5::new();
    for row in messages.iter() {
        hash.update(row.uid.to_le_bytes());
        hash.update([(row.flags & Flags::USER).0, row.keywords.len() as u8]);
        // Sets of keywords are kept in byte order.
        for keyword in row.keywords {
            hash.update((keyword.len() as u32).to_le_bytes());
            hash.update(keyword);
        }
        hash.update((row.guid.len() as u32).to_le_bytes());
        hash.update(row.guid);
    }
    let digest = hash.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(first).max(1)
}

/// Whether this side takes the peer's UIDVALIDITY: the side with fewer messages does, on a tie
/// the one with the lower value (`spec/brain-and-tree.md` 6.3).
pub(super) fn takes_uid_validity(own: &MailboxInfo, peer: &MailboxInfo) -> bool {
    own.uid_validity != peer.uid_validity
        && (peer.messages_count, peer.uid_validity) > (own.messages_count, own.uid_validity)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(uid_validity: u32, messages_count: u32) -> MailboxInfo {
        MailboxInfo {
            uid_validity,
            messages_count,
            ..MailboxInfo::default()
        }
    }

    #[test]
    fn uid_validity_of_the_fuller_mailbox_wins() {
        assert!(takes_uid_validity(&info(500, 1), &info(600, 2)));
        assert!(takes_uid_validity(&info(600, 1), &info(500, 2)));
        assert!(!takes_uid_validity(&info(600, 2), &info(500, 1)));
        assert!(takes_uid_validity(&info(500, 1), &info(600, 1)));
        assert!(!takes_uid_validity(&info(600, 1), &info(500, 1)));
        assert!(!takes_uid_validity(&info(500, 1), &info(500, 2)));
    }

    #[test]
    fn the_state_of_the_example_matches_its_mailbox() {
        let state = MailboxState {
            last_uidvalidity: 9,
            last_common_uid: 2,
            last_common_modseq: 3,
            last_messages_count: 2,
            ..MailboxState::default()
        };
        let same = MailboxInfo {
            uid_next: 3,
            highest_modseq: 3,
            ..info(9, 2)
        };
        assert!(is_unchanged(&state, &same));
        assert!(!is_unchanged(
            &state,
            &MailboxInfo {
                uid_next: 4,
                ..same.clone()
            }
        ));
        assert!(!is_unchanged(
            &state,
            &MailboxInfo {
                highest_modseq: 4,
                ..same
            }
        ));
    }

    #[test]
    fn the_lower_of_both_states_is_common() {
        let own = MailboxState {
            last_common_uid: 5,
            last_common_modseq: 7,
            ..Default::default()
        };
        let peer = MailboxState {
            last_common_uid: 4,
            last_common_modseq: 9,
            ..Default::default()
        };
        let common = common_state(&own, &peer);
        assert_eq!((common.last_common_uid, common.last_common_modseq), (4, 7));
    }
}
