//! The program on its standard streams.
#![allow(clippy::unwrap_used, reason = "test helpers")]

mod common;

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Output, Stdio};

use common::{Homes, owner};

/// Runs the server with this input.
fn serve(homes: &Homes, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_dsync-server"))
        .args(homes.options())
        .args(arguments)
        .current_dir(homes.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A server that ended already does not read it.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

#[test]
fn the_first_line_names_the_user() {
    let homes = Homes::new(&["ann", "joe"]);
    let banner = b"VERSION\tdsync\t3\t5\n";
    let output = serve(
        &homes,
        &["-D", "--remoteprefix"],
        &[b"joe\n", &banner[..]].concat(),
    );
    assert!(output.stdout.starts_with(banner), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("closed the connection during"), "{text}");
    assert!(text.contains("user joe"), "{text}");
    assert!(!text.contains("user ann"), "{text}");
}

#[test]
fn mistakes_end_without_a_word_of_protocol() {
    let homes = Homes::new(&[]);
    for (input, code, start) in [
        (&b""[..], 75, "the client closed the connection before"),
        (
            b"VERSION\tdsync\t3\t5\n",
            64,
            "the client sent no user name",
        ),
        (b"\n", 64, "the client sent an empty user name"),
    ] {
        let output = serve(&homes, &["--remoteprefix"], input);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}");
        let start = format!("dsync-server: error: {start}");
        assert!(text.starts_with(&start), "{text}");
        assert_eq!(output.stdout, b"");
    }
}

#[test]
fn an_unknown_user() {
    let homes = Homes::new(&[]);
    let arguments = ["-o", "userdb=passwd", "--remoteprefix"];
    let output = serve(&homes, &arguments, b"no-such-user-here\n");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(67), "{text}");
    assert!(text.contains("no-such-user-here"), "{text}");
    assert_eq!(output.stdout, b"");
}

/// Nothing in the store belongs to root afterwards, whoever started the program.
#[test]
fn the_session_becomes_the_user() {
    let homes = Homes::new(&["joe"]);
    let banner = b"VERSION\tdsync\t3\t5\n";
    let output = serve(&homes, &["-u", "joe", "-r", "raw.log"], banner);
    assert!(output.stdout.starts_with(banner), "{output:?}");
    let log = std::fs::metadata(homes.path().join("raw.log")).unwrap();
    assert_eq!((log.uid(), log.gid()), owner());
    for (setting, reason) in [
        ("mail_uid=0", "users with UID 0 not permitted"),
        (
            "first_valid_uid=60000",
            "not permitted (see first_valid_uid",
        ),
    ] {
        let output = serve(&homes, &["-u", "joe", "-o", setting], banner);
        let text = String::from_utf8(output.stderr).unwrap();
        if nix::unistd::geteuid().is_root() {
            assert!(text.contains(reason), "{text}");
            assert_eq!((output.status.code(), output.stdout), (Some(77), vec![]));
        }
    }
}

/// A folder of a group is open to a session that keeps the group.
#[test]
fn groups_for_shared_mail_are_kept() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let homes = Homes::new(&["joe"]);
    let shared = homes.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::os::unix::fs::chown(&shared, Some(0), Some(59_999)).unwrap();
    std::fs::set_permissions(&shared, PermissionsExt::from_mode(0o770)).unwrap();
    for (groups, is_open) in [("", false), ("mail_access_groups=59998,59999", true)] {
        let mut arguments = vec!["-u", "joe", "-r", "shared/raw.log"];
        arguments.extend(
            (!groups.is_empty())
                .then_some(["-o", groups])
                .iter()
                .flatten(),
        );
        serve(&homes, &arguments, b"VERSION\tdsync\t3\t5\n");
        assert_eq!(shared.join("raw.log").exists(), is_open, "{groups}");
    }
}
