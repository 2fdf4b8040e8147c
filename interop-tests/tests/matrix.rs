//! Every road with every mode, and each run again: ours and Dovecot at either end.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use bstr::ByteSlice;
use interop_tests::daemon::{Daemon, PASSWORD, login_options, passwd_line};
use interop_tests::listener::Listener;
use interop_tests::sshd::Sshd;
use interop_tests::{Facts, Run, Side, Version, World, run};

/// A road: its name, and how a command (`sync`, `backup`, `backup -R`) goes there.
type Road<'a> = (&'a str, Box<dyn Fn(&[&str]) -> Result<Run> + 'a>);

/// What is done, and which side is the one that changes.
const MODES: [(&[&str], Changes); 3] = [
    (&["sync"], Changes::Both),
    (&["backup"], Changes::There),
    (&["backup", "-R"], Changes::Here),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Changes {
    Both,
    Here,
    There,
}

fn message(subject: &str) -> Vec<u8> {
    format!(
        "From: Anna <anna@example.org>\nSubject: {subject}\nMessage-ID: <{subject}@example.org>\n\n\
         {subject}\n.a line that begins with a dot\n"
    )
    .into_bytes()
}

/// Two accounts, and how many mails they have got since.
struct Accounts<'w> {
    here: Side<'w>,
    there: Side<'w>,
    mails: std::cell::Cell<u32>,
}

impl<'w> Accounts<'w> {
    fn new(world: &'w World) -> Result<Self> {
        let accounts = Self {
            here: world.side("here")?,
            there: world.side("there")?,
            mails: std::cell::Cell::new(0),
        };
        for (side, mailbox) in [(&accounts.here, "Work"), (&accounts.there, "Other")] {
            side.doveadm("mailbox create", &["-s", mailbox])?;
            side.save(mailbox, &message(mailbox))?;
        }
        for (file, side) in [("users", &accounts.there), ("users-here", &accounts.here)] {
            world.write(file, passwd_line(world, "u", side, "").as_bytes())?;
        }
        Ok(accounts)
    }

    fn save(&self, side: &Side<'_>) -> Result<String> {
        self.mails.set(self.mails.get() + 1);
        let subject = format!("mail-{}", self.mails.get());
        side.save("INBOX", &message(&subject))?;
        Ok(subject)
    }

    /// Work for the run: new mail where it counts, and a mailbox where it has to go again.
    fn change(&self, changes: Changes) -> Result<()> {
        let extra = |side: &Side<'_>| {
            side.doveadm("mailbox create", &[&format!("Extra-{}", self.mails.get())])
        };
        match changes {
            Changes::Both => {
                self.save(&self.here)?;
                self.save(&self.there)?;
                self.save(&self.there)?;
            }
            Changes::There => {
                self.save(&self.here)?;
                extra(&self.there)?;
            }
            Changes::Here => {
                self.save(&self.there)?;
                extra(&self.here)?;
            }
        }
        Ok(())
    }

    fn go(&self, roads: &[Road<'_>]) -> Result<()> {
        for (road, run) in roads {
            for (arguments, changes) in MODES {
                self.change(changes)
                    .and_then(|()| self.one(run, arguments, changes))
                    .with_context(|| format!("{road}: {}", arguments.join(" ")))?;
            }
        }
        Ok(())
    }

    fn one(
        &self,
        run: &dyn Fn(&[&str]) -> Result<Run>,
        arguments: &[&str],
        changes: Changes,
    ) -> Result<()> {
        let source = match changes {
            Changes::Both => None,
            Changes::Here => Some((&self.there, files(&self.there)?)),
            Changes::There => Some((&self.here, files(&self.here)?)),
        };
        run(arguments)?.expect_code(0)?;
        if let Some((side, before)) = source {
            expect_unchanged(&before, &files(side)?).context("the source")?;
        }
        let facts = self.here.facts()?;
        facts.expect_equal(&self.there.facts()?, "both sides")?;
        self.expect_mail(&facts)?;
        let before = (files(&self.here)?, files(&self.there)?);
        run(arguments)?.expect_code(0)?;
        expect_unchanged(&before.0, &files(&self.here)?).context("second run, here")?;
        expect_unchanged(&before.1, &files(&self.there)?).context("second run, there")
    }

    /// Nothing that was ever saved is missing, and nothing is there that had to go.
    fn expect_mail(&self, facts: &Facts) -> Result<()> {
        let extra = facts.0.keys().find(|name| name.starts_with("Extra-"));
        ensure!(extra.is_none(), "{extra:?} is still there");
        let inbox = facts.0.get("INBOX").context("no INBOX")?;
        for mail in 1..=self.mails.get() {
            let text = format!("mail-{mail}\n");
            let found = inbox
                .messages
                .iter()
                .filter(|it| it.text.contains_str(&text));
            ensure!(found.count() == 1, "mail {mail} is missing, or there twice");
        }
        Ok(())
    }
}

