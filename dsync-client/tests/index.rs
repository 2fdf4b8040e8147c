//! `dsync index dump` on mailboxes that our own stores wrote.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers")]

mod common;

use common::Home;

/// A home whose mail was copied to a second store of this format.
fn copied(location: &str) -> Home {
    let home = Home::with_mail();
    let run = home.dsync(&["-q", "backup", location]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    home
}

#[test]
fn a_maildir_and_an_sdbox_are_shown() {
    for location in ["maildir:~/copy", "sdbox:~/copy"] {
        let home = copied(location);
        let run = home.dsync(&["index", "dump", location, "INBOX"]);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{location}");
        for part in [
            "/dovecot.index.log\n",
            "file_seq: ",
            " 1 flags=0x08",
            "UidValidity=",
            "modseq reset_id=",
        ] {
            assert!(
                run.stdout.contains(part),
                "{location}: no {part:?} in {}",
                run.stdout
            );
        }
        assert!(!run.stdout.contains("damaged"), "{}", run.stdout);
    }
}

#[test]
fn looking_changes_nothing() {
    let home = copied("sdbox:~/copy");
    let log = home.path("copy/mailboxes/INBOX/dbox-Mails/dovecot.index.log");
    let before = std::fs::read(&log).unwrap();
    let torn = [&before[..], &[0, 0, 0]].concat();
    std::fs::write(&log, &torn).unwrap();
    let run = home.dsync(&["index", "dump", "sdbox:~/copy", "INBOX"]);
    assert!(run.stdout.contains("unfinished: 3 bytes"), "{}", run.stdout);
    assert_eq!(std::fs::read(&log).unwrap(), torn);
}

#[test]
fn what_is_not_there_or_damaged() {
    let home = Home::with_mail();
    let run = home.dsync(&["index", "dump", "maildir:~/none", "INBOX"]);
    run.fails_with(68, "mail directory ");
    let run = home.dsync(&["index", "dump", "maildir:~/Maildir", "Gone"]);
    run.fails_with(68, "Mailbox doesn't exist: Gone");
    let run = home.dsync(&["index", "dump", "maildir:~/Maildir", "Work"]);
    run.fails_with(68, "mailbox Work has no index files in ");
    std::fs::write(home.path("Maildir/.Work/dovecot.index"), "text").unwrap();
    let run = home.dsync(&["index", "dump", "maildir:~/Maildir", "Work"]);
    let text = run.fails_with(65, "/");
    assert!(text.contains("does not begin like an index file"), "{text}");
    let run = home.dsync(&["index", "dump", "maildir:~/Maildir:INDEX=MEMORY", "Work"]);
    run.fails_with(65, "mailbox Work keeps no index files");
}
