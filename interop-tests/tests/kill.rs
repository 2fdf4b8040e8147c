//! A slice of `cargo xtask kill` for each format.

use anyhow::{Result, ensure};
use interop_tests::kill::{Options, run};

fn survive(formats: [&str; 2], server: bool) -> Result<()> {
    let report = run(&Options {
        formats: formats.map(str::to_owned),
        kills: 12,
        seed: 1,
        server,
    })?;
    ensure!(report.changes > 20, "{report:?}");
    Ok(())
}

#[test]
fn maildirs_in_one_process() -> Result<()> {
    survive(["maildir", "maildir"], false)
}

#[test]
fn maildirs_by_a_server() -> Result<()> {
    survive(["maildir", "maildir"], true)
}

#[test]
fn sdboxes_by_a_server() -> Result<()> {
    survive(["sdbox", "sdbox"], true)
}

#[test]
fn mdboxes_by_a_server() -> Result<()> {
    survive(["mdbox", "mdbox"], true)
}

#[test]
fn sdbox_and_mdbox_in_one_process() -> Result<()> {
    survive(["sdbox", "mdbox"], false)
}

#[test]
fn mboxes_by_a_server() -> Result<()> {
    survive(["mbox", "mbox"], true)
}

#[test]
fn mbox_and_maildir_in_one_process() -> Result<()> {
    survive(["mbox", "maildir"], false)
}
