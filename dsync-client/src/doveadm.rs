//! Doveadm servers: how they are reached, and what they answer.

use std::path::PathBuf;
use std::time::Duration;

use bstr::BString;
use dsync_client::{RunOptions, SyncArguments, server_arguments};
use dsync_config::{
    DOVEADM_PASSWORD, DOVEADM_PORT, DOVEADM_SSL, DOVEADM_USERNAME, SSL_CLIENT_CA_DIR,
    SSL_CLIENT_CA_FILE, SSL_CLIENT_CERT_FILE, SSL_CLIENT_KEY_FILE, SSL_CLIENT_REQUIRE_VALID_CERT,
    SSL_MIN_PROTOCOL, Setting, Settings,
};
use dsync_proto::doveadm::{Command, Credentials, LogLevel, LogLine, Reply, Status, StatusName};
use dsync_transport::doveadm::{Connection, Login, Road, connect};
use dsync_transport::net::{Target, TlsClient, TlsClientOptions, TlsVersion};

use crate::console::Console;
use crate::ended::Ended;
use crate::failure::Failure;
use crate::hosts::Hosts;
use crate::road::Opened;

/// How long everything before the session may take (`spec/transports-and-cli.md` 12).
const PATIENCE: Duration = Duration::from_secs(30);

/// A whole command for a doveadm server (`-S`).
pub(crate) struct Elsewhere {
    pub(crate) road: Road,
    /// `sync` or `backup`.
    pub(crate) command: &'static str,
    pub(crate) arguments: SyncArguments,
    pub(crate) one_way: bool,
    pub(crate) debug: bool,
    pub(crate) verbose: bool,
}

impl Elsewhere {
    /// Where the server of `-S` is: a path is a UNIX socket.
    pub(crate) fn road(settings: &Settings, target: &str) -> Result<Road, Failure> {
        let tls = settings.text(&DOVEADM_SSL);
        road(settings, target, tls == "ssl", tls == "starttls")
    }

    /// Lets the server do the command for this user.
    pub(crate) async fn run(
        &self,
        settings: &Settings,
        user: &str,
        console: &Console,
    ) -> Result<Ended, Failure> {
        let login = Login {
            credentials: credentials(settings),
            command: Command {
                debug: self.debug,
                verbose: self.verbose && !self.debug,
                username: user.into(),
                name: self.command.into(),
                arguments: server_arguments(&self.arguments, self.one_way, user),
                ..Command::default()
            },
        };
        let target = self.road.target.to_string();
        let log = log_sink(&target, console);
        let reply = connect(&self.road, &login, PATIENCE, log).await?.reply;
        let state = reply.fields.first().map(ToString::to_string);
        let state = state.filter(|_| self.arguments.state.is_some());
        let (exit_code, error) = match &reply.status {
            Status::Success(_) => (0, None),
            // 2.3 has no name for "run it again", but then there is a state.
            Status::Failure {
                name: Some(StatusName::Unknown),
                ..
            } if state.is_some() => (
                2,
                Some(format!(
                    "{target}: Mailbox changes caused a desync; run it again"
                )),
            ),
            Status::Failure { name: None, .. } => {
                let message = format!(
                    "{target}: the server does not know the command {}",
                    self.command
                );
                (75, Some(message))
            }
            Status::Failure {
                name: Some(name),
                text,
            } => {
                let text = text
                    .as_ref()
                    .map_or_else(String::new, |text| format!(" {text}"));
                let message = format!(
                    "{target}: {} failed: {}{text}",
                    self.command,
                    name.as_bytes()
                );
                (name.exit_code(), Some(message))
            }
        };
        match &error {
            Some(error) => console.error(error),
            None => console.line(&format!("{} done by {target}", self.command)),
        }
        Ok(Ended::elsewhere(user, exit_code, error, state))
    }
}

/// Where a doveadm server is, and how it is reached. Nothing is tried yet.
pub(crate) fn road(
    settings: &Settings,
    target: &str,
    tls: bool,
    start_tls: bool,
) -> Result<Road, Failure> {
    let port = u16::try_from(settings.number(&DOVEADM_PORT))
        .map_err(|_| Failure::new(78, "doveadm_port is not a port"))?;
    Ok(Road {
        target: Target::parse(target, port)?,
        tls: (tls || start_tls)
            .then(|| tls_client(settings))
            .transpose()?,
        start_tls,
    })
}

