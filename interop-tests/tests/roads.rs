//! What is special about single roads, with a real Dovecot at one end; all roads with all modes are in
//! `matrix.rs`.

use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, ensure};
use bstr::ByteSlice;
use interop_tests::daemon::{Daemon, PASSWORD, login_options, passwd_line};
use interop_tests::listener::Listener;
use interop_tests::{MAIL_UID, Run, Side, Version, World};

fn message(subject: &str) -> Vec<u8> {
    format!(
        "From: Anna <anna@example.org>\nSubject: {subject}\nMessage-ID: <{subject}@example.org>\n\n\
         {subject}\n.a line that begins with a dot\n"
    )
    .into_bytes()
}

/// Two accounts with different mail; syncing them is work for both sides.
fn two_accounts(world: &World) -> Result<(Side<'_>, Side<'_>)> {
    let (a, b) = (world.side("a")?, world.side("b")?);
    a.doveadm("mailbox create", &["-s", "Work"])?;
    a.save("Work", &message("work"))?;
    a.save("INBOX", &message("one"))?;
    b.doveadm("mailbox create", &["Other"])?;
    b.save("Other", &message("other"))?;
    Ok((a, b))
}

/// Both accounts are equal now, and hold what both had before.
fn expect_synced(a: &Side<'_>, b: &Side<'_>, what: &str) -> Result<()> {
    let facts = a.facts()?;
    facts.expect_equal(&b.facts()?, what)?;
    for (mailbox, text) in [("Work", "work"), ("INBOX", "one"), ("Other", "other")] {
        let messages = &facts.0.get(mailbox).context(mailbox)?.messages;
        ensure!(
            messages
                .iter()
                .any(|message| message.text.contains_str(text)),
            "{what}: {mailbox}"
        );
    }
    Ok(())
}

/// Our client for `side`, for a user that is called `user` on the other side.
fn our_client(side: &Side<'_>, options: &[String], user: &str, arguments: &[&str]) -> Result<Run> {
    let home = format!("mail_home={}", side.home().display());
    let mut words = options.to_vec();
    words.extend(["-o".into(), home]);
    words.push(arguments[0].to_owned());
    words.extend(["-u".into(), user.to_owned()]);
    words.extend(arguments[1..].iter().map(ToString::to_string));
    side.dsync(&words)
}

/// What 2.4 refuses; 2.3 is in `failures.rs`.
#[test]
fn what_dovecot_24_refuses() -> Result<()> {
    let world = World::new(Version::V24)?;
    let (a, b) = two_accounts(&world)?;
    let daemon = Daemon::start(&world, &[&b])?;
    let options = daemon.login_options();
    let wrong = ["-o".into(), "doveadm_password=wrong".into()];
    let plain = format!("tcp:127.0.0.1:{}", daemon.port);
    let mixed = format!("tcp:127.0.0.1:{}", daemon.tls_port);
    for (more, user, destination, code, words) in [
        (&[][..], "nobody", &plain, 67, "Unknown user in remote"),
        (&wrong, "b", &plain, 75, "authentication failed"),
        (&[], "b", &mixed, 75, "is TLS used on both sides"),
    ] {
        let options = [&options, more].concat();
        let denied = our_client(&a, &options, user, &["sync", destination])?.expect_code(code)?;
        ensure!(denied.stderr.contains(words), "{}", denied.stderr);
    }
    Ok(())
}

/// `doveadm sync` or `doveadm backup`, with the doveadm settings for ports of these tests.
fn dovecot_client(side: &Side<'_>, arguments: &[&str]) -> Result<Run> {
    let world = side.world();
    let settings = format!(
        "doveadm_password = {PASSWORD}\nssl = yes\nssl_client_ca_file = {}\n",
        world.inside("ca.pem").display()
    );
    side.add_settings(&settings)?;
    side.dovecot_dsync(arguments[0], &arguments[1..])
}

/// Our listener as root beside a Dovecot: nothing but its configuration file is needed. It asks
/// Dovecot for the users, and becomes them.
#[test]
fn our_listener_with_the_configuration_of_dovecot() -> Result<()> {
    let world = World::new(Version::V23)?;
    let (a, b) = two_accounts(&world)?;
    // The other user's name is the same as here.
    let name = "u";
    let daemon = Daemon::start(&world, &[])?;
    world.write("users", passwd_line(&world, name, &b, "").as_bytes())?;
    let listener = Listener::start_for(&daemon, &world)?;
    let port = format!("tcps:127.0.0.1:{}", listener.tls_port);
    dovecot_client(&a, &["sync", &port])?.expect_code(0)?;
    expect_synced(&a, &b, "tcps:")?;
    for entry in std::fs::read_dir(b.outside_mail_root())? {
        ensure!(entry?.metadata()?.uid() == MAIL_UID, "a file of root");
    }
    let log = listener.log();
    ensure!(log.contains("user u: begins"), "{log}");
    let options = login_options(&world);
    let denied = our_client(&a, &options, "stranger", &["sync", &port])?.expect_code(67)?;
    ensure!(
        denied.stderr.contains("user stranger is unknown to auth:"),
        "{}",
        denied.stderr
    );
    Ok(())
}

