//! What the tests need and a fresh machine lacks.

use std::path::Path;

use anyhow::{Result, bail};
use nix::unistd::Uid;

use crate::command::{run as execute, succeeds};

/// Program that a package brings, and the package.
const PACKAGES: [(&str, &str); 5] = [
    ("/usr/bin/doveadm", "dovecot-core"),
    ("/usr/lib/dovecot/imap", "dovecot-imapd"),
    ("/usr/sbin/sshd", "openssh-server"),
    ("/usr/sbin/debootstrap", "debootstrap"),
    ("/usr/bin/setpriv", "util-linux"),
];

/// Root file system with Dovecot 2.4; the same place as in `interop-tests`.
const DOVECOT24: &str = "/var/lib/dsync-tests/trixie";

/// Installs what is missing, or says what must be installed.
pub(crate) fn install(quiet: bool) -> Result<()> {
    let packages: Vec<&str> = PACKAGES
        .iter()
        .filter(|(file, _)| !Path::new(file).exists())
        .map(|(_, package)| *package)
        .collect();
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
    if !packages.is_empty() {
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
        execute("env", &arguments)?;
    }
    if !dovecot24 {
        install_dovecot24()?;
    }
    if !nextest {
        execute("cargo", &["install", "--locked", "cargo-nextest"])?;
    }
    Ok(())
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
