//! The run of one user, from the name to the result.

use std::ffi::OsString;
use std::sync::Arc;

use dsync_client::{Destination, RunOptions, parse_location};
use dsync_config::{ConfigError, Identity, Login, MAIL_LOCATION, Origin, Settings, User};
use dsync_engine::{Direction, Outcome};
use dsync_storage::location::Location;
use dsync_transport::{Hangup, stop_signal};
use tokio::sync::watch;

use crate::console::Console;
use crate::doveadm::Elsewhere;
use crate::drive::{grace, local, remote, telling_code, with_state};
use crate::ended::Ended;
use crate::failure::Failure;
use crate::hosts::Hosts;
use crate::report::Report;
use crate::road::{self, Opened, Road};
use crate::sides::{check_distinct, prepare};
use crate::worker::{self, WorkerOptions};

/// Everything that the runs of a command start from.
pub(crate) struct Inputs {
    pub(crate) command: &'static str,
    pub(crate) options: RunOptions,
    pub(crate) settings: Settings,
    pub(crate) login: Login,
    pub(crate) host_domain: String,
    /// The arguments of this program, for workers.
    pub(crate) arguments: Vec<OsString>,
    /// This process is a worker.
    pub(crate) is_worker: bool,
    /// There are other users too.
    pub(crate) of_many: bool,
    /// `-U`
    pub(crate) replicates: bool,
    pub(crate) hosts: Hosts,
    /// `-S`: a doveadm server does everything.
    pub(crate) elsewhere: Option<Elsewhere>,
}

/// A signal that ends everything, for whoever wants to know.
#[derive(Clone)]
pub(crate) struct Stop(watch::Receiver<Option<&'static str>>);

impl Stop {
    /// Signals count from now on.
    pub(crate) fn new(console: &Console) -> Result<Self, Failure> {
        let impatient = console.clone();
        let stop = stop_signal(Hangup::Ignore, move |signal| {
            leave_at_once(&impatient, signal);
        })
        .map_err(|error| Failure::temporary(format!("cannot wait for signals: {error}")))?;
        let (sender, receiver) = watch::channel(None);
        tokio::spawn(async move {
            let signal = stop.await;
            sender.send_replace(Some(signal));
            // As long as the sender lives, nobody takes its end for a signal.
            std::future::pending::<()>().await;
        });
        Ok(Self(receiver))
    }

    /// Waits for the signal, and gives its name.
    pub(crate) async fn wait(mut self) -> &'static str {
        match self
            .0
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|name| *name)
        {
            Some(name) => name,
            None => std::future::pending().await,
        }
    }

    /// Whether it has come.
    pub(crate) fn is_there(&self) -> bool {
        self.0.borrow().is_some()
    }
}

/// Does the run of one user, and says everything about it that is for people.
pub(crate) async fn run_user(
    inputs: &Inputs,
    name: Option<&str>,
    stop: Stop,
    console: &Console,
) -> Ended {
    let result = try_run(inputs, name, stop, console).await;
    console.clear();
    result.unwrap_or_else(|failure| {
        console.error(&failure.message);
        Ended::failed(name, &failure)
    })
}

async fn try_run(
    inputs: &Inputs,
    name: Option<&str>,
    stop: Stop,
    console: &Console,
) -> Result<Ended, Failure> {
    if let Some(elsewhere) = &inputs.elsewhere {
        let login = inputs.login.user.as_deref();
        let user = name.or(login).ok_or(ConfigError::NoUser)?;
        return tokio::select! {
            ended = elsewhere.run(&inputs.settings, user, console) => ended,
            signal = stop.wait() => Err(Failure::temporary(format!(
                "stopped by {signal}; the server goes on by itself"
            ))),
        };
    }
    let user = User::find(name, &inputs.login, &inputs.settings)?;
    if inputs.replicates && user.no_replicate {
        console.line("not replicated: the userdb has noreplicate");
        let report = Report::new(inputs, Outcome::default(), Arc::default());
        return Ok(Ended::reported(&user.name, &report));
    }
    let identity = Identity::of(&user, &inputs.settings)?;
    let settings = user.settings(&inputs.settings)?;
    let destination = destination_of(&inputs.options.destination, &user)?;
    if inputs.is_worker {
        identity.assume()?;
        let opened = match destination {
            Destination::Location(_) => None,
            _ => Some(inherited()?),
        };
        return run_here(
            inputs,
            &settings,
            &user,
            &destination,
            opened,
            stop,
            console,
        )
        .await;
    }
    let open = road::open(inputs, &settings, &destination, &user, console);
    let opened = tokio::select! {
        opened = open => opened?,
        signal = stop.clone().wait() => {
            let message = format!("stopped by {signal} before the run began");
            return Err(Failure::temporary(message));
        }
    };
    match identity {
        Identity::Same => {
            run_here(
                inputs,
                &settings,
                &user,
                &destination,
                opened,
                stop,
                console,
            )
            .await
        }
        Identity::Change { .. } => run_worker(inputs, &user, opened, stop, console).await,
    }
}

