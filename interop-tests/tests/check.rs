//! `dsync check` against running servers: what is right is found right, and each mistake is named
//! with what to do about it. As root, which becomes the user.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use dsync_testkit::certificates::Certificates;
use interop_tests::daemon::{Daemon, PASSWORD, free_port, passwd_line};
use interop_tests::listener::Listener;
use interop_tests::sshd::Sshd;
use interop_tests::{Run, Side, Version, World, run};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// `dsync check` for a user whose mail here is that of a side.
struct Checker<'w> {
    world: &'w World,
    user: &'static str,
    path: String,
    options: Vec<String>,
}

impl<'w> Checker<'w> {
    fn new(side: &'w Side<'w>, path: &str) -> Result<Self> {
        let world = side.world();
        let lines = ["b", "stranger"].map(|name| passwd_line(world, name, side, ""));
        world.write("users-here", lines.concat().as_bytes())?;
        let userdb = world.inside("users-here").display().to_string();
        let mut checker = Self {
            world,
            user: "b",
            path: path.to_owned(),
            options: vec!["-c".into(), "/dev/null".into()],
        };
        checker.set("first_valid_uid", "1");
        checker.set("userdb", &format!("passwd-file:{userdb}"));
        Ok(checker)
    }

    /// A setting of the client, for all that follows.
    fn set(&mut self, name: &str, value: &str) {
        self.options
            .extend(["-o".into(), format!("{name}={value}")]);
    }

    fn check(&self, arguments: &[&str]) -> Result<Run> {
        let mut command = Command::new(self.world.program("dsync")?);
        command.env_clear().env("PATH", &self.path);
        command.args(&self.options).args(["check", "-u", self.user]);
        command.args(arguments);
        run(command, b"")
    }

    /// Everything is right, and the other side is this.
    fn good(&self, arguments: &[&str], version: &str) -> Result<()> {
        let run = self.check(arguments)?.expect_quiet()?;
        ensure!(run.stdout.ends_with("\nall is well\n"), "{}", run.stdout);
        let expected = format!("version      {version}");
        ensure!(run.stdout.contains(&expected), "{}", run.stdout);
        Ok(())
    }

    /// This step fails, with these words and this advice.
    fn bad(&self, arguments: &[&str], code: i32, [step, words, fix]: [&str; 3]) -> Result<()> {
        let run = self.check(arguments)?.expect_code(code)?;
        let mut lines = run.stdout.lines();
        let failed = lines
            .find_map(|line| line.strip_prefix("FAILED  "))
            .with_context(|| run.stdout.clone())?;
        let is_it = failed.starts_with(&format!("{step:12} ")) && failed.contains(words);
        ensure!(is_it, "{step}, {words}: {}", run.stdout);
        let last = lines.last().unwrap_or_default();
        ensure!(last.starts_with(&format!("fix: {fix}")), "{}", run.stdout);
        Ok(())
    }
}

/// Takes the lock of a user as another run would; one that has just been there may still end.
fn lock(side: &Side<'_>) -> Result<File> {
    let name = format!("{}/.dovecot-sync.lock", side.name());
    let path = side.world().outside(&name);
    let whole = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    loop {
        side.world().write(&name, b"")?;
        let file = File::options().read(true).write(true).open(&path)?;
        fcntl(&file, FcntlArg::F_OFD_SETLKW(&whole))?;
        // Whoever had the lock before us removes the file.
        let own = file.metadata()?.ino();
        if fs::metadata(&path).is_ok_and(|data| data.ino() == own) {
            return Ok(file);
        }
    }
}

#[test]
fn ports_of_dovecot() -> Result<()> {
    let world = World::new(Version::V23)?;
    let (a, b) = (world.side("a")?, world.side("b")?);
    b.doveadm("mailbox create", &["Work"])?;
    a.doveadm("mailbox create", &["Home"])?;
    let before = (a.facts()?, b.facts()?);
    let daemon = Daemon::start(&world, &[&b])?;
    let mut checker = Checker::new(&a, "/usr/bin:/bin")?;
    let plain = format!("tcp:127.0.0.1:{}", daemon.port);
    let tls = format!("tcps:localhost:{}", daemon.tls_port);
    let socket = format!("tcp:{}", daemon.socket("doveadm-server").display());

    checker.bad(
        &[&plain],
        75,
        [
            "login",
            "doveadm_password not set",
            "set doveadm_password to",
        ],
    )?;
    checker.set("doveadm_password", "wrong");
    let wrong = [
        "login",
        "authentication failed",
        "set doveadm_password to the same",
    ];
    checker.bad(&[&plain], 75, wrong)?;
    checker.set("doveadm_password", PASSWORD);
    let issuer = [
        "TLS",
        "unable to get local issuer",
        "set ssl_client_ca_file",
    ];
    checker.bad(&[&tls], 75, issuer)?;
    let ca = world.inside("ca.pem").display().to_string();
    checker.set("ssl_client_ca_file", &ca);
    for destination in [&plain, &tls, &socket] {
        checker.good(&[destination], "Dovecot on ")?;
    }
    let no_tls = format!("tcps:localhost:{}", daemon.port);
    checker.bad(
        &[&no_tls],
        75,
        ["TLS", "TLS with localhost failed", "use tcp: if"],
    )?;
    let is_tls = format!("tcp:127.0.0.1:{}", daemon.tls_port);
    checker.bad(
        &[&is_tls],
        75,
        ["login", "EOF", "give a doveadm port, and use tcps:"],
    )?;
    let closed = format!("tcp:127.0.0.1:{}", free_port()?);
    checker.bad(
        &[&closed],
        75,
        ["port", "refused", "start dsync-server listen tcp:*:"],
    )?;
    let held = lock(&b)?;
    checker.bad(
        &[&plain],
        75,
        ["lock there", "Couldn't lock", "wait until the other run"],
    )?;
    drop(held);
    let held = lock(&a)?;
    checker.bad(
        &[&plain],
        75,
        ["lock", "Couldn't lock", "wait until the other run"],
    )?;
    drop(held);
    checker.user = "stranger";
    let unknown = ["user there", "User doesn't exist", "create stranger there"];
    checker.bad(&[&plain], 67, unknown)?;
    ensure!(before == (a.facts()?, b.facts()?), "mail was changed");
    Ok(())
}

