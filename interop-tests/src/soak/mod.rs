//! A two-way sync in a loop while everybody works on both sides.
//!
//! Two IMAP sessions append, flag, expunge and move; two programs beside them save, flag and
//! expunge; ours syncs. Every mail has a name of its own, so that in the end it is known which
//! must be there, and that none is there twice.

mod client;
mod ledger;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use clap::ValueEnum;
use client::{Client, write};
use dsync_testkit::random::Random;
use ledger::Ledger;

use crate::side::Run;
use crate::{Side, Version, World, layout};

/// How long and with which luck.
#[derive(Clone, Debug)]
pub struct Options {
    /// Everybody stops after that.
    pub time: Duration,
    /// Decides who does what.
    pub seed: u64,
    /// Formats of both sides: `maildir`, `sdbox`, `mdbox`.
    pub formats: [String; 2],
    /// Who syncs.
    pub program: Program,
}

/// Who syncs while the others work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Program {
    /// Our `dsync sync`.
    #[default]
    Ours,
    /// `doveadm sync`, to compare. What Dovecot logs is only counted then; the first thing that is
    /// wrong ends the soak, as with ours.
    Doveadm,
}

impl Program {
    fn sync(self, from: &Side<'_>, to: &Side<'_>) -> Result<Run> {
        match self {
            Self::Ours => from.dsync(&["sync", &to.location()]),
            Self::Doveadm => from.dovecot_dsync("sync", &[to.location()]),
        }
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Runs of `sync`.
    pub runs: u32,
    /// Mails that were saved.
    pub saved: usize,
    /// Mails that somebody wanted to remove.
    pub removed: usize,
    /// Mails that are there twice because they got another UID while a session moved them.
    pub doubled: usize,
    /// Lines that Dovecot's IMAP sessions have logged; none while ours syncs.
    pub logged: usize,
}

fn mail(name: &str) -> String {
    format!(
        "From: soak@example.org\r\nMessage-ID: <{name}@soak>\r\nSubject: {name}\r\n\r\nbody of \
         {name}\r\n"
    )
}

/// Works until the time is over, then syncs in quiet, and compares.
pub fn run(options: &Options) -> Result<Report> {
    let world = World::new(Version::V23)?;
    let [one, other] = &options.formats;
    let a = world.side_at("a", one, layout(one))?;
    let b = world.side_at("b", other, layout(other))?;
    a.doveadm("mailbox create", &["Work"])?;
    // Two INBOXes born apart would have to agree on one UIDVALIDITY under the sessions.
    a.save("INBOX", mail("first").as_bytes())?;
    let sync = || options.program.sync(&a, &b);
    for _ in 0..2 {
        sync()?.expect_code(0)?;
    }
    let ledger = Ledger::default();
    ledger.saved("first")?;
    let (runs, logged) = work(options, [&a, &b], &ledger)?;
    for _ in 0..2 {
        sync()?;
    }
    sync()?.expect_code(0)?;
    a.facts()?.expect_equal(&b.facts()?, "in the end")?;
    let deeds = ledger.close()?;
    for side in [&a, &b] {
        deeds
            .check(side)
            .with_context(|| format!("on {}", side.name()))?;
    }
    Ok(Report {
        runs,
        saved: deeds.saved.len(),
        removed: deeds.removed.len(),
        doubled: deeds.doubled_by_moves(&a)?,
        logged,
    })
}

/// Everybody works until the time is over. Returns the number of syncs and of
/// lines that Dovecot logged.
fn work(options: &Options, sides: [&Side<'_>; 2], ledger: &Ledger) -> Result<(u32, usize)> {
    let [a, b] = sides;
    let end = Instant::now() + options.time;
    let done = &AtomicBool::new(false);
    thread::scope(|scope| {
        let mut workers = Vec::new();
        for (number, side) in (0_u64..).zip([a, b, a, b]) {
            let random = Random::new(options.seed * 10 + number);
            let who = format!("w{number}");
            workers.push(scope.spawn(move || match number {
                0 | 1 => Client::new(side, who, random)?.work(ledger, end),
                _ => write(side, &who, random, ledger, end),
            }));
        }
        let syncer = scope.spawn(move || -> Result<u32> {
            let mut runs = 0;
            while !done.load(Ordering::Relaxed) {
                let run = options.program.sync(a, b)?;
                ensure!(run.code == 0 || run.code == 2, "{run:?}");
                runs += 1;
            }
            Ok(runs)
        });
        let ends: Vec<_> = workers
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect();
        done.store(true, Ordering::Relaxed);
        let runs = syncer.join().map_err(|_| anyhow!("the syncer panicked"))?;
        let mut logged = 0;
        for result in ends {
            let complaints = result.map_err(|_| anyhow!("a worker panicked"))??;
            ensure!(
                complaints.is_empty() || options.program == Program::Doveadm,
                "Dovecot's log says\n{}",
                complaints.join("\n")
            );
            logged += complaints.len();
        }
        Ok((runs?, logged))
    })
}
