//! Everything that CI runs.

use anyhow::Result;
use clap::Args;

use crate::command::run as execute;
use crate::setup;

/// Options of `cargo xtask test`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Only tests whose name contains this
    filter: Option<String>,
}

/// The `test` command.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::install(true)?;
    execute("cargo", &["fmt", "--all", "--check"])?;
    let clippy = [
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    execute("cargo", &clippy)?;
    execute("cargo", &["build", "--locked", "--workspace"])?;
    execute(
        "cargo",
        &["test", "--locked", "--workspace", "--doc", "--quiet"],
    )?;
    let mut nextest = vec![
        "nextest",
        "run",
        "--locked",
        "--workspace",
        "--no-fail-fast",
    ];
    if let Some(filter) = &arguments.filter {
        nextest.push(filter);
    }
    execute("cargo", &nextest)
}
