//! `cargo xtask bench`: ours beside its peers.
#![allow(clippy::print_stdout, reason = "it talks to a person")]

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use interop_tests::bench;

/// Measures ours beside doveadm, mbsync, rsync and cp
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench")]
struct Arguments {
    /// Smaller accounts, three rounds; takes minutes instead of an hour
    #[arg(long)]
    quick: bool,
    /// Runs of each program; the middle one counts
    #[arg(long)]
    rounds: Option<usize>,
    /// Only work whose name contains this (may be repeated)
    #[arg(long)]
    only: Vec<String>,
    /// Writes the page with the results here
    #[arg(long)]
    page: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let options = bench::Options {
        quick: arguments.quick,
        rounds: arguments
            .rounds
            .unwrap_or(if arguments.quick { 3 } else { 5 })
            .max(1),
        only: arguments.only,
    };
    println!("{}", bench::machine());
    let table = bench::run(&options, &mut |rows| print!("{rows}"))?;
    if let Some(page) = arguments.page {
        let text = format!(
            "# Benchmarks\n\nWritten by `cargo xtask bench`. All programs work on the same data in the same run, in turn, \
             {} times each; medians. Compare the multiples, not the seconds: those depend on the machine.\n\n{}\n{table}",
            options.rounds,
            bench::machine()
        );
        fs::write(page, text)?;
    }
    Ok(())
}
