//! Builds both sides of a run, drives it, and collects what to report.

use std::sync::Arc;
use std::time::Duration;

use dsync_client::{Destination, RunOptions};
use dsync_config::{Login, Origin, Settings, User};
use dsync_engine::{Brain, Direction};
use dsync_proto::items::SyncType;
use dsync_proto::state_string;
use dsync_transport::{
    CommandEnd, Ending, Hangup, Rawlog, Role, Session, SessionOptions, drive, drive_local,
    stop_signal,
};

use crate::console::Console;
use crate::failure::Failure;
use crate::report::Report;
use crate::road::{self, Opened};
use crate::sides::{Prepared, check_distinct, join, prepare};

/// How long a command may take to end after a run (`spec/transports-and-cli.md` 7.3).
const COMMAND_GRACE: Duration = Duration::from_secs(30);

/// The same after a run that failed: it has no work left.
const COMMAND_GRACE_FAILED: Duration = Duration::from_secs(2);

/// Everything that a run starts from.
pub(crate) struct Inputs {
    pub(crate) command: &'static str,
    pub(crate) options: RunOptions,
    pub(crate) settings: Settings,
    pub(crate) user: Option<String>,
    pub(crate) login: Login,
    pub(crate) host_domain: String,
}

/// Does the run. Errors are those that prevent it; what fails later is in the report.
pub(crate) async fn run(mut inputs: Inputs, console: &Console) -> Result<Report, Failure> {
    let impatient = console.clone();
    let stop = stop_signal(Hangup::Ignore, move |signal| {
        leave_at_once(&impatient, signal);
    })
    .map_err(|error| Failure::temporary(format!("cannot wait for signals: {error}")))?;
    tokio::pin!(stop);
    take_state(&mut inputs.options, console);
    let user = User::find(inputs.user.as_deref(), &inputs.login, &inputs.settings)?;
    let direction = inputs.options.sync.client_direction();
    let create = direction == Direction::Receive;
    let own = prepare(&inputs, &inputs.settings, &user, create, None)?;
    let report = match inputs.options.destination.clone() {
        Destination::Location(location) => {
            let mut settings = inputs.settings.clone();
            settings.set("mail_location", &location, &Origin::Argument("DESTINATION"))?;
            for assignment in &inputs.options.destination_settings {
                settings.assign(assignment, &Origin::Argument("-p"))?;
            }
            let separator = Some(own.open.separator);
            let create = direction != Direction::Receive;
            let other = prepare(&inputs, &settings, &user, create, separator)?;
            check_distinct(&own.open, &other.open)?;
            local(&inputs, own, other, stop, console).await
        }
        Destination::Command(words) => {
            let opened = road::spawn(&words, console)?;
            remote(&inputs, own, opened, stop, console).await
        }
        Destination::Doveadm { target, tls } => {
            let road = road::doveadm_road(&inputs.settings, &target, tls)?;
            let call = road::call(
                &road,
                &inputs.settings,
                &user.name,
                &inputs.options,
                console,
            );
            let opened = tokio::select! {
                opened = call => opened?,
                signal = &mut stop => return Err(stopped(signal)),
            };
            remote(&inputs, own, opened, stop, console).await
        }
        Destination::Unsupported(kind) => {
            let message = format!("a destination of the kind {kind} is not supported yet");
            return Err(Failure::new(64, message));
        }
    };
    console.clear();
    Ok(report)
}

/// Nothing is lost by it: every step of the stores is safe against a sudden end.
#[expect(clippy::exit, reason = "the person does not want to wait for anything")]
fn leave_at_once(console: &Console, signal: &str) {
    console.clear();
    console.error(&format!(
        "ended at once by a second signal ({signal}); run it again"
    ));
    std::process::exit(75);
}

fn stopped(signal: &str) -> Failure {
    Failure::temporary(format!("stopped by {signal} before the run began"))
}

/// Puts the state of `-s` into the options; a damaged one means a full run, as in Dovecot.
fn take_state(options: &mut RunOptions, console: &Console) {
    let Some(text) = options.state.as_deref().filter(|text| !text.is_empty()) else {
        return;
    };
    match state_string::import(text.as_bytes()) {
        Ok(state) => options.sync.state = state,
        Err(error) => {
            console.line(&format!(
                "Saved sync state is invalid, falling back to full sync: {error}"
            ));
            options.sync.sync_type = SyncType::Full;
        }
    }
}

async fn local(
    inputs: &Inputs,
    own: Prepared,
    other: Prepared,
    stop: impl Future<Output = &'static str>,
    console: &Console,
) -> Report {
    let progress = Arc::clone(&own.progress);
    let client = Brain::client(
        inputs.options.sync.clone(),
        own.open.account,
        own.environment,
    );
    let server = Brain::server(other.open.account, other.environment);
    let ended = tokio::select! {
        ended = drive_local(client, server, stop) => ended,
        never = console.watch(Arc::clone(&progress)) => match never {},
    };
    let outcome = join(ended.client, ended.server);
    Report {
        other: Some(other.progress),
        ..Report::new(inputs, outcome, progress)
    }
}

async fn remote(
    inputs: &Inputs,
    own: Prepared,
    opened: Opened,
    stop: impl Future<Output = &'static str>,
    console: &Console,
) -> Report {
    let progress = Arc::clone(&own.progress);
    let brain = Brain::client(
        inputs.options.sync.clone(),
        own.open.account,
        own.environment,
    );
    let options = SessionOptions {
        role: Role::Client,
        peer_name: opened.peer_name,
        timeout: inputs.options.timeout,
        rawlog: open_rawlog(inputs, console),
    };
    let session = tokio::select! {
        session = drive(brain, opened.reader, opened.writer, options, stop) => session,
        never = console.watch(Arc::clone(&progress)) => match never {},
    };
    let end = match opened.command {
        None => None,
        Some(command) => {
            let grace = match session.outcome.error {
                None => COMMAND_GRACE,
                Some(_) => COMMAND_GRACE_FAILED,
            };
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
            error.message = format!(
                "{} [the command {} {}]",
                error.message,
                dsync_transport::first_line(end.command.as_bytes()),
                end.describe()
            );
            // What the other side knows about its own failure is more than "it failed".
            let code = end.code().and_then(|code| u8::try_from(code).ok());
            if let Some(code) = code.filter(|code| matches!(code, 64 | 65 | 67 | 68 | 73 | 77 | 78))
            {
                report.exit_code = code;
            }
        }
        Some(_) => {}
    }
}