/// `-d` becomes what the userdb says.
pub(crate) fn destination_of(given: &Destination, user: &User) -> Result<Destination, Failure> {
    match (given, &user.mail_replica) {
        (Destination::OfUser, Some(replica)) => Ok(parse_location(replica)),
        (Destination::OfUser, None) => Err(Failure::new(68, "User has no mail_replica in userdb")),
        (destination, _) => Ok(destination.clone()),
    }
}

/// A worker's way to the other side; its other end is in the process that started it.
pub(crate) fn inherited() -> Result<Opened, Failure> {
    let stream = worker::inherited_stream()
        .map_err(|error| Failure::temporary(format!("a worker without a socket: {error}")))?;
    let (reader, writer) = stream.into_split();
    Ok(Opened {
        reader: Box::new(reader),
        writer: Box::new(writer),
        peer_name: "remote".to_owned(),
        command: None,
    })
}

/// The run in this process.
async fn run_here(
    inputs: &Inputs,
    settings: &Settings,
    user: &User,
    destination: &Destination,
    opened: Option<Opened>,
    stop: Stop,
    console: &Console,
) -> Result<Ended, Failure> {
    let options = with_state(
        &inputs.options.sync,
        inputs.options.state.as_deref(),
        console,
    );
    let direction = options.client_direction();
    let create = match direction {
        Direction::Receive => true,
        // What was typed may be a wrong path; what is configured may be the new place of mail that
        // is elsewhere.
        Direction::Both => is_configured(settings) && is_there(destination, user),
        Direction::Send => false,
    };
    let own = prepare(inputs, settings, user, create, None)?;
    let report = match (destination, opened) {
        (_, Some(opened)) => {
            let road = Road {
                settings,
                destination,
                user,
            };
            // A worker has nothing but the stream that it was given.
            let road = Some(road).filter(|_| !inputs.is_worker);
            remote(inputs, options, own, opened, road, stop, console).await
        }
        (Destination::Location(location), None) => {
            let mut settings = settings.clone();
            settings.set("mail_location", location, &Origin::Argument("DESTINATION"))?;
            for assignment in &inputs.options.destination_settings {
                settings.assign(assignment, &Origin::Argument("-p"))?;
            }
            let separator = Some(own.open.separator);
            let create = direction != Direction::Receive;
            let other = prepare(inputs, &settings, user, create, separator)?;
            check_distinct(&own.open, &other.open)?;
            local(inputs, options, own, other, stop, console).await
        }
        (_, None) => return Err(Failure::temporary("there is no way to the other side")),
    };
    console.clear();
    report.say(console);
    Ok(Ended::reported(&user.name, &report))
}

/// Whether `mail_location` comes from a file, a Dovecot or the userdb.
fn is_configured(settings: &Settings) -> bool {
    let origin = settings.origin(&MAIL_LOCATION);
    origin.is_some_and(|origin| !matches!(origin, Origin::Argument(_)))
}

/// Whether the destination is a location on this host that exists.
fn is_there(destination: &Destination, user: &User) -> bool {
    let Destination::Location(text) = destination else {
        return false;
    };
    Location::parse(text, &user.variables()).is_ok_and(|location| location.root.is_dir())
}

/// The run in a process that becomes the user.
async fn run_worker(
    inputs: &Inputs,
    user: &User,
    mut opened: Option<Opened>,
    stop: Stop,
    console: &Console,
) -> Result<Ended, Failure> {
    let options = WorkerOptions {
        arguments: inputs.arguments.clone(),
        user: user.name.clone(),
        of_many: inputs.of_many,
    };
    let mut ended = worker::run(&options, opened.as_mut(), stop.wait()).await?;
    let Some(Opened {
        reader,
        writer,
        command: Some(command),
        ..
    }) = opened
    else {
        return Ok(ended);
    };
    drop((reader, writer));
    let end = command.finish(grace(ended.exit_code != 0)).await;
    if let Some(complaint) = end.complaint() {
        console.line(&complaint);
    }
    // The worker knows only that it failed.
    if let (75, Some(code)) = (ended.exit_code, telling_code(&end)) {
        ended.exit_code = code;
        let known = ended.error.unwrap_or_default();
        ended.error = Some(format!("{known} [the command {}]", end.describe()));
    }
    Ok(ended)
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
