//! Our reader and writer of Dovecot's index files against Dovecot itself.

mod mailbox;

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dsync_proto::items::AttributeKind;
use dsync_proto::types::{Flags, Guid};
use dsync_storage::index::{ExtensionSpec, Origin, Transaction, cache_fields};
use interop_tests::{Side, Version, World};

use crate::mailbox::{Box, KEYWORDS, Random, WAIT, of_index, tiny_logs};

const STEPS: usize = 120;

/// Random histories made by Dovecot, read by us.
fn reading(version: Version, format: &str, modseqs: bool, tiny: bool, seed: u64) -> Result<()> {
    let world = World::new(version)?;
    let side = world.side_at("a", format, "")?;
    if tiny {
        tiny_logs(&world, "a")?;
    }
    let mailbox = Box::new(&side, format);
    let mut random = Random(seed);
    for _ in 0..4 {
        side.save("INBOX", b"Subject: first\n\nbody\n")?;
    }
    for step in 0..STEPS {
        mailbox.random_change(&mut random)?;
        if step % 5 == 0 {
            mailbox.check(modseqs, &format!("{format}, step {step}"))?;
        }
    }
    mailbox.check(true, "at the end")?;
    let index = mailbox.open()?;
    let seq = index.log_header().context("no log")?.file_seq;
    ensure!(!tiny || seq > 3, "Dovecot did not rotate: log {seq}");
    Ok(())
}

#[test]
fn reads_sdbox_without_modseqs() -> Result<()> {
    reading(Version::V23, "sdbox", false, false, 1)
}

#[test]
fn reads_sdbox_with_modseqs() -> Result<()> {
    reading(Version::V23, "sdbox", true, true, 2)
}

#[test]
fn reads_maildir_without_modseqs() -> Result<()> {
    reading(Version::V23, "maildir", false, true, 3)
}

#[test]
fn reads_maildir_with_modseqs() -> Result<()> {
    reading(Version::V23, "maildir", true, false, 4)
}

#[test]
fn reads_mdbox() -> Result<()> {
    reading(Version::V23, "mdbox", true, true, 7)
}

/// Where nothing happened since Dovecot's snapshot, ours has the same bytes.
#[test]
fn snapshots_are_byte_identical() -> Result<()> {
    let world = World::new(Version::V23)?;
    let side = world.side_at("a", "sdbox", "")?;
    tiny_logs(&world, "a")?;
    let mailbox = Box::new(&side, "sdbox");
    let mut random = Random(31);
    let mut compared = 0;
    for step in 0..STEPS {
        mailbox.random_change(&mut random)?;
        if step == STEPS / 3 {
            mailbox.by_dovecot(true)?; // from now on with modseqs
        }
        let Ok(by_dovecot) = fs::read(mailbox.dir.join("dovecot.index")) else {
            continue;
        };
        let index = mailbox.open()?;
        let number = |at: usize| -> Result<u32> {
            Ok(u32::from_le_bytes(by_dovecot[at..at + 4].try_into()?))
        };
        let seq = index.log_header().map_or(0, |header| header.file_seq);
        // Right after a rotation Dovecot names the modseqs' position by the end of the old log.
        let rotated = index.log_size() == 40;
        if !rotated && (number(60)?, number(68)?) == (seq, index.log_size()) {
            mailbox.change(|locked| Ok(locked.write_snapshot()?))?;
            let ours = fs::read(mailbox.dir.join("dovecot.index"))?;
            let at = ours.iter().zip(&by_dovecot).position(|(a, b)| a != b);
            let part = |file: &[u8]| format!("{:02x?}", &file[at.unwrap_or(0) / 8 * 8..]);
            ensure!(
                ours == by_dovecot,
                "step {step}: differs at {at:?}
ours:    {}
Dovecot: {}",
                part(&ours),
                part(&by_dovecot)
            );
            compared += 1;
        }
    }
    ensure!(compared > 5, "only {compared} snapshots compared");
    Ok(())
}

#[test]
fn reads_sdbox_of_24() -> Result<()> {
    reading(Version::V24, "sdbox", true, false, 5)
}

