//! Where a Dovecot and our programs run.

use std::ffi::OsStr;
use std::os::unix::fs::{MetadataExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::Uid;
use tempfile::TempDir;

use crate::Side;

/// The user that owns all mail in the tests; nobody else on a machine has this number.
pub const MAIL_UID: u32 = 5000;

/// Folder with the root file system of a Debian 13 that has Dovecot 2.4, unless the environment
/// variable `DSYNC_DOVECOT24` names another.
const DOVECOT24: &str = "/var/lib/dsync-tests/trixie";

/// Limit for tests that move a lot of mail.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(3600);

/// Version of the real peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Debian 12's 2.3.19.1, installed on this machine.
    V23,
    /// Debian 13's 2.4.1, in a folder.
    V24,
}

/// A place where one version of Dovecot and our programs run as an ordinary user.
pub struct World {
    version: Version,
    /// `/` or the root file system of Dovecot 2.4, as seen from outside.
    root: PathBuf,
    /// Our working folder, as seen from outside; removed at the end.
    folder: TempDir,
    time_limit: Duration,
}

impl World {
    /// A new empty world on disk.
    pub fn new(version: Version) -> Result<Self> {
        Self::below(version, "tmp")
    }

    /// One in memory, which is much faster; on disk where a Dovecot in a folder has no memory.
    pub fn in_memory(version: Version) -> Result<Self> {
        match version {
            Version::V23 => Self::below(version, "dev/shm"),
            Version::V24 => Self::new(version),
        }
    }

    fn below(version: Version, folder: &str) -> Result<Self> {
        ensure!(
            Uid::effective().is_root(),
            "these tests must run as root: Dovecot refuses root, so they become user {MAIL_UID}"
        );
        let root = match version {
            Version::V23 => PathBuf::from("/"),
            Version::V24 => env::var_os("DSYNC_DOVECOT24").map_or(DOVECOT24.into(), PathBuf::from),
        };
        ensure!(
            root.join("usr/bin/doveadm").exists(),
            "no Dovecot in {}: run `cargo xtask setup` as root",
            root.display()
        );
        let folder = tempfile::Builder::new()
            .prefix("dsync-interop-")
            .tempdir_in(root.join(folder))
            .context("cannot make a working folder")?;
        own(folder.path())?;
        Ok(Self {
            version,
            root,
            folder,
            time_limit: TIME_LIMIT,
        })
    }

    /// How long a command may take before it is killed with all that it started.
    pub fn set_time_limit(&mut self, limit: Duration) {
        self.time_limit = limit;
    }

    pub(crate) fn time_limit(&self) -> Duration {
        self.time_limit
    }

    pub(crate) fn is_in_memory(&self) -> bool {
        self.outside("").starts_with("/dev/shm")
    }

    /// Which Dovecot this is.
    pub fn version(&self) -> Version {
        self.version
    }

    /// `/`, or the root file system of Dovecot 2.4.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A file of this world as a path from outside.
    pub fn outside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file of this world as programs inside see it.
    pub fn inside(&self, name: &str) -> PathBuf {
        let path = self.outside(name);
        match path.strip_prefix(&self.root) {
            Ok(relative) => Path::new("/").join(relative),
            Err(_) => path,
        }
    }

    /// A new account with an empty Maildir (default layout) that Dovecot is configured for.
    pub fn side(&self, name: &str) -> Result<Side<'_>> {
        self.side_at(name, "maildir", "")
    }

    /// A new account in this format (`maildir`, `sdbox`, `mdbox`) with more options of a
    /// location string such as `:LAYOUT=fs`.
    pub fn side_at(&self, name: &str, format: &str, options: &str) -> Result<Side<'_>> {
        Side::new(self, name, format, options)
    }

    /// A byte-identical copy of an account, so that the same run can be done twice.
    pub fn copy_side<'a>(&'a self, from: &Side<'a>, name: &str) -> Result<Side<'a>> {
        let side = from.renamed(name)?;
        let status = Command::new("cp")
            .arg("-a")
            .arg(self.outside(from.name()).join("."))
            .arg(self.outside(name))
            .status()?;
        ensure!(status.success(), "cp failed");
        Ok(side)
    }

    /// One of our programs, as a path inside this world.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let built = built_program(name)?;
        if self.version == Version::V23 {
            return Ok(built);
        }
        let copy = self.outside(name);
        if !copy.exists() {
            fs::copy(&built, &copy)?;
        }
        Ok(self.inside(name))
    }

    /// A program that runs inside this world as the mail user, with a clean environment.
    pub fn command(&self, home: &Path, program: impl AsRef<OsStr>) -> Command {
        let mut command;
        match self.version {
            Version::V23 => {
                command = Command::new(program);
                // Other groups of root go with its number.
                command.uid(MAIL_UID).gid(MAIL_UID);
            }
            Version::V24 => {
                command = Command::new("/usr/sbin/chroot");
                command.arg(format!("--userspec={MAIL_UID}:{MAIL_UID}"));
                command.arg(&self.root).arg(program);
            }
        }
        command.env_clear();
        command.env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
        command.env("USER", "u").env("HOME", home);
        command.current_dir("/");
        command
    }

    /// Writes a file that the mail user owns.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.outside(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, content)?;
        own(&path)
    }

    pub(crate) fn make_folder(&self, name: &str) -> Result<()> {
        let path = self.outside(name);
        fs::create_dir_all(&path)?;
        own(&path)
    }
}

/// Gives a file, or a folder with all that is in it, to the mail user.
pub fn own_all(path: &Path) -> Result<()> {
    own(path)?;
    if path.symlink_metadata()?.is_dir() {
        for entry in path.read_dir()? {
            own_all(&entry?.path())?;
        }
    }
    Ok(())
}

fn own(path: &Path) -> Result<()> {
    // Even without effect it would change the change time, which dates some messages.
    let owned = path
        .symlink_metadata()
        .is_ok_and(|data| (data.uid(), data.gid()) == (MAIL_UID, MAIL_UID));
    if owned {
        return Ok(());
    }
    lchown(path, Some(MAIL_UID), Some(MAIL_UID))
        .with_context(|| format!("cannot chown {}", path.display()))
}

/// The program that was built with these tests.
fn built_program(name: &str) -> Result<PathBuf> {
    let exe = env::current_exe()?;
    for folder in exe.ancestors().skip(1).take(2) {
        let program = folder.join(name);
        if program.is_file() {
            return Ok(program);
        }
    }
    bail!("{name} is not built: run `cargo build --workspace` first")
}
