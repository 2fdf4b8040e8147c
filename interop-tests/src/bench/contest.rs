//! Several programs do the same work in turn.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Context, Result};

use super::measure::{Sample, measure, median};

type Make<'a> = Box<dyn FnMut() -> Result<Command> + 'a>;

/// One program at one piece of work.
pub(super) struct Rival<'a> {
    name: &'static str,
    /// Prepares a run and returns its command; not measured.
    make: Make<'a>,
    samples: Vec<Sample>,
}

impl<'a> Rival<'a> {
    pub(super) fn new(name: &'static str, make: impl FnMut() -> Result<Command> + 'a) -> Self {
        Self {
            name,
            make: Box::new(make),
            samples: Vec::new(),
        }
    }

    fn seconds(&self) -> f64 {
        median(self.samples.iter().map(|sample| sample.seconds).collect())
    }
}

/// A piece of work; the first rival is ours.
pub(super) struct Contest<'a> {
    name: String,
    rivals: Vec<Rival<'a>>,
}

impl<'a> Contest<'a> {
    pub(super) fn new(name: impl Into<String>, rivals: Vec<Rival<'a>>) -> Self {
        let name = name.into();
        Self { name, rivals }
    }

    /// Runs all in turn, several times, and returns the rows of the table.
    pub(super) fn run(mut self, rounds: usize) -> Result<String> {
        for _ in 0..rounds {
            for rival in &mut self.rivals {
                let sample = (rival.make)()
                    .and_then(|mut command| measure(&mut command, 0))
                    .with_context(|| format!("{}: {}", self.name, rival.name))?;
                rival.samples.push(sample);
            }
        }
        Ok(self.rows())
    }

    fn rows(&self) -> String {
        let mut out = String::new();
        let ours = self.rivals.first().map_or(f64::NAN, Rival::seconds);
        for (at, rival) in self.rivals.iter().enumerate() {
            let name = if at == 0 { self.name.as_str() } else { "" };
            let seconds = rival.samples.iter().map(|sample| sample.seconds);
            let (least, most) = seconds.fold((f64::INFINITY, 0_f64), |(least, most), seconds| {
                (least.min(seconds), most.max(seconds))
            });
            let memory = rival.samples.iter().map(|sample| sample.memory).max();
            let memory = memory.unwrap_or(0).div_ceil(1024);
            let median = rival.seconds();
            let ratio = median / ours;
            let _ = writeln!(
                out,
                "| {name} | {} | {ratio:.2} | {median:.2} | {least:.2}–{most:.2} | {memory} |",
                rival.name
            );
        }
        out
    }
}
