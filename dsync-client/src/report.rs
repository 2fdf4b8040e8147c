//! What is said at the end of a run.

use std::sync::Arc;

use dsync_engine::{Outcome, Progress};
use dsync_proto::state_string;

use crate::console::Console;
use crate::run::Inputs;

/// Most problems that are written out one by one.
const MAX_PROBLEMS: usize = 20;

/// The result of a run.
pub(crate) struct Report {
    /// `sync` or `backup`.
    pub(crate) command: &'static str,
    pub(crate) outcome: Outcome,
    pub(crate) exit_code: u8,
    /// The state to print, if it was asked for; empty if the next run must be a full one.
    pub(crate) state: Option<String>,
    /// Counters of the own side.
    pub(crate) own: Arc<Progress>,
    /// Counters of the destination, if it is in this process.
    pub(crate) other: Option<Arc<Progress>>,
    /// Bytes sent and received, if there was a stream.
    pub(crate) bytes: Option<(u64, u64)>,
}

impl Report {
    pub(crate) fn new(inputs: &Inputs, outcome: Outcome, own: Arc<Progress>) -> Self {
        let state = inputs.options.state.is_some().then(|| {
            if outcome.require_full_resync {
                String::new()
            } else {
                state_string::export(&outcome.state)
            }
        });
        Self {
            command: inputs.command,
            exit_code: outcome.exit_code(),
            outcome,
            state,
            own,
            other: None,
            bytes: None,
        }
    }

    /// What has to be told of a run that was not simply good.
    pub(crate) fn error(&self) -> Option<String> {
        match &self.outcome.error {
            Some(error) => Some(error.message.clone()),
            None => (self.exit_code != 0).then(|| self.verdict()),
        }
    }

    /// Says everything about the run that is for people.
    pub(crate) fn say(&self, console: &Console) {
        for problem in self.outcome.problems.iter().take(MAX_PROBLEMS) {
            console.error(&problem.to_string());
        }
        if let Some(more) = self.outcome.problems.len().checked_sub(MAX_PROBLEMS + 1) {
            console.error(&format!(
                "{} more problems of this kind (--json shows all)",
                more + 1
            ));
        }
        match &self.outcome.error {
            Some(error) => console.error(&error.message),
            None => console.line(&self.verdict()),
        }
    }

    /// One line about a run that came to its end.
    pub(crate) fn verdict(&self) -> String {
        let done = done(&self.own, self.other.as_deref());
        if let Some(reason) = &self.outcome.run_again {
            return format!(
                "{done}. Mailbox changes caused a desync. You may want to run dsync again: {reason}"
            );
        }
        match self.outcome.problems.len() {
            0 => done,
            1 => format!("{done}; 1 problem, see above"),
            count => format!("{done}; {count} problems, see above"),
        }
    }
}

/// What was done, in words.
fn done(own: &Progress, other: Option<&Progress>) -> String {
    let both = |count: fn(&Progress) -> u64| count(own) + other.map_or(0, count);
    let counts = [
        (own.messages_sent.get(), "message sent", "messages sent"),
        (own.messages_received.get(), "received", "received"),
        (both(|p| p.messages_copied.get()), "copied", "copied"),
        (
            both(|p| p.flags_changed.get()),
            "flag change",
            "flag changes",
        ),
        (both(|p| p.messages_expunged.get()), "expunged", "expunged"),
        (
            both(|p| p.tree_changes.get()),
            "change of mailbox names",
            "changes of mailbox names",
        ),
        (
            both(|p| p.attributes_changed.get()),
            "attribute changed",
            "attributes changed",
        ),
    ];
    let mut parts: Vec<String> = counts
        .iter()
        .filter(|(count, _, _)| *count > 0)
        .map(|(count, one, many)| format!("{count} {}", if *count == 1 { one } else { many }))
        .collect();
    let mailboxes = match own.mailboxes_synced.get() {
        0 if parts.is_empty() => return "in sync, nothing to do".to_owned(),
        0 => return parts.join(", "),
        1 => "1 mailbox".to_owned(),
        count => format!("{count} mailboxes"),
    };
    if parts.is_empty() {
        return format!("{mailboxes} compared, nothing to do here");
    }
    parts.insert(0, mailboxes);
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let own = Progress::default();
        assert_eq!(done(&own, None), "in sync, nothing to do");
        own.tree_changes.set(1);
        assert_eq!(done(&own, None), "1 change of mailbox names");
        own.tree_changes.set(0);
        own.mailboxes_synced.set(3);
        assert_eq!(done(&own, None), "3 mailboxes compared, nothing to do here");
        own.messages_sent.set(12);
        own.messages_received.set(1);
        let other = Progress::default();
        other.flags_changed.set(2);
        assert_eq!(
            done(&own, Some(&other)),
            "3 mailboxes, 12 messages sent, 1 received, 2 flag changes"
        );
    }
}
