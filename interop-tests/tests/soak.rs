//! A slice of `cargo xtask soak`.

use std::time::Duration;

use anyhow::{Result, ensure};
use interop_tests::soak::{Options, Program, run};

fn soak(formats: [&str; 2]) -> Result<()> {
    let report = run(&Options {
        time: Duration::from_secs(20),
        seed: 1,
        formats: formats.map(str::to_owned),
        program: Program::Ours,
    })?;
    ensure!(report.runs > 2 && report.saved > 10, "{report:?}");
    Ok(())
}

#[test]
fn nothing_is_lost_or_doubled_in_sdboxes() -> Result<()> {
    soak(["sdbox", "sdbox"])
}

#[test]
fn nothing_is_lost_or_doubled_in_mdboxes() -> Result<()> {
    soak(["sdbox", "mdbox"])
}

#[test]
fn nothing_is_lost_or_doubled_in_maildirs() -> Result<()> {
    soak(["maildir", "maildir"])
}