type Files = BTreeMap<PathBuf, (u64, SystemTime)>;

fn expect_unchanged(before: &Files, after: &Files) -> Result<()> {
    let changed = after
        .iter()
        .find(|(path, stamp)| before.get(*path) != Some(stamp));
    ensure!(changed.is_none(), "changed: {changed:?}");
    ensure!(before.len() == after.len(), "a file was removed");
    Ok(())
}

/// Size and time of every file of the mail store except index files, which each opening may touch.
fn files(side: &Side<'_>) -> Result<Files> {
    let mut found = BTreeMap::new();
    let mut folders = vec![side.outside_mail_root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let data = entry.metadata()?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if data.is_dir() {
                folders.push(entry.path());
            } else if !name.starts_with("dovecot.index") && !name.starts_with("dovecot.list.index")
            {
                found.insert(entry.path(), (data.len(), data.modified()?));
            }
        }
    }
    Ok(found)
}

/// Our client as root.
fn ours(world: &World, path: &str, options: &[&str], mode: &[&str], words: &[&str]) -> Result<Run> {
    let userdb = format!(
        "userdb=passwd-file:{}",
        world.inside("users-here").display()
    );
    let mut command = Command::new(world.program("dsync")?);
    command.env_clear().env("PATH", path);
    command.args(["-c", "/dev/null", "-o", "first_valid_uid=1", "-o", &userdb]);
    command.args(login_options(world)).args(options);
    command.args(mode).args(["-u", "u"]).args(words);
    run(command, b"")
}

/// All roads of our client; `server` is the program on the other side (`doveadm` or
/// `dsync-server`), `prefixed` one that reads the user's name.
fn roads_of_ours<'a>(
    world: &'a World,
    path: &'a str,
    server: &'a Path,
    prefixed: &'a str,
    ports: [String; 3],
) -> Vec<Road<'a>> {
    let name = server.file_name().unwrap_or_default().to_string_lossy();
    let by_command =
        format!("dsync_remote_cmd=ssh -l%{{login}} %{{host}} {name} dsync-server -u%u");
    let by_prefix = format!("dsync_remote_cmd=ssh %{{host}} {prefixed}");
    let server = server.display().to_string();
    let mut roads: Vec<Road<'a>> = Vec::new();
    let mut add = |road, option: Option<String>, words: &[&str]| {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        roads.push((
            road,
            Box::new(move |mode: &[&str]| {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                let option = option.as_deref().map(|option| ["-o", option]);
                ours(
                    world,
                    path,
                    option.as_ref().map_or(&[], |it| &it[..]),
                    mode,
                    &words,
                )
            }),
        ));
    };
    add("command", None, &[&server, "dsync-server", "-u", "u"]);
    add("host", None, &["127.0.0.1"]);
    add(
        "dsync_remote_cmd",
        Some(by_command),
        &["remote:root@127.0.0.1"],
    );
    add("remoteprefix", Some(by_prefix), &["remoteprefix:127.0.0.1"]);
    for (road, port) in ["tcp", "tcps", "UNIX socket"].into_iter().zip(&ports) {
        add(road, None, &[port]);
    }
    roads
}

#[test]
fn our_client_to_dovecot() -> Result<()> {
    let world = World::new(Version::V23)?;
    let accounts = Accounts::new(&world)?;
    let daemon = Daemon::start_for(&world, &passwd_line(&world, "u", &accounts.there, ""))?;
    let sshd = Sshd::start()?;
    let doveadm = format!(
        "exec env -i PATH=/usr/bin:/bin /usr/bin/doveadm -c {}",
        daemon.config_file().display()
    );
    let server = sshd.remote_program("doveadm", &format!("{doveadm} \"$@\""))?;
    let prefixed = format!("read -r user && {doveadm} dsync-server -u \"$user\"");
    sshd.remote_program("prefixed", &prefixed)?;
    let path = sshd.client_path();
    let ports = [
        format!("tcp:127.0.0.1:{}", daemon.port),
        format!("tcps:localhost:{}", daemon.tls_port),
        format!("tcp:{}", daemon.socket("doveadm-server").display()),
    ];
    accounts.go(&roads_of_ours(&world, &path, &server, "prefixed", ports))
}

#[test]
fn our_client_to_our_server() -> Result<()> {
    let world = World::new(Version::V23)?;
    let accounts = Accounts::new(&world)?;
    let listener = Listener::start_for_users(&world, "users")?;
    let sshd = Sshd::start()?;
    let server = sshd.remote_program("dsync-server", &our_server(&world)?)?;
    let path = sshd.client_path();
    let prefixed = "dsync-server --remoteprefix";
    accounts.go(&roads_of_ours(
        &world,
        &path,
        &server,
        prefixed,
        ports(&listener),
    ))
}