#[test]
fn reads_maildir_of_24() -> Result<()> {
    reading(Version::V24, "maildir", true, false, 6)
}

#[test]
fn writes_for_24() -> Result<()> {
    let origins = [Origin::DSYNC_FACT, Origin::REQUEST];
    writing(Version::V24, origins, true, 14)
}

/// Flags, keywords, modseqs and header fields that we wrote are what Dovecot sees, and it has
/// nothing to complain about; in between it changes things itself.
fn writing(version: Version, origins: [Origin; 2], maintain: bool, seed: u64) -> Result<()> {
    let world = World::new(version)?;
    let side = world.side_at("a", "sdbox", "")?;
    let mailbox = Box::new(&side, "sdbox");
    let mut random = Random(seed);
    for _ in 0..12 {
        side.save("INBOX", b"Subject: first\n\nbody\n")?;
    }
    for step in 0..STEPS / 2 {
        let mut transaction = Transaction::new(origins[random.below(2) as usize]);
        for _ in 0..=random.below(4) {
            let first = 1 + random.below(12);
            let uids = first..=first + random.below(6);
            let one = Flags(1 << random.below(5));
            let other = Flags(random.below(32) as u8);
            let keyword = random.of(&KEYWORDS).as_bytes();
            match random.below(7) {
                0 | 1 => transaction.update_flags(uids, one, other),
                2 => transaction.update_flags(uids, Flags::NONE, one),
                3 => transaction.add_keyword(keyword, uids),
                4 => transaction.remove_keyword(keyword, uids),
                5 => transaction.min_modseq(first, u64::from(10 + random.below(500))),
                _ => transaction.reset_keywords(uids),
            }
        }
        match random.below(8) {
            0 => transaction.min_highest_modseq(u64::from(random.below(600))),
            1 => transaction.min_next_uid(random.below(60)),
            2 => transaction.set_uid_validity(1 + random.below(1 << 30)),
            3 => transaction.bump_modseq(1..=3),
            4 => transaction.attribute(AttributeKind::Shared, b"comment", Some(4), 1_700_000_000),
            5 => transaction.set_extension_header(
                ExtensionSpec::LAST_RENAME_STAMP,
                0,
                &1_700_000_000_u32.to_le_bytes(),
            ),
            _ => {}
        }
        mailbox.change(|locked| {
            locked.append(&transaction)?;
            match random.below(6) {
                0 if maintain => locked.write_snapshot()?,
                1 if maintain => locked.rotate()?,
                _ => {}
            }
            Ok(())
        })?;
        mailbox.check(true, &format!("step {step} of ours: {transaction:?}"))?;
        if step % 4 == 0 {
            mailbox.random_change(&mut random)?;
            mailbox.check(true, &format!("step {step} of Dovecot"))?;
        }
    }
    Ok(())
}

#[test]
fn writes_facts() -> Result<()> {
    writing(Version::V23, [Origin::FACT, Origin::DSYNC_FACT], true, 11)
}

#[test]
fn writes_requests() -> Result<()> {
    writing(
        Version::V23,
        [Origin::REQUEST, Origin::DSYNC_REQUEST],
        true,
        12,
    )
}

#[test]
fn writes_without_snapshots() -> Result<()> {
    writing(
        Version::V23,
        [Origin::DSYNC_FACT, Origin::REQUEST],
        false,
        13,
    )
}

#[test]
fn dovecot_carries_out_our_expunge_requests() -> Result<()> {
    let world = World::new(Version::V23)?;
    let side = world.side_at("a", "sdbox", "")?;
    let mailbox = Box::new(&side, "sdbox");
    for _ in 0..5 {
        side.save("INBOX", b"Subject: first\n\nbody\n")?;
    }
    mailbox.check(true, "before")?;
    let before = mailbox.open()?.state().highest_modseq();
    mailbox.change(|locked| {
        let mut request = Transaction::new(Origin::DSYNC_REQUEST);
        request.expunge(2, Guid([2; 16]));
        request.expunge(4, Guid([4; 16]));
        locked.append(&request)?;
        ensure!(locked.pending()?.len() == 1, "not pending");
        Ok(())
    })?;
    mailbox.check(true, "after the request")?;
    let mut index = mailbox.open()?;
    ensure!(index.pending()?.is_empty(), "still pending");
    ensure!(index.state().len() == 3, "still there");
    let log = index.changes_since(before, u32::MAX)?;
    ensure!(log.covered && log.changes.len() == 2, "{log:?}");
    ensure!(log.changes[&2].guid == Guid([2; 16]), "{log:?}");
    Ok(())
}

