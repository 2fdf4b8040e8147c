//! Random histories, written by Dovecot alone or by both in turn.

use anyhow::{Context, Result, bail};
use dsync_proto::types::{Flags, Uid};
use dsync_storage::{FlagUpdate, OpenMode, Store};
use dsync_testkit::random::Random;
use interop_tests::Side;
use interop_tests::history::{DovecotSteps, NAMES};

use crate::view::{agree, resync};
use crate::{everywhere, message, save};

const DOVECOT: DovecotSteps = DovecotSteps {
    kinds: &["s", "s", "s", "f", "r", "e", "c", "m", "b", "p", "d"],
    message_ids: false,
    copies_to_itself: true,
};

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
            side.with_store(|store| our_step(store, &mut random, number))
                .with_context(|| format!("seed {seed}, step {number}"))?;
        } else {
            DOVECOT.step(side, &mut random, number)?;
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
