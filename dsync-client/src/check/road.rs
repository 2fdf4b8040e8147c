//! The way to the other side, one step after the other. What is heard there is not understood
//! here: a process that may be root's only passes it on.

use std::io::{Cursor, ErrorKind};
use std::time::Duration;

use dsync_client::{Destination, RemoteNames};
use dsync_config::{DSYNC_REMOTE_CMD, SSL_CLIENT_REQUIRE_VALID_CERT, Settings, User};
use dsync_proto::doveadm::{LogLevel, Status};
use dsync_transport::doveadm::{Connection, Road, log_in};
use dsync_transport::net::{Target, TlsFault, TlsRefused, dial, lookup};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::timeout;

use super::fix;
use super::journal::{Heard, Journal};
use super::steps::{Step, Trouble};
use crate::doveadm;
use crate::failure::Failure;
use crate::road::{Opened, remote_names, spawn};

/// How long each step may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// How long a command that has said its last word may take to end.
const GRACE: Duration = Duration::from_secs(2);

/// Room for the first bytes of the other side.
const FIRST_BYTES: usize = 4096;

/// Whose way it is, and where to.
pub(super) struct Walk<'a> {
    pub(super) settings: &'a Settings,
    pub(super) user: &'a User,
    pub(super) heard: Heard,
}

