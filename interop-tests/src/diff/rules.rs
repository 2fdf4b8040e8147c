//! What must be equal, and the few rules where it must not be: each is a row of
//! `docs/DIFFERENCES.md`, named by its number, and as narrow as it can be.

use std::collections::BTreeSet;

use anyhow::Result;
use dsync_proto::items::MailboxState;
use dsync_proto::state_string;

use super::case::Pair;
use super::run::{Kind, Mode, Topology, printed_state};
use super::view::View;
use crate::Run;

/// What a run left behind.
#[derive(Clone)]
pub(super) struct Outcome {
    pub(super) run: Run,
    pub(super) a: View,
    pub(super) b: View,
    /// What Dovecot had to repair when it read the accounts afterwards.
    pub(super) warnings: Vec<String>,
}

impl Outcome {
    /// Dovecot deleted a mailbox because it could not make it equal, or tried to.
    pub(super) fn deletes_destination(&self) -> bool {
        ["Deleting mailbox '", "INBOX can't be deleted."]
            .iter()
            .any(|text| self.run.stderr.contains(text))
    }

    /// It printed an empty state, so that the next run compares everything.
    fn has_no_state(&self) -> bool {
        printed_state(&self.run).is_empty()
    }

    /// The saved state did not fit: the run failed, or it left mailboxes to the next one.
    fn ignores_state(&self, state: &str) -> bool {
        let text = &self.run.stderr;
        let states = state_string::import(state.as_bytes()).unwrap_or_default();
        let is_lost =
            |state: &MailboxState| text.contains(&format!("{LOST_MAILBOX}{}", state.mailbox_guid));
        self.run.code != 0
            && (STATE_ERRORS.iter().any(|error| text.contains(error)) || states.iter().any(is_lost))
    }
}

/// Followed by the name of a mailbox.
const STATE_ERRORS: [&str; 3] = [
    "Failed to do incremental sync for mailbox ",
    "incremental sync of mailbox ",
    "UIDVALIDITY changed during a stateful sync",
];

/// Followed by a GUID.
const LOST_MAILBOX: &str = "Remote lost mailbox GUID ";

/// A run of ours beside the reference.
#[derive(Clone, Copy)]
pub(super) struct Comparison<'a, 'w> {
    /// The accounts before.
    pub(super) before: &'a (View, View),
    /// The state that the runs began with.
    pub(super) state: &'a str,
    /// Those that Dovecot synced.
    pub(super) reference: &'a Pair<'w>,
    pub(super) expected: &'a Outcome,
    pub(super) pair: &'a Pair<'w>,
    pub(super) outcome: &'a Outcome,
    pub(super) mode: Mode,
    pub(super) kind: Kind,
    pub(super) topology: Topology,
}

impl Comparison<'_, '_> {
    /// Every difference that no rule expects.
    pub(super) fn differences(&self) -> Result<Vec<String>> {
        if self.outcome.run.timed_out || self.expected.run.timed_out {
            return Ok(vec!["hangs: killed at the time limit".into()]);
        }
        if self.mode.is_backup() && self.expected.deletes_destination() {
            return match self.destination_is_ours() {
                true => self.backup_in_one_run(),
                false => Ok(self.failing_destination()),
            };
        }
        let with_dovecot = !self.topology.both_are_ours();
        let ignores_state =
            self.expected.ignores_state(self.state) || self.outcome.ignores_state(self.state);
        let swaps = self.mode.is_two_way()
            && self.outcome.run.code == 0
            && !self.expected.a.other_guids(&self.expected.b).is_empty();
        if self.kind == Kind::Stateful && with_dovecot && ignores_state && !swaps {
            return self.state_that_does_not_fit();
        }
        Ok(self.ends())
    }

    /// The rules for runs that ended well.
    pub(super) fn ends(&self) -> Vec<String> {
        let lines = self.strict_ends();
        let renumbered = self.renumbered();
        match lines.is_empty() || renumbered.is_empty() {
            true => lines,
            false => self.renumbered_ends(&renumbered),
        }
    }

