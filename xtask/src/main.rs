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
mod instructions;
mod interop;
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
    /// Measures ours beside doveadm, mbsync, rsync and cp; writes docs/BENCHMARKS.md
    Bench(bench::Arguments),
    /// Makes a two-sided account, backs it up, edits both sides, syncs, and syncs again
    Demo(demo::Arguments),
    /// Compares ours with Dovecot on random accounts; --help tells the options
    Diff(interop::Arguments),
    /// Kills syncs at random moments and checks that nothing is lost or doubled; --help tells the options
    Kill(interop::Arguments),
    /// Counts the instructions of codec and merges; without --check it writes docs/INSTRUCTIONS.md
    Instructions(instructions::Arguments),
    /// Installs what the tests need: Dovecot 2.3 and 2.4, an ssh server, cargo-nextest
    Setup,
    /// Writes manual pages and shell completions into packaging/
    Manual,
    /// Syncs in a loop while IMAP clients and doveadm change both sides; --minutes N
    Soak(interop::Arguments),
    /// Runs everything that CI runs: format, lints, all tests, the tests against real Dovecot
    Test(test::Arguments),
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Diff(arguments) => interop::run("diff", &arguments),
        Command::Kill(arguments) => interop::run("kill", &arguments),
        Command::Instructions(arguments) => instructions::run(&arguments),
        Command::Setup => setup::run(),
        Command::Manual => manual::run(),
        Command::Soak(arguments) => interop::run("soak", &arguments),
        Command::Test(arguments) => test::run(&arguments),
    }
}
