//! The way to the other side: a byte stream, and what comes with it.

use dsync_client::{Destination, HostUser, RemoteNames};
use dsync_config::{DSYNC_REMOTE_CMD, Settings, User};
use dsync_transport::RemoteCommand;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

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

/// All that is needed to open the way to a destination.
#[derive(Clone, Copy)]
pub(crate) struct Road<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) destination: &'a Destination,
    pub(crate) user: &'a User,
}

impl Road<'_> {
    /// As [`open`].
    pub(crate) async fn open(
        &self,
        inputs: &Inputs,
        console: &Console,
    ) -> Result<Option<Opened>, Failure> {
        open(inputs, self.settings, self.destination, self.user, console).await
    }
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
        Destination::Command(words) => spawn(words, raw(console)).map(Some),
        Destination::Host { host, prefix, .. } => {
            let names = remote_names(destination, user);
            let words = match settings.text(&DSYNC_REMOTE_CMD) {
                "" => {
                    let control = inputs.hosts.control_socket(&names).await?;
                    names.default_command(*prefix, control.as_deref())
                }
                template => names.command(template)?,
            };
            let mut opened = spawn(&words, raw(console))?;
            if *prefix {
                let line = format!("{}\n", user.name);
                let sent = opened.writer.write_all(line.as_bytes()).await;
                sent.map_err(|error| Failure::temporary(format!("{host}: {error}")))?;
            }
            Ok(Some(opened))
        }
        Destination::Doveadm { target, tls } => {
            let road = doveadm::road(settings, target, *tls, false)?;
            let call = doveadm::Call {
                road: &road,
                settings,
                user: &user.name,
                options: &inputs.options,
            };
            call.open(&inputs.hosts, console).await.map(Some)
        }
    }
}

/// What the command to a host has to know; empty for other destinations.
pub(crate) fn remote_names(destination: &Destination, user: &User) -> RemoteNames {
    let Destination::Host {
        host,
        login,
        user: whose,
        ..
    } = destination
    else {
        return RemoteNames::default();
    };
    RemoteNames {
        user: match whose {
            HostUser::Named(name) => name.clone(),
            HostUser::AsGiven if !user.looked_up => String::new(),
            HostUser::AsGiven | HostUser::Same => user.name.clone(),
        },
        login: login.clone(),
        host: host.clone(),
    }
}

/// Lines of a command go to our stderr as they are.
fn raw(console: &Console) -> impl Fn(&[u8]) + Send + 'static {
    let console = console.clone();
    move |line| console.raw(line)
}

/// Starts a command; each line of its stderr is given to `on_stderr`.
pub(crate) fn spawn(
    words: &[String],
    on_stderr: impl Fn(&[u8]) + Send + 'static,
) -> Result<Opened, Failure> {
    let (program, arguments) = words
        .split_first()
        .ok_or_else(|| Failure::temporary("the command is empty"))?;
    let (command, stdout, stdin) = RemoteCommand::spawn(program, arguments, on_stderr)
        .map_err(|error| Failure::temporary(error.to_string()))?;
    Ok(Opened {
        reader: Box::new(stdout),
        writer: Box::new(stdin),
        peer_name: "remote".to_owned(),
        command: Some(command),
    })
}
