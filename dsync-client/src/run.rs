//! Builds both sides of a run, drives it, and collects what to report.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dsync_client::{Destination, RunOptions, UsageError};
use dsync_config::{
    AccountOptions, ConfigError, HomeLock, Login, OpenAccount, Origin, Settings, User,
};
use dsync_engine::{Brain, Direction, Environment, Outcome, Progress};
use dsync_proto::items::SyncType;
use dsync_proto::state_string;
use dsync_transport::{
    CommandEnd, Ending, Hangup, Rawlog, RemoteCommand, Role, Session, SessionOptions, drive,
    drive_local, stop_signal,
};

use crate::console::Console;
use crate::report::Report;

/// How long a command may take to end after a run (`spec/transports-and-cli.md` 7.3).
const COMMAND_GRACE: Duration = Duration::from_secs(30);

/// The same after a run that failed: it has no work left.
const COMMAND_GRACE_FAILED: Duration = Duration::from_secs(2);

/// Why there was no run, or no result: one line and an exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) exit_code: u8,
}

impl Failure {
    pub(crate) fn temporary(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            exit_code: 75,
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self {
            exit_code: error.exit_code(),
            message: error.to_string(),
        }
    }
}

impl From<UsageError> for Failure {
    fn from(error: UsageError) -> Self {
        Self {
            exit_code: error.exit_code,
            message: error.message,
        }
    }
}

/// Everything that a run starts from.
pub(crate) struct Inputs {
    pub(crate) command: &'static str,
    pub(crate) options: RunOptions,
    pub(crate) settings: Settings,
    pub(crate) user: Option<String>,
    pub(crate) login: Login,
    pub(crate) host_domain: String,
}

/// One side: its stores, and what its brain needs.
struct Prepared {
    open: OpenAccount,
    environment: Environment,
    progress: Arc<Progress>,
}

/// Does the run. Errors are those that prevent it; what fails later is in the report.
pub(crate) async fn run(mut inputs: Inputs, console: &Console) -> Result<Report, Failure> {
    let impatient = console.clone();
    let stop = stop_signal(Hangup::Ignore, move |signal| {
        leave_at_once(&impatient, signal);
    })
    .map_err(|error| Failure::temporary(format!("cannot wait for signals: {error}")))?;
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
        Destination::Command(words) => remote(&inputs, own, &words, stop, console).await?,
        Destination::Unsupported(kind) => {
            return Err(Failure {
                message: format!("a destination of the kind {kind} is not supported yet"),
                exit_code: 64,
            });
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

fn prepare(
    inputs: &Inputs,
    settings: &Settings,
    user: &User,
    create: bool,
    separator: Option<char>,
) -> Result<Prepared, Failure> {
    let options = AccountOptions {
        settings,
        user,
        host_domain: &inputs.host_domain,
        create,
        separator,
    };
    let open = options.open()?;
    tracing::debug!(
        "user {}, home {:?}, mail in {:?}, separator {}",
        user.name,
        user.home,
        open.roots,
        open.separator
    );
    let unique = options.store_settings()?.unique();
    let progress = Arc::new(Progress::default());
    let mut environment = Environment::new(inputs.host_domain.as_str(), move || unique.guid());
    environment.user_lock = Some(Box::new(HomeLock::new(user)));
    environment.progress = Arc::clone(&progress);
    environment.alt_char = inputs.options.sync.alt_char;
    Ok(Prepared {
        open,
        environment,
        progress,
    })
}

/// The same conditions as Dovecot's (`spec/transports-and-cli.md` 8).
fn check_distinct(own: &OpenAccount, other: &OpenAccount) -> Result<(), Failure> {
    let real = |root: &PathBuf| root.canonicalize().unwrap_or_else(|_| root.clone());
    if let Some(same) = own
        .roots
        .iter()
        .find(|root| other.roots.iter().any(|other| real(root) == real(other)))
    {
        return Err(Failure::temporary(format!(
            "Both source and destination mail_location points to same directory: {} \
             (give another DESTINATION, or another --source)",
            same.display()
        )));
    }
    if own.separator != other.separator {
        return Err(Failure::temporary(format!(
            "Mail locations must use the same hierarchy separator: the source has {}, \
             the destination {} (set the separator of its namespace with -p)",
            own.separator, other.separator
        )));
    }
    Ok(())
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

/// One verdict for both sides of a local run. The side that failed by itself is the one to
/// report; the other only noticed.
fn join(client: Outcome, server: Outcome) -> Outcome {
    let mut joined = client;
    let noticed = joined
        .error
        .as_ref()
        .is_none_or(|error| error.reported_by_peer);
    if let Some(error) = server
        .error
        .filter(|error| noticed && !error.reported_by_peer)
    {
        joined.error = Some(dsync_engine::RunError {
            message: format!("destination: {}", error.message),
            ..error
        });
    }
    joined.run_again = joined.run_again.or(server.run_again);
    joined.problems.extend(server.problems);
    joined
}

async fn remote(
    inputs: &Inputs,
    own: Prepared,
    words: &[String],
    stop: impl Future<Output = &'static str>,
    console: &Console,
) -> Result<Report, Failure> {
    let rawlog = match &inputs.options.rawlog {
        None => None,
        Some(path) => Rawlog::open(path)
            .map_err(|error| {
                console.error(&format!(
                    "cannot open the raw log {}: {error}",
                    path.display()
                ));
            })
            .ok(),
    };
    let (program, arguments) = words
        .split_first()
        .ok_or_else(|| Failure::temporary("the command is empty"))?;
    let stderr = console.clone();
    let (command, stdout, stdin) =
        RemoteCommand::spawn(program, arguments, move |line| stderr.raw(line))
            .map_err(|error| Failure::temporary(error.to_string()))?;
    let progress = Arc::clone(&own.progress);
    let brain = Brain::client(
        inputs.options.sync.clone(),
        own.open.account,
        own.environment,
    );
    let options = SessionOptions {
        role: Role::Client,
        peer_name: "remote".to_owned(),
        timeout: inputs.options.timeout,
        rawlog,
    };
    let session = tokio::select! {
        session = drive(brain, stdout, stdin, options, stop) => session,
        never = console.watch(Arc::clone(&progress)) => match never {},
    };
    let grace = match session.outcome.error {
        None => COMMAND_GRACE,
        Some(_) => COMMAND_GRACE_FAILED,
    };
    let end = command.finish(grace).await;
    Ok(remote_report(inputs, session, &end, progress, console))
}

/// One line about what failed, with what the command's end adds to it.
fn remote_report(
    inputs: &Inputs,
    session: Session,
    end: &CommandEnd,
    progress: Arc<Progress>,
    console: &Console,
) -> Report {
    let mut outcome = session.outcome.clone();
    let mut exit_code = None;
    match &mut outcome.error {
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
            exit_code = end
                .code()
                .and_then(|code| u8::try_from(code).ok())
                .filter(|code| matches!(code, 64 | 65 | 67 | 68 | 73 | 77 | 78));
        }
        Some(_) => {}
    }
    let mut report = Report::new(inputs, outcome, progress);
    report.bytes = Some((session.bytes_out, session.bytes_in));
    if let Some(code) = exit_code {
        report.exit_code = code;
    }
    report
}
