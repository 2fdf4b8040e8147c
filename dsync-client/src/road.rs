//! The way to the other side: a byte stream, and what comes with it.

use std::path::PathBuf;

use dsync_client::{Destination, HostUser, RemoteNames};
use dsync_config::{DSYNC_REMOTE_CMD, Settings, User};
use dsync_transport::{RemoteCommand, SshMaster};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::Mutex;

use crate::console::Console;
use crate::doveadm;
use crate::failure::Failure;
use crate::run::Inputs;

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
            let road = doveadm::road(settings, target, *tls, false)?;
            let opened =
                doveadm::call(&road, settings, &user.name, &inputs.options, console).await?;
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
