//! `cargo xtask diff`: compares ours with Dovecot on random accounts.
#![allow(clippy::print_stdout, reason = "it talks to a person")]

use std::collections::VecDeque;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, bail};
use clap::Parser;
use interop_tests::Version;
use interop_tests::diff::{self, Kind, Mode, Options, Topology};

/// Compares ours with Dovecot on random accounts
///
/// A seed makes a script of edits on two accounts, which Dovecot carries out. Then the same sync
/// runs on byte-identical copies, by Dovecot with itself and by ours in every place, and all that
/// a client can see must be the same, exit codes too; a second run must change nothing. Stateful
/// cases go on for up to three rounds, each from a state that one of them has printed. Where ours
/// differs on purpose, a rule in interop-tests/src/diff/rules.rs says what is expected instead;
/// each is a row of docs/DIFFERENCES.md.
///
/// A case that fails is made small: edits are dropped while it fails in the same way. It is printed
/// with the command that plays it again, and Dovecot's side of each difference stands on the left.
///
/// Runs as root, like the tests against real Dovecot (`cargo xtask setup` installs it). The exit
/// code is 1 if a case failed.
#[derive(Parser)]
#[command(bin_name = "cargo xtask diff")]
struct Arguments {
    /// Seeds: one, or the first and the last; a seed with all options has 60 cases
    #[arg(long, value_name = "A-B", default_value = "1-20")]
    seeds: String,
    /// Only this direction: sync, sync-1, sync-1-R, backup, backup-R
    #[arg(long)]
    mode: Vec<Mode>,
    /// Only this type: changed, full, stateful
    #[arg(long = "type")]
    kind: Vec<Kind>,
    /// Only this: ours-alone, ours-dovecot, dovecot-ours, ours-ours
    #[arg(long)]
    topology: Vec<Topology>,
    /// Version of Dovecot: 2.3 or 2.4
    #[arg(long, default_value = "2.3")]
    peer: String,
    /// Seeds at a time
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Print failing cases without making them small
    #[arg(long)]
    no_shrink: bool,
}

fn or_all<T: Copy>(chosen: Vec<T>, all: &[T]) -> Vec<T> {
    match chosen.is_empty() {
        true => all.to_vec(),
        false => chosen,
    }
}

fn seeds(text: &str) -> Result<VecDeque<u64>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.parse::<u64>().context("seeds are numbers");
    Ok((number(first)?..=number(last)?).collect())
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let options = Options {
        peer: match arguments.peer.as_str() {
            "2.3" => Version::V23,
            "2.4" => Version::V24,
            other => bail!("no peer {other}"),
        },
        modes: or_all(arguments.mode, Mode::ALL),
        kinds: or_all(arguments.kind, Kind::ALL),
        topologies: or_all(arguments.topology, Topology::ALL),
    };
    let queue = Mutex::new(seeds(&arguments.seeds)?);
    let (cases, failures) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || -> Result<()> {
        loop {
            let next = queue.lock().ok().and_then(|mut queue| queue.pop_front());
            let Some(seed) = next else {
                return Ok(());
            };
            let report = diff::play(seed, &options)?;
            cases.fetch_add(report.cases, Ordering::Relaxed);
            failures.fetch_add(report.failures.len(), Ordering::Relaxed);
            for failure in &report.failures {
                println!("{failure}");
            }
            if let (Some(failure), false) = (report.failures.first(), arguments.no_shrink) {
                println!("SMALLEST: {}", diff::shrink(failure, options.peer)?);
            } else if !report.failures.is_empty() {
                println!("{}", report.script);
            }
        }
    };
    thread::scope(|scope| {
        let jobs: Vec<_> = (0..arguments.jobs.max(1))
            .map(|_| scope.spawn(work))
            .collect();
        jobs.into_iter()
            .try_for_each(|job| job.join().unwrap_or_else(|_| bail!("a thread ended early")))
    })?;
    let (cases, failures) = (cases.into_inner(), failures.into_inner());
    println!("{cases} cases, {failures} failed");
    Ok(match failures {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}
