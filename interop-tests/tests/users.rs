//! Many users of a real Dovecot in one command, and the examples of doveadm's manual page.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use interop_tests::daemon::{Daemon, login_options, passwd_line};
use interop_tests::listener::Listener;
use interop_tests::sshd::Sshd;
use interop_tests::{MAIL_UID, Run, Version, World, own_all, run};

const USERS: usize = 200;

/// Users whose mail cannot be synced, each for a reason of its own, with exit code and words.
const BROKEN: [(usize, u8, &str); 3] = [
    (7, 68, "does not exist"),
    (42, 77, "ermission denied"),
    (99, 67, ""),
];

fn name(number: usize) -> String {
    format!("user{number:03}@example.org")
}

/// Accounts here with one message each: names and homes.
fn accounts(world: &World) -> Result<Vec<(String, String)>> {
    let mut users = Vec::new();
    for number in 0..USERS {
        let home = format!("here/{number}");
        if number != BROKEN[0].0 {
            for folder in ["cur", "new", "tmp"] {
                fs::create_dir_all(world.outside(&format!("{home}/Maildir/{folder}")))?;
            }
            let file = format!("{home}/Maildir/cur/1.{number}.host:2,S");
            let text = format!("From: anna@example.org\nSubject: mail {number}\n\n{number}\n");
            fs::write(world.outside(&file), text)?;
        }
        let home = world.inside(&home).display().to_string();
        users.push((name(number), home));
    }
    own_all(&world.outside("here"))?;
    let forbidden = world.outside(&format!("here/{}/Maildir", BROKEN[1].0));
    fs::set_permissions(forbidden, PermissionsExt::from_mode(0o000))?;
    Ok(users)
}

/// The other side: everybody but one, in a passwd-file, with empty homes.
fn other_side(world: &World, folder: &str) -> Result<String> {
    let mut lines = String::new();
    for number in (0..USERS).filter(|number| *number != BROKEN[2].0) {
        let home = world.outside(&format!("{folder}/{number}"));
        fs::create_dir_all(home.join("Maildir"))?;
        let home = home.display();
        lines += &format!("{}:x:{MAIL_UID}:{MAIL_UID}::{home}::\n", name(number));
    }
    own_all(&world.outside(folder))?;
    let file = format!("{folder}-users");
    world.write(&file, lines.as_bytes())?;
    Ok(file)
}

/// Our client as root, with the users of a running Dovecot.
fn sync_all(daemon: &Daemon<'_>, world: &World, path: &str, words: &[&str]) -> Result<Run> {
    let mut command = Command::new(world.program("dsync")?);
    command.env_clear().env("PATH", path);
    command.arg("-c").arg(daemon.config_file());
    command.args(["-o", "mail_location=maildir:~/Maildir"]);
    command.args(login_options(world)).args(["sync", "-A"]);
    command.args(words);
    run(command, b"")
}

/// All but three are in sync, and those are named with the reason.
///
/// `unknown` is how it is said that a user is not known on the other side.
fn expect_synced(world: &World, folder: &str, ended: Run, unknown: &str) -> Result<()> {
    let ended = ended.expect_code(68)?;
    let summary = format!("{USERS} users: {} in sync, 3 not", USERS - BROKEN.len());
    ensure!(ended.stderr.contains(&summary), "{}", ended.stderr);
    for (number, code, words) in BROKEN {
        let start = format!("dsync: error: {} ({code}): ", name(number));
        let words = if words.is_empty() { unknown } else { words };
        let line = ended.stderr.lines().find(|line| line.starts_with(&start));
        ensure!(
            line.is_some_and(|line| line.contains(words)),
            "{start}{words}: {}",
            ended.stderr
        );
    }
    let broken: BTreeSet<usize> = BROKEN.iter().map(|(number, ..)| *number).collect();
    for number in (0..USERS).filter(|number| !broken.contains(number)) {
        let copy = world.outside(&format!("{folder}/{number}/Maildir"));
        let text = mail(&copy).with_context(|| format!("{folder} {number}"))?;
        ensure!(
            text.ends_with(&format!("\n{number}\n")),
            "somebody else's mail: {text}"
        );
    }
    Ok(())
}

/// The only message of a Maildir.
fn mail(maildir: &Path) -> Result<String> {
    let mut files = Vec::new();
    for folder in ["cur", "new"] {
        for entry in fs::read_dir(maildir.join(folder))? {
            files.push(entry?.path());
        }
    }
    ensure!(files.len() == 1, "{} messages", files.len());
    Ok(fs::read_to_string(&files[0])?)
}

