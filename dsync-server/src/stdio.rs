//! One session on standard input and output.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dsync_config::{AccountOptions, DSYNC_ALT_CHAR, HomeLock, Identity, Login, Settings, User};
use dsync_engine::{Brain, Environment};
use dsync_server::{Cli, read_user_prefix};
use dsync_transport::{Hangup, Rawlog, Role, Session, SessionOptions, drive, stop_signal};

use crate::failure::{Failure, leave_at_once, say};

/// Serves one user on standard input and output. Gives the exit code.
pub(crate) async fn serve(cli: &Cli) -> Result<u8, Failure> {
    let stop = stop_signal(Hangup::Stop, leave_at_once)?;
    tokio::pin!(stop);
    let (mut stdin, stdout) = (tokio::io::stdin(), tokio::io::stdout());
    let timeout = Duration::from_secs(cli.common.timeout().into());
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
    let session = drive(brain, stdin, stdout, options, stop).await;
    Ok(report(&session))
}

fn build(cli: &Cli, user: Option<&str>) -> Result<Brain, Failure> {
    let mut settings = Settings::load(cli.common.config.as_deref(), &cli.common.option)?;
    settings.forget_secrets();
    let login = Login {
        user: env::var("USER").ok(),
        home: env::var_os("HOME").map(PathBuf::from),
    };
    let user = User::find(user, &login, &settings)?;
    // From here on nothing is done as root.
    Identity::of(&user, &settings)?.assume()?;
    let settings = user.settings(&settings)?;
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
    environment.missing_roots = open.missing_roots;
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
