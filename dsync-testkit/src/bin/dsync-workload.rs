//! `dsync-workload NAME TIMES`: does a piece of work, for callgrind to count the instructions.
//! Without arguments it lists them: name, size, unit.
#![allow(clippy::print_stdout, reason = "that is what it is for")]

use std::process::ExitCode;

use anyhow::{Context, Result};
use dsync_testkit::workload;

fn main() -> Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let Some(name) = arguments.next() else {
        for workload in workload::ALL {
            println!(
                "{} {} {}",
                workload.name, workload.small_size, workload.unit
            );
        }
        return Ok(ExitCode::SUCCESS);
    };
    let times: u32 = arguments.next().context("how many times")?.parse()?;
    let mut all = workload::ALL.iter();
    let found = all.find(|workload| workload.name == name);
    let workload = found.with_context(|| format!("no workload {name}"))?;
    let mut work = workload.prepare(workload.small_size);
    for _ in 0..times {
        work();
    }
    Ok(ExitCode::SUCCESS)
}
