//! The program on its standard streams.
#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs the server with this input; the homes of its users are in `homes`.
fn serve(homes: &Path, arguments: &[&str], input: &[u8]) -> Output {
    let home = format!("mail_home={}/%u", homes.display());
    let mut child = Command::new(env!("CARGO_BIN_EXE_dsync-server"))
        .args(["-o", &home, "-o", "mail_location=maildir:~/Maildir"])
        .args(arguments)
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
    let homes = tempfile::tempdir().unwrap();
    for name in ["ann", "joe"] {
        for folder in ["cur", "new", "tmp"] {
            fs::create_dir_all(homes.path().join(name).join("Maildir").join(folder)).unwrap();
        }
    }
    let banner = b"VERSION\tdsync\t3\t5\n";
    let output = serve(
        homes.path(),
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
    let homes = tempfile::tempdir().unwrap();
    for (input, code, start) in [
        (&b""[..], 75, "the client closed the connection before"),
        (
            b"VERSION\tdsync\t3\t5\n",
            64,
            "the client sent no user name",
        ),
        (b"\n", 64, "the client sent an empty user name"),
    ] {
        let output = serve(homes.path(), &["--remoteprefix"], input);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}");
        let start = format!("dsync-server: error: {start}");
        assert!(text.starts_with(&start), "{text}");
        assert_eq!(output.stdout, b"");
    }
}

#[test]
fn an_unknown_user() {
    let homes = tempfile::tempdir().unwrap();
    let arguments = ["-o", "mail_home=", "--remoteprefix"];
    let output = serve(homes.path(), &arguments, b"no-such-user-here\n");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(67), "{text}");
    assert!(text.contains("no-such-user-here"), "{text}");
    assert_eq!(output.stdout, b"");
}
