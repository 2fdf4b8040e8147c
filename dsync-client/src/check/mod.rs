//! `dsync check DESTINATION`: the way of a sync, one step after the other, and what to do about
//! the first one that fails.
//!
//! As in a sync, root goes the way to the other side, and a worker that has become the user does
//! what has to do with mail and with what the peer sends.

mod fix;
mod journal;
mod road;
mod session;
mod steps;

use std::env;

use dsync_client::{CheckArguments, Destination, GlobalArguments, parse_destination};
use dsync_config::{DSYNC_REMOTE_CMD, Identity, Origin, Settings, User};
use serde::Serialize;

use self::journal::{Heard, Journal};
use self::road::Walk;
use self::session::Own;
use self::steps::{Findings, Step, Trouble, plan};
use crate::console::Console;
use crate::failure::Failure;
use crate::road::Opened;
use crate::run::{Stop, destination_of, inherited};
use crate::worker::{self, WorkerOptions};

/// Version of the object that `--json` prints.
const FORMAT: u32 = 1;

/// What `--json` prints.
#[derive(Serialize)]
struct Object<'a> {
    format: u32,
    #[serde(flatten)]
    findings: &'a Findings,
}

/// Everything that a check starts from.
struct Check<'a> {
    settings: Settings,
    given: Destination,
    /// `--worker`
    worker: Option<&'a str>,
    name: Option<&'a str>,
    host_domain: String,
    /// Shows the lines; none if a machine reads the result.
    lines: Option<&'a Console>,
}

/// Does the command. Gives the exit code.
pub(crate) fn start(
    arguments: &CheckArguments,
    global: &GlobalArguments,
    worker: Option<&str>,
    json: bool,
    console: &Console,
) -> Result<u8, Failure> {
    let mut settings = Settings::load(global.config.as_deref(), &global.option)?;
    if worker.is_some() {
        settings.forget_secrets();
    }
    if let Some(source) = &arguments.source {
        settings.set("mail_location", source, &Origin::Argument("--source"))?;
    }
    if arguments
        .user
        .as_ref()
        .is_some_and(|name| name.contains(['*', '?']))
    {
        return Err(Failure::new(64, "check takes one user, no mask"));
    }
    let check = Check {
        given: parse_destination(&arguments.destination, arguments.default_destination)?,
        host_domain: dsync_config::host_domain(env::var("DOVECOT_HOSTDOMAIN").ok(), &settings),
        settings,
        worker,
        name: worker.or(arguments.user.as_deref()),
        lines: (!json).then_some(console),
    };
    let findings = crate::block_on(check.run(console))?;
    if json {
        let object = Object {
            format: FORMAT,
            findings: &findings,
        };
        // Cannot fail: there are no maps with odd keys in it.
        console.result(&serde_json::to_string(&object).unwrap_or_default());
    } else {
        let all_well = "all is well".to_owned();
        console.result(
            &findings
                .fix
                .as_ref()
                .map_or(all_well, |fix| format!("fix: {fix}")),
        );
    }
    Ok(findings.exit_code)
}