impl Walk<'_> {
    /// Goes it. `None` for a destination in this process.
    pub(super) async fn go(
        &self,
        destination: &Destination,
        journal: &mut Journal<'_>,
    ) -> Result<Option<Opened>, Trouble> {
        match destination {
            Destination::Location(_) | Destination::OfUser => Ok(None),
            Destination::Doveadm { target, tls } => {
                self.doveadm(target, *tls, journal).await.map(Some)
            }
            Destination::Command(words) => self.command(words, None, None, journal).await.map(Some),
            Destination::Host { host, prefix, .. } => {
                let names = remote_names(destination, self.user);
                let template = self.settings.text(&DSYNC_REMOTE_CMD);
                let prefix_line = prefix.then_some(self.user.name.as_str());
                if !template.is_empty() {
                    let words = names.command(template);
                    let words = words.map_err(|error| {
                        let fix = "correct the setting dsync_remote_cmd";
                        Trouble::new(Step::Command, error.into(), fix)
                    })?;
                    let opened = self.command(&words, None, prefix_line, journal).await?;
                    return Ok(Some(opened));
                }
                ssh_port(&names, journal).await?;
                let words = names.default_command(*prefix, None);
                let opened = self.command(&words, Some(host), prefix_line, journal);
                opened.await.map(Some)
            }
        }
    }

    async fn doveadm(
        &self,
        target: &str,
        tls: bool,
        journal: &mut Journal<'_>,
    ) -> Result<Opened, Trouble> {
        let first = if target.contains('/') {
            Step::Port
        } else {
            Step::Name
        };
        let road = doveadm::road(self.settings, target, tls, false).map_err(|failure| {
            let fix = "correct the destination, or the setting that is named";
            Trouble::new(first, failure, fix)
        })?;
        if let Target::Tcp { host, port } = &road.target {
            name(host, *port, journal).await?;
        }
        let scheme = if tls { "tcps" } else { "tcp" };
        let stream = timeout(PATIENCE, dial(&road.target)).await;
        let stream = stream
            .unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
            .map_err(|error| {
                let fix = match &road.target {
                    Target::Tcp { host, port } => {
                        let server = format!("dsync-server listen {scheme}:*:{port}");
                        fix::port(error.kind(), host, *port, &server)
                    }
                    Target::Unix(_) => fix::socket(error.kind()),
                };
                Trouble::temporary(Step::Port, error.to_string(), fix)
            })?;
        journal.passed(Step::Port, format!("{} answers", road.target));
        let stream = match &road.tls {
            None => stream,
            Some(tls) => {
                let stream = timeout(PATIENCE, tls.connect(road.target.host(), stream)).await;
                let stream = stream
                    .unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
                    .map_err(|error| {
                        let inner = error.get_ref();
                        let refused = inner.and_then(|it| it.downcast_ref::<TlsRefused>());
                        let fault = refused.map_or(TlsFault::Handshake, |refused| refused.fault);
                        Trouble::temporary(Step::Tls, error.to_string(), fix::tls(fault))
                    })?;
                let host = road.target.host();
                journal.passed(
                    Step::Tls,
                    if self.settings.is_on(&SSL_CLIENT_REQUIRE_VALID_CERT) {
                        format!("the certificate is good, and for {host}")
                    } else {
                        "anybody is taken for the server: ssl_client_require_valid_cert = no"
                            .to_owned()
                    },
                );
                stream
            }
        };
        self.log_in(stream, &road, journal).await
    }

    async fn log_in(
        &self,
        stream: dsync_transport::net::BoxStream,
        road: &Road,
        journal: &mut Journal<'_>,
    ) -> Result<Opened, Trouble> {
        let heard = self.heard.clone();
        let log = Box::new(move |line: dsync_proto::doveadm::LogLine| {
            if line.level >= LogLevel::Warning {
                heard.add(&line.text.to_string());
            }
        });
        let user = &self.user.name;
        let login = doveadm::session_login(self.settings, user, false);
        let connection = log_in(stream, road, &login, PATIENCE, log).await;
        let connection = connection.map_err(|error| {
            let fix = fix::login(&error);
            Trouble::new(Step::Login, error.into(), fix)
        })?;
        journal.passed(Step::Login, format!("{} lets us in", road.target));
        if let Status::Failure { name, .. } = &connection.reply.status {
            let fix = fix::refusal(name.as_ref(), user);
            let refused = doveadm::refused(&connection.reply, &road.target.to_string());
            let failure = refused
                .err()
                .unwrap_or_else(|| Failure::temporary("refused"));
            return Err(self.because(Trouble::new(Step::UserThere, failure, fix)));
        }
        journal.passed(Step::UserThere, format!("{user} has mail there"));
        let Connection { reader, writer, .. } = connection;
        Ok(Opened {
            reader: Box::new(reader),
            writer: Box::new(writer),
            peer_name: road.target.to_string(),
            command: None,
        })
    }

    /// Starts a command, and waits for its first bytes.
    async fn command(
        &self,
        words: &[String],
        by_ssh: Option<&str>,
        prefix: Option<&str>,
        journal: &mut Journal<'_>,
    ) -> Result<Opened, Trouble> {
        let heard = self.heard.clone();
        let sink = move |line: &[u8]| heard.add(&String::from_utf8_lossy(line));
        let mut opened = spawn(words, sink).map_err(|failure| {
            let fix = "install the program, or correct its name";
            Trouble::new(Step::Command, failure, fix)
        })?;
        if let Some(user) = prefix {
            // If it fails, the command has ended, which is seen next.
            let _ = opened
                .writer
                .write_all(format!("{user}\n").as_bytes())
                .await;
        }
        let mut first = vec![0; FIRST_BYTES];
        let size = timeout(PATIENCE, opened.reader.read(&mut first)).await;
        let Ok(size) = size else {
            return Err(self.because(Trouble::temporary(
                Step::Command,
                format!("it has said nothing for {} seconds", PATIENCE.as_secs()),
                "run the command by hand: it has to say VERSION, and to ask nothing",
            )));
        };
        first.truncate(size.unwrap_or(0));
        if first.is_empty() {
            return Err(self.ended(opened, by_ssh).await);
        }
        let words = words.first().map_or("", String::as_str);
        journal.passed(
            Step::Command,
            match by_ssh {
                Some(host) => format!("{words} to {host} runs a server there"),
                None => format!("{words} runs"),
            },
        );
        journal.passed(Step::UserThere, "a session has begun");
        opened.reader = Box::new(Cursor::new(first).chain(opened.reader));
        Ok(opened)
    }

    /// A command that has ended without a word.
    async fn ended(&self, opened: Opened, by_ssh: Option<&str>) -> Trouble {
        let Opened {
            reader,
            writer,
            command,
            ..
        } = opened;
        drop((reader, writer));
        let Some(command) = command else {
            return Trouble::temporary(Step::Command, "it has ended", "");
        };
        let end = command.finish(GRACE).await;
        let (step, fix) = fix::command(end.code(), by_ssh, &self.user.name, &self.heard.text());
        let code = crate::drive::telling_code(&end).unwrap_or(75);
        let failure = Failure::new(code, format!("the command {}", end.describe()));
        self.because(Trouble::new(step, failure, fix))
    }

    /// With what was heard about it.
    fn because(&self, mut trouble: Trouble) -> Trouble {
        let heard = self.heard.text();
        if !heard.is_empty() {
            trouble.what = format!("{}: {heard}", trouble.what);
        }
        trouble
    }
}