    /// Mailboxes that Dovecot gave another UIDVALIDITY.
    fn renumbered(&self) -> Vec<String> {
        let (before, expected) = (self.before, self.expected);
        let mut names = before.0.other_uid_validity(&expected.a);
        names.extend(before.1.other_uid_validity(&expected.b));
        if !self.mode.is_two_way() {
            let (_, before) = self.source_of((&before.0, &before.1));
            let (_, expected) = self.source_of((&expected.a, &expected.b));
            names.extend(before.other_identity(expected));
        }
        names
    }

    /// Row 41: where a mailbox takes over another UIDVALIDITY, a Dovecot Maildir keeps the
    /// UIDNEXT of the old one, and may see messages vanish and come back under other UIDs. Ours
    /// ends with the UIDs of the other side. All but UIDs is as Dovecot has it.
    fn renumbered_ends(&self, names: &[String]) -> Vec<String> {
        let [expected, outcome] = [self.expected, self.outcome].map(|outcome| Outcome {
            a: outcome.a.without_uids_of(names),
            b: outcome.b.without_uids_of(names),
            warnings: Vec::new(),
            ..outcome.clone()
        });
        let before = (
            self.before.0.without_uids_of(names),
            self.before.1.without_uids_of(names),
        );
        let compared = Comparison {
            before: &before,
            expected: &expected,
            outcome: &outcome,
            ..*self
        };
        if !self.mode.is_two_way() {
            return compared.strict_ends();
        }
        // What vanished on one side is still on the other.
        let both = expected.a.united(&expected.b, names);
        let mut lines = compared.compare("a", &both.0, &outcome.a);
        lines.extend(compared.compare("b", &both.1, &outcome.b));
        let (a, b) = (self.outcome.a.only(names), self.outcome.b.only(names));
        lines.extend(self.compare("a | b", &a.as_sent(), &b.as_sent()));
        if self.expected.run.code != self.outcome.run.code {
            lines.push(self.codes());
        }
        lines
    }

    fn strict_ends(&self) -> Vec<String> {
        let born_apart = self.expected.a.other_guids(&self.expected.b);
        if self.mode.is_two_way() && !born_apart.is_empty() {
            return self.born_apart(&born_apart);
        }
        let mut lines = self.compare("a", &self.expected.a, &self.outcome.a);
        lines.extend(self.compare("b", &self.expected.b, &self.outcome.b));
        if self.expected.run.code != self.outcome.run.code {
            lines.push(self.codes());
        }
        if self.expected.warnings.is_empty() {
            lines.extend(self.outcome.warnings.iter().cloned());
        }
        if lines.is_empty() || self.mode.is_two_way() {
            return lines;
        }
        if !born_apart.is_empty() && self.destination_is_ours() {
            return self.born_apart(&born_apart);
        }
        self.one_way()
    }

    fn source_is_ours(&self) -> bool {
        match self.mode.is_reverse() {
            true => self.topology.server_is_ours(),
            false => self.topology.client_is_ours(),
        }
    }

    fn destination_is_ours(&self) -> bool {
        match self.mode.is_reverse() {
            true => self.topology.client_is_ours(),
            false => self.topology.server_is_ours(),
        }
    }

    fn codes(&self) -> String {
        let (expected, found) = (self.expected.run.code, self.outcome.run.code);
        format!("exit code: {expected} | {found}")
    }

    fn compare(&self, side: &str, expected: &View, found: &View) -> Vec<String> {
        let differences = match self.topology {
            // Both accounts have one dictionary, the client's.
            Topology::OursAlone => expected
                .clone()
                .without_attributes()
                .differences(&found.clone().without_attributes()),
            _ => expected.differences(found),
        };
        let line = |line| format!("{side}: {line}");
        differences.into_iter().map(line).collect()
    }

