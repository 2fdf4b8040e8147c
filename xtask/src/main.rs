//! Developer commands: `cargo xtask <command>`.
//!
//! The only program besides the two products that a person runs from this tree.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it talks to a person"
)]

mod command;
mod manual;
mod setup;
mod test;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Developer commands of dsync.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Installs what the tests need: Dovecot 2.3 and 2.4, an ssh server, cargo-nextest
    Setup,
    /// Writes manual pages and shell completions into packaging/
    Manual,
    /// Runs everything that CI runs: format, lints, all tests, the tests against real Dovecot
    Test(test::Arguments),
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Setup => setup::run(),
        Command::Manual => manual::run(),
        Command::Test(arguments) => test::run(&arguments),
    }
}
