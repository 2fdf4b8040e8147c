//! `cargo xtask soak`: everybody works on both sides while we sync.
#![allow(clippy::print_stdout, reason = "it talks to a person")]

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use interop_tests::soak::{Options, Program, run};

/// Syncs in a loop while IMAP clients and doveadm change both sides, and checks that nothing is lost
#[derive(Parser)]
#[command(bin_name = "cargo xtask soak")]
struct Arguments {
    /// How long
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Who does what
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Formats of both sides: maildir, sdbox or mdbox
    #[arg(long, num_args = 2, default_values = ["sdbox", "sdbox"])]
    formats: Vec<String>,
    /// Who syncs: with doveadm it shows what Dovecot does with itself
    #[arg(long, default_value = "ours")]
    program: Program,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let formats: [String; 2] = arguments
        .formats
        .try_into()
        .map_err(|_| anyhow!("two formats are needed"))?;
    let name = formats.join(" and ");
    let report = run(&Options {
        time: Duration::from_secs(arguments.minutes * 60),
        seed: arguments.seed,
        formats,
        program: arguments.program,
    })
    .with_context(|| format!("{name}, seed {}", arguments.seed))?;
    println!(
        "{name}: {} runs, {} mails saved, {} removed; nothing lost; doubled: {} that were moved \
         while they got another UID, no others; logged by Dovecot: {} lines",
        report.runs, report.saved, report.removed, report.doubled, report.logged
    );
    Ok(())
}
