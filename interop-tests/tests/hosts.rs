//! Users of this host with a host as the other side, by a real sshd; as root, which becomes each
//! user.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use anyhow::{Result, ensure};
use interop_tests::daemon::{Daemon, passwd_line};
use interop_tests::sshd::Sshd;
use interop_tests::{MAIL_UID, Run, Side, Version, World, run};

fn message(subject: &str) -> Vec<u8> {
    format!("From: Anna <anna@example.org>\nSubject: {subject}\nMessage-ID: <{subject}@example.org>\n\n{subject}\n")
        .into_bytes()
}

/// Our client as root.
fn dsync(world: &World, path: &str, arguments: &[&str]) -> Result<Run> {
    let mut command = Command::new(world.program("dsync")?);
    command
        .env_clear()
        .env("PATH", path)
        .args(["-c", "/dev/null", "-o", "first_valid_uid=1"]);
    command.args(arguments);
    run(command, b"")
}

fn expect_equal(a: &Side<'_>, b: &Side<'_>, what: &str) -> Result<()> {
    let facts = a.facts()?;
    ensure!(
        facts.0["INBOX"].messages.len() >= 2,
        "{what}: messages are missing"
    );
    facts.expect_equal(&b.facts()?, what)
}

/// Two users, each with an account here and one there.
struct Accounts<'w> {
    here: [Side<'w>; 2],
    there: [Side<'w>; 2],
}

impl<'w> Accounts<'w> {
    fn new(world: &'w World) -> Result<Self> {
        let side = |name: &str| -> Result<Side<'w>> {
            let side = world.side(name)?;
            side.save("INBOX", &message(name))?;
            Ok(side)
        };
        let accounts = Self {
            here: [side("ann-here")?, side("bob-here")?],
            there: [side("ann-there")?, side("bob-there")?],
        };
        for (file, sides) in [
            ("users-here", &accounts.here),
            ("users-there", &accounts.there),
        ] {
            let lines: String = sides
                .iter()
                .zip(["ann", "bob"])
                .map(|(side, name)| passwd_line(world, name, side, ""))
                .collect();
            world.write(file, lines.as_bytes())?;
        }
        Ok(accounts)
    }

    fn expect_equal(&self, what: &str) -> Result<()> {
        for (here, there) in self.here.iter().zip(&self.there) {
            expect_equal(here, there, what)?;
        }
        Ok(())
    }

    /// More mail on both sides; not as much on both, or a run that looks only at the counters
    /// would take them for equal.
    fn change(&self, subject: &str) -> Result<()> {
        for (here, there) in self.here.iter().zip(&self.there) {
            here.save("INBOX", &message(&format!("{subject}-here")))?;
            here.save("INBOX", &message(&format!("{subject}-here-too")))?;
            there.save("INBOX", &message(&format!("{subject}-there")))?;
        }
        Ok(())
    }
}

fn userdb(world: &World, file: &str) -> String {
    format!("userdb=passwd-file:{}", world.inside(file).display())
}

/// Our server on the other side.
fn server_program(world: &World) -> Result<String> {
    Ok(format!(
        "exec {} -c /dev/null -o {} -o first_valid_uid=1 \"$@\"",
        world.program("dsync-server")?.display(),
        userdb(world, "users-there")
    ))
}

