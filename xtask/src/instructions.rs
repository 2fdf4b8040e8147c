//! Instructions that watched pieces of work take: unlike time the same on a busy machine.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::command::{run as execute, workspace};

/// Where the counts are kept.
const PAGE: &str = "docs/INSTRUCTIONS.md";

const HEAD: &str = "# Instructions\n\n\
    Written by `cargo xtask instructions`: instructions of one core for each piece of work, counted by callgrind in a \
    release\nbuild; what is prepared before is not counted. `cargo xtask instructions --check` fails if one of them \
    takes 5 % more\nthan here. `cargo bench -p dsync-testkit` measures the time of the same.\n\n\
    | work | size | instructions for each |\n|---|---|---|\n";

/// Options of `cargo xtask instructions`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Compare with docs/INSTRUCTIONS.md instead of writing it
    #[arg(long)]
    check: bool,
}

/// The `instructions` command.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let build = ["build", "--release", "--locked", "-p", "dsync-testkit"];
    execute("cargo", &build)?;
    let program = workspace().join("target/release/dsync-workload");
    let program = program.display().to_string();
    let recorded = recorded()?;
    let mut page = HEAD.to_owned();
    let mut worse = Vec::new();
    for line in output(Command::new(&program))?.0.lines() {
        let mut words = line.splitn(3, ' ');
        let (Some(name), Some(size), Some(unit)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let count = |times: &str| instructions(&program, name, times);
        let each = (count("2")?.saturating_sub(count("1")?)) as f64 / size.parse::<f64>()?;
        let before = recorded.get(name).copied();
        println!("{name}: {each:.1} for each of {size} {unit}, before {before:?}");
        if before.is_some_and(|before| each > before * 1.05) {
            worse.push(name.to_owned());
        }
        writeln!(page, "| {name} | {size} {unit} | {each:.1} |")?;
    }
    if arguments.check {
        ensure!(worse.is_empty(), "more than 5 % more: {}", worse.join(", "));
        return Ok(());
    }
    fs::write(workspace().join(PAGE), page).with_context(|| format!("cannot write {PAGE}"))
}

/// Counts by name; none before the first run.
fn recorded() -> Result<BTreeMap<String, f64>> {
    let path = workspace().join(PAGE);
    if !path.exists() {
        return Ok(BTreeMap::new());
    }
    let text = fs::read_to_string(path)?;
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let (name, _, count) = (cells.next()?, cells.next()?, cells.next()?);
        Some((name.to_owned(), count.parse().ok()?))
    });
    Ok(rows.collect())
}

/// Instructions of the whole program.
fn instructions(program: &str, name: &str, times: &str) -> Result<u64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    command.args([program, name, times]);
    let said = output(command)
        .context("install valgrind (Debian: apt-get install valgrind)")?
        .1;
    let count = said.lines().find_map(|line| line.split_once("Collected :"));
    let (_, count) = count.with_context(|| format!("callgrind did not count: {said}"))?;
    Ok(count.trim().parse()?)
}

/// Standard output and standard error.
fn output(mut command: Command) -> Result<(String, String)> {
    let output = command.output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    ensure!(output.status.success(), "{command:?}: {error}");
    Ok((out, error))
}