    /// Source and destination.
    fn source_of<'v>(&self, (a, b): (&'v View, &'v View)) -> (&'v View, &'v View) {
        match self.mode.is_reverse() {
            true => (b, a),
            false => (a, b),
        }
    }

    /// Row 9: Dovecot lets the source of a one-way run take its destination's UIDVALIDITY; ours
    /// never writes to a source.
    fn source_differences(&self) -> Vec<String> {
        let (before, _) = self.source_of((&self.before.0, &self.before.1));
        let (expected, _) = self.source_of((&self.expected.a, &self.expected.b));
        let (source, _) = self.source_of((&self.outcome.a, &self.outcome.b));
        match self.source_is_ours() {
            true => self.compare("source before | after", before, source),
            false => self.compare("source", expected, source),
        }
    }

    /// Row 1: Dovecots that swap the GUIDs of a mailbox do not merge it. Ours give it one GUID,
    /// and two-way one content. All other mailboxes are as ever.
    fn born_apart(&self, names: &[String]) -> Vec<String> {
        let (a, b) = (&self.outcome.a, &self.outcome.b);
        let mut lines = Vec::new();
        for (side, expected, found) in [("a", &self.expected.a, a), ("b", &self.expected.b, b)] {
            let is_source = (side == "b") == self.mode.is_reverse();
            if self.mode.is_two_way() || !is_source || !self.source_is_ours() {
                lines.extend(self.compare(side, &expected.without(names), &found.without(names)));
            }
        }
        let (a, b) = (a.only(names), b.only(names));
        match self.mode.is_two_way() {
            true => lines.extend(self.compare("a | b", &a.as_sent(), &b.as_sent())),
            false => lines.extend(
                a.other_guids(&b)
                    .iter()
                    .map(|name| format!("{name}: two GUIDs")),
            ),
        }
        if !matches!(self.outcome.run.code, 0 | 2) {
            lines.push(self.codes());
        }
        lines
    }

    /// Rows 9 and 38: the source is not written; where the destination takes another GUID, ours
    /// keeps its attributes. All else is as Dovecot makes it.
    fn one_way(&self) -> Vec<String> {
        let (_, before) = self.source_of((&self.before.0, &self.before.1));
        let (_, expected) = self.source_of((&self.expected.a, &self.expected.b));
        let (_, destination) = self.source_of((&self.outcome.a, &self.outcome.b));
        let mut lines = self.source_differences();
        let renewed = match self.destination_is_ours() {
            true => before.other_guids(destination),
            false => Vec::new(),
        };
        lines.extend(self.compare(
            "destination",
            &expected.without_attributes_of(&renewed),
            &destination.without_attributes_of(&renewed),
        ));
        if self.expected.run.code != self.outcome.run.code {
            lines.push(self.codes());
        }
        lines
    }

    /// Rows 2 and 3: where Dovecot deletes the destination and fails, ours fills it in the same
    /// run; in a stateful one, which does not hear of all messages, it may say that it must run
    /// again (row 39). Attributes and names without a mailbox are not taken from a destination
    /// (S73).
    fn backup_in_one_run(&self) -> Result<Vec<String>> {
        let mut settled = self.outcome.clone();
        let mut lines = self.source_differences();
        let asks = settled.run.code == 2 || settled.has_no_state();
        if self.kind == Kind::Stateful && asks {
            settled = self.pair.settle(Some(self.topology), self.mode)?;
        }
        let (source, destination) = self.source_of((&settled.a, &settled.b));
        // Row 7: with a Dovecot its rule is law.
        let overlooked = match (self.kind, self.topology.both_are_ours()) {
            (Kind::Changed, false) => self.before.0.overlooked(&self.before.1),
            _ => Vec::new(),
        };
        let shown = |view: &View| {
            let view = view.as_sent().without_attributes().mailboxes_only();
            view.without(&overlooked)
        };
        lines.extend(self.compare("source | destination", &shown(source), &shown(destination)));
        if settled.run.code != 0 {
            lines.push(self.codes());
        }
        Ok(lines)
    }

    /// Row 40: a destination that is a Dovecot and fails must be told so, and the source stays as
    /// it is. How far the destination came depends on the order of things.
    fn failing_destination(&self) -> Vec<String> {
        let mut lines = self.source_differences();
        if matches!(self.outcome.run.code, 0 | 2) {
            lines.push(self.codes());
        }
        lines
    }

    /// Rows 10 and 37: where a saved state does not fit, a run of ours with a Dovecot does what
    /// can be done and asks for another one, without a state. Both must come to the same then.
    fn state_that_does_not_fit(&self) -> Result<Vec<String>> {
        let code = self.outcome.run.code;
        if code != 2 && (self.topology.client_is_ours() || code != self.expected.run.code) {
            return Ok(vec![self.codes()]);
        }
        let expected = self.reference.settle(None, self.mode)?;
        let outcome = self.pair.settle(Some(self.topology), self.mode)?;
        let settled = Comparison {
            expected: &expected,
            outcome: &outcome,
            kind: Kind::Changed,
            ..*self
        };
        settled.differences()
    }
}