async fn name(host: &str, port: u16, journal: &mut Journal<'_>) -> Result<(), Trouble> {
    let found = timeout(PATIENCE, lookup(host, port)).await;
    let found = found
        .unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
        .map_err(|error| {
            let fix =
                format!("correct the name of the host, or make this work: getent hosts {host}");
            Trouble::temporary(Step::Name, error.to_string(), fix)
        })?;
    let addresses: Vec<String> = found.iter().map(|it| it.ip().to_string()).collect();
    journal.passed(Step::Name, format!("{host} is {}", addresses.join(", ")));
    Ok(())
}

/// Name and port of a host as ssh understands it. Where ssh goes by way of something else, it has
/// to find the host itself.
async fn ssh_port(names: &RemoteNames, journal: &mut Journal<'_>) -> Result<(), Trouble> {
    let mut ssh = Command::new("ssh");
    ssh.arg("-G");
    if !names.login.is_empty() {
        ssh.arg(format!("-l{}", names.login));
    }
    let output = ssh.arg("--").arg(&names.host).kill_on_drop(true).output();
    let output = timeout(PATIENCE, output).await;
    let output = output
        .unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
        .map_err(|error| {
            let what = format!("cannot start ssh: {error}");
            Trouble::temporary(Step::Name, what, "install ssh, or set dsync_remote_cmd")
        })?;
    let known = SshConfig::parse(&String::from_utf8_lossy(&output.stdout));
    if let Some(way) = known.by_way_of {
        journal.passed(
            Step::Name,
            format!("left to ssh, which goes by way of {way}"),
        );
        journal.passed(Step::Port, "left to ssh");
        return Ok(());
    }
    let host = known.host.unwrap_or_else(|| names.host.clone());
    let port = known.port.unwrap_or(22);
    name(&host, port, journal).await?;
    let target = Target::Tcp { host, port };
    let answer = timeout(PATIENCE, dial(&target)).await;
    answer
        .unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
        .map_err(|error| {
            let fix = fix::port(error.kind(), target.host(), port, "sshd");
            Trouble::temporary(Step::Port, error.to_string(), fix)
        })?;
    journal.passed(Step::Port, format!("{target} answers"));
    Ok(())
}

/// What `ssh -G` tells.
#[derive(Debug, Default, PartialEq, Eq)]
struct SshConfig {
    host: Option<String>,
    port: Option<u16>,
    by_way_of: Option<String>,
}

impl SshConfig {
    fn parse(text: &str) -> Self {
        let mut config = Self::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once(' ')) {
            match key {
                "hostname" => config.host = Some(value.to_owned()),
                "port" => config.port = value.parse().ok(),
                "proxyjump" | "proxycommand" if value != "none" => {
                    config.by_way_of = Some(value.to_owned());
                }
                _ => {}
            }
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ssh_tells() {
        let config =
            SshConfig::parse("user joe\nhostname 10.0.0.1\nport 2222\nproxycommand none\n");
        let expected = SshConfig {
            host: Some("10.0.0.1".into()),
            port: Some(2222),
            by_way_of: None,
        };
        assert_eq!(config, expected);
        let jump = SshConfig::parse("hostname h\nproxyjump gate\n");
        assert_eq!(jump.by_way_of.as_deref(), Some("gate"));
        assert_eq!(SshConfig::parse("usage: ssh"), SshConfig::default());
    }
}
