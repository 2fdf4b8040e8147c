//! Random histories, written by Dovecot alone or by both in turn.

use anyhow::{Context, Result, bail, ensure};
use dsync_proto::types::{Flags, Uid};
use dsync_storage::{FlagUpdate, OpenMode, Store};
use dsync_testkit::random::Random;
use interop_tests::Side;

use crate::view::{agree, ours, resync};
use crate::{everywhere, message, save};

/// Mailboxes of the random histories; the third is made and deleted now and then.
const NAMES: [&str; 4] = ["INBOX", "A/B", "Tmp", "Grüße"];

/// One step of a random history by Dovecot; what is not possible just fails.
fn dovecot_step(side: &Side<'_>, random: &mut Random, number: u32) -> Result<()> {
    let mut pick = |from: &[&str]| from[random.below(from.len())].to_owned();
    let (mailbox, other) = (pick(&NAMES), pick(&NAMES));
    let uids = pick(&["1", "2:4", "3,5", "7:9", "*", "11:20", "6"]);
    let flags = pick(&[
        "\\Seen",
        "\\Flagged \\Answered",
        "$Label1",
        "Work \\Draft",
        "\\Deleted",
    ]);
    let query = ["mailbox", &mailbox, "uid", &uids];
    let text = format!(
        "Subject: {number}\n\nhistory {number}\n{}",
        "line\n".repeat(number as usize % 50)
    );
    let (command, arguments): (&str, Vec<&str>) =
        match pick(&["s", "s", "s", "f", "r", "e", "c", "m", "b", "p", "d"]).as_str() {
            "s" => ("save", vec!["-m", &mailbox]),
            "f" => ("flags add", [&[flags.as_str()][..], &query].concat()),
            "r" => ("flags replace", [&[flags.as_str()][..], &query].concat()),
            "e" => ("expunge", query.to_vec()),
            "c" => ("copy", [&[other.as_str()][..], &query].concat()),
            "m" => ("move", [&[other.as_str()][..], &query].concat()),
            "b" => ("mailbox create", vec![&other]),
            "p" => ("purge", Vec::new()),
            _ => ("mailbox delete", vec!["Tmp"]),
        };
    let run = side.doveadm_run(command, &arguments, text.as_bytes())?;
    // Changing flags in a mailbox that does not exist is an assertion in 2.3.
    let harmless = ["exist", "not found", "assertion failed: (box->opened)"];
    ensure!(
        (run.code == 0 && run.stderr.is_empty())
            || harmless.iter().any(|text| run.stderr.contains(text)),
        "{command} {arguments:?}: {run:?}"
    );
    Ok(())
}

/// One step by us.
fn our_step(store: &mut dyn Store, random: &mut Random, number: u32) -> Result<()> {
    let mut below = |limit: usize| random.below(limit);
    let name = NAMES[below(NAMES.len())];
    if below(8) == 0 {
        return Ok(store.purge()?);
    }
    if name == "Tmp" && below(2) == 0 {
        match store.identity(name) {
            Ok(identity) => store.delete_mailbox(identity.guid)?,
            Err(_) => drop(store.create_mailbox(name, None, None)?),
        }
        return Ok(());
    }
    store.create_mailbox(name, None, None)?;
    let mut mailbox = store.open(name, OpenMode::Write)?;
    let status = mailbox.refresh()?;
    let uids: Vec<Uid> = mailbox
        .messages()?
        .iter()
        .map(|message| message.uid)
        .collect();
    for _ in 0..=below(3) {
        let uid = uids.get(below(uids.len().max(1))).copied();
        match (below(6), uid) {
            (0, Some(uid)) => mailbox.expunge(uid)?,
            (1, Some(uid)) => {
                let update = FlagUpdate {
                    add_flags: Flags(below(32) as u8),
                    remove_flags: Flags(below(32) as u8),
                    add_keywords: vec!["Work".into()],
                    ..FlagUpdate::default()
                };
                mailbox.update_flags(uid, update)?;
            }
            (2, Some(uid)) => mailbox.reassign_uids(&[uid])?,
            (3, Some(uid)) => {
                let guid = format!("copy-{number}");
                mailbox.copy(uid, message(status.uid_next, &guid))?;
            }
            _ => {
                let mut what = message(status.uid_next + below(3) as u32, "");
                what.flags = Flags(below(64) as u8);
                save(mailbox.as_mut(), what)?;
            }
        }
    }
    mailbox.commit()?;
    Ok(())
}

fn history(side: &Side<'_>, seed: u64, we_write: bool) -> Result<()> {
    let mut random = Random::new(seed);
    for number in 0..60 {
        if we_write && random.below(2) == 0 {
            ours(side, |store| our_step(store, &mut random, number))
                .with_context(|| format!("seed {seed}, step {number}"))?;
        } else {
            dovecot_step(side, &mut random, number)?;
        }
        if number % 10 == 9 {
            agree(side, &format!("seed {seed}, step {number}"))?;
        }
    }
    let account = agree(side, &format!("seed {seed}, at the end"))?;
    if account.values().all(|view| view.rows.is_empty()) {
        bail!("an empty history says nothing");
    }
    resync(side, &account)
}

#[test]
fn histories_of_dovecot_are_read_alike() -> Result<()> {
    everywhere(|side| history(side, 1, false))
}

#[test]
fn histories_of_both_are_read_alike() -> Result<()> {
    for seed in [2, 3, 4] {
        everywhere(|side| history(side, seed, true))?;
    }
    Ok(())
}