#[test]
fn all_users_by_ssh() -> Result<()> {
    let world = World::new(Version::V23)?;
    let accounts = Accounts::new(&world)?;
    let sshd = Sshd::start()?;
    sshd.remote_program("dsync-server", &server_program(&world)?)?;
    let path = sshd.client_path();
    let here = userdb(&world, "users-here");
    let sync =
        |arguments: &[&str]| dsync(&world, &path, &[&["-o", &here, "sync"], arguments].concat());

    sync(&["-A", "remote:127.0.0.1"])?.expect_code(0)?;
    accounts.expect_equal("remote:")?;
    ensure!(sshd.logins() == 1, "{} logins for two users", sshd.logins());
    for file in fs::read_dir(accounts.here[0].outside_mail_root())? {
        ensure!(file?.metadata()?.uid() == MAIL_UID, "a file of root");
    }

    accounts.change("prefix")?;
    sync(&["-u", "ann", "remoteprefix:root@127.0.0.1"])?.expect_code(0)?;
    expect_equal(&accounts.here[0], &accounts.there[0], "remoteprefix:")?;
    sync(&["-u", "bob", "127.0.0.1"])?.expect_code(0)?;
    expect_equal(&accounts.here[1], &accounts.there[1], "a host")?;

    // Where ours is not installed, Dovecot's is used.
    accounts.change("dovecot")?;
    sshd.remove_remote_program("dsync-server")?;
    sshd.remote_program(
        "doveadm",
        &format!(
            "exec setpriv --reuid={MAIL_UID} --regid={MAIL_UID} --clear-groups env -i PATH=/usr/bin:/bin \
             USER=u HOME={} /usr/bin/doveadm -c {} dsync-server",
            accounts.there[0].home().display(),
            world.inside("ann-there.conf").display()
        ),
    )?;
    sync(&["-u", "ann", "127.0.0.1"])?.expect_code(0)?;
    expect_equal(&accounts.here[0], &accounts.there[0], "Dovecot's server")
}

#[test]
fn ssh_that_fails() -> Result<()> {
    let world = World::new(Version::V23)?;
    let _accounts = Accounts::new(&world)?;
    let sshd = Sshd::start()?;
    sshd.remote_program("dsync-server", &server_program(&world)?)?;
    let path = sshd.client_path();
    let here = userdb(&world, "users-here");
    let sync =
        |arguments: &[&str]| dsync(&world, &path, &[&["-o", &here, "sync"], arguments].concat());
    // The user is known here only.
    let there = world.outside("users-there");
    let lines = fs::read_to_string(&there)?;
    fs::write(&there, lines.lines().next().unwrap_or_default())?;
    let one = sync(&["-A", "remote:127.0.0.1"])?.expect_code(67)?;
    ensure!(
        one.stderr.contains("2 users: 1 in sync, 1 not"),
        "{}",
        one.stderr
    );
    ensure!(one.stderr.contains("error: bob (67)"), "{}", one.stderr);

    fs::write(sshd.known_hosts(), "")?;
    let one = sync(&["-u", "ann", "remote:127.0.0.1"])?.expect_code(75)?;
    ensure!(
        one.stderr.contains("Host key verification failed")
            && one
                .stderr
                .contains("ssh could not connect or log in; its own words are above"),
        "{}",
        one.stderr
    );
    let all = sync(&["-A", "remote:127.0.0.1"])?.expect_code(75)?;
    ensure!(
        all.stderr.contains("2 users: 0 in sync, 2 not"),
        "{}",
        all.stderr
    );
    Ok(())
}

/// `doveadm sync remote:` and `remoteprefix:` with a command that is our server.
#[test]
fn dovecot_with_our_server_by_its_remote_command() -> Result<()> {
    let world = World::new(Version::V23)?;
    let (a, b) = (world.side("a")?, world.side("b")?);
    a.save("INBOX", &message("a0"))?;
    a.save("INBOX", &message("a1"))?;
    let program = world.program("dsync-server")?;
    let wrap = |name: &str, arguments: &str| -> Result<String> {
        let shell = format!(
            "#!/bin/sh\n{} exec {} {} {arguments}\n",
            format_args!("HOME={}", b.home().display()),
            program.display(),
            b.our_options().join(" "),
        );
        world.write(name, shell.as_bytes())?;
        fs::set_permissions(
            world.outside(name),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )?;
        Ok(world.inside(name).display().to_string())
    };
    let home = format!("-o mail_home={}", b.home().display());
    a.add_settings(&format!(
        "dsync_remote_cmd = {} -u%u -U\n",
        wrap("plain", &format!("{home} \"$@\""))?
    ))?;
    a.dovecot_dsync("sync", &["remote:host"])?.expect_code(0)?;
    expect_equal(&a, &b, "remote:")?;
    a.save("INBOX", &message("a2"))?;
    a.add_settings(&format!(
        "dsync_remote_cmd = {} %{{host}}x\n",
        wrap("prefix", &format!("{home} --remoteprefix"))?
    ))?;
    a.dovecot_dsync("sync", &["remoteprefix:host"])?
        .expect_code(0)?;
    expect_equal(&a, &b, "remoteprefix:")
}

