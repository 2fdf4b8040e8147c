//! Ours beside its peers, on the same data in the same run (`cargo xtask bench`).

mod contest;
mod copy;
mod data;
mod link;
mod measure;
mod quiet;

use std::fmt::Write as _;
use std::fs;

use anyhow::Result;

use crate::{Version, World};

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// Smaller accounts and fewer rounds; a few minutes instead of an hour.
    pub quick: bool,
    /// Only work whose name contains one of these.
    pub only: Vec<String>,
    /// Runs of each program; the middle one counts.
    pub rounds: usize,
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| name.contains(only.as_str()))
    }
}

/// Does one piece of work in a world of its own, and returns the rows of the table.
type Work = fn(&World, &Options) -> Result<String>;

/// Head of the table of results.
const HEAD: &str = "| work | program | time as a multiple of ours | median, s | spread, s | memory of the largest process, MiB |\n\
                    |---|---|---|---|---|---|\n";

/// Measures everything, tells each result by `tell`, and returns the page.
///
/// # Errors
///
/// A program is missing, or fails.
pub fn run(options: &Options, tell: &mut dyn FnMut(&str)) -> Result<String> {
    let mut page = String::from(HEAD);
    tell(HEAD);
    let mut add = |rows: String| {
        tell(&rows);
        page.push_str(&rows);
    };
    let works: [(&str, Work); 8] = [
        ("first copy, 10 mailboxes", copy::ten_mailboxes),
        ("first copy, one large mailbox", copy::one_mailbox),
        ("growth", copy::growth),
        ("quiet, one large mailbox", quiet::one_mailbox),
        ("quiet, many mailboxes", quiet::many_mailboxes),
        ("stateful, one new mail and one flag", quiet::stateful),
        ("link, many mailboxes", link::many_mailboxes),
        ("link, first copy", link::first_copy),
    ];
    for (name, work) in works {
        if options.wants(name) {
            // An own world for each, so that nothing is left over on the disk.
            add(work(&World::new(Version::V23)?, options)?);
        }
    }
    Ok(page)
}

/// Description of the machine: what a reader needs to compare the numbers with others.
pub fn machine() -> String {
    let mut out = String::new();
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown", |line| line.trim_start_matches(['\t', ' ', ':']));
    let cores = cpus
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let memory = read("/proc/meminfo");
    let memory = memory
        .lines()
        .next()
        .unwrap_or_default()
        .trim_start_matches("MemTotal:");
    let kernel = read("/proc/sys/kernel/osrelease");
    let _ = writeln!(
        out,
        "{cores} cores ({model}), memory {}, Linux {}, mail on {}. Peers: Dovecot 2.3.19.1, mbsync 1.4.4, \
         rsync and cp of Debian 12.",
        memory.trim(),
        kernel.trim(),
        file_system("/tmp")
    );
    out
}

/// Type of the file system that holds a folder.
fn file_system(folder: &str) -> String {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mut best = ("", "unknown");
    for line in mounts.lines() {
        let mut words = line.split(' ').skip(1);
        if let (Some(point), Some(kind)) = (words.next(), words.next())
            && std::path::Path::new(folder).starts_with(point)
            && point.len() >= best.0.len()
        {
            best = (point, kind);
        }
    }
    best.1.to_owned()
}
