//! One ssh connection for many commands.

use std::path::Path;

use openssh::{KnownHosts, Session, SessionBuilder};

/// The connection could not be made.
#[derive(Debug, thiserror::Error)]
#[error("ssh to {host}: {reason}")]
pub struct SshError {
    /// The host.
    pub host: String,
    reason: String,
}

/// A connection to a host that is logged in once. The commands of `ssh -S` with its control socket
/// go through it, each without a login of its own. It is closed when dropped.
///
/// A host that is not known is refused, and nothing is asked: this is for programs that run by
/// themselves. Keys, agents, ports and jump hosts are those of ssh's configuration.
#[derive(Debug)]
pub struct SshMaster(Session);

impl SshMaster {
    /// Connects, with `login` if it is not empty. The control socket is made in a directory of its
    /// own below `folder`.
    pub async fn connect(host: &str, login: &str, folder: &Path) -> Result<Self, SshError> {
        let mut builder = SessionBuilder::default();
        builder.known_hosts_check(KnownHosts::Strict);
        builder.control_directory(folder);
        if !login.is_empty() {
            builder.user(login.to_owned());
        }
        match builder.connect(host).await {
            Ok(session) => Ok(Self(session)),
            Err(error) => Err(SshError {
                host: host.to_owned(),
                reason: with_causes(&error),
            }),
        }
    }

    /// Where commands find the connection.
    pub fn control_socket(&self) -> &Path {
        self.0.control_socket()
    }

    /// Logs out.
    pub async fn close(self) {
        // It may have gone by itself.
        let _ = self.0.close().await;
    }
}

/// What ssh said is in the cause.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {}", error.to_string().trim().replace('\n', " "));
        cause = error.source();
    }
    text
}
