//! Our listener.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use dsync_testkit::certificates::Certificates;

use crate::daemon::{Daemon, PASSWORD};
use crate::{Side, World};

/// A running `dsync-server listen` with accounts as its users.
pub struct Listener {
    child: Child,
    /// Port without TLS.
    pub port: u16,
    /// Port with TLS.
    pub tls_port: u16,
    lines: Arc<Mutex<String>>,
}

impl Listener {
    /// Starts it as the mail user, for one account whatever its name.
    pub fn start(world: &World, side: &Side<'_>) -> Result<Self> {
        let certificates = Certificates::new(&["localhost", "127.0.0.1"]);
        Self::start_with(world, side, &certificates)
    }

    /// The same with other certificates.
    pub fn start_with(world: &World, side: &Side<'_>, certificates: &Certificates) -> Result<Self> {
        for name in ["ca.pem", "server.pem", "server.key"] {
            world.write(name, &std::fs::read(certificates.file(name))?)?;
        }
        let mut command = world.command(&side.home());
        command.arg(world.program("dsync-server")?);
        command.args(side.our_options());
        for (name, value) in [
            ("mail_home", side.home().display().to_string()),
            ("doveadm_password", PASSWORD.to_owned()),
            (
                "ssl_server_cert_file",
                world.inside("server.pem").display().to_string(),
            ),
            (
                "ssl_server_key_file",
                world.inside("server.key").display().to_string(),
            ),
        ] {
            command.args(["-o".to_owned(), format!("{name}={value}")]);
        }
        Self::start_command(command)
    }

    /// Starts it as root in the place of a running Dovecot, with its configuration and users.
    pub fn start_for(daemon: &Daemon<'_>, world: &World) -> Result<Self> {
        let mut command = Command::new(world.program("dsync-server")?);
        command.arg("-c").arg(daemon.config_file());
        Self::start_command(command)
    }

    fn start_command(mut command: Command) -> Result<Self> {
        command.args(["listen", "tcp:127.0.0.1:0", "tcps:127.0.0.1:0"]);
        let mut child = command.stderr(Stdio::piped()).spawn()?;
        let mut log = BufReader::new(child.stderr.take().context("no stderr")?);
        let mut port = || -> Result<u16> {
            let mut line = String::new();
            log.read_line(&mut line)?;
            let port = line.trim().rsplit(':').next().unwrap_or_default();
            port.parse().with_context(|| line.clone())
        };
        let (port, tls_port) = (port()?, port()?);
        // Somebody has to read the rest of the log.
        let lines = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&lines);
        thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                sink.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push_str(&(line + "\n"));
            }
        });
        Ok(Self {
            child,
            port,
            tls_port,
            lines,
        })
    }

    /// What it has logged since it listens.
    pub fn log(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.clone()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