/// A session of `dsync-server` that a doveadm server shall start.
pub(crate) struct Call<'a> {
    pub(crate) road: &'a Road,
    pub(crate) settings: &'a Settings,
    pub(crate) user: &'a str,
    pub(crate) options: &'a RunOptions,
}

impl Call<'_> {
    /// Starts it. A server that does not let anybody in is not asked again for a while.
    pub(crate) async fn open(&self, hosts: &Hosts, console: &Console) -> Result<Opened, Failure> {
        let login = session_login(self.settings, self.user, self.options.sync.debug);
        let target = self.road.target.to_string();
        hosts.expect_reachable(&target)?;
        let log = log_sink(&target, console);
        let patience = PATIENCE.min(self.options.timeout);
        let connection = connect(self.road, &login, patience, log).await;
        let connection = connection.map_err(|error| {
            let is_for_all = error.is_for_all();
            let failure = Failure::from(error);
            if is_for_all {
                hosts.is_unreachable(&target, &failure);
            }
            failure
        })?;
        refused(&connection.reply, &target)?;
        let Connection { reader, writer, .. } = connection;
        Ok(Opened {
            reader: Box::new(reader),
            writer: Box::new(writer),
            peer_name: target,
            command: None,
        })
    }
}

/// What a doveadm server is told to start a session for this user.
pub(crate) fn session_login(settings: &Settings, user: &str, debug: bool) -> Login {
    Login {
        credentials: credentials(settings),
        command: Command {
            debug,
            ..Command::dsync_server(BString::from(user))
        },
    }
}

/// User name and password for a doveadm server.
fn credentials(settings: &Settings) -> Credentials {
    Credentials {
        username: settings.text(&DOVEADM_USERNAME).as_bytes().to_vec(),
        password: settings.text(&DOVEADM_PASSWORD).as_bytes().to_vec(),
    }
}

/// TLS as the settings want it.
fn tls_client(settings: &Settings) -> Result<TlsClient, Failure> {
    let path = |setting: &Setting| {
        let text = settings.text(setting);
        (!text.is_empty()).then(|| PathBuf::from(text))
    };
    let certificate = path(&SSL_CLIENT_CERT_FILE);
    Ok(TlsClient::new(&TlsClientOptions {
        ca_file: path(&SSL_CLIENT_CA_FILE),
        ca_dir: path(&SSL_CLIENT_CA_DIR),
        // A file may hold both.
        identity: certificate
            .map(|file| (file.clone(), path(&SSL_CLIENT_KEY_FILE).unwrap_or(file))),
        accept_anybody: !settings.is_on(&SSL_CLIENT_REQUIRE_VALID_CERT),
        min_version: match settings.text(&SSL_MIN_PROTOCOL) {
            "TLSv1.3" | "LATEST" => TlsVersion::V13,
            _ => TlsVersion::V12,
        },
    })?)
}

/// Shows the lines of the server's log, each at its level.
fn log_sink(target: &str, console: &Console) -> Box<dyn FnMut(LogLine) + Send> {
    let prefix = format!("remote({target})");
    let console = console.clone();
    Box::new(move |line| {
        let text: String = line.text.to_string();
        let text: String = text.chars().filter(|c| !c.is_control()).collect();
        match line.level {
            LogLevel::Debug => tracing::debug!("{prefix}: {text}"),
            LogLevel::Info => tracing::info!("{prefix}: {text}"),
            LogLevel::Warning => console.line(&format!("{prefix}: warning: {text}")),
            _ => console.error(&format!("{prefix}: {text}")),
        }
    })
}

/// What a reply other than success means (`spec/transports-and-cli.md` 9.9).
pub(crate) fn refused(reply: &Reply, target: &str) -> Result<(), Failure> {
    let Status::Failure { name, text } = &reply.status else {
        return Ok(());
    };
    let Some(name) = name else {
        let message = format!("{target}: the server does not know the command dsync-server");
        return Err(Failure::temporary(message));
    };
    let code = name.exit_code();
    let text = text
        .as_ref()
        .map_or_else(String::new, |text| format!(" {text}"));
    let message = match name {
        StatusName::NoUser => format!("{target}: Unknown user in remote{text}"),
        StatusName::NoPerm => format!("{target}: the server does not permit it{text}"),
        name => format!(
            "{target}: Failed to start remote dsync-server command: Remote exit_code={code} {}{text}",
            name.as_bytes()
        ),
    };
    Err(Failure::new(code, message))
}
