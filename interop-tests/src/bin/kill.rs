//! `cargo xtask kill`: ours is killed at random moments.
#![allow(clippy::print_stdout, reason = "it talks to a person")]

use anyhow::{Result, anyhow};
use clap::Parser;
use interop_tests::kill::{Options, run};

/// Kills syncs at random moments while two accounts change, and checks that nothing is lost or doubled
///
/// Mail is saved, copied, flagged and expunged, and mailboxes are made, renamed and deleted, on one
/// side or on both; runs of ours are killed by SIGKILL. Now and then Dovecot looks at a store before
/// ours mends it. After a run that could end, both sides have every mail once, with its flags and
/// under the UID that it had, and Dovecot has logged nothing.
#[derive(Parser)]
#[command(bin_name = "cargo xtask kill")]
struct Arguments {
    /// Formats of both sides: maildir, sdbox, mdbox or mbox
    #[arg(long, num_args = 2, default_values = ["maildir", "maildir"])]
    formats: Vec<String>,
    /// How many runs are killed before their end
    #[arg(long, default_value_t = 500)]
    kills: u32,
    /// Decides what happens, and when
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Client and server are two processes
    #[arg(long)]
    server: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let formats: [String; 2] = arguments
        .formats
        .try_into()
        .map_err(|_| anyhow!("two formats are needed"))?;
    let name = formats.join(" and ");
    let report = run(&Options {
        formats,
        kills: arguments.kills,
        seed: arguments.seed,
        server: arguments.server,
    })?;
    println!(
        "{name}: {} kills, {} of them after the first change of a file; {} stores that Dovecot saw \
         before ours mended them; {} rounds, {} changes; nothing lost or doubled, no UID changed",
        report.kills, report.changed, report.looks, report.rounds, report.changes
    );
    Ok(())
}
