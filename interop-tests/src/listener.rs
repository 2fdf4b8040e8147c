//! Our listener.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use dsync_testkit::certificates::Certificates;
use tempfile::TempDir;

use crate::daemon::{Daemon, PASSWORD};
use crate::{Side, World};

/// A running `dsync-server listen` with accounts as its users.
pub struct Listener {
    child: Child,
    /// Port without TLS.
    pub port: u16,
    /// Port with TLS.
    pub tls_port: u16,
    /// UNIX socket that needs no password.
    pub socket: PathBuf,
    _folder: TempDir,
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
        let mut command = world.command(&side.home(), world.program("dsync-server")?);
        command.args(side.our_options());
        command.args(options(world, certificates)?);
        let home = format!("mail_home={}", side.home().display());
        command.args(["-o", &home]);
        Self::start_command(command, false)
    }

    /// Starts it as root for the users of a passwd-file of this world.
    pub fn start_for_users(world: &World, file: &str) -> Result<Self> {
        let certificates = Certificates::new(&["localhost", "127.0.0.1"]);
        let mut command = Command::new(world.program("dsync-server")?);
        command.args(["-c", "/dev/null", "-o", "first_valid_uid=1"]);
        command.args(options(world, &certificates)?);
        let userdb = format!("userdb=passwd-file:{}", world.inside(file).display());
        command.args(["-o", &userdb]);
        Self::start_command(command, true)
    }

    /// Starts it as root in the place of a running Dovecot, with its configuration and users.
    pub fn start_for(daemon: &Daemon<'_>, world: &World) -> Result<Self> {
        let mut command = Command::new(world.program("dsync-server")?);
        command.arg("-c").arg(daemon.config_file());
        Self::start_command(command, true)
    }

    /// With a UNIX socket only as root: others have no right to its folder.
    fn start_command(mut command: Command, with_socket: bool) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let socket = folder.path().join("doveadm-server");
        command.args(["listen", "tcp:127.0.0.1:0", "tcps:127.0.0.1:0"]);
        if with_socket {
            command.arg(format!("unix:{}", socket.display()));
        }
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
            socket,
            _folder: folder,
            lines,
        })
    }

    /// What it has logged since it listens.
    pub fn log(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.clone()
    }
}

/// The password and the certificate, whose files are written.
fn options(world: &World, certificates: &Certificates) -> Result<Vec<String>> {
    for name in ["ca.pem", "server.pem", "server.key"] {
        world.write(name, &std::fs::read(certificates.file(name))?)?;
    }
    let file = |name: &str| world.inside(name).display().to_string();
    let settings = [
        ("doveadm_password", PASSWORD.to_owned()),
        ("ssl_server_cert_file", file("server.pem")),
        ("ssl_server_key_file", file("server.key")),
    ];
    Ok(settings
        .into_iter()
        .flat_map(|(name, value)| ["-o".to_owned(), format!("{name}={value}")])
        .collect())
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
