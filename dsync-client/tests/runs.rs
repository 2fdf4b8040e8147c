//! Whole runs with real Maildirs: in one process, and with dsync-server over a pipe.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers")]

mod common;

use std::path::Path;

use common::{Home, Run};

/// How the other side is reached.
#[derive(Clone, Copy, Debug)]
enum Way {
    Local,
    Pipe,
}

const WAYS: [Way; 2] = [Way::Local, Way::Pipe];

/// Runs a command with `copy` in the home as the other side.
fn run(home: &Home, way: Way, arguments: &[&str]) -> Run {
    let location = format!("maildir:{}", home.path("copy").display());
    let mut command = home.command();
    command.args(arguments);
    match way {
        Way::Local => command.arg(location),
        Way::Pipe => {
            let server = Path::new(env!("CARGO_BIN_EXE_dsync")).with_file_name("dsync-server");
            assert!(server.exists(), "run `cargo build --workspace` first");
            command.arg(server).args([
                "-c",
                "/dev/null",
                "-o",
                &format!("mail_location={location}"),
            ])
        }
    };
    command.output().unwrap().into()
}

fn good(home: &Home, way: Way, arguments: &[&str]) -> String {
    let run = run(home, way, arguments);
    assert_eq!(run.code, 0, "{way:?} {arguments:?}: {}", run.stderr);
    run.only_line().to_owned()
}

#[test]
fn a_first_run_copies_and_a_second_does_nothing() {
    for way in WAYS {
        for mode in [&["sync"][..], &["sync", "-1"], &["backup"]] {
            let home = Home::with_mail();
            let line = good(&home, way, mode);
            assert!(line.contains("3 messages sent"), "{way:?} {mode:?}: {line}");
            assert_eq!(home.messages("copy"), ["one", "two"]);
            assert_eq!(home.messages("copy/.Work"), ["three"]);
            assert_eq!(
                good(&home, way, mode),
                "in sync, nothing to do",
                "{way:?} {mode:?}"
            );
            assert_eq!(home.messages("Maildir"), ["one", "two"]);
        }
    }
}

#[test]
fn new_mail_on_both_sides() {
    for way in WAYS {
        let home = Home::with_mail();
        good(&home, way, &["sync"]);
        home.message("Maildir", "four");
        home.message("copy", "five");
        let line = good(&home, way, &["sync"]);
        assert!(
            line.contains("1 message sent, 1 received"),
            "{way:?}: {line}"
        );
        for maildir in ["Maildir", "copy"] {
            assert_eq!(
                home.messages(maildir),
                ["five", "four", "one", "two"],
                "{way:?}"
            );
        }
        assert_eq!(
            good(&home, way, &["sync"]),
            "in sync, nothing to do",
            "{way:?}"
        );
    }
}

#[test]
fn one_way_keeps_and_backup_undoes_what_the_destination_has() {
    for way in WAYS {
        let home = Home::with_mail();
        good(&home, way, &["backup"]);
        home.message("copy/.Work", "extra");
        good(&home, way, &["sync", "-1"]);
        assert_eq!(home.messages("copy/.Work"), ["extra", "three"], "{way:?}");
        good(&home, way, &["backup"]);
        assert_eq!(home.messages("copy/.Work"), ["three"], "{way:?}");
        assert_eq!(home.messages("Maildir/.Work"), ["three"], "{way:?}");
    }
}

#[test]
fn a_backup_is_restored() {
    for way in WAYS {
        let home = Home::with_mail();
        good(&home, way, &["backup"]);
        std::fs::remove_dir_all(home.path("Maildir")).unwrap();
        let line = good(
            &home,
            way,
            &["backup", "-R", "--source", "maildir:~/Maildir"],
        );
        assert!(line.contains("3 received"), "{way:?}: {line}");
        assert_eq!(home.messages("Maildir"), ["one", "two"]);
        assert_eq!(home.messages("Maildir/.Work"), ["three"]);
    }
}

#[test]
fn an_account_that_is_gone_never_empties_its_backup() {
    for way in WAYS {
        let home = Home::with_mail();
        good(&home, way, &["backup"]);
        std::fs::remove_dir_all(home.path("Maildir")).unwrap();
        let run = run(&home, way, &["backup", "--source", "maildir:~/Maildir"]);
        assert_eq!(run.code, 68, "{}", run.stderr);
        assert_eq!(home.messages("copy"), ["one", "two"]);
    }
}

#[test]
fn states() {
    for way in WAYS {
        let home = Home::with_mail();
        let first = run(&home, way, &["sync", "-s", ""]);
        assert_eq!(
            (first.code, first.stdout.lines().count()),
            (0, 1),
            "{}",
            first.stderr
        );
        home.message("Maildir", "four");
        let second = run(&home, way, &["sync", "-s", first.stdout.trim()]);
        assert_eq!(second.code, 0, "{}", second.stderr);
        assert!(
            second.only_line().contains("1 message sent"),
            "{}",
            second.stderr
        );
        assert_ne!(first.stdout, second.stdout);
        // A state is that of the beginning of its run: what the run itself changed is seen once
        // more, then it stays.
        let third = run(&home, way, &["sync", "-s", second.stdout.trim()]);
        assert!(third.only_line().contains("nothing to do"), "{way:?}");
        let fourth = run(&home, way, &["sync", "-s", third.stdout.trim()]);
        assert_eq!(fourth.stdout, third.stdout, "{way:?}");
        let damaged = run(&home, way, &["sync", "-s", "rubbish!"]);
        assert_eq!(damaged.code, 0);
        assert!(
            damaged.stderr.starts_with(
                "dsync: Saved sync state is invalid, falling back to full sync: Invalid base64"
            ),
            "{}",
            damaged.stderr
        );
    }
}

#[test]
fn a_machine_gets_numbers() {
    for way in WAYS {
        let home = Home::with_mail();
        let run = run(&home, way, &["--json", "-q", "sync", "-s", ""]);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""));
        let object: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!(object["own"]["messages_sent"], 3);
        assert_eq!(object["exit_code"], 0);
        assert!(object["state"].as_str().unwrap().len() > 20);
        let received = &object["destination"]["messages_received"];
        match way {
            Way::Local => assert_eq!(*received, 3),
            Way::Pipe => assert!(received.is_null() && object["bytes_sent"].as_u64() > Some(300)),
        }
    }
}
