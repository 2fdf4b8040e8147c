//! Whatever goes wrong on the way: one plain message, the documented exit code, nothing lost and
//! nothing doubled, and the next run completes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bstr::ByteSlice;
use dsync_testkit::certificates::Certificates;
use dsync_testkit::random::Random;
use interop_tests::daemon::{Daemon, PASSWORD, free_port, login_options};
use interop_tests::listener::Listener;
use interop_tests::proxy::{Link, Proxy};
use interop_tests::{Run, Side, Version, World};

/// Links that are cut, for each pair of programs.
const CUTS: u32 = 50;

fn message(subject: &str) -> Vec<u8> {
    format!(
        "From: Anna <anna@example.org>\nSubject: {subject}\nMessage-ID: <{subject}@example.org>\n\n\
         {subject}\n"
    )
    .into_bytes()
}

/// Our client for `side`; the user is called `b` on the other side.
fn ours(side: &Side<'_>, options: &[&str], arguments: &[&str]) -> Result<Run> {
    let home = format!("mail_home={}", side.home().display());
    let mut words = login_options(side.world());
    words.extend(["-o".into(), home]);
    words.extend(options.iter().map(ToString::to_string));
    words.extend(["sync", "-u", "b"].map(str::to_owned));
    words.extend(arguments.iter().map(ToString::to_string));
    side.dsync(&words)
}

/// One line of the program says what failed.
fn expect_failure(run: Run, code: i32, words: &str) -> Result<()> {
    let run = run.expect_code(code)?;
    let errors = run.stderr.lines().filter(|line| line.contains("error: "));
    let errors: Vec<&str> = errors.filter(|line| !line.contains("remote(")).collect();
    let is_it = errors.len() == 1 && errors[0].contains(words);
    ensure!(is_it, "{words}: {}", run.stderr);
    Ok(())
}

/// New mail on both sides; not as much on both, or a run that looks only at the counters would take
/// them for equal. Gives the subjects.
fn new_mail(a: &Side<'_>, b: &Side<'_>, name: &str) -> Result<[String; 3]> {
    let subjects = ["a", "b", "b-too"].map(|side| format!("{side}-{name}"));
    for (side, subject) in [a, b, b].into_iter().zip(&subjects) {
        side.save("INBOX", &message(subject))?;
    }
    Ok(subjects)
}

fn two_accounts(world: &World) -> Result<(Side<'_>, Side<'_>)> {
    let (a, b) = (world.side("a")?, world.side("b")?);
    new_mail(&a, &b, "first")?;
    Ok((a, b))
}

/// Everything that can be wrong before a session, and a server that is silent at each stage.
fn what_fails(a: &Side<'_>, b: &Side<'_>, port: u16, tls_port: u16) -> Result<()> {
    let world = a.world();
    let stranger = Certificates::new(&["localhost"]);
    world.write("other-ca.pem", &std::fs::read(stranger.file("ca.pem"))?)?;
    let other_ca = world.inside("other-ca.pem").display().to_string();
    let (before_a, before_b) = (a.facts()?, b.facts()?);
    let plain = format!("tcp:127.0.0.1:{port}");
    let tls = format!("tcps:127.0.0.1:{tls_port}");
    let closed = format!("tcp:127.0.0.1:{}", free_port()?);
    let mixed = format!("tcp:127.0.0.1:{tls_port}");
    let wrong_password = ["-o", "doveadm_password=wrong"];
    let wrong_ca = format!("ssl_client_ca_file={other_ca}");
    let wrong_ca = ["-o", wrong_ca.as_str()];
    for (options, user, destination, code, words) in [
        (
            &wrong_password[..],
            "b",
            &plain,
            75,
            "authentication failed",
        ),
        (
            &wrong_ca[..],
            "b",
            &tls,
            75,
            "unable to get local issuer certificate",
        ),
        (&[], "b", &closed, 75, "Connection refused"),
        (
            &[],
            "b",
            &mixed,
            75,
            "is TLS used on both sides or on none?",
        ),
        (&[], "nobody", &plain, 67, "Unknown user in remote"),
        (
            &[],
            "b",
            &"tcp:no.such.host.invalid:1".to_owned(),
            75,
            "cannot find no.such.host",
        ),
    ] {
        let run = ours(a, options, &["-u", user, destination])?;
        expect_failure(run, code, words)?;
    }
    for (after, words) in [
        (
            0,
            "no answer for 2 seconds (while waiting for its greeting)",
        ),
        (
            20,
            "no answer for 2 seconds (while waiting for its greeting)",
        ),
        (30, "no answer for 2 seconds (while logging in)"),
        (
            32,
            "no answer for 2 seconds (while waiting for the answer to the command)",
        ),
        (45, "I/O has stalled, no activity for 2 seconds"),
        (900, "I/O has stalled, no activity for 2 seconds"),
    ] {
        let proxy = Proxy::start(port, Link::Silent(after))?;
        let run = ours(
            a,
            &[],
            &["-T", "2", &format!("tcp:127.0.0.1:{}", proxy.port)],
        )?;
        expect_failure(run, 75, words).with_context(|| format!("silent after {after}"))?;
    }
    // Each byte comes in time, but not the login as a whole.
    let slow = Proxy::start(port, Link::Trickle(1, Duration::from_millis(400)))?;
    let run = ours(
        a,
        &[],
        &["-T", "2", &format!("tcp:127.0.0.1:{}", slow.port)],
    )?;
    expect_failure(
        run,
        75,
        "no answer for 2 seconds (while waiting for its greeting)",
    )?;
    before_a.expect_equal(&a.facts()?, "here")?;
    before_b.expect_equal(&b.facts()?, "there")?;
    // Slow is not wrong.
    let slow = Proxy::start(port, Link::Trickle(40, Duration::from_millis(1)))?;
    ours(a, &[], &[&format!("tcp:127.0.0.1:{}", slow.port)])?.expect_code(0)?;
    a.facts()?.expect_equal(&b.facts()?, "trickled")
}

