//! Saved states: those of the vectors as Dovecot prints them today.

use dsync_proto::items::MailboxState;
use dsync_proto::state_string;

/// States that were printed in a history, each in the vectors and today: modseqs depend on how
/// many messages Dovecot put into one transaction, GUIDs of its own on chance.
#[derive(Default)]
pub(crate) struct States(Vec<(String, String)>);

impl States {
    pub(crate) fn printed(&mut self, in_vector: Option<&str>, today: String) {
        if let Some(in_vector) = in_vector.filter(|state| !state.is_empty()) {
            self.0.push((in_vector.to_owned(), today));
        }
    }

    /// What a run is given today instead of `state`, which may be one that was never printed.
    pub(crate) fn today(&self, state: &str) -> String {
        let Ok(edited) = state_string::import(state.as_bytes()) else {
            return state.to_owned();
        };
        let pairs = self.0.iter().flat_map(|(in_vector, today)| {
            let decode = |text: &str| state_string::import(text.as_bytes()).unwrap_or_default();
            decode(in_vector).into_iter().zip(decode(today))
        });
        let pairs: Vec<_> = pairs.collect();
        let states = edited.into_iter().map(|edited| {
            // The last of those that are most like it.
            let nearest = pairs
                .iter()
                .rev()
                .min_by_key(|(printed, _)| changed_fields(printed, &edited));
            nearest.map_or(edited, |(printed, today)| carry(printed, edited, *today))
        });
        let states: Vec<_> = states.collect();
        match states.is_empty() {
            true => state.to_owned(),
            false => state_string::export(&states),
        }
    }
}

fn changed_fields(one: &MailboxState, two: &MailboxState) -> usize {
    [
        one.mailbox_guid != two.mailbox_guid,
        one.last_uidvalidity != two.last_uidvalidity,
        one.last_common_uid != two.last_common_uid,
        one.last_common_modseq != two.last_common_modseq,
        one.last_messages_count != two.last_messages_count,
    ]
    .into_iter()
    .filter(|is_changed| *is_changed)
    .count()
}

/// Makes the changes from `printed` to `edited` in `today`.
fn carry(printed: &MailboxState, edited: MailboxState, mut today: MailboxState) -> MailboxState {
    if edited.mailbox_guid != printed.mailbox_guid {
        today.mailbox_guid = edited.mailbox_guid;
    }
    if edited.last_uidvalidity != printed.last_uidvalidity {
        today.last_uidvalidity = edited.last_uidvalidity;
    }
    if edited.last_common_uid != printed.last_common_uid {
        today.last_common_uid = edited.last_common_uid;
    }
    if edited.last_common_modseq != printed.last_common_modseq {
        today.last_common_modseq = edited.last_common_modseq;
    }
    if edited.last_messages_count != printed.last_messages_count {
        today.last_messages_count = edited.last_messages_count;
    }
    today
}
