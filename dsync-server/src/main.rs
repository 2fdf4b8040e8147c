//! The `dsync-server` command: parse, build, drive, report. Its stdout carries only the protocol.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use clap::error::ErrorKind;
use dsync_config::{AccountOptions, ConfigError, DSYNC_ALT_CHAR, HomeLock, Login, Settings, User};
use dsync_engine::{Brain, Environment};
use dsync_server::{Cli, PrefixError, read_user_prefix};
use dsync_transport::{Hangup, Rawlog, Role, Session, SessionOptions, drive, stop_signal};
use tracing::Level;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A reader that is gone does not want to know.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(64),
            };
        }
    };
    install_logging(&cli);
    if io::stdin().is_terminal() && io::stdout().is_terminal() {
        say("this is the other end of dsync and speaks its protocol, not to people; see --help");
        return ExitCode::from(64);
    }
    match serve(&cli) {
        Ok(session) => report(&session).into(),
        Err(failure) => {
            say(&failure.message);
            failure.exit_code.into()
        }
    }
}

/// Why nothing could be served: one line and an exit code.
struct Failure {
    message: String,
    exit_code: u8,
}

impl Failure {
    fn temporary(message: String) -> Self {
        Self {
            message,
            exit_code: 75,
        }
    }
}

impl From<PrefixError> for Failure {
    fn from(error: PrefixError) -> Self {
        Self {
            exit_code: error.exit_code(),
            message: error.to_string(),
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

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::temporary(format!("cannot start: {error}"))
    }
}

fn serve(cli: &Cli) -> Result<Session, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let session = runtime.block_on(serve_stdio(cli));
    // A thread may hang in a read of stdin that nobody can interrupt.
    runtime.shutdown_background();
    session
}

async fn serve_stdio(cli: &Cli) -> Result<Session, Failure> {
    let stop = stop_signal(Hangup::Stop, leave_at_once)?;
    tokio::pin!(stop);
    let (mut stdin, stdout) = (tokio::io::stdin(), tokio::io::stdout());
    let timeout = Duration::from_secs(cli.timeout.into());
    let mut user = cli.user.clone();
    if cli.remoteprefix {
        user = tokio::select! {
            name = read_user_prefix(&mut stdin, timeout) => Some(name?),
            signal = &mut stop => return Err(Failure::temporary(format!("stopped by {signal}"))),
        };
    }
    let brain = build(cli, user.as_deref())?;
    let options = SessionOptions {
        role: Role::Server,
        peer_name: "local".to_owned(),
        timeout,
        rawlog: cli.rawlog.as_deref().and_then(open_rawlog),
    };
    Ok(drive(brain, stdin, stdout, options, stop).await)
}

fn build(cli: &Cli, user: Option<&str>) -> Result<Brain, Failure> {
    let settings = Settings::load(cli.config.as_deref(), &cli.option)?;
    let login = Login {
        user: env::var("USER").ok(),
        home: env::var_os("HOME").map(PathBuf::from),
    };
    let user = User::find(user, &login, &settings)?;
    let host_domain = dsync_config::host_domain(env::var("DOVECOT_HOSTDOMAIN").ok(), &settings);
    let account = AccountOptions {
        settings: &settings,
        user: &user,
        host_domain: &host_domain,
        // The client has not said yet whether this side is the source or the destination.
        create: true,
        separator: None,
    };
    let open = account.open()?;
    tracing::debug!("user {}, mail in {:?}", user.name, open.roots);
    let unique = account.store_settings()?.unique();
    let mut environment = Environment::new(host_domain.as_str(), move || unique.guid());
    environment.missing_root = open.missing_root;
    environment.user_lock = Some(Box::new(HomeLock::new(&user)));
    environment.alt_char = settings
        .text(&DSYNC_ALT_CHAR)
        .bytes()
        .next()
        .unwrap_or(b'_');
    Ok(Brain::server(open.account, environment))
}

/// The run goes on without it, as in Dovecot.
fn open_rawlog(path: &Path) -> Option<Rawlog> {
    Rawlog::open(path)
        .map_err(|error| {
            say(&format!(
                "cannot open the raw log {}: {error}",
                path.display()
            ));
        })
        .ok()
}

/// Nothing is lost by it: every step of the stores is safe against a sudden end.
#[expect(
    clippy::exit,
    reason = "the sender of the signal does not want to wait"
)]
fn leave_at_once(signal: &str) {
    say(&format!(
        "ended at once by a second signal ({signal}); run it again"
    ));
    std::process::exit(75);
}

/// Says what went wrong, unless the client knows and says it. What could be synced only in part
/// does not change the exit code (`spec/brain-and-tree.md` 8).
fn report(session: &Session) -> u8 {
    for problem in &session.outcome.problems {
        say(&problem.to_string());
    }
    match &session.outcome.error {
        None => 0,
        Some(error) => {
            if !error.reported_by_peer && !session.told_peer {
                say(&error.message);
            }
            error.class.exit_code()
        }
    }
}

/// A line for people. It is ignored if nobody listens.
fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "dsync-server: error: {text}");
}

fn install_logging(cli: &Cli) {
    let level = match (cli.debug, cli.verbose) {
        (true, _) => Level::DEBUG,
        (false, true) => Level::INFO,
        (false, false) => Level::WARN,
    };
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .without_time()
        .with_target(false)
        .with_ansi(false)
        .with_writer(io::stderr)
        .finish();
    // Fails only if there is one already.
    let _ = tracing::subscriber::set_global_default(subscriber);
}