#[test]
fn our_client_and_dovecot() -> Result<()> {
    let world = World::new(Version::V23)?;
    let (a, b) = two_accounts(&world)?;
    let daemon = Daemon::start(&world, &[&b])?;
    what_fails(&a, &b, daemon.port, daemon.tls_port)
}

#[test]
fn our_client_and_our_server() -> Result<()> {
    let world = World::new(Version::V23)?;
    let (a, b) = two_accounts(&world)?;
    let line = interop_tests::daemon::passwd_line(&world, "b", &b, "");
    world.write("users-there", line.as_bytes())?;
    let listener = Listener::start_for_users(&world, "users-there")?;
    what_fails(&a, &b, listener.port, listener.tls_port)?;
    for (names, year, words) in [
        (
            &["other.example.org"][..],
            None,
            "doesn't match expected host name 127.0.0.1",
        ),
        (&["127.0.0.1"], Some(2020), "certificate expired"),
    ] {
        let certificates = match year {
            None => Certificates::new(names),
            Some(year) => Certificates::expired(names, year),
        };
        let listener = Listener::start_with(&world, &b, &certificates)?;
        let port = format!("tcps:127.0.0.1:{}", listener.tls_port);
        expect_failure(ours(&a, &[], &[&port])?, 75, words)?;
    }
    Ok(())
}

/// A link that is cut at random points of a run: then and afterwards nothing is lost or doubled.
fn cuts(
    seed: u64,
    a: &Side<'_>,
    b: &Side<'_>,
    port: u16,
    run: &dyn Fn(u16) -> Result<Run>,
) -> Result<()> {
    let mut random = Random::new(seed);
    let mut mails = ["a-first", "b-first", "b-too-first"]
        .map(str::to_owned)
        .to_vec();
    let mut length = 0;
    let mut failed = 0;
    for cut in 0..=CUTS {
        mails.extend(new_mail(a, b, &cut.to_string())?);
        // The first one tells how long a run is.
        let link = match cut {
            0 => Link::Good,
            _ => Link::Cut(random.below(length)),
        };
        let proxy = Proxy::start(port, link)?;
        let ended = run(proxy.port)?;
        let words = || format!("{link:?}: {} {}", ended.code, ended.stderr);
        ensure!([0, 75].contains(&ended.code) && !ended.timed_out, words());
        ensure!(ended.code == 0 || !ended.stderr.is_empty(), words());
        failed += u32::from(ended.code != 0);
        if cut == 0 {
            length = proxy.passed();
        }
        run(port)?
            .expect_code(0)
            .with_context(|| format!("after {link:?}"))?;
        if cut % 10 != 0 {
            continue;
        }
        let facts = a.facts()?;
        facts.expect_equal(&b.facts()?, "after the next run")?;
        let inbox = facts.0.get("INBOX").context("no INBOX")?;
        ensure!(
            inbox.messages.len() == mails.len(),
            "{} mails",
            inbox.messages.len()
        );
        for mail in &mails {
            let end = format!("\n{mail}\n");
            ensure!(
                inbox.messages.iter().any(|it| it.text.contains_str(&end)),
                "{mail} is lost"
            );
        }
    }
    ensure!(
        failed > CUTS / 2,
        "only {failed} of {CUTS} cuts were noticed"
    );
    Ok(())
}

#[test]
fn links_to_dovecot_are_cut() -> Result<()> {
    let world = World::new(Version::V23)?;
    let (a, b) = two_accounts(&world)?;
    let daemon = Daemon::start(&world, &[&b])?;
    cuts(1, &a, &b, daemon.port, &|port| {
        ours(&a, &[], &[&format!("tcp:127.0.0.1:{port}")])
    })
}

#[test]
fn links_to_our_server_are_cut() -> Result<()> {
    let world = World::new(Version::V23)?;
    let (a, b) = two_accounts(&world)?;
    let listener = Listener::start(&world, &b)?;
    cuts(2, &a, &b, listener.tls_port, &|port| {
        ours(&a, &[], &[&format!("tcps:127.0.0.1:{port}")])
    })
}

#[test]
fn links_of_dovecots_client_are_cut() -> Result<()> {
    let world = World::new(Version::V23)?;
    let (a, b) = two_accounts(&world)?;
    let listener = Listener::start(&world, &b)?;
    a.add_settings(&format!("doveadm_password = {PASSWORD}\n"))?;
    cuts(3, &a, &b, listener.port, &|port| {
        a.dovecot_dsync("sync", &[format!("tcp:127.0.0.1:{port}")])
    })
}