impl Check<'_> {
    async fn run(&self, console: &Console) -> Result<Findings, Failure> {
        let stop = Stop::new(console)?;
        let user = match User::find(self.name, &crate::login(), &self.settings) {
            Ok(user) => user,
            Err(error) => {
                let mut journal = Journal::new(vec![Step::User], self.lines);
                let fix = fix::own(&error);
                journal.end(Err(Trouble::new(Step::User, error.into(), fix)));
                return Ok(journal.findings);
            }
        };
        let destination = destination_of(&self.given, &user);
        let plan = match &destination {
            Ok(destination) => {
                let by_ssh = self.settings.text(&DSYNC_REMOTE_CMD).is_empty();
                plan(destination, by_ssh)
            }
            Err(_) => vec![Step::User],
        };
        let mut journal = Journal::new(plan, self.lines);
        let destination = match destination {
            Ok(destination) => destination,
            Err(failure) => {
                let fix = "set mail_replica for this user, or give a destination without -d";
                journal.end(Err(Trouble::new(Step::User, failure, fix)));
                return Ok(journal.findings);
            }
        };
        let result = tokio::select! {
            result = self.steps(&user, &destination, stop.clone(), &mut journal) => result,
            signal = stop.wait() => {
                return Err(Failure::temporary(format!("stopped by {signal}")));
            }
        };
        journal.end(result);
        Ok(journal.findings)
    }

    async fn steps(
        &self,
        user: &User,
        destination: &Destination,
        stop: Stop,
        journal: &mut Journal<'_>,
    ) -> Result<(), Trouble> {
        let of_user = |error: dsync_config::ConfigError| {
            let fix = fix::own(&error);
            Trouble::new(Step::User, error.into(), fix)
        };
        let identity = Identity::of(user, &self.settings).map_err(of_user)?;
        let settings = user.settings(&self.settings).map_err(of_user)?;
        let own = Own {
            settings: &settings,
            user,
            host_domain: &self.host_domain,
        };
        let heard = Heard::default();
        if self.worker.is_some() {
            identity.assume().map_err(of_user)?;
            let opened = match destination {
                Destination::Location(_) => None,
                _ => Some(
                    inherited()
                        .map_err(|failure| Trouble::new(Step::Mail, failure, "run this again"))?,
                ),
            };
            return mail(&own, destination, opened, stop, &heard, journal).await;
        }
        journal.passed(Step::User, found(user));
        let walk = Walk {
            settings: &settings,
            user,
            heard: heard.clone(),
        };
        let opened = walk.go(destination, journal).await?;
        match identity {
            Identity::Same => mail(&own, destination, opened, stop, &heard, journal).await,
            Identity::Change { .. } => work(user, opened, stop, &heard, journal).await,
        }
    }
}

/// Everything that has to do with mail.
async fn mail(
    own: &Own<'_>,
    destination: &Destination,
    opened: Option<Opened>,
    stop: Stop,
    heard: &Heard,
    journal: &mut Journal<'_>,
) -> Result<(), Trouble> {
    let open = own.check(journal)?;
    match (destination, opened) {
        (Destination::Location(location), _) => own.check_location(location, &open, journal),
        (_, Some(opened)) => own.meet(opened, stop, heard, journal).await,
        (_, None) => Ok(()),
    }
}

/// The same in a process that becomes the user.
async fn work(
    user: &User,
    mut opened: Option<Opened>,
    stop: Stop,
    heard: &Heard,
    journal: &mut Journal<'_>,
) -> Result<(), Trouble> {
    let options = WorkerOptions {
        arguments: env::args_os().skip(1).collect(),
        user: user.name.clone(),
        of_many: false,
    };
    let trouble = |failure| Trouble::new(Step::Mail, failure, "look at the message above");
    let ended = worker::run(&options, opened.as_mut(), stop.wait()).await;
    let ended = ended.map_err(trouble)?;
    if let Some(command) = opened.and_then(|opened| opened.command) {
        // Its last lines are worth more than how it ends.
        command.finish(crate::drive::grace(true)).await;
    }
    match serde_json::from_str::<Findings>(&ended.json) {
        Ok(findings) => {
            journal.explain(findings, &heard.text());
            Ok(())
        }
        Err(_) => {
            let what = ended.error.unwrap_or_else(|| "no result".to_owned());
            Err(trouble(Failure::new(ended.exit_code, what)))
        }
    }
}

/// What is known about a user.
fn found(user: &User) -> String {
    let home = match &user.home {
        Some(home) => format!(", home {}", home.display()),
        None => String::new(),
    };
    let uid = user
        .uid
        .map_or_else(String::new, |uid| format!(", uid {uid}"));
    format!("{}{uid}{home}", user.name)
}
