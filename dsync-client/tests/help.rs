//! The help texts are part of the product: a change of them must be meant.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers")]

use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// Compares with the committed text; with `DSYNC_BLESS=1` writes it instead.
fn check(name: &str, arguments: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_dsync"))
        .args(arguments)
        .env_clear()
        .output()
        .unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    let text = String::from_utf8(output.stdout).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/help")
        .join(format!("{name}.txt"));
    if env::var_os("DSYNC_BLESS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == text,
        "{} differs from:\n{text}\n(run with DSYNC_BLESS=1 if that is meant)",
        path.display()
    );
}

#[test]
fn whole_program() {
    check("dsync", &["--help"]);
}

#[test]
fn sync() {
    check("sync", &["sync", "--help"]);
}

#[test]
fn backup() {
    check("backup", &["backup", "--help"]);
}

#[test]
fn check_destination() {
    check("check", &["check", "--help"]);
}

#[test]
fn index_dump() {
    check("index-dump", &["index", "dump", "--help"]);
}