/// Row 8: Dovecot's client skips a mailbox that is as its state says, ours does so only if the
/// server's UIDVALIDITY and UIDNEXT are, too (or its UIDNEXT is higher, in a destination that
/// keeps its own mail), and two of ours look at all that are not equal. This makes Dovecot look at the same mailboxes as
/// ours does: a number of messages that cannot be is used for nothing but that.
///
/// Row 46: two of ours ignore the state of a mailbox from which messages were expunged at the
/// destination of a backup.
pub(super) fn attentive_state(
    mode: Mode,
    both_are_ours: bool,
    state: &str,
    (client, server): (&View, &View),
) -> String {
    let Ok(mut states) = state_string::import(state.as_bytes()) else {
        return state.to_owned();
    };
    let all = states.len();
    if both_are_ours && mode.is_backup() {
        let sides = match mode.is_reverse() {
            true => (server, client),
            false => (client, server),
        };
        states.retain(|state| !lacks_mail(sides, state));
    }
    let mut changed = states.len() < all;
    for state in &mut states {
        let uid_validity = state.last_uidvalidity.to_string();
        let next = u64::from(state.last_common_uid) + 1;
        let looks_equal = |(value, uid_next): &(String, String)| {
            let uid_next: u64 = uid_next.parse().unwrap_or(0);
            let keeps_more = mode == Mode::SyncOneWay && uid_next > next;
            *value == uid_validity && (uid_next == next || keeps_more)
        };
        let counters = server.counters(&state.mailbox_guid.to_string());
        let looks_at_all = both_are_ours && mode != Mode::SyncOneWay;
        if looks_at_all || !counters.as_ref().is_some_and(looks_equal) {
            state.last_messages_count = u32::MAX;
            changed = true;
        }
    }
    match changed {
        true => state_string::export(&states),
        false => state.to_owned(),
    }
}

/// Whether the source has messages that the state knows and the destination has no more.
fn lacks_mail((source, destination): (&View, &View), state: &MailboxState) -> bool {
    let uids = |view: &View| -> Option<BTreeSet<u32>> {
        let mailbox = view.with_guid(&state.mailbox_guid.to_string())?;
        let uids = mailbox.messages.iter().map(|message| message.uid);
        Some(uids.filter(|uid| *uid <= state.last_common_uid).collect())
    };
    let (source, destination) = (uids(source), uids(destination));
    source
        .zip(destination)
        .is_some_and(|(source, destination)| !source.is_subset(&destination))
}

/// Row 10: ours ignores a state where it does not fit a mailbox. This removes those that Dovecot
/// complained about; `None` if there is nothing to remove.
pub(super) fn fitting_state(state: &str, outcome: &Outcome) -> Option<String> {
    if outcome.run.code == 0 {
        return None;
    }
    let mut states = state_string::import(state.as_bytes()).ok()?;
    let before = states.len();
    let text = &outcome.run.stderr;
    states.retain(|state| {
        let guid = state.mailbox_guid.to_string();
        let is_named = |view: &View| {
            let name = view.name_of(&guid)?;
            Some(text.contains(&format!("{}{name}, ", STATE_ERRORS[0])))
        };
        let is_lost = text.contains(&format!("{LOST_MAILBOX}{guid}"));
        !(is_lost || is_named(&outcome.a) == Some(true) || is_named(&outcome.b) == Some(true))
    });
    (states.len() < before).then(|| state_string::export(&states))
}
