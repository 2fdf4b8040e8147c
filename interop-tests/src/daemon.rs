//! A whole Dovecot that listens.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dsync_testkit::certificates::Certificates;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{MAIL_UID, Side, Version, World};

/// The password of every doveadm port in these tests.
pub const PASSWORD: &str = "sekret-Pass1";

/// A running Dovecot with two doveadm ports on the loopback interface, and with accounts as its
/// users: each is called after its side.
pub struct Daemon<'w> {
    world: &'w World,
    child: Child,
    /// Port without TLS.
    pub port: u16,
    /// Port with TLS.
    pub tls_port: u16,
}

impl<'w> Daemon<'w> {
    /// Starts it.
    pub fn start(world: &'w World, users: &[&Side<'_>]) -> Result<Self> {
        let lines: String = users.iter().map(|side| user_line(world, side)).collect();
        Self::start_for(world, &lines)
    }

    /// Starts it with these lines as its passwd-file.
    pub fn start_for(world: &'w World, users: &str) -> Result<Self> {
        Self::start_with(world, users, "")
    }

    /// Starts it with these lines as its passwd-file, and more settings.
    pub fn start_with(world: &'w World, users: &str, settings: &str) -> Result<Self> {
        fs::set_permissions(world.outside(""), fs::Permissions::from_mode(0o755))?;
        let certificates = Certificates::new(&["localhost", "127.0.0.1"]);
        for name in ["ca.pem", "server.pem", "server.key"] {
            world.write(name, &fs::read(certificates.file(name))?)?;
        }
        world.write("users", users.as_bytes())?;
        let (port, tls_port) = (free_port()?, free_port()?);
        world.write(
            "dovecot.conf",
            (config(world, port, tls_port) + settings).as_bytes(),
        )?;
        let mut command = match world.version() {
            Version::V23 => Command::new("dovecot"),
            Version::V24 => {
                let mut command = Command::new("/usr/sbin/chroot");
                command.arg(world.root()).arg("dovecot");
                command
            }
        };
        let child = command
            .args(["-F", "-c"])
            .arg(world.inside("dovecot.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start dovecot")?;
        let mut daemon = Self {
            world,
            child,
            port,
            tls_port,
        };
        daemon.wait_until_it_listens()?;
        Ok(daemon)
    }

    fn wait_until_it_listens(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let socket = self.world.outside("base/auth-userdb");
        while !socket.exists() || TcpStream::connect(("127.0.0.1", self.tls_port)).is_err() {
            if Instant::now() > deadline || self.child.try_wait()?.is_some() {
                bail!("dovecot does not listen: {}", self.log());
            }
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// A socket or another file of its base directory, as programs inside see it.
    pub fn socket(&self, name: &str) -> PathBuf {
        self.world.inside("base").join(name)
    }

    /// Its configuration file, as programs inside see it.
    pub fn config_file(&self) -> PathBuf {
        self.world.inside("dovecot.conf")
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.world.outside("dovecot.log")).unwrap_or_default()
    }

    /// Options that let one of our clients in.
    pub fn login_options(&self) -> Vec<String> {
        login_options(self.world)
    }
}

/// Options of our client for doveadm ports with [`PASSWORD`] and the certificate of this world.
pub fn login_options(world: &World) -> Vec<String> {
    let ca = world.inside("ca.pem");
    vec![
        "-o".into(),
        format!("doveadm_password={PASSWORD}"),
        "-o".into(),
        format!("ssl_client_ca_file={}", ca.display()),
    ]
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let _ = self.child.wait();
    }
}

/// A port of the loopback interface that nobody uses now.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Line of a passwd-file for an account.
fn user_line(world: &World, side: &Side<'_>) -> String {
    passwd_line(world, side.name(), side, "")
}

/// Line of a passwd-file for an account under this name, with more fields.
pub fn passwd_line(world: &World, name: &str, side: &Side<'_>, fields: &str) -> String {
    let mail = match world.version() {
        Version::V23 => format!("userdb_mail={}", side.location()),
        Version::V24 => format!(
            "userdb_mail_driver=maildir userdb_mail_path={}",
            side.mail_root().display()
        ),
    };
    format!(
        "{name}:{{PLAIN}}x:{MAIL_UID}:{MAIL_UID}::{}::{mail} {fields}\n",
        side.home().display()
    )
}

fn config(world: &World, port: u16, tls_port: u16) -> String {
    let file = |name: &str| world.inside(name).display().to_string();
    let listeners = format!(
        "service doveadm {{\n  inet_listener plain {{\n    LISTEN = 127.0.0.1\n    port = {port}\n  }}\n  \
         inet_listener tls {{\n    LISTEN = 127.0.0.1\n    port = {tls_port}\n    ssl = yes\n  }}\n}}\n"
    );
    let common = format!(
        "base_dir = {}\nlog_path = {}\nfirst_valid_uid = 1\ndoveadm_password = {PASSWORD}\n",
        file("base"),
        file("dovecot.log")
    );
    match world.version() {
        Version::V23 => format!(
            "{common}{}protocols =\nssl = yes\nssl_cert = <{}\nssl_key = <{}\n\
             mail_attribute_dict = file:%h/dovecot-attributes\n\
             userdb {{\n  driver = passwd-file\n  args = {}\n}}\n\
             passdb {{\n  driver = static\n  args = nopassword=y\n}}\n",
            listeners.replace("LISTEN", "address"),
            file("server.pem"),
            file("server.key"),
            file("users"),
        ),
        Version::V24 => format!(
            "dovecot_config_version = 2.4.1\ndovecot_storage_version = 2.4.1\n{common}{}\
             protocols {{\n}}\nssl = yes\nssl_server_cert_file = {}\nssl_server_key_file = {}\n\
             mail_attribute {{\n  dict file {{\n    path = %{{home}}/dovecot-attributes\n  }}\n}}\n\
             userdb passwd-file {{\n  passwd_file_path = {}\n}}\n\
             passdb static {{\n  password =\n}}\n",
            listeners.replace("LISTEN", "listen"),
            file("server.pem"),
            file("server.key"),
            file("users"),
        ),
    }
}
