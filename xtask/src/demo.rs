//! The main job on mail that is made for it, or on the reader's own.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::command::{run as execute, workspace};

mod account;

/// Options of `cargo xtask demo`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Back up this mail (such as maildir:~/Maildir) into a temporary place instead
    #[arg(long, value_name = "LOCATION")]
    source: Option<String>,
    /// Leave the accounts where they are
    #[arg(long)]
    keep: bool,
}

/// The `demo` command.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let packages = [
        "build",
        "--release",
        "-p",
        "dsync-client",
        "-p",
        "dsync-server",
    ];
    execute("cargo", &packages)?;
    let folder = tempfile::Builder::new().prefix("dsync-demo-").tempdir()?;
    let path = folder.path().to_owned();
    let result = match &arguments.source {
        Some(source) => back_up_own_mail(source, &path),
        None => whole_story(&path),
    };
    if arguments.keep {
        println!("\nThe accounts are in {}", folder.keep().display());
    }
    result
}

fn back_up_own_mail(source: &str, folder: &Path) -> Result<()> {
    let copy = format!("maildir:{}", folder.join("copy").display());
    step("Backing up", source);
    dsync(&["backup", "--source", source, &copy])?;
    step("The same again", "nothing should be left to do");
    dsync(&["backup", "--source", source, &copy])?;
    println!("\nVerdict: {source} was backed up, and a second run had nothing to do.");
    Ok(())
}

fn whole_story(folder: &Path) -> Result<()> {
    let (home, office) = (folder.join("home"), folder.join("office"));
    let (home_location, office_location) = (location(&home), location(&office));

    step(
        "Making an account",
        "about 2,000 messages from 500 bytes to 5 MB",
    );
    let start = Instant::now();
    account::make(&home)?;
    println!(
        "{} ({})",
        account::Snapshot::read(&home)?.summary(),
        seconds(start.elapsed())
    );

    step("dsync backup", "an exact copy of it");
    dsync(&["backup", "--source", &home_location, &office_location])?;
    compare(&home, &office)?;

    step(
        "Editing both sides",
        "as two people with two mail programs would",
    );
    account::edit_home(&home)?;
    account::edit_office(&office)?;

    step("dsync sync", "by way of a server on a pipe, as over ssh");
    let server = program("dsync-server")?;
    let server = server.display().to_string();
    let option = format!("mail_location={office_location}");
    let sync = [
        "sync",
        "--source",
        &home_location,
        &server,
        "-c",
        NO_SETTINGS,
        "-o",
        &option,
    ];
    dsync(&sync)?;
    compare(&home, &office)?;

    step("dsync sync", "once more");
    let before = account::Snapshot::read(&home)?;
    dsync(&sync)?;
    let after = account::Snapshot::read(&home)?;
    ensure!(before == after, "the second run changed something");
    compare(&home, &office)?;

    println!("\nVerdict: both sides are equal, and the second run had nothing to do.");
    Ok(())
}

fn compare(one: &Path, two: &Path) -> Result<()> {
    let (left, right) = (account::Snapshot::read(one)?, account::Snapshot::read(two)?);
    let differences = left.differences(&right);
    ensure!(
        differences.is_empty(),
        "the sides differ:\n{}",
        differences.join("\n")
    );
    println!(
        "Checked: {} on both sides, equal in every UID, GUID, flag, date and body",
        left.summary()
    );
    Ok(())
}

fn step(what: &str, detail: &str) {
    println!("\n== {what}: {detail}");
}

fn location(folder: &Path) -> String {
    format!("maildir:{}", folder.display())
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// The demonstration is the same whatever is configured on this host.
const NO_SETTINGS: &str = "/dev/null";

fn dsync<S: AsRef<OsStr>>(arguments: &[S]) -> Result<()> {
    let start = Instant::now();
    let mut command = Command::new(program("dsync")?);
    let status = command
        .args(["-c", NO_SETTINGS])
        .args(arguments)
        .status()
        .context("cannot run dsync")?;
    ensure!(status.success(), "dsync failed: {status}");
    println!("({})", seconds(start.elapsed()));
    Ok(())
}

fn program(name: &str) -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || workspace().join("target"),
        |folder| workspace().join(folder),
    );
    let program = target.join("release").join(name);
    ensure!(program.is_file(), "{} was not built", program.display());
    Ok(program)
}
