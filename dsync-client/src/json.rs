//! `--json`: one object per run.

use dsync_engine::{Fault, Progress};
use serde::Serialize;

use crate::report::Report;

/// Version of this format; grows when a field changes its meaning or goes away.
const FORMAT: u32 = 1;

#[derive(Serialize)]
struct Object<'a> {
    format: u32,
    user: Option<&'a str>,
    command: Option<&'a str>,
    verdict: &'a str,
    exit_code: u8,
    error: Option<Error<'a>>,
    run_again: Option<&'a str>,
    problems: Vec<Problem<'a>>,
    own: Option<Counters>,
    destination: Option<Counters>,
    bytes_sent: Option<u64>,
    bytes_received: Option<u64>,
    state: Option<&'a str>,
}

#[derive(Serialize)]
struct Error<'a> {
    fault: &'static str,
    message: &'a str,
}

#[derive(Serialize)]
struct Problem<'a> {
    mailbox: &'a str,
    uid: u32,
    guid: String,
    reason: &'a str,
}

#[derive(Serialize)]
struct Counters {
    mailboxes: u64,
    mailboxes_synced: u64,
    mailbox_changes: u64,
    messages_sent: u64,
    messages_received: u64,
    messages_copied: u64,
    messages_expunged: u64,
    flags_changed: u64,
    attributes_changed: u64,
    body_bytes_sent: u64,
    body_bytes_received: u64,
}

impl From<&Progress> for Counters {
    fn from(progress: &Progress) -> Self {
        Self {
            mailboxes: progress.mailboxes_total.get(),
            mailboxes_synced: progress.mailboxes_synced.get(),
            mailbox_changes: progress.tree_changes.get(),
            messages_sent: progress.messages_sent.get(),
            messages_received: progress.messages_received.get(),
            messages_copied: progress.messages_copied.get(),
            messages_expunged: progress.messages_expunged.get(),
            flags_changed: progress.flags_changed.get(),
            attributes_changed: progress.attributes_changed.get(),
            body_bytes_sent: progress.bytes_sent.get(),
            body_bytes_received: progress.bytes_received.get(),
        }
    }
}

/// The object of a run that was started.
pub(crate) fn report(user: &str, report: &Report) -> String {
    let outcome = &report.outcome;
    let verdict = match &outcome.error {
        Some(error) => error.message.clone(),
        None => report.verdict(),
    };
    write(&Object {
        format: FORMAT,
        user: Some(user),
        command: Some(report.command),
        verdict: &verdict,
        exit_code: report.exit_code,
        error: outcome.error.as_ref().map(|error| Error {
            fault: match error.fault {
                Fault::Local => "local",
                Fault::Peer => "peer",
                Fault::Stopped => "stopped",
            },
            message: &error.message,
        }),
        run_again: outcome.run_again.as_deref(),
        problems: outcome
            .problems
            .iter()
            .map(|problem| Problem {
                mailbox: &problem.mailbox,
                uid: problem.uid,
                guid: problem.guid.to_string(),
                reason: &problem.reason,
            })
            .collect(),
        own: Some(Counters::from(report.own.as_ref())),
        destination: report.other.as_deref().map(Counters::from),
        bytes_sent: report.bytes.map(|(sent, _)| sent),
        bytes_received: report.bytes.map(|(_, received)| received),
        state: report.state.as_deref(),
    })
}

/// The object of a run that could not be started.
pub(crate) fn failure(user: Option<&str>, message: &str, exit_code: u8) -> String {
    write(&Object {
        error: Some(Error {
            fault: "local",
            message,
        }),
        ..without_numbers(user, message, exit_code)
    })
}

/// The object of a run that a doveadm server did.
pub(crate) fn elsewhere(
    user: &str,
    exit_code: u8,
    error: Option<&str>,
    state: Option<&str>,
) -> String {
    let fault = "peer";
    write(&Object {
        error: error.map(|message| Error { fault, message }),
        state,
        ..without_numbers(
            Some(user),
            error.unwrap_or("done by a doveadm server"),
            exit_code,
        )
    })
}

fn without_numbers<'a>(user: Option<&'a str>, verdict: &'a str, exit_code: u8) -> Object<'a> {
    Object {
        format: FORMAT,
        user,
        command: None,
        verdict,
        exit_code,
        error: None,
        run_again: None,
        problems: Vec::new(),
        own: None,
        destination: None,
        bytes_sent: None,
        bytes_received: None,
        state: None,
    }
}

fn write(object: &Object<'_>) -> String {
    // Cannot fail: there are no maps with odd keys and no own serializers in it.
    serde_json::to_string(object).unwrap_or_default()
}