/// Through one ssh connection, and through the TLS port with 50 at one time; Dovecot has the users
/// in a passwd-file.
#[test]
fn users_in_a_passwd_file() -> Result<()> {
    let world = World::new(Version::V23)?;
    let lines: String = accounts(&world)?
        .iter()
        .map(|(name, home)| format!("{name}:{{PLAIN}}x:{MAIL_UID}:{MAIL_UID}::{home}::\n"))
        .collect();
    let daemon = Daemon::start_for(&world, &lines)?;
    let sshd = Sshd::start()?;
    let server = |users: &str| {
        Ok::<_, anyhow::Error>(format!(
            "exec {} -c /dev/null -o userdb=passwd-file:{} -o first_valid_uid=1 \
             -o mail_location=maildir:~/Maildir \"$@\"",
            world.program("dsync-server")?.display(),
            world.inside(users).display()
        ))
    };
    sshd.remote_program("dsync-server", &server(&other_side(&world, "there")?)?)?;
    let path = sshd.client_path();
    let ended = sync_all(&daemon, &world, &path, &["remote:127.0.0.1"])?;
    expect_synced(&world, "there", ended, "ended with status 67")?;
    ensure!(sshd.logins() == 1, "{} logins", sshd.logins());

    let users = other_side(&world, "tls")?;
    let listener = Listener::start_for_users(&world, &users)?;
    let port = format!("tcps:localhost:{}", listener.tls_port);
    let ended = sync_all(&daemon, &world, &path, &["--jobs", "50", &port])?;
    expect_synced(&world, "tls", ended, "Unknown user in remote")
}

/// The same users in SQLite.
#[test]
fn users_in_sqlite() -> Result<()> {
    let world = World::new(Version::V23)?;
    let mut script = "CREATE TABLE users (name, uid, gid, home);\n".to_owned();
    for (name, home) in accounts(&world)? {
        script +=
            &format!("INSERT INTO users VALUES ('{name}', {MAIL_UID}, {MAIL_UID}, '{home}');\n");
    }
    let file = |name: &str| world.inside(name).display().to_string();
    let mut sqlite = Command::new("sqlite3");
    sqlite.arg(file("users.db"));
    run(sqlite, script.as_bytes())?.expect_quiet()?;
    world.write(
        "sql.conf",
        format!(
            "driver = sqlite\nconnect = {}\n\
             user_query = SELECT home, uid, gid FROM users WHERE name = '%u'\n\
             iterate_query = SELECT name AS user FROM users ORDER BY name\n",
            file("users.db")
        )
        .as_bytes(),
    )?;
    let userdb = format!(
        "userdb {{\n  driver = sql\n  args = {}\n}}\n",
        file("sql.conf")
    );
    fs::set_permissions(world.outside("users.db"), PermissionsExt::from_mode(0o644))?;
    let daemon = Daemon::start_with(&world, "", &userdb)?;
    let users = other_side(&world, "there")?;
    let listener = Listener::start_for_users(&world, &users)?;
    let port = format!("tcp:{}", listener.socket.display());
    let ended = sync_all(&daemon, &world, "/usr/bin:/bin", &[&port])?;
    expect_synced(&world, "there", ended, "Unknown user in remote")
}

/// Every example runs with `dsync` in the place of `doveadm`; the file with the settings is all that
/// has to be named, because the machine's own is not to be touched. Hosts are this one.
#[test]
fn examples_of_doveadms_manual_page() -> Result<()> {
    const USER: &str = "username@example.com";
    let world = World::new(Version::V23)?;
    let (here, there) = (world.side("here")?, world.side("there")?);
    let daemon = Daemon::start_for(&world, &passwd_line(&world, USER, &here, ""))?;
    let sshd = Sshd::start()?;
    world.write(
        "users-there",
        passwd_line(&world, USER, &there, "").as_bytes(),
    )?;
    // On that host `doveadm` is Dovecot's name, and the program ours.
    let server = format!(
        "exec {} -c /dev/null -o userdb=passwd-file:{} -o first_valid_uid=1 \"$@\"",
        world.program("dsync-server")?.display(),
        world.inside("users-there").display()
    );
    sshd.remote_program("doveadm", &server)?;
    let folder = world.outside("work");
    fs::create_dir(&folder)?;
    fs::copy(sshd.key(), folder.join("id_dsa.dovecot"))?;
    for (count, example) in [
        "sync -u username@example.com remote:server-replica.example.com",
        "sync -u username@example.com ssh -i id_dsa.dovecot mailuser@example.com doveadm dsync-server -u username@example.com",
    ]
    .into_iter()
    .enumerate()
    {
        here.save("INBOX", format!("Subject: mail {count}\n\n{count}\n").as_bytes())?;
        let mut command = Command::new(world.program("dsync")?);
        command.current_dir(&folder).env_clear().env("PATH", sshd.client_path());
        command.arg("-c").arg(daemon.config_file()).args(example.split(' '));
        run(command, b"")?.expect_code(0)?;
        let facts = here.facts()?;
        facts.expect_equal(&there.facts()?, example)?;
        ensure!(facts.0["INBOX"].messages.len() == count + 1, "{example}");
    }
    // A logged in user, whose mail_location is mdbox:~/mdbox now; then 2.4's example.
    let home = here.home();
    let settings = format!(
        "mail_home = {0}\nmail_location = mdbox:~/mdbox\n",
        home.display()
    );
    here.add_settings(&settings)?;
    fs::rename(here.outside_mail_root(), here.outside("Maildir"))?;
    for example in ["sync maildir:~/Maildir", "backup -R maildir:~/Maildir"] {
        let mut command = world.command(&home, world.program("dsync")?);
        command.arg("-c").arg(world.inside("here.conf"));
        command.args(example.split(' '));
        run(command, b"")?.expect_code(0)?;
        let facts = here.facts()?;
        ensure!(facts.0["INBOX"].messages.len() == 2, "{example}");
    }
    Ok(())
}