fn ports(listener: &Listener) -> [String; 3] {
    [
        format!("tcp:127.0.0.1:{}", listener.port),
        format!("tcps:localhost:{}", listener.tls_port),
        format!("tcp:{}", listener.socket.display()),
    ]
}

/// Our server for the users on the other side.
fn our_server(world: &World) -> Result<String> {
    Ok(format!(
        "exec {} -c /dev/null -o userdb=passwd-file:{} -o first_valid_uid=1 \"$@\"",
        world.program("dsync-server")?.display(),
        world.inside("users").display()
    ))
}

/// `doveadm` as root, with the users of a running Dovecot; its remote command is its own.
#[test]
fn dovecot_to_our_server() -> Result<()> {
    let world = World::new(Version::V23)?;
    let accounts = Accounts::new(&world)?;
    let daemon = Daemon::start_for(&world, &passwd_line(&world, "u", &accounts.here, ""))?;
    world.write(
        "users-there",
        passwd_line(&world, "u", &accounts.there, "").as_bytes(),
    )?;
    let listener = Listener::start_for_users(&world, "users-there")?;
    let sshd = Sshd::start()?;
    let ours = our_server(&world)?.replace("/users ", "/users-there ");
    let server = sshd.remote_program("doveadm", &ours)?.display().to_string();
    sshd.remote_program("prefixed", &ours.replace("\"$@\"", "--remoteprefix"))?;
    let ca = format!("ssl_client_ca_file={}", world.inside("ca.pem").display());
    let doveadm = |options: &[&str], mode: &[&str], words: &[&str]| {
        let mut command = Command::new("doveadm");
        command.env_clear().env("PATH", sshd.client_path());
        command.args(["-k", "-c"]).arg(daemon.config_file());
        command.args(["-o", &ca]).args(options);
        command.args(mode).args(["-u", "u"]).args(words);
        run(command, b"")
    };
    let [tcp, tcps, socket] = ports(&listener);
    let doveadm = &doveadm;
    let to = |words: Vec<String>, options: &'static [&'static str]| {
        move |mode: &[&str]| {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            doveadm(options, mode, &words)
        }
    };
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
    let prefix: &[&str] = &["-o", "dsync_remote_cmd=ssh %{host} prefixed"];
    accounts.go(&[
        (
            "command",
            Box::new(to(words(&[&server, "dsync-server", "-u", "u"]), &[])),
        ),
        ("host", Box::new(to(words(&["127.0.0.1"]), &[]))),
        (
            "remote",
            Box::new(to(words(&["remote:root@127.0.0.1"]), &[])),
        ),
        (
            "remoteprefix",
            Box::new(to(words(&["remoteprefix:127.0.0.1"]), prefix)),
        ),
        ("tcp", Box::new(to(vec![tcp], &[]))),
        ("tcps", Box::new(to(vec![tcps], &[]))),
        ("UNIX socket", Box::new(to(vec![socket], &[]))),
    ])
}

#[test]
fn ports_of_dovecot_24() -> Result<()> {
    let world = World::new(Version::V24)?;
    let accounts = Accounts::new(&world)?;
    let here = &accounts.here;
    let daemon = Daemon::start_for(&world, &passwd_line(&world, "u", &accounts.there, ""))?;
    let home = format!("mail_home={}", here.home().display());
    let ours = |port: String| {
        let options = [daemon.login_options(), vec!["-o".into(), home.clone()]].concat();
        move |mode: &[&str]| {
            let mut words = options.clone();
            words.extend(mode.iter().map(ToString::to_string));
            words.extend(["-u".into(), "u".into(), port.clone()]);
            here.dsync(&words)
        }
    };
    accounts.go(&[
        (
            "tcp",
            Box::new(ours(format!("tcp:127.0.0.1:{}", daemon.port))),
        ),
        (
            "tcps",
            Box::new(ours(format!("tcps:127.0.0.1:{}", daemon.tls_port))),
        ),
    ])?;
    let listener = Listener::start(&world, &accounts.there)?;
    let ca = world.inside("ca.pem").display().to_string();
    here.add_settings(&format!(
        "doveadm_password = {PASSWORD}\nssl = yes\nssl_client_ca_file = {ca}\n\
         ssl_server_cert_file =\nssl_server_key_file =\n"
    ))?;
    let dovecot = |port: String| {
        move |mode: &[&str]| here.dovecot_dsync(mode[0], &[&mode[1..], &[port.as_str()]].concat())
    };
    accounts.go(&[
        (
            "2.4 tcp",
            Box::new(dovecot(format!("tcp:127.0.0.1:{}", listener.port))),
        ),
        (
            "2.4 tcps",
            Box::new(dovecot(format!("tcps:127.0.0.1:{}", listener.tls_port))),
        ),
    ])
}
