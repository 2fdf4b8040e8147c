//! One client: greeting, commands, session.

use std::net::IpAddr;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use dsync_proto::doveadm::{Command, LogLevel, Reply, Status, StatusName};
use dsync_server::Cli;
use dsync_transport::doveadm::{Gate, GateError, Guest, admit};
use dsync_transport::net::BoxStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::child::{Session, SessionFlags};
use super::{Door, House, Inside};
use crate::failure::say;

/// How long greeting and login may take (`spec/transports-and-cli.md` 11).
const LOGIN_PATIENCE: Duration = Duration::from_secs(10);

/// How long a client may think about its next command.
const IDLE: Duration = Duration::from_secs(60);

/// A client at the door.
pub(super) struct Visit {
    pub(super) house: Arc<House>,
    pub(super) peer: String,
    /// None for a client of this host.
    pub(super) address: Option<IpAddr>,
    pub(super) door: Door,
    pub(super) _inside: Inside,
}

impl Visit {
    /// From the first byte to the end of the connection.
    pub(super) async fn run(self, stream: BoxStream, stranger: OwnedSemaphorePermit) {
        let mut stopped = self.house.stopped.clone();
        let admitted = tokio::select! {
            admitted = self.admit(stream) => admitted,
            _ = stopped.wait_for(|stopped| *stopped) => return,
        };
        drop(stranger);
        let result = match admitted {
            Ok(guest) => self.serve(guest).await,
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            if error.is_wrong_login() {
                self.house.doorman().guessed(self.address, Instant::now());
            }
            say(&format!("{}: {error}", self.peer));
        }
    }

    async fn admit(&self, stream: BoxStream) -> Result<Guest, GateError> {
        let options = &self.house.options;
        let gate = Gate {
            password: options.password.clone(),
            start_tls: options.tls.clone().filter(|_| self.door == Door::Plain),
            trusted: self.door == Door::Trusted,
        };
        let stream = match (&options.tls, self.door) {
            (Some(tls), Door::Tls) => timeout(LOGIN_PATIENCE, tls.accept(stream))
                .await
                .map_err(|_| GateError::Timeout(LOGIN_PATIENCE.as_secs()))??,
            _ => stream,
        };
        admit(stream, &gate, LOGIN_PATIENCE).await
    }

    async fn serve(&self, mut guest: Guest) -> Result<(), GateError> {
        let mut stopped = self.house.stopped.clone();
        loop {
            let command = tokio::select! {
                command = timeout(IDLE, guest.next_command()) => command,
                _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
            };
            // Nothing is lost by ending an idle connection: the client makes a new one.
            let Ok(command) = command else { return Ok(()) };
            let Some(command) = command? else {
                return Ok(());
            };
            let refusal = match self.understand(&command) {
                Ok((user, flags)) => match self.open(guest, &user, flags).await? {
                    Some((back, refusal)) => {
                        guest = back;
                        refusal
                    }
                    None => return Ok(()),
                },
                Err(refusal) => refusal,
            };
            guest.answer(&Reply::new(refusal)).await?;
        }
    }

    /// What the command wants, or the answer that refuses it.
    fn understand(&self, command: &Command) -> Result<(String, SessionFlags), Status> {
        if command.name != "dsync-server" {
            return Err(Status::Failure {
                name: None,
                text: None,
            });
        }
        let usage = || Status::failure(StatusName::Usage);
        let mut arguments = vec!["dsync-server".to_owned()];
        for argument in &command.arguments {
            arguments.push(String::from_utf8(argument.to_vec()).map_err(|_| usage())?);
        }
        let cli = Cli::try_parse_from(arguments).map_err(|_| usage())?;
        // What a client may not decide: settings, files, other commands.
        if cli.common.config.is_some()
            || !cli.common.option.is_empty()
            || cli.rawlog.is_some()
            || cli.remoteprefix
            || cli.action.is_some()
        {
            return Err(usage());
        }
        let user = String::from_utf8(command.username.to_vec()).ok();
        let user = user.filter(|user| !user.is_empty() && !user.contains(char::is_control));
        let user = user.ok_or(Status::failure(StatusName::NoUser))?;
        if !self.house.options.serves(&user) {
            say(&format!(
                "{}: user {user} is not served here (--serve)",
                self.peer
            ));
            return Err(Status::failure(StatusName::NoPerm));
        }
        let flags = SessionFlags {
            debug: command.debug || cli.common.debug,
            verbose: command.verbose || cli.common.verbose,
            timeout: cli.common.timeout,
        };
        Ok((user, flags))
    }

    /// Starts the session and runs it to its end. If it does not start, the guest comes back with
    /// the answer.
    async fn open(
        &self,
        mut guest: Guest,
        user: &str,
        flags: SessionFlags,
    ) -> Result<Option<(Guest, Status)>, GateError> {
        let busy = Status::failure(StatusName::TempFail);
        let Ok(_permit) = Arc::clone(&self.house.sessions).try_acquire_owned() else {
            say(&format!(
                "{}: user {user}: too many sessions (--max-sessions)",
                self.peer
            ));
            guest
                .log(
                    LogLevel::Error,
                    "dsync-server: ",
                    b"too many sessions, try again later",
                )
                .await?;
            return Ok(Some((guest, busy)));
        };
        let name = format!("{}: user {user}", self.peer);
        let mut session = match Session::start(&self.house.options.child, user, flags, name) {
            Ok(session) => session,
            Err(error) => {
                say(&format!("{}: cannot start a session: {error}", self.peer));
                return Ok(Some((guest, busy)));
            }
        };
        match session.first_bytes(&mut guest).await? {
            None => Ok(Some((guest, refusal(session.end().await)))),
            Some(first) => {
                guest.answer(&Reply::new(Status::success())).await?;
                session.run(guest, first, self.house.stopped.clone()).await;
                Ok(None)
            }
        }
    }
}

/// The answer for a process that ended before its session began. Never `NOREPLICATE`, on which a
/// 2.3 client crashes; what has no name is "try again".
fn refusal(status: Option<ExitStatus>) -> Status {
    let code = status.and_then(|status| status.code());
    let code = code.and_then(|code| u8::try_from(code).ok()).unwrap_or(75);
    Status::failure(match StatusName::from_exit_code(code) {
        StatusName::Unknown => StatusName::TempFail,
        name => name,
    })
}
