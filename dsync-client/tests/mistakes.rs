//! Mistakes of people: each ends in one line that says what is wrong and what to do.
#![allow(clippy::unwrap_used, reason = "test helpers")]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;

use common::{Home, Run};

#[test]
fn nothing_to_sync() {
    let home = Home::new();
    let run = home.dsync(&["sync", "maildir:backup"]);
    let text = run.fails_with(64, "no mail to sync: give -o mail_location=maildir:PATH");
    assert!(text.contains("Maildir does not exist"), "{text}");
    assert!(!home.path("backup").exists());
}

#[test]
fn a_mail_location_that_is_not_there() {
    let home = Home::new();
    let run = home.dsync(&[
        "-o",
        "mail_location=maildir:~/Mail",
        "sync",
        "maildir:backup",
    ]);
    let text = run.fails_with(68, "mail directory ");
    let hint = "Mail does not exist (mail_location = maildir:~/Mail, from -o; -o mail_location=";
    assert!(text.contains(hint), "{text}");
}

#[test]
fn debug_says_what_was_understood() {
    let home = Home::with_mail();
    let run = home.dsync(&["-D", "sync", "-n", "nowhere/", "maildir:backup"]);
    let start = format!("dsync: debug: user joe, home Some({:?})", home.root());
    assert!(run.stderr.starts_with(&start), "{}", run.stderr);
    assert_eq!(run.code, 64, "{}", run.stderr);
    assert!(
        run.stderr.contains("Namespace not found: 'nowhere/'"),
        "{}",
        run.stderr
    );
}

#[test]
fn no_destination() {
    Home::with_mail()
        .dsync(&["sync"])
        .fails_with(64, "no destination: give");
}

#[test]
fn a_missing_source_is_not_an_empty_account() {
    let home = Home::with_mail();
    for command in ["sync", "backup"] {
        let run = home.dsync(&[
            command,
            "--source",
            "maildir:~/Maildri",
            "maildir:~/Maildir",
        ]);
        let text = run.only_line().to_owned();
        assert!(text.contains("Maildri"), "{text}");
        assert_eq!(run.code, 68, "{text}");
        assert_eq!(home.messages("Maildir"), ["one", "two"]);
        assert!(!home.path("Maildri").exists());
    }
}

#[test]
fn settings() {
    let home = Home::with_mail();
    for (option, start) in [
        (
            "mail_locaton=x",
            "-o: unknown setting mail_locaton; did you mean mail_location?",
        ),
        (
            "mail_fsync=x",
            "-o: mail_fsync = \"x\" is none of: optimized, always, never",
        ),
        ("x", "-o x: write it as -o name=value"),
    ] {
        home.dsync(&["-o", option, "sync", "maildir:b"])
            .fails_with(64, start);
    }
    fs::write(
        home.path("dsync.toml"),
        "mail_fsync = 'optimized'\nmail_hom = 'x'\n",
    )
    .unwrap();
    home.dsync(&["-c", "dsync.toml", "sync", "maildir:b"])
        .fails_with(
            78,
            "dsync.toml:2: unknown setting mail_hom; did you mean mail_home?",
        );
    home.dsync(&["-c", "missing.toml", "sync", "maildir:b"])
        .fails_with(78, "cannot read configuration file missing.toml");
    home.dsync(&["sync", "-u", "no-such-user-here", "maildir:b"])
        .fails_with(67, "user no-such-user-here is unknown to this system");
    assert!(!home.path("b").exists());
}

#[test]
fn settings_are_shown_with_their_origin() {
    let home = Home::new();
    fs::write(
        home.path("dsync.toml"),
        "\ndoveadm_password = 'hidden'\nmail_fsync = 'always'\n",
    )
    .unwrap();
    let run = home.dsync(&["-c", "dsync.toml", "-o", "doveadm_port=4711", "config"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    for line in [
        "mail_fsync = \"always\" # dsync.toml:3",
        "doveadm_port = 4711 # -o",
        "lock_method = \"fcntl\" # default",
        "# doveadm_password is not shown",
    ] {
        assert!(
            run.stdout.lines().any(|shown| shown == line),
            "{line}: {}",
            run.stdout
        );
    }
    assert!(!run.stdout.contains("hidden"));
    let run = home.dsync(&["-c", "dsync.toml", "config", "mail_fsync"]);
    assert_eq!(run.stdout, "always\n");
    home.dsync(&["config", "mail_fsyn"]).fails_with(
        64,
        "NAME: unknown setting mail_fsyn; did you mean mail_fsync?",
    );
    // It is a configuration file.
    let all = home.dsync(&["-c", "dsync.toml", "config", "-P"]).stdout;
    fs::write(home.path("again.toml"), &all).unwrap();
    let again = home.dsync(&["-c", "again.toml", "config", "-P", "doveadm_password"]);
    assert_eq!(again.stdout, "hidden\n");
}

#[test]
fn unknown_formats_and_options() {
    let home = Home::with_mail();
    let run = home.dsync(&["sync", "tcp:host"]);
    run.fails_with(
        64,
        "Port not known for host; write host:PORT, or set doveadm_port",
    );
    let run = home.dsync(&["sync", "-Z", "maildir:b"]);
    assert_eq!(run.code, 64);
    assert!(run.stderr.contains("-Z"), "{}", run.stderr);
    let run = home.dsync(&["sync", "maildri:b"]);
    assert!(run.only_line().contains("maildri"), "{}", run.stderr);
    assert_ne!(run.code, 0);
}

#[test]
fn source_and_destination_are_the_same() {
    let home = Home::with_mail();
    home.dsync(&["sync", "maildir:~/Maildir"]).fails_with(
        75,
        "Both source and destination mail_location points to same directory: ",
    );
}

#[test]
fn a_destination_that_cannot_be_created() {
    let home = Home::with_mail();
    fs::write(home.path("file"), "x").unwrap();
    let run = home.dsync(&["sync", "maildir:~/file/backup"]);
    let text = run.only_line();
    assert!(text.contains("file/backup"), "{text}");
    assert_ne!(run.code, 0);
    assert_eq!(home.messages("Maildir"), ["one", "two"]);
}

#[test]
fn a_machine_gets_an_object_also_for_mistakes() {
    let run = Home::new().dsync(&["--json", "sync", "maildir:backup"]);
    assert_eq!(run.code, 64);
    let object: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(object["exit_code"], 64);
    assert_eq!(object["error"]["fault"], "local");
}

/// As an ordinary user: root may write anywhere.
#[test]
fn no_permission_for_the_destination() {
    let home = Home::with_mail();
    let locked = home.path("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    let mut command = home.command();
    command.args(["sync", "maildir:~/locked/backup"]);
    if nix::unistd::Uid::effective().is_root() {
        own(home.root());
        command.uid(5000).gid(5000);
    }
    let run = Run::from(command.output().unwrap());
    let text = run.only_line();
    assert!(
        text.contains("locked/backup") && text.contains("ermission"),
        "{text}"
    );
    assert_eq!(run.code, 77, "{text}");
    assert_eq!(home.messages("Maildir"), ["one", "two"]);
}

fn own(path: &std::path::Path) {
    chown(path, Some(5000), Some(5000)).unwrap();
    if path.is_dir() && !path.ends_with("locked") {
        for entry in fs::read_dir(path).unwrap() {
            own(&entry.unwrap().path());
        }
    }
}