#[test]
fn cache_decisions() -> Result<()> {
    let world = World::new(Version::V23)?;
    let side = world.side_at("a", "sdbox", "")?;
    let mailbox = Box::new(&side, "sdbox");
    ensure!(cache_fields(&mailbox.dir, "dovecot.index")?.is_empty());
    side.save("INBOX", b"Subject: first\n\nbody\n")?;
    side.doveadm("fetch", &["hdr.subject date.received size.virtual", "all"])?;
    let decisions = side.doveadm("mailbox cache decision", &["--all", "INBOX"])?;
    let decisions: Vec<BTreeMap<String, String>> = serde_json::from_str(&decisions)?;
    let by_dovecot: Vec<(String, String, bool)> = decisions
        .into_iter()
        .map(|field| {
            let used = !field["last-used"].starts_with("1970");
            (field["field"].clone(), field["decision"].clone(), used)
        })
        .collect();
    let ours: Vec<(String, String, bool)> = cache_fields(&mailbox.dir, "dovecot.index")?
        .into_iter()
        .map(|field| {
            let decision = format!("{:?}", field.decision).to_lowercase();
            (field.name.to_string(), decision, field.last_used != 0)
        })
        .collect();
    ensure!(ours == by_dovecot, "ours {ours:?}\nDovecot {by_dovecot:?}");
    ensure!(ours.len() > 5, "too few fields: {ours:?}");
    Ok(())
}

#[test]
fn saved_dates() -> Result<()> {
    let world = World::new(Version::V23)?;
    let side = world.side_at("a", "sdbox", "")?;
    let mailbox = Box::new(&side, "sdbox");
    for _ in 0..3 {
        side.save("INBOX", b"Subject: first\n\nbody\n")?;
        side.doveadm(
            "fetch",
            &["hdr.subject size.virtual date.saved.unixtime", "all"],
        )?;
    }
    let dates = side.doveadm("fetch", &["uid date.saved.unixtime", "all"])?;
    let dates: Vec<BTreeMap<String, String>> = serde_json::from_str(&dates)?;
    let index = mailbox.open()?;
    let saved = index.cached()?;
    ensure!(index.state().len() == 3 && dates.len() == 3);
    for (message, by_dovecot) in index.state().messages().zip(dates) {
        let ours = saved.saved_date(&message).map(|date| date.to_string());
        ensure!(
            ours.as_ref() == Some(&by_dovecot["date.saved.unixtime"]),
            "ours {ours:?}, Dovecot {by_dovecot:?}"
        );
    }
    Ok(())
}

/// An sdbox with messages, a snapshot, a backup, and changes in the log only.
fn filled<'w>(side: &'w Side<'w>) -> Result<Box<'w>> {
    let mailbox = Box::new(side, "sdbox");
    for _ in 0..4 {
        side.save("INBOX", b"Subject: first\n\nbody\n")?;
    }
    mailbox.check(true, "filled")?;
    mailbox.change(|locked| Ok(locked.write_snapshot()?))?;
    mailbox.change(|locked| {
        let mut changes = Transaction::new(Origin::FACT);
        changes.update_flags(2..=3, Flags::FLAGGED, Flags::NONE);
        locked.append(&changes)?;
        Ok(locked.write_snapshot()?)
    })?;
    mailbox.change(|locked| {
        let mut changes = Transaction::new(Origin::FACT);
        changes.update_flags(1..=2, Flags::SEEN, Flags::NONE);
        changes.add_keyword(b"Work", 2..=4);
        Ok(locked.append(&changes)?)
    })?;
    Ok(mailbox)
}

