//! Random edits on both sides, then the same sync by Dovecot with itself and with one or two of
//! ours in its place: everything that a client can see must be the same afterwards.
//!
//! A seed makes a [`script`] of edits, which Dovecot carries out. Each sync runs on byte-identical
//! copies of the result. Where the outcomes differ on purpose, a named rule in [`rules`] says
//! what is expected instead.

mod case;
mod clock;
mod edit;
mod look;
mod mail;
mod rules;
mod run;
mod script;
mod shrink;
mod view;

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};

pub use run::{Kind, Mode, Topology, printed_state, sync};

use crate::{Version, World};

/// A run that takes longer hangs.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// What to compare.
#[derive(Clone, Debug)]
pub struct Options {
    /// The real one.
    pub peer: Version,
    /// Directions.
    pub modes: Vec<Mode>,
    /// Types.
    pub kinds: Vec<Kind>,
    /// Who takes part.
    pub topologies: Vec<Topology>,
}

/// A case where the outcome is not the one of Dovecot with itself.
#[derive(Clone, Debug)]
pub struct Failure {
    seed: u64,
    mode: Mode,
    kind: Kind,
    topology: Topology,
    round: usize,
    lines: Vec<String>,
}

/// What came of a seed.
#[derive(Debug, Default)]
pub struct Report {
    /// Number of cases: a seed in a mode, type and topology.
    pub cases: usize,
    /// Cases that failed.
    pub failures: Vec<Failure>,
    /// The edits, readable.
    pub script: String,
}

/// Plays a seed.
pub fn play(seed: u64, options: &Options) -> Result<Report> {
    let script = script::Script::generate(seed);
    let report = play_script(&script, options).with_context(|| format!("seed {seed}"))?;
    Ok(report)
}

fn play_script(script: &script::Script, options: &Options) -> Result<Report> {
    let mut world = World::in_memory(options.peer)?;
    world.set_time_limit(TIME_LIMIT);
    let play = case::Play::new(&world, script, options)?;
    let mut report = Report {
        script: script.to_string(),
        ..Report::default()
    };
    for &kind in &options.kinds {
        for &mode in &options.modes {
            report.failures.extend(play.compare(mode, kind)?);
            report.cases += options.topologies.len();
        }
    }
    Ok(report)
}

/// Drops edits while the case still fails; returns what is left, readable.
pub fn shrink(failure: &Failure, peer: Version) -> Result<String> {
    let options = Options {
        peer,
        modes: vec![failure.mode],
        kinds: vec![failure.kind],
        topologies: vec![failure.topology],
    };
    let (script, failure) = shrink::shrink(failure, &options)?;
    Ok(format!("{failure}\n{script}"))
}

impl Failure {
    /// Where the first difference is: a smaller script must not fail for another reason.
    fn what(&self) -> &str {
        let line = self.lines.first().map_or("", String::as_str);
        line.split(':').next().unwrap_or(line)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            mode,
            kind,
            topology,
            ..
        } = self;
        write!(
            f,
            "FAILED: cargo xtask diff --seeds {seed} --mode {mode} --type {kind} --topology \
             {topology} (round {}; Dovecot | this run)",
            self.round + 1
        )?;
        for line in self.lines.iter().take(20) {
            write!(f, "\n  {line}")?;
        }
        Ok(())
    }
}