/// A doveadm server does the whole command; the mail on this side is not ours to touch.
#[test]
fn a_doveadm_server_does_everything() -> Result<()> {
    let world = World::new(Version::V23)?;
    let (a, b) = two_accounts(&world)?;
    let daemon = Daemon::start(&world, &[&b])?;
    let copy = format!("maildir:{}", b.home().join("copy").display());
    let socket = daemon.socket("doveadm-server").display().to_string();
    let port = format!("127.0.0.1:{}", daemon.port);
    let tls_port = format!("127.0.0.1:{}", daemon.tls_port);
    let run = |server: &str, ssl: &str, user: &str| {
        let mut options = daemon.login_options();
        options.extend(["-o".into(), format!("doveadm_ssl={ssl}")]);
        our_client(&a, &options, user, &["sync", "-S", server, "-s", "", &copy])
    };
    for (server, ssl) in [(&port, "no"), (&port, "starttls"), (&tls_port, "ssl")] {
        let synced = run(server, ssl, "b")?.expect_code(0)?;
        ensure!(synced.stdout.len() > 20, "no state: {}", synced.stdout);
        ensure!(b.outside("copy/.Other/cur").is_dir(), "nothing was done");
    }
    // Root's socket is not for the mail user.
    let denied = run(&socket, "no", "b")?.expect_code(75)?;
    ensure!(
        denied.stderr.contains("doveadm-server"),
        "{}",
        denied.stderr
    );
    run(&port, "no", "stranger")?.expect_code(67).map(drop)
}

/// A server that says who it is and then nothing: its name makes the client take the user lock.
const STALLED: &str = "printf 'VERSION\\tdsync\\t3\\t5\\nHhostname\\thashed_headers\\n\
Smailbox_guid\\tlast_uidvalidity\\tlast_common_uid\\tlast_common_modseq\\tlast_common_pvt_modseq\\n\
Nname\\texistence\\tmailbox_guid\\tuid_validity\\tuid_next\\n\
Dhierarchy_sep\\tmailboxes\\tdirs\\tunsubscribes\\n\
Bmailbox_guid\\tuid_validity\\tuid_next\\tmessages_count\\tfirst_recent_uid\\thighest_modseq\\thighest_pvt_modseq\\n\
Atype\\tkey\\nCtype\\tuid\\nRguid\\tuid\\nMguid\\tuid\\tstream\\nFerror\\ncname\\tdecision\\n.\\n\
Hzzzz.example.org\\t\\n'; cat >/dev/null";

/// `-l`: a run of one program keeps out one of the other, in both directions.
#[test]
fn the_user_lock_is_dovecots() -> Result<()> {
    let world = World::new(Version::V23)?;
    let (a, b) = two_accounts(&world)?;
    let location = b.location();
    for ours_first in [true, false] {
        let holder = match ours_first {
            true => a.dsync_command(&["sync", "-l", "30", "sh", "-c", STALLED])?,
            false => {
                let mut command = a.doveadm_command("sync -l 30 sh -c");
                command.arg(STALLED);
                command
            }
        };
        let holder = Holder::start(holder, &a)?;
        let second = match ours_first {
            true => a.dovecot_dsync("sync", &["-l", "1", &location])?,
            false => a.dsync(&["sync", "-l", "1", &location])?,
        };
        let second = second.expect_code(75)?;
        ensure!(second.stderr.contains("Couldn't lock"), "{}", second.stderr);
        drop(holder);
        a.dsync(&["sync", "-l", "30", &location])?.expect_code(0)?;
    }
    Ok(())
}

/// A run that holds the lock of a user; killed at the end.
struct Holder(std::process::Child);

impl Holder {
    fn start(mut command: std::process::Command, side: &Side<'_>) -> Result<Self> {
        use std::process::Stdio;
        let holder = Self(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?,
        );
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !side.outside(".dovecot-sync.lock").exists() {
            ensure!(
                std::time::Instant::now() < deadline,
                "nobody takes the lock"
            );
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Ok(holder)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