/// Whatever was damaged: after we held the lock once, Dovecot sees the same mailbox as before
/// and has nothing to say.
fn mending(damage: impl Fn(&Box<'_>) -> Result<()>) -> Result<()> {
    let world = World::new(Version::V23)?;
    let side = world.side_at("a", "sdbox", "")?;
    let mailbox = filled(&side)?;
    let before = of_index(&mailbox.open()?, true);
    damage(&mailbox)?;
    let mut index = mailbox.open()?;
    index.lock(WAIT)?.finish()?;
    ensure!(!index.damage().is_empty(), "nothing was damaged");
    mailbox.change(|_| Ok(()))?;
    let by_dovecot = mailbox.by_dovecot(true)?;
    ensure!(
        before == by_dovecot,
        "before: {before:?}\nDovecot: {by_dovecot:?}"
    );
    mailbox.flags("add", "Other", &["mailbox", "INBOX", "all"])?;
    mailbox.check(true, "afterwards")
}

#[test]
fn mends_a_torn_tail() -> Result<()> {
    mending(|mailbox| {
        let log = mailbox.dir.join("dovecot.index.log");
        let mut log = OpenOptions::new().append(true).open(log)?;
        Ok(log.write_all(&[0; 64])?)
    })
}

#[test]
fn mends_a_log_marked_as_corrupted() -> Result<()> {
    mending(|mailbox| {
        let path = mailbox.dir.join("dovecot.index.log");
        let mut log = fs::read(&path)?;
        log[4..8].fill(0);
        Ok(fs::write(path, log)?)
    })
}

#[test]
fn mends_a_bad_snapshot() -> Result<()> {
    mending(|mailbox| Ok(fs::write(mailbox.dir.join("dovecot.index"), b"garbage")?))
}

#[test]
fn mends_a_missing_log() -> Result<()> {
    mending(|mailbox| {
        mailbox.change(|locked| Ok(locked.write_snapshot()?))?;
        Ok(fs::remove_file(mailbox.dir.join("dovecot.index.log"))?)
    })
}

#[test]
fn creates_a_mailbox() -> Result<()> {
    let world = World::new(Version::V23)?;
    let side = world.side_at("a", "sdbox", "")?;
    side.doveadm("mailbox create", &["Other"])?; // makes the folders
    let mailbox = Box::new(&side, "sdbox");
    fs::create_dir_all(&mailbox.dir)?;
    let owner = fs::metadata(side.outside_mail_root())?;
    for folder in [&mailbox.dir, &mailbox.dir.join("..")] {
        chown(folder, Some(owner.uid()), Some(owner.gid()))?;
    }
    let mut first = Transaction::new(Origin::DSYNC_FACT);
    let guid = ExtensionSpec {
        name: "dbox-hdr",
        header_size: 24,
        record_size: 0,
        record_align: 1,
    };
    first.set_extension_header(guid, 4, &[0x11; 16]);
    first.set_uid_validity(1_234_567_890);
    first.min_next_uid(101);
    first.min_highest_modseq(2000);
    first.set_first_recent_uid(101);
    mailbox.open()?.create(&first)?;
    mailbox.change(|locked| Ok(locked.maintain()?))?;
    mailbox.check(true, "created")?;
    let (_, counters) = mailbox.by_dovecot(true)?;
    ensure!(counters == [0, 101, 1_234_567_890, 2000], "{counters:?}");
    let guid = side.doveadm("mailbox status", &["guid", "INBOX"])?;
    ensure!(guid.contains(&"11".repeat(16)), "{guid}");
    side.save("INBOX", b"Subject: first\n\nbody\n")?;
    mailbox.check(true, "saved")
}

#[test]
fn resets_a_maildir() -> Result<()> {
    let world = World::new(Version::V23)?;
    let side = world.side("a")?;
    let mailbox = Box::new(&side, "maildir");
    for _ in 0..3 {
        side.save("INBOX", b"Subject: first\n\nbody\n")?;
    }
    mailbox.flags("add", "\\Seen", &["mailbox", "INBOX", "uid", "2"])?;
    let before = mailbox.by_dovecot(true)?;
    let uidlist = mailbox.dir.join("dovecot-uidlist");
    let text = fs::read_to_string(&uidlist)?;
    let old = format!("V{} ", before.1[2]);
    ensure!(text.contains(&old), "{text}");
    fs::write(&uidlist, text.replace(&old, "V7777 "))?;
    mailbox.change(|locked| {
        let mut first = Transaction::new(Origin::FACT);
        first.set_uid_validity(7777);
        first.enable_modseqs();
        for (uid, (flags, _)) in &before.0 {
            let flags = flags.iter().filter_map(|flag| Flags::from_name(flag));
            first.append(*uid, flags.fold(Flags::NONE, |all, flag| all | flag));
        }
        Ok(locked.reset(&first, 0)?)
    })?;
    let ours = mailbox.open()?.state().highest_modseq();
    let (messages, counters) = mailbox.by_dovecot(true)?;
    ensure!(
        counters == [3, before.1[1], 7777, ours],
        "{counters:?} {ours}"
    );
    ensure!(ours > before.1[3], "modseq did not rise");
    ensure!(messages[&2].0 == ["\\Seen"], "{messages:?}");
    mailbox.check(true, "after the reset")
}

/// Both write at the same time; nobody complains and both see the same in the end.
#[test]
fn writes_beside_dovecot() -> Result<()> {
    let world = World::new(Version::V23)?;
    let side = world.side_at("a", "sdbox", "")?;
    tiny_logs(&world, "a")?;
    let mailbox = Box::new(&side, "sdbox");
    for _ in 0..6 {
        side.save("INBOX", b"Subject: first\n\nbody\n")?;
    }
    let dovecot_is_done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<()> {
        let ours = scope.spawn(|| -> Result<u32> {
            let mut random = Random(21);
            let mut index = mailbox.open()?;
            let mut rounds = 0;
            while !dovecot_is_done.load(std::sync::atomic::Ordering::Relaxed) {
                let mut changes = Transaction::new(Origin::DSYNC_REQUEST);
                let first = 1 + random.below(10);
                changes.update_flags(first..=first + 3, Flags(1 << random.below(5)), Flags::NONE);
                changes.remove_keyword(random.of(&KEYWORDS).as_bytes(), first..=first);
                // No new files here: they would belong to root.
                index.lock(WAIT)?.append(&changes)?;
                ensure!(index.damage().is_empty(), "{:?}", index.damage());
                rounds += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(rounds)
        });
        let mut random = Random(22);
        let result = (0..80).try_for_each(|_| mailbox.random_change(&mut random));
        dovecot_is_done.store(true, std::sync::atomic::Ordering::Relaxed);
        let rounds = ours.join().map_err(|_| anyhow::anyhow!("panic"))??;
        ensure!(rounds > 0, "we had no turn");
        result
    })?;
    mailbox.check(true, "in the end")
}

#[test]
fn appends_messages() -> Result<()> {
    let world = World::new(Version::V23)?;
    let side = world.side_at("a", "sdbox", "")?;
    let mailbox = Box::new(&side, "sdbox");
    side.save("INBOX", b"Subject: first\n\nbody\n")?;
    for uid in [7, 8, 20] {
        let name = |uid: u32| mailbox.dir.join(format!("u.{uid}"));
        fs::copy(name(1), name(uid))?;
    }
    mailbox.change(|locked| {
        let mut changes = Transaction::new(Origin::DSYNC_FACT);
        changes.append(20, Flags::DRAFT);
        changes.append(7, Flags::SEEN);
        changes.append(8, Flags::NONE);
        changes.add_keyword(b"Work", 8..=20);
        changes.min_modseq(8, 900);
        changes.min_next_uid(30);
        locked.append(&changes)?;
        Ok(locked.maintain()?)
    })?;
    mailbox.check(true, "appended")?;
    let (messages, counters) = mailbox.by_dovecot(true)?;
    ensure!(messages.len() == 4 && counters[1] == 30, "{counters:?}");
    ensure!(messages[&8] == (vec!["Work".into()], Some(900)));
    let text = side.doveadm("fetch", &["text", "mailbox", "INBOX", "uid", "20"])?;
    ensure!(text.contains("first"), "{text}");
    side.save("INBOX", b"Subject: next\n\nbody\n")?;
    mailbox.check(true, "saved by Dovecot")
}
