//! Killed at any moment while mail arrives on both sides: in the end every message is there once.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use interop_tests::{Side, Version, World, own_all};

const ROUNDS: u32 = 40;
/// Messages that arrive on each side between two kills.
const ARRIVALS: u32 = 25;

fn deliver(side: &Side<'_>, round: u32, who: &str) -> Result<()> {
    let root = side.outside_mail_root();
    for number in 0..ARRIVALS {
        let name = format!("{}.M{number}P{round}.{who}", 1_795_500_000 + round);
        let text = format!("Message-ID: <{name}>\nSubject: {name}\n\nbody of {name}\n");
        let temporary = root.join("tmp").join(&name);
        fs::write(&temporary, text)?;
        own_all(&temporary)?;
        fs::rename(temporary, root.join("new").join(name))?;
    }
    Ok(())
}

/// How often each message is in INBOX, by its Message-ID.
fn counts(root: &Path) -> Result<BTreeMap<String, u32>> {
    let mut counts = BTreeMap::new();
    for part in ["cur", "new"] {
        for entry in fs::read_dir(root.join(part))? {
            let text = fs::read_to_string(entry?.path())?;
            let id = text.lines().next().context("empty message")?.to_owned();
            *counts.entry(id).or_default() += 1;
        }
    }
    Ok(counts)
}

fn command(a: &Side<'_>, b: &Side<'_>, local: bool) -> Result<Command> {
    let mut command = a.dsync_command(&["sync"])?;
    match local {
        true => command.arg(b.location()),
        false => command.args(b.our_server()?),
    };
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(command)
}

fn survive(local: bool) -> Result<()> {
    let world = World::new(Version::V23)?;
    let (a, b) = (world.side("a")?, world.side("b")?);
    a.save("INBOX", b"Message-ID: <first>\n\nfirst\n")?;
    command(&a, &b, local)?.status()?;
    let mut killed = 0;
    // Any spread of moments will do; this one covers the whole run again and again.
    for round in 0..ROUNDS {
        deliver(&a, round, "a")?;
        deliver(&b, round, "b")?;
        let mut child = command(&a, &b, local)?.spawn()?;
        sleep(Duration::from_micros(u64::from(round * 7919 % 40) * 1500));
        killed += u32::from(child.try_wait()?.is_none());
        child.kill()?;
        child.wait()?;
    }
    ensure!(
        killed > ROUNDS / 4,
        "only {killed} runs were killed before their end"
    );
    // A server of the last killed client may still be at work.
    sleep(Duration::from_millis(300));
    for round in 0..3 {
        let status = command(&a, &b, local)?.status()?;
        ensure!(
            status.success() || round < 2,
            "run {round} after the kills: {status}"
        );
    }
    let (left, right) = (
        counts(&a.outside_mail_root())?,
        counts(&b.outside_mail_root())?,
    );
    for (name, counts) in [("a", &left), ("b", &right)] {
        let doubled: Vec<_> = counts.iter().filter(|(_, count)| **count != 1).collect();
        ensure!(doubled.is_empty(), "{name}: not exactly once: {doubled:?}");
        let expected = 1 + 2 * ARRIVALS * ROUNDS;
        ensure!(
            counts.len() == expected as usize,
            "{name}: {} of {expected}",
            counts.len()
        );
    }
    // Dovecot must have nothing to complain about.
    a.facts()?.expect_equal(&b.facts()?, "as Dovecot sees them")
}

#[test]
fn client_and_server_on_a_pipe() -> Result<()> {
    survive(false)
}

#[test]
fn both_stores_in_one_process() -> Result<()> {
    survive(true)
}
