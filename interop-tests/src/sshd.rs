//! A real sshd on the loopback interface, with keys of its own.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::daemon::free_port;

/// A running sshd that lets root in, and a folder with an `ssh` that knows the way: every host is
/// this one.
pub struct Sshd {
    folder: tempfile::TempDir,
    child: Child,
}

impl Sshd {
    /// Starts it. Programs that are run by it are searched in [`Sshd::remote_programs`] first.
    pub fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name);
        for name in ["host", "key"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(path(name))
                .status()?;
            ensure!(made.success(), "ssh-keygen failed");
        }
        for name in ["here", "there"] {
            fs::create_dir(path(name))?;
        }
        let port = free_port()?;
        let host_key = fs::read_to_string(path("host.pub"))?;
        fs::write(path("known"), format!("[127.0.0.1]:{port} {host_key}"))?;
        fs::write(
            path("sshd_config"),
            format!(
                "Port {port}\nListenAddress 127.0.0.1\nHostKey {0}/host\nPidFile none\n\
                 AuthorizedKeysFile {0}/key.pub\nUsePAM no\nStrictModes no\nPermitRootLogin yes\n\
                 PasswordAuthentication no\nSetEnv PATH={0}/there:/usr/bin:/bin\n",
                folder.path().display()
            ),
        )?;
        fs::write(
            path("ssh_config"),
            format!(
                "Host *\nHostName 127.0.0.1\nPort {port}\nUser root\nIdentityFile {0}/key\nIdentitiesOnly yes\n\
                 UserKnownHostsFile {0}/known\nGlobalKnownHostsFile /dev/null\n",
                folder.path().display()
            ),
        )?;
        script(
            &path("here/ssh"),
            &format!(
                // Whoever shall log in there is root: the machine has no other user for that.
                "exec /usr/bin/ssh -F {} -l root \"$@\"",
                path("ssh_config").display()
            ),
        )?;
        // sshd wants it.
        fs::create_dir_all("/run/sshd")?;
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-E"])
            .arg(path("log"))
            .arg("-f")
            .arg(path("sshd_config"))
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start sshd")?;
        let sshd = Self { folder, child };
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(
                Instant::now() < deadline,
                "sshd does not listen: {}",
                sshd.log()
            );
            sleep(Duration::from_millis(20));
        }
        Ok(sshd)
    }

    /// `PATH` of clients.
    pub fn client_path(&self) -> String {
        format!(
            "{}:/usr/bin:/bin",
            self.folder.path().join("here").display()
        )
    }

    /// The private key that opens it.
    pub fn key(&self) -> PathBuf {
        self.folder.path().join("key")
    }

    /// The file of hosts that clients know.
    pub fn known_hosts(&self) -> PathBuf {
        self.folder.path().join("known")
    }

    /// Makes a program for the other side; gives its path.
    pub fn remote_program(&self, name: &str, shell: &str) -> Result<PathBuf> {
        let path = self.folder.path().join("there").join(name);
        script(&path, shell)?;
        Ok(path)
    }

    /// Removes it.
    pub fn remove_remote_program(&self, name: &str) -> Result<()> {
        Ok(fs::remove_file(
            self.folder.path().join("there").join(name),
        )?)
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// How many times somebody has logged in.
    pub fn logins(&self) -> usize {
        self.log().matches("Accepted publickey").count()
    }
}

fn script(path: &Path, shell: &str) -> Result<()> {
    fs::write(path, format!("#!/bin/sh\n{shell}\n"))?;
    Ok(fs::set_permissions(path, PermissionsExt::from_mode(0o755))?)
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
