//! What the tests need and a fresh machine lacks.

use std::path::Path;

use anyhow::{Result, bail};
use nix::unistd::Uid;

use crate::command::{run as execute, succeeds};

/// A file that a package brings, and the package.
const PACKAGES: &[(&str, &str)] = &[
    ("/usr/bin/doveadm", "dovecot-core"),
    ("/usr/lib/dovecot/imap", "dovecot-imapd"),
    (
        "/usr/lib/dovecot/modules/auth/libdriver_sqlite.so",
        "dovecot-sqlite",
    ),
    ("/usr/bin/sqlite3", "sqlite3"),
    ("/usr/sbin/sshd", "openssh-server"),
    ("/usr/sbin/debootstrap", "debootstrap"),
    ("/usr/bin/setpriv", "util-linux"),
];

/// The same for what only the measurements need.
const RIVALS: &[(&str, &str)] = &[("/usr/bin/mbsync", "isync"), ("/usr/bin/rsync", "rsync")];

/// Root file system with Dovecot 2.4; the same place as in `interop-tests`.
const DOVECOT24: &str = "/var/lib/dsync-tests/trixie";

/// Installs what is missing, or says what must be installed.
pub(crate) fn install(quiet: bool) -> Result<()> {
    let packages = missing(PACKAGES);
    let dovecot24 = Path::new(DOVECOT24).join("usr/bin/doveadm").exists();
    let nextest = succeeds("cargo", &["nextest", "--version"]);
    if packages.is_empty() && dovecot24 && nextest {
        if !quiet {
            println!("everything is installed");
        }
        return Ok(());
    }
    if !Uid::effective().is_root() {
        let mut missing = packages.join(" ");
        if !dovecot24 {
            missing.push_str(" and a Debian 13 with Dovecot 2.4 in ");
            missing.push_str(DOVECOT24);
        }
        bail!("not installed: {missing}; run `cargo xtask setup` as root to install it all");
    }
    install_packages(packages)?;
    if !dovecot24 {
        install_dovecot24()?;
    }
    if !nextest {
        execute("cargo", &["install", "--locked", "cargo-nextest"])?;
    }
    Ok(())
}

/// Installs the programs that ours are measured beside.
pub(crate) fn install_rivals() -> Result<()> {
    install(true)?;
    install_packages(missing(RIVALS))
}

/// Packages whose program is not there.
fn missing(packages: &[(&str, &'static str)]) -> Vec<&'static str> {
    packages
        .iter()
        .filter(|(file, _)| !Path::new(file).exists())
        .map(|(_, package)| *package)
        .collect()
}

fn install_packages(packages: Vec<&str>) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    if !Uid::effective().is_root() {
        bail!("not installed: {}", packages.join(" "));
    }
    execute("apt-get", &["update", "-q"])?;
    let mut arguments = vec![
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "install",
        "-y",
        "-q",
    ];
    arguments.push("--no-install-recommends");
    arguments.extend(packages);
    execute("env", &arguments)
}

/// A half-made folder must not pass for a whole one, so it gets its name at the end.
fn install_dovecot24() -> Result<()> {
    let unfinished = format!("{DOVECOT24}.new");
    execute("rm", &["-rf", &unfinished, DOVECOT24])?;
    execute("mkdir", &["-p", &unfinished])?;
    let include = "--include=dovecot-core,dovecot-imapd";
    execute(
        "debootstrap",
        &["--variant=minbase", include, "trixie", &unfinished],
    )?;
    execute("mv", &[unfinished.as_str(), DOVECOT24])
}

/// The `setup` command.
pub(crate) fn run() -> Result<()> {
    install(false)
}
