//! Killed at any moment while mail arrives and goes on both sides: in the end every message is
//! there once, and Dovecot finds nothing to mend.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use dsync_storage::{OpenMode, Store};
use interop_tests::{Side, Version, World};
use serde::Deserialize;

use crate::message;
use crate::view::{agree, resync};

const ROUNDS: u32 = 40;
/// Messages that arrive on each side between two kills.
const ARRIVALS: u32 = 20;
/// Every so many rounds a run may come to its end. Only messages that it has brought to both
/// sides are expunged: the UIDs of others may still change, and their expunge get lost.
const COMPLETE: u32 = 5;
/// So many of the messages of the round before it.
const EXPUNGED: u32 = 4;

#[derive(Deserialize)]
struct Id {
    #[serde(rename = "hdr.message-id")]
    id: String,
}

fn name(round: u32, who: &str, number: u32) -> String {
    format!("<{round}.{number}.{who}>")
}

/// How many messages of a round go in the next one.
fn expunged(round: u32) -> u32 {
    match round % COMPLETE == COMPLETE - 1 && round + 1 < ROUNDS {
        true => EXPUNGED,
        false => 0,
    }
}

/// New mail, and some of the round before goes.
fn change(store: &mut dyn Store, round: u32, who: &str) -> Result<()> {
    store.create_mailbox("INBOX", None, None)?;
    let mut mailbox = store.open("INBOX", OpenMode::Write)?;
    let next = mailbox.refresh()?.uid_next;
    for number in 0..ARRIVALS {
        let id = name(round, who, number);
        mailbox.save_begin(message(next + number, &format!("{id} guid")))?;
        mailbox.save_write(format!("Message-ID: {id}\n\nbody of {id}\n").as_bytes())?;
        mailbox.save_finish()?;
    }
    let going: Vec<String> = (0..expunged(round.wrapping_sub(1)))
        .map(|number| format!("{} guid", name(round.wrapping_sub(1), who, number)))
        .collect();
    let table = mailbox.messages()?;
    for old in table.iter() {
        if going.contains(&old.guid.to_string()) {
            mailbox.expunge(old.uid)?;
        }
    }
    mailbox.commit()?;
    Ok(())
}

fn counts(side: &Side<'_>) -> Result<BTreeMap<String, u32>> {
    let text = side.doveadm("fetch", &["hdr.message-id", "mailbox", "INBOX"])?;
    let mut counts = BTreeMap::new();
    for Id { id } in serde_json::from_str::<Vec<Id>>(&text)? {
        *counts.entry(id).or_default() += 1;
    }
    Ok(counts)
}

fn command(a: &Side<'_>, b: &Side<'_>, local: bool) -> Result<Command> {
    let mut command = a.dsync_command(&["sync", "-P"])?;
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

fn survive(from: &str, to: &str, local: bool) -> Result<()> {
    let world = World::new(Version::V23)?;
    let (a, b) = (world.side_at("a", from, "")?, world.side_at("b", to, "")?);
    let mut killed = 0;
    // Any spread of moments will do; this one covers the whole run again and again.
    for round in 0..ROUNDS {
        if round % COMPLETE == 0 {
            command(&a, &b, local)?.status()?;
        }
        a.with_store(|store| change(store, round, "a"))?;
        b.with_store(|store| change(store, round, "b"))?;
        let mut child = command(&a, &b, local)?.spawn()?;
        sleep(Duration::from_micros(u64::from(round * 7919 % 40) * 1500));
        killed += u32::from(child.try_wait()?.is_none());
        child.kill()?;
        child.wait()?;
        // A server of the killed client may still be at work as another user.
        sleep(Duration::from_millis(30));
    }
    ensure!(
        killed > ROUNDS / 4,
        "only {killed} runs were killed before their end"
    );
    sleep(Duration::from_millis(300));
    for round in 0..3 {
        let status = command(&a, &b, local)?.status()?;
        ensure!(
            status.success() || round < 2,
            "run {round} after the kills: {status}"
        );
    }
    let expected: BTreeMap<String, u32> = (0..ROUNDS)
        .flat_map(|round| ["a", "b"].map(|who| (round, who)))
        .flat_map(|(round, who)| {
            (expunged(round)..ARRIVALS).map(move |number| (name(round, who, number), 1))
        })
        .collect();
    for side in [&a, &b] {
        for when in ["before", "after"] {
            let counts = counts(side)?;
            let wrong: Vec<_> = expected
                .iter()
                .filter(|(id, count)| counts.get(*id) != Some(count))
                .chain(counts.iter().filter(|(id, _)| !expected.contains_key(*id)))
                .collect();
            ensure!(
                wrong.is_empty(),
                "{} {when} force-resync: not exactly once: {wrong:?}",
                side.name()
            );
            if when == "before" {
                resync(side, &agree(side, "after the kills")?)?;
            }
        }
    }
    a.facts()?.expect_equal(&b.facts()?, "as Dovecot sees them")
}

#[test]
fn sdbox_by_a_server() -> Result<()> {
    survive("sdbox", "sdbox", false)
}

#[test]
fn mdbox_by_a_server() -> Result<()> {
    survive("mdbox", "mdbox", false)
}

#[test]
fn both_in_one_process() -> Result<()> {
    survive("sdbox", "mdbox", true)
}
