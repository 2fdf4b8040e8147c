//! How long a command takes and how much memory it and its children need.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// Time between two looks at the memory.
const LOOK: Duration = Duration::from_millis(4);

/// One run of one command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Seconds by the wall clock.
    pub(super) seconds: f64,
    /// Largest resident memory of one process, in KiB. Looked at every few milliseconds, so what a
    /// process takes just before its end may be missed.
    pub(super) memory: u64,
}

/// Runs a command, which must end with this exit code.
pub(super) fn measure(command: &mut Command, code: i32) -> Result<Sample> {
    // What earlier runs left unwritten must not be paid for by this one.
    Command::new("sync").status()?;
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {command:?}"))?;
    let mut peaks = BTreeMap::new();
    let status = loop {
        look(child.id(), &mut peaks, 0);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        thread::sleep(LOOK);
    };
    let seconds = start.elapsed().as_secs_f64();
    let output = child.wait_with_output()?;
    ensure!(
        status.code() == Some(code),
        "{command:?} ended with {status}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(Sample {
        seconds,
        memory: peaks.into_values().max().unwrap_or(0),
    })
}

/// Notes the largest memory of a process and of what it started.
fn look(process: u32, peaks: &mut BTreeMap<u32, u64>, depth: usize) {
    let folder = format!("/proc/{process}");
    if let Ok(status) = fs::read_to_string(format!("{folder}/status")) {
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        let known = peaks.entry(process).or_default();
        *known = peak.unwrap_or(0).max(*known);
    }
    let tasks = fs::read_dir(format!("{folder}/task"));
    for task in tasks.into_iter().flatten().flatten().filter(|_| depth < 8) {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|id| id.parse().ok()) {
            look(child, peaks, depth + 1);
        }
    }
}

/// The middle of some numbers.
pub(super) fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    match (numbers.len() % 2, numbers.get(middle), middle) {
        (1, Some(number), _) => *number,
        (0, Some(number), 1..) => (numbers[middle - 1] + number) / 2.0,
        _ => f64::NAN,
    }
}