#[test]
fn our_listener() -> Result<()> {
    let world = World::new(Version::V23)?;
    let (a, b) = (world.side("a")?, world.side("b")?);
    b.doveadm("mailbox create", &["Work"])?;
    let mut checker = Checker::new(&a, "/usr/bin:/bin")?;
    a.doveadm("mailbox create", &["Home"])?;
    checker.set("doveadm_password", PASSWORD);
    let ca = world.inside("ca.pem").display().to_string();
    checker.set("ssl_client_ca_file", &ca);
    let listener = Listener::start(&world, &b)?;
    let port = |listener: &Listener| format!("tcps:127.0.0.1:{}", listener.tls_port);
    checker.good(&[&port(&listener)], "dsync on ")?;
    let held = lock(&b)?;
    let busy = ["lock there", "Couldn't lock", "wait until the other run"];
    checker.bad(&[&port(&listener)], 75, busy)?;
    drop(held);
    let other = Listener::start_with(&world, &b, &Certificates::new(&["localhost"]))?;
    let name = ["TLS", "doesn't match", "give the host by a name"];
    checker.bad(&[&port(&other)], 75, name)?;
    let old = Certificates::expired(&["127.0.0.1"], 2020);
    let expired = Listener::start_with(&world, &b, &old)?;
    checker.bad(
        &[&port(&expired)],
        75,
        ["TLS", "expired", "renew the server's certificate"],
    )
}

#[test]
fn hosts() -> Result<()> {
    let world = World::new(Version::V23)?;
    let (a, b) = (world.side("a")?, world.side("b")?);
    a.doveadm("mailbox create", &["Home"])?;
    let sshd = Sshd::start()?;
    let mut checker = Checker::new(&a, &sshd.client_path())?;
    world.write("users-there", passwd_line(&world, "b", &b, "").as_bytes())?;
    let server = format!(
        "exec {} -c /dev/null -o userdb=passwd-file:{} -o first_valid_uid=1 \"$@\"",
        world.program("dsync-server")?.display(),
        world.inside("users-there").display()
    );
    sshd.remote_program("dsync-server", &server)?;
    for destination in [
        "127.0.0.1",
        "remote:root@127.0.0.1",
        "remoteprefix:127.0.0.1",
    ] {
        checker.good(&[destination], "dsync on ")?;
    }
    world.write("users-there", b"")?;
    let unknown = ["user there", "user b is unknown", "create b there"];
    checker.bad(&["127.0.0.1"], 67, unknown)?;
    // The other side is a Dovecot, which tells why it fails on its standard error only.
    sshd.remove_remote_program("dsync-server")?;
    let doveadm = format!(
        "exec setpriv --reuid=5000 --regid=5000 --clear-groups env -i PATH=/usr/bin:/bin USER=u \
         HOME={} /usr/bin/doveadm -c {} dsync-server",
        b.home().display(),
        world.inside("b.conf").display()
    );
    sshd.remote_program("doveadm", &doveadm)?;
    checker.good(&["127.0.0.1"], "Dovecot on ")?;
    let held = lock(&b)?;
    let busy = ["lock there", "Couldn't lock", "wait until the other run"];
    checker.bad(&["127.0.0.1"], 75, busy)?;
    drop(held);
    sshd.remote_program("doveadm", "echo no such command >&2; exit 127")?;
    let missing = [
        "command",
        "no such command",
        "install dsync-server on that host",
    ];
    checker.bad(&["127.0.0.1"], 75, missing)?;
    fs::write(sshd.known_hosts(), "")?;
    let stranger = [
        "command",
        "Host key verification failed",
        "log in once by hand",
    ];
    checker.bad(&["127.0.0.1"], 75, stranger)?;
    checker.set("dsync_remote_cmd", "ssh -oNoSuchOption=1 %{host}");
    let broken = ["command", "", "run the command by hand"];
    checker.bad(&["remote:127.0.0.1"], 75, broken)
}
