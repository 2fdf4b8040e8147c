//! `dsync check` without another host.
#![allow(clippy::unwrap_used, reason = "test helpers")]

mod common;

use common::Home;

/// The step that fails (or "" if none does), what follows it, the fix and the exit code.
fn check(home: &Home, arguments: &[&str]) -> (String, Vec<String>, String, i32) {
    let run = home.dsync(&[&["check"], arguments].concat());
    assert_eq!(run.stderr, "");
    let mut lines: Vec<&str> = run.stdout.lines().collect();
    let last = lines.pop().unwrap();
    let failed = lines.iter().find_map(|line| line.strip_prefix("FAILED  "));
    let rest = lines
        .iter()
        .filter_map(|line| line.strip_prefix("-       "));
    let rest = rest.map(|line| line[..12].trim().to_owned()).collect();
    (
        failed.unwrap_or_default().to_owned(),
        rest,
        last.to_owned(),
        run.code,
    )
}

#[test]
fn a_location() {
    let home = Home::with_mail();
    for (arguments, failed, last, code) in [
        (&["maildir:~/copy"][..], "", "all is well", 0),
        (
            &["maildir:~/Maildir"],
            "destination  Both source and destination",
            "fix: give another destination",
            75,
        ),
        (
            &["--source", "maildir:~/none", "maildir:~/copy"],
            "mail         mail directory",
            "fix: set mail_location to a place with mail",
            68,
        ),
        (
            &["maildri:~/copy"],
            "destination  ",
            "fix: set mail_location",
            64,
        ),
        (
            &["-d"],
            "user         User has no mail_replica",
            "fix: set mail_replica",
            68,
        ),
        (
            &["-u", "no-such-user-here", "maildir:~/copy"],
            "user         user no-such-user-here is unknown",
            "fix: give a user that this host knows",
            67,
        ),
    ] {
        let (step, _, fix, exit_code) = check(&home, arguments);
        assert!(step.starts_with(failed), "{arguments:?}: {step}");
        assert!(fix.starts_with(last), "{arguments:?}: {fix}");
        assert_eq!(exit_code, code, "{arguments:?}");
    }
    assert!(!home.path("copy").exists(), "something was changed");
}

#[test]
fn commands_and_ports_that_do_not_answer() {
    let home = Home::with_mail();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let target = format!("tcp:127.0.0.1:{port}");
    for (arguments, failed, last, code) in [
        (
            &[target.as_str()][..],
            "port         connect(127.0.0.1:",
            "fix: start dsync-server listen tcp:*:",
            75,
        ),
        (
            &["tcps:h:0"],
            "name         \"h:0\" has an invalid port",
            "fix: correct the destination",
            64,
        ),
        (
            &["tcp:/no/such/socket"],
            "port         connect(/no/such/socket)",
            "fix: give the path of the socket",
            75,
        ),
        (
            &["/no/such/program", "x"],
            "command      cannot start /no/such/program",
            "fix: install the program",
            75,
        ),
        (
            &["sh", "-c", "echo stop >&2; exit 67"],
            "user there   the command ended with status 67: stop",
            "fix: create joe there",
            67,
        ),
        (
            &["sh", "-c", "echo Welcome"],
            "version      the remote side printed: \"Welcome\"",
            "fix: let the shell there print nothing",
            75,
        ),
    ] {
        let (step, rest, fix, exit_code) = check(&home, arguments);
        assert!(step.starts_with(failed), "{arguments:?}: {step}");
        assert!(fix.starts_with(last), "{arguments:?}: {fix}");
        assert_eq!(exit_code, code, "{arguments:?}");
        assert_eq!(rest.last().unwrap(), "mail there", "{arguments:?}");
    }
}

#[test]
fn a_machine_gets_an_object() {
    let home = Home::with_mail();
    let run = home.dsync(&["--json", "check", "maildir:~/copy"]);
    let start = "{\"format\":1,\"steps\":[{\"step\":\"user\",\"good\":true,";
    assert!(run.stdout.starts_with(start), "{}", run.stdout);
    assert_eq!((run.code, run.stdout.lines().count()), (0, 1));
    home.dsync(&["check", "-u", "a*", "maildir:~/copy"])
        .fails_with(64, "check takes one user");
    home.dsync(&["check"]).fails_with(64, "no destination");
}
