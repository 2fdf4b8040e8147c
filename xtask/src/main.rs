//! Developer commands: `cargo xtask <command>`.
//!
//! The only program besides the two products that a person runs from this tree.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it talks to a person"
)]

mod bench;
mod command;
mod demo;
mod diff;
mod manual;
mod setup;
mod soak;
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
    /// Measures ours beside doveadm, mbsync, rsync and cp; writes docs/BENCHMARKS.md
    Bench(bench::Arguments),
    /// Makes a two-sided account, backs it up, edits both sides, syncs, and syncs again
    Demo(demo::Arguments),
    /// Compares ours with Dovecot on random accounts; --help tells the options
    Diff(diff::Arguments),
    /// Installs what the tests need: Dovecot 2.3 and 2.4, an ssh server, cargo-nextest
    Setup,
    /// Writes manual pages and shell completions into packaging/
    Manual,
    /// Syncs in a loop while IMAP clients and doveadm change both sides; --minutes N
    Soak(soak::Arguments),
    /// Runs everything that CI runs: format, lints, all tests, the tests against real Dovecot
    Test(test::Arguments),
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Diff(arguments) => diff::run(&arguments),
        Command::Setup => setup::run(),
        Command::Manual => manual::run(),
        Command::Soak(arguments) => soak::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
    }
}