/// Users and their homes as Dovecot's auth process tells them; our client is outside of the other
/// root file system.
fn users_of_dovecot(version: Version) -> Result<()> {
    let world = World::new(version)?;
    let here = World::new(Version::V23)?;
    let (a, b) = (world.side("a")?, world.side("b")?);
    a.save("INBOX", &message("a"))?;
    b.save("INBOX", &message("b"))?;
    let _daemon = Daemon::start(&world, &[&a, &b])?;
    let base = format!("base_dir={}", world.outside("base").display());
    let program = |arguments: &[&str]| {
        dsync(
            &here,
            "/usr/bin:/bin",
            &[&["-o", &base, "sync"], arguments].concat(),
        )
    };
    let unknown = program(&["-u", "stranger", "maildir:~/copy"])?.expect_code(67)?;
    ensure!(
        unknown.stderr.contains("user stranger is unknown to auth:"),
        "{}",
        unknown.stderr
    );
    if version == Version::V23 {
        program(&["-A", "maildir:~/copy"])?.expect_code(0)?;
        for side in [&a, &b] {
            let copy = fs::metadata(side.outside("copy/cur"))?;
            ensure!(copy.uid() == MAIL_UID, "a folder of root");
        }
        // With Dovecot's own configuration nothing else has to be said.
        let config = world.inside("dovecot.conf").display().to_string();
        program(&["-c", &config, "-A", "maildir:~/other"])?.expect_code(0)?;
        ensure!(a.outside("other/cur").is_dir(), "no copy");
    } else {
        // The homes are elsewhere for us, but the answer is understood.
        let missing = program(&["-u", "a", "maildir:~/copy"])?.expect_code(68)?;
        let home = a.home().display().to_string();
        ensure!(missing.stderr.contains(&home), "{}", missing.stderr);
    }
    Ok(())
}

/// What `doveconf` of both versions says.
#[test]
fn settings_of_dovecot() -> Result<()> {
    for version in [Version::V23, Version::V24] {
        let world = World::new(version)?;
        let side = world.side("a")?;
        side.add_settings("doveadm_password = sekret\ndsync_hashed_headers = Subject Date\n")?;
        let shown = |name: &str| -> Result<String> {
            let mut command = world.command(&side.home(), world.program("dsync")?);
            let config = world.inside("a.conf");
            command.arg("-c").arg(config).args(["config", "-P", name]);
            Ok(run(command, b"")?
                .expect_quiet()?
                .stdout
                .trim_end()
                .to_owned())
        };
        let home = side.home().display().to_string();
        ensure!(
            shown("mail_location")? == side.location(),
            "{}",
            shown("mail_location")?
        );
        ensure!(shown("mail_home")? == home, "{}", shown("mail_home")?);
        ensure!(shown("dsync_hashed_headers")? == "Subject Date");
        ensure!(shown("doveadm_password")? == "sekret");
        ensure!(shown("mail_attribute_dict")? == format!("file:{home}/dovecot-attributes"));
    }
    Ok(())
}

#[test]
fn users_of_dovecot_23() -> Result<()> {
    users_of_dovecot(Version::V23)
}

#[test]
fn users_of_dovecot_24() -> Result<()> {
    users_of_dovecot(Version::V24)
}
