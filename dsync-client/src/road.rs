//! The way to the other side: a byte stream, and what comes with it.

use std::path::PathBuf;
use std::time::Duration;

use bstr::BString;
use dsync_client::{Destination, HostUser, RemoteNames, RunOptions};
use dsync_config::{
    DOVEADM_PASSWORD, DOVEADM_PORT, DOVEADM_USERNAME, DSYNC_REMOTE_CMD, SSL_CLIENT_CA_DIR,
    SSL_CLIENT_CA_FILE, SSL_CLIENT_CERT_FILE, SSL_CLIENT_KEY_FILE, SSL_CLIENT_REQUIRE_VALID_CERT,
    SSL_MIN_PROTOCOL, Setting, Settings, User,
};
use dsync_proto::doveadm::{Command, Credentials, LogLevel, LogLine, Reply, Status, StatusName};
use dsync_transport::doveadm::{Connection, Login, Road, connect};
use dsync_transport::net::{Target, TlsClient, TlsClientOptions, TlsVersion};
use dsync_transport::{RemoteCommand, SshMaster};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::Mutex;

use crate::console::Console;
use crate::failure::Failure;
use crate::run::Inputs;

/// How long everything before the session may take (`spec/transports-and-cli.md` 12).
const PATIENCE: Duration = Duration::from_secs(30);

/// The other side is there: bytes may flow.
pub(crate) struct Opened {
    pub(crate) reader: Box<dyn AsyncRead + Send + Unpin>,
    pub(crate) writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// Name of the peer in messages, until it tells its own.
    pub(crate) peer_name: String,
    /// The command, if it is one.
    pub(crate) command: Option<RemoteCommand>,
}

/// Opens the way to a destination that is not in this process. `None` for one that is.
pub(crate) async fn open(
    inputs: &Inputs,
    settings: &Settings,
    destination: &Destination,
    user: &User,
    console: &Console,
) -> Result<Option<Opened>, Failure> {
    match destination {
        Destination::Location(_) | Destination::OfUser => Ok(None),
        Destination::Command(words) => spawn(words, console).map(Some),
        Destination::Host {
            host,
            login,
            user: whose,
            prefix,
        } => {
            let names = RemoteNames {
                user: match whose {
                    HostUser::Named(name) => name.clone(),
                    HostUser::AsGiven if !user.looked_up => String::new(),
                    HostUser::AsGiven | HostUser::Same => user.name.clone(),
                },
                login: login.clone(),
                host: host.clone(),
            };
            let words = match settings.text(&DSYNC_REMOTE_CMD) {
                "" => {
                    let control = inputs.ssh.control_socket(&names).await?;
                    names.default_command(*prefix, control.as_deref())
                }
                template => names.command(template)?,
            };
            let mut opened = spawn(&words, console)?;
            if *prefix {
                let line = format!("{}\n", user.name);
                let sent = opened.writer.write_all(line.as_bytes()).await;
                sent.map_err(|error| Failure::temporary(format!("{host}: {error}")))?;
            }
            Ok(Some(opened))
        }
        Destination::Doveadm { target, tls } => {
            let road = doveadm_road(settings, target, *tls)?;
            let opened = call(&road, settings, &user.name, &inputs.options, console).await?;
            Ok(Some(opened))
        }
    }
}

/// The ssh connections of a command for many users: one for each host.
#[derive(Default)]
pub(crate) struct SshMasters {
    /// Without it every user has a connection of its own.
    pub(crate) folder: Option<PathBuf>,
    open: Mutex<Vec<(String, String, SshMaster)>>,
}

impl SshMasters {
    /// Where the connection to this host is; it is made if it is not there.
    async fn control_socket(&self, names: &RemoteNames) -> Result<Option<PathBuf>, Failure> {
        let Some(folder) = &self.folder else {
            return Ok(None);
        };
        let mut open = self.open.lock().await;
        let known = open
            .iter()
            .find(|(host, login, _)| *host == names.host && *login == names.login);
        if let Some((_, _, master)) = known {
            return Ok(Some(master.control_socket().to_owned()));
        }
        let master = SshMaster::connect(&names.host, &names.login, folder)
            .await
            .map_err(|error| Failure::temporary(error.to_string()))?;
        let path = master.control_socket().to_owned();
        open.push((names.host.clone(), names.login.clone(), master));
        Ok(Some(path))
    }

    /// Closes all of them.
    pub(crate) async fn close(&self) {
        for (_, _, master) in self.open.lock().await.drain(..) {
            master.close().await;
        }
    }
}

/// Starts a command.
fn spawn(words: &[String], console: &Console) -> Result<Opened, Failure> {
    let (program, arguments) = words
        .split_first()
        .ok_or_else(|| Failure::temporary("the command is empty"))?;
    let stderr = console.clone();
    let (command, stdout, stdin) =
        RemoteCommand::spawn(program, arguments, move |line| stderr.raw(line))
            .map_err(|error| Failure::temporary(error.to_string()))?;
    Ok(Opened {
        reader: Box::new(stdout),
        writer: Box::new(stdin),
        peer_name: "remote".to_owned(),
        command: Some(command),
    })
}

/// Where a doveadm server is, and how it is reached. Nothing is tried yet.
fn doveadm_road(settings: &Settings, target: &str, tls: bool) -> Result<Road, Failure> {
    let port = u16::try_from(settings.number(&DOVEADM_PORT))
        .map_err(|_| Failure::new(78, "doveadm_port is not a port"))?;
    Ok(Road {
        target: Target::parse(target, port)?,
        tls: tls.then(|| tls_client(settings)).transpose()?,
        start_tls: false,
    })
}

/// Starts a session of `dsync-server` on a doveadm server.
async fn call(
    road: &Road,
    settings: &Settings,
    user: &str,
    options: &RunOptions,
    console: &Console,
) -> Result<Opened, Failure> {
    let login = Login {
        credentials: credentials(settings),
        command: Command {
            debug: options.sync.debug,
            ..Command::dsync_server(BString::from(user))
        },
    };
    let target = road.target.to_string();
    let log = log_sink(&target, console);
    let connection = connect(road, &login, PATIENCE, log).await?;
    refused(&connection.reply, &target)?;
    let Connection { reader, writer, .. } = connection;
    Ok(Opened {
        reader: Box::new(reader),
        writer: Box::new(writer),
        peer_name: target,
        command: None,
    })
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
            "TLSv1.3" => TlsVersion::V13,
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
fn refused(reply: &Reply, target: &str) -> Result<(), Failure> {
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
