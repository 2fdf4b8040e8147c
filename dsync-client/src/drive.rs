//! Drives both brains of a local run, or one of them and a stream, and collects what to report.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use dsync_engine::{Brain, Findings, Inquiry, SyncOptions};
use dsync_proto::items::SyncType;
use dsync_proto::state_string;
use dsync_transport::{
    Asker, CommandEnd, Ending, Question, Rawlog, Role, SSH_FAILED, Session, SessionOptions,
    drive_inquiring, drive_local, inquire,
};
use tokio::sync::mpsc;

use crate::console::Console;
use crate::report::Report;
use crate::road::{Opened, Road};
use crate::run::{Inputs, Stop};
use crate::sides::{Prepared, join};

/// How long a command may take to end after a run (`spec/transports-and-cli.md` 7.3).
const COMMAND_GRACE: Duration = Duration::from_secs(30);

/// The same after a run that failed: it has no work left.
const COMMAND_GRACE_FAILED: Duration = Duration::from_secs(2);

/// Puts the state of `-s` into the options; a damaged one means a full run, as in Dovecot.
pub(crate) fn with_state(
    options: &SyncOptions,
    state: Option<&str>,
    console: &Console,
) -> SyncOptions {
    let mut options = options.clone();
    match state.map(|text| state_string::import(text.as_bytes())) {
        Some(_) if state == Some("") => {}
        Some(Ok(state)) => options.state = state,
        Some(Err(error)) => {
            console.line(&format!(
                "Saved sync state is invalid, falling back to full sync: {error}"
            ));
            options.sync_type = SyncType::Full;
        }
        None => {}
    }
    options
}

/// Both sides in this process.
pub(crate) async fn local(
    inputs: &Inputs,
    options: SyncOptions,
    own: Prepared,
    other: Prepared,
    stop: Stop,
    console: &Console,
) -> Report {
    let progress = Arc::clone(&own.progress);
    let client = Brain::client(options, own.open.account, own.environment);
    let server = Brain::server(other.open.account, other.environment);
    let ended = tokio::select! {
        ended = drive_local(client, server, stop.wait()) => ended,
        never = console.watch(Arc::clone(&progress)) => match never {},
    };
    let outcome = join(ended.client, ended.server);
    Report {
        other: Some(other.progress),
        ..Report::new(inputs, outcome, progress)
    }
}

/// One side in this process, the other behind a stream. `road` opens such a stream once more, if
/// that is possible.
pub(crate) async fn remote(
    inputs: &Inputs,
    options: SyncOptions,
    own: Prepared,
    opened: Opened,
    road: Option<Road<'_>>,
    stop: Stop,
    console: &Console,
) -> Report {
    let progress = Arc::clone(&own.progress);
    let brain = Brain::client(options, own.open.account, own.environment);
    let session = SessionOptions {
        role: Role::Client,
        peer_name: opened.peer_name,
        timeout: inputs.options.timeout,
        rawlog: open_rawlog(inputs, console),
    };
    let (asker, questions) = Asker::new();
    let (reader, writer) = (opened.reader, opened.writer);
    let session = tokio::select! {
        session = drive_inquiring(brain, asker, reader, writer, session, stop.clone().wait()) => session,
        never = answer(inputs, questions, road, stop, console) => match never {},
        never = console.watch(Arc::clone(&progress)) => match never {},
    };
    let end = match opened.command {
        None => None,
        Some(command) => {
            let grace = grace(session.outcome.error.is_some());
            Some(command.finish(grace).await)
        }
    };
    let mut report = Report::new(inputs, session.outcome.clone(), progress);
    report.bytes = Some((session.bytes_out, session.bytes_in));
    if let Some(end) = end {
        add_command(&mut report, &session, &end, console);
    }
    report
}

/// Holds the second sessions that a run asks for.
async fn answer(
    inputs: &Inputs,
    mut questions: mpsc::Receiver<Question>,
    road: Option<Road<'_>>,
    stop: Stop,
    console: &Console,
) -> Infallible {
    while let Some((inquiry, findings)) = questions.recv().await {
        let opened = match &road {
            Some(road) => tokio::select! {
                opened = road.open(inputs, console) => opened.ok().flatten(),
                _ = stop.clone().wait() => None,
            },
            None => None,
        };
        // Nobody waits any more if the run has ended meanwhile.
        let _ = match opened {
            Some(opened) => findings.send(ask(inputs, inquiry, opened, stop.clone()).await),
            None => findings.send(Findings::new()),
        };
    }
    std::future::pending().await
}

async fn ask(inputs: &Inputs, inquiry: Inquiry, opened: Opened, stop: Stop) -> Findings {
    let session = SessionOptions {
        role: Role::Client,
        peer_name: opened.peer_name,
        timeout: inputs.options.timeout,
        rawlog: None,
    };
    let findings = inquire(inquiry, opened.reader, opened.writer, session, stop.wait()).await;
    if let Some(command) = opened.command {
        // It has nothing left to do, and the run waits.
        tokio::spawn(command.finish(COMMAND_GRACE_FAILED));
    }
    findings
}

/// The run goes on without it, as in Dovecot.
fn open_rawlog(inputs: &Inputs, console: &Console) -> Option<Rawlog> {
    let path = inputs.options.rawlog.as_ref()?;
    Rawlog::open(path)
        .map_err(|error| {
            console.error(&format!(
                "cannot open the raw log {}: {error}",
                path.display()
            ));
        })
        .ok()
}

/// Adds what the end of the command tells about a failure.
fn add_command(report: &mut Report, session: &Session, end: &CommandEnd, console: &Console) {
    match &mut report.outcome.error {
        None => {
            if let Some(complaint) = end.complaint() {
                console.line(&complaint);
            }
        }
        Some(error) if session.ending == Ending::Closed || error.reported_by_peer => {
            let what = match end.is_ssh_failure() {
                true => SSH_FAILED,
                false => error.message.as_str(),
            };
            error.message = format!(
                "{what} [the command {} {}]",
                dsync_transport::first_line(end.command.as_bytes()),
                end.describe()
            );
            report.exit_code = telling_code(end).unwrap_or(report.exit_code);
        }
        Some(_) => {}
    }
}

/// How long a command may take to end.
pub(crate) fn grace(failed: bool) -> Duration {
    match failed {
        false => COMMAND_GRACE,
        true => COMMAND_GRACE_FAILED,
    }
}

/// What the other side knows about its own failure is more than "it failed".
pub(crate) fn telling_code(end: &CommandEnd) -> Option<u8> {
    end.code()
        .and_then(|code| u8::try_from(code).ok())
        .filter(|code| matches!(code, 64 | 65 | 67 | 68 | 73 | 77 | 78))
}
