//! Commands that do not behave: each ends in one line that says whose fault it is, and nothing
//! is lost.
#![allow(clippy::unwrap_used, reason = "test helpers")]

mod common;

use std::fs;

use common::{Home, Run};

/// What a Dovecot says first.
const HELLO: &str = "printf 'VERSION\\tdsync\\t3\\t5\\n\
Hhostname\\thashed_headers\\n\
Smailbox_guid\\tlast_uidvalidity\\tlast_common_uid\\tlast_common_modseq\\tlast_common_pvt_modseq\\n\
Nname\\texistence\\tmailbox_guid\\tuid_validity\\tuid_next\\n\
Dhierarchy_sep\\tmailboxes\\tdirs\\tunsubscribes\\n\
Bmailbox_guid\\tuid_validity\\tuid_next\\tmessages_count\\tfirst_recent_uid\\thighest_modseq\\thighest_pvt_modseq\\n\
Atype\\tkey\\n\
Ctype\\tuid\\n\
Rguid\\tuid\\n\
Mguid\\tuid\\tstream\\n\
Ferror\\n\
cname\\tdecision\\n\
.\\nHpeer.example.org\\t\\n'; ";

fn against(options: &[&str], script: &str) -> Run {
    let home = Home::with_mail();
    let run = home.dsync_with_peer(options, script);
    assert_eq!(
        home.messages("Maildir"),
        ["one", "two"],
        "mail must not change"
    );
    assert_eq!(home.messages("Maildir/.Work"), ["three"]);
    run
}

#[test]
fn strangers() {
    for (script, line) in [
        ("cat /etc/passwd", "root:"),
        ("echo hello", "hello"),
        ("printf hello", "hello"),
        (
            "echo 'Welcome to mail'; printf 'VERSION\\tdsync\\t3\\t5\\n'; cat",
            "Welcome to mail",
        ),
        ("head -c 1000000 /dev/zero", "?"),
    ] {
        let run = against(&[], script);
        let text = run.fails_with(75, &format!("the remote side printed: \"{line}"));
        assert!(text.contains("check that it starts dsync-server"), "{text}");
    }
}

#[test]
fn a_peer_that_ends_at_once() {
    let run = against(&[], "true");
    let text = run.fails_with(75, "the remote side closed the connection without a word");
    assert!(text.contains("ended without an error"), "{text}");
    let run = against(&[], "exit 3");
    let text = run.fails_with(75, "the remote side closed the connection without a word");
    assert!(text.contains("ended with status 3"), "{text}");
    // What the command knows about its failure is passed on.
    let run = against(&[], "exit 67");
    run.fails_with(67, "the remote side closed the connection without a word");
    let run = against(&[], "kill -9 $$");
    let text = run.fails_with(75, "the remote side closed the connection without a word");
    assert!(text.contains("killed by signal 9"), "{text}");
}

#[test]
fn a_peer_that_says_why_it_ends() {
    let run = against(&[], "echo 'ssh: no route to host' >&2; exit 255");
    let lines: Vec<_> = run.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[0], "ssh: no route to host");
    assert!(lines[1].contains("ended with status 255"), "{lines:?}");
    assert_eq!(run.code, 75);
}

#[test]
fn a_program_that_does_not_exist() {
    let home = Home::with_mail();
    home.dsync(&["sync", "/no/such/program"]).fails_with(
        75,
        "cannot start /no/such/program: No such file or directory",
    );
    home.dsync(&["sync", "maildir:/x", "extra"])
        .fails_with(75, "cannot start maildir:/x: ");
}

#[test]
fn a_damaged_line() {
    for (line, expected) in [
        ("Zwhat", "Received unexpected input Z"),
        (
            "Nname",
            "Invalid input to mailbox_tree_node: Missing required field",
        ),
        ("Ninbox\\ty\\tnoguid", "mailbox_tree_node: Invalid"),
    ] {
        let script = format!("{HELLO} printf '{line}\\n'; cat >/dev/null");
        let run = against(&[], &script);
        let text = run.fails_with(75, "dsync(");
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("the other side"), "{text}");
    }
}

#[test]
fn a_peer_that_ends_in_the_middle() {
    for script in ["", "printf 'Nna'; "] {
        let run = against(&[], &format!("{HELLO} {script}"));
        let text = run.fails_with(75, "the remote side closed the connection ");
        assert!(text.contains("run it again"), "{text}");
    }
    let run = against(&[], "printf 'VERSION\\tdsync\\t3\\t5\\n'");
    run.fails_with(
        75,
        "the remote side closed the connection during the handshake",
    );
}

#[test]
fn a_silent_peer() {
    let run = against(&["-T", "1"], "exec sleep 1000");
    run.fails_with(
        75,
        "dsync(remote): I/O has stalled, no activity for 1 seconds (version not received); \
         Timeout during state=master_recv_handshake",
    );
    let run = against(&["-T", "1"], &format!("{HELLO} exec sleep 1000"));
    let text = run.fails_with(75, "dsync(peer.example.org): I/O has stalled");
    assert!(text.contains("last recv=handshake"), "{text}");
}

#[test]
fn the_state_stays_usable() {
    let run = against(&["-s", ""], "true");
    assert_eq!(
        run.stdout, "AQAAAHm4+Jk=\n",
        "the empty state, as Dovecot prints it"
    );
    assert_eq!(run.code, 75);
}

#[test]
fn the_raw_log_has_both_directions() {
    let home = Home::with_mail();
    home.dsync_with_peer(&["-r", "raw.log"], HELLO);
    let log = fs::read_to_string(home.path("raw.log")).unwrap();
    assert!(log.contains(" I: VERSION\tdsync\t3\t5\n"), "{log}");
    assert!(log.contains(" O: VERSION\tdsync\t3\t5\n"), "{log}");
}

/// The signal comes when the peer has certainly been started: the peer itself sends it.
#[test]
fn signals_end_a_run() {
    for (signal, name) in [("TERM", "SIGTERM"), ("INT", "SIGINT")] {
        let script = format!("{HELLO} kill -{signal} $PPID; exec cat >/dev/null");
        let run = against(&[], &script);
        run.fails_with(75, &format!("stopped by {name}; what was finished is kept"));
    }
}

#[test]
fn a_closed_terminal_does_not_end_a_run() {
    let run = against(&[], &format!("{HELLO} kill -HUP $PPID"));
    run.fails_with(75, "the remote side closed the connection before the end");
}
