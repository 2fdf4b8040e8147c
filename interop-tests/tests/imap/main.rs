//! IMAP sessions of a real Dovecot on Maildirs that we wrote: they see the source's UIDs, dates,
//! flags and bytes, have nothing to complain about, and what they change comes back.

mod accounts;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use accounts::{below, check_plain, made_by_dovecot, message, plain};
use anyhow::{Context, Result, anyhow, ensure};
use dsync_storage::OpenMode;
use interop_tests::imap::{Answer, Imap, Value};
use interop_tests::{Side, Version, World};
use view::look;

const VERSIONS: [Version; 2] = [Version::V23, Version::V24];
const LAYOUTS: [&str; 2] = ["", ":LAYOUT=fs"];

fn dsync(from: &Side<'_>, command: &str, to: &Side<'_>) -> Result<()> {
    from.dsync(&["-q", command, &to.location()])?
        .expect_quiet()
        .map(drop)
}

/// What an IMAP client may do to an account.
fn work(side: &Side<'_>, deep: &str) -> Result<()> {
    let mut session = side.imap()?;
    session.ok("SELECT INBOX")?;
    session.ok("UID STORE 1 +FLAGS (\\Flagged $Later)")?;
    session.ok("UID STORE 2 -FLAGS (\\Seen $Work)")?;
    session.append(
        "INBOX (\\Draft $Work) \"07-Oct-2026 01:02:03 +0000\"",
        &message("new"),
    )?;
    session.ok(&format!("UID COPY 1:2 {deep}"))?;
    session.ok("UID MOVE 2 Gr&APwA3w-e")?;
    session.ok("CREATE &U,BTFw-")?;
    session.append("&U,BTFw- (\\Seen)", &message("two"))?;
    session.ok("SUBSCRIBE &U,BTFw-")?;
    session.ok(&format!("SELECT {deep}"))?;
    session.ok("UID STORE 1 +FLAGS (\\Deleted)")?;
    session.ok("EXPUNGE")?;
    session.logout()
}

fn backed_up(make: for<'w> fn(&'w World, &str) -> Result<Side<'w>>) -> Result<()> {
    for version in VERSIONS {
        for options in LAYOUTS {
            let world = World::new(version)?;
            let source = make(&world, options)?;
            let copy = world.side_at("copy", "maildir", options)?;
            round_trip(&source, &copy, options).with_context(|| format!("{version:?}{options}"))?;
        }
    }
    Ok(())
}

fn round_trip(source: &Side<'_>, copy: &Side<'_>, options: &str) -> Result<()> {
    let is_plain = !source.outside("imap.log").exists();
    dsync(source, "backup", copy)?;
    let first = look(copy)?;
    look(source)?.expect_equal(&first, "source | copy")?;
    if is_plain {
        check_plain(&first)?;
    }
    work(copy, &below(options, "Work", "Deep"))?;
    let changed = look(copy)?.without_modseqs();
    ensure!(changed != first.without_modseqs(), "no change seen");
    for round in ["first", "second"] {
        dsync(source, "sync", copy)?;
        let what = format!("{round} sync: before | after");
        changed.expect_equal(&look(copy)?.without_modseqs(), &what)?;
        let what = format!("{round} sync: copy | source");
        changed.expect_equal(&look(source)?.without_modseqs(), &what)?;
    }
    Ok(())
}

#[test]
fn copies_of_accounts_made_by_dovecot() -> Result<()> {
    backed_up(made_by_dovecot)
}

#[test]
fn copies_of_accounts_that_no_dovecot_has_seen() -> Result<()> {
    backed_up(plain)
}

/// A mailbox changes: one message goes, one gets a flag, one comes. UIDs of [`made_by_dovecot`].
fn change(side: &Side<'_>, gone: u32, flagged: u32) -> Result<()> {
    let mut session = side.imap()?;
    session.ok("SELECT INBOX")?;
    session.ok(&format!("UID STORE {gone} +FLAGS (\\Deleted)"))?;
    session.ok(&format!("UID EXPUNGE {gone}"))?;
    session.ok(&format!("UID STORE {flagged} +FLAGS ($Fresh \\Flagged)"))?;
    session.append("INBOX", &message("fresh"))?;
    session.logout()
}

/// Flags by UID, `\Recent` left out, of what a session has fetched.
fn flags_of(answer: &Answer) -> Result<BTreeMap<u32, BTreeSet<String>>> {
    let messages = answer.fetched()?;
    let flags = messages.into_iter().map(|(uid, message)| {
        let flags = message["FLAGS"].list().iter().filter_map(Value::text);
        (uid, flags.filter(|flag| flag != "\\Recent").collect())
    });
    Ok(flags.collect())
}

/// A client that was away while we synced learns exactly what changed.
#[test]
fn quick_resynchronisation() -> Result<()> {
    for version in VERSIONS {
        let world = World::new(version)?;
        let source = made_by_dovecot(&world, "")?;
        let copy = world.side("copy")?;
        dsync(&source, "backup", &copy)?;
        // In turn on both sides: each must tell what the other did.
        for (from, to, gone, flagged) in [(&source, &copy, 1, 4), (&copy, &source, 2, 5)] {
            let mut session = to.imap()?;
            session.ok("ENABLE QRESYNC")?;
            let known = session.ok("SELECT INBOX")?;
            session.logout()?;
            let code = |name| known.code(name).with_context(|| format!("no {name}"));
            let (validity, modseq) = (code("UIDVALIDITY")?, code("HIGHESTMODSEQ")?);
            change(from, gone, flagged)?;
            dsync(from, "sync", to)?;

            let mut session = to.imap()?;
            session.ok("ENABLE QRESYNC")?;
            let news = session.ok(&format!("SELECT INBOX (QRESYNC ({validity} {modseq}))"))?;
            let vanished = format!("VANISHED (EARLIER) {gone}");
            ensure!(news.of("VANISHED") == [vanished], "{version:?}: {news:?}");
            let flags = flags_of(&news)?;
            let new: u32 = known.code("UIDNEXT").context("no UIDNEXT")?.parse()?;
            ensure!(
                flags.keys().eq([&flagged, &new]) && flags[&flagged].contains("$Fresh"),
                "{version:?}: {news:?}"
            );
            let now = news.code("HIGHESTMODSEQ").context("no HIGHESTMODSEQ")?;
            for message in news.fetched()?.values() {
                let modseq = message["MODSEQ"].list()[0].text().context("no modseq")?;
                ensure!(modseq.parse::<u64>()? <= now.parse()?, "{news:?}");
            }
            let news = session.ok(&format!(
                "UID FETCH 1:* FLAGS (CHANGEDSINCE {now} VANISHED)"
            ))?;
            ensure!(news.untagged.is_empty(), "{version:?}: {news:?}");
            session.logout()?;
        }
        let (source, copy) = (look(&source)?, look(&copy)?);
        source
            .without_modseqs()
            .expect_equal(&copy.without_modseqs(), "both")?;
    }
    Ok(())
}

/// A session that is open while we sync sees what the run does to its mailbox.
#[test]
fn open_session() -> Result<()> {
    for version in VERSIONS {
        let world = World::new(version)?;
        let source = made_by_dovecot(&world, "")?;
        let copy = world.side("copy")?;
        dsync(&source, "backup", &copy)?;
        let mut session = copy.imap()?;
        session.ok("SELECT INBOX")?; // UIDs 1, 2, 4, 5
        session.ok("FETCH 1:* (UID FLAGS)")?;

        change(&source, 2, 4)?;
        dsync(&source, "sync", &copy)?;
        let news = session.ok("NOOP")?;
        expect_news(&news, "2 EXPUNGE", "4 EXISTS", "3 FETCH")
            .with_context(|| format!("{version:?} NOOP"))?;

        change(&source, 1, 5)?;
        let news = session.idle(&["EXISTS", "EXPUNGE", "FETCH"], || {
            dsync(&source, "sync", &copy)
        })?;
        expect_news(&news, "1 EXPUNGE", "4 EXISTS", "3 FETCH")
            .with_context(|| format!("{version:?} IDLE"))?;

        session.ok("UID STORE 6 +FLAGS (\\Answered)")?;
        session.ok("UID STORE 5 +FLAGS (\\Deleted)")?;
        session.ok("EXPUNGE")?;
        dsync(&source, "sync", &copy)?;
        let seen = session.ok("UID FETCH 1:* (FLAGS BODY.PEEK[])")?;
        let mut other = source.imap()?;
        other.ok("SELECT INBOX")?;
        let there = other.ok("UID FETCH 1:* (FLAGS BODY.PEEK[])")?;
        other.logout()?;
        ensure!(flags_of(&seen)?.keys().eq([&4, &6, &7]), "{seen:?}");
        ensure!(flags_of(&seen)? == flags_of(&there)?, "{seen:?}\n{there:?}");
        session.logout()?;
    }
    Ok(())
}

fn expect_news(news: &Answer, expunge: &str, exists: &str, fetch: &str) -> Result<()> {
    ensure!(news.of("EXPUNGE") == [expunge], "{news:?}");
    ensure!(
        news.of("EXISTS").last().map(String::as_str) == Some(exists),
        "{news:?}"
    );
    let fetched = news.of("FETCH");
    ensure!(
        fetched
            .iter()
            .any(|line| line.starts_with(fetch) && line.contains("$Fresh")),
        "{news:?}"
    );
    Ok(())
}

/// A session that is open while messages get other UIDs sees the old ones go and new ones come.
#[test]
fn messages_get_other_uids() -> Result<()> {
    for version in VERSIONS {
        let world = World::new(version)?;
        let side = made_by_dovecot(&world, "")?;
        let mut session = side.imap()?;
        session.ok("SELECT INBOX")?; // UIDs 1, 2, 4, 5
        let messages = |session: &mut Imap| -> Result<BTreeMap<u32, Value>> {
            session.ok("NOOP")?;
            let answer = session.ok("UID FETCH 1:* (BODY.PEEK[])")?;
            let messages = answer.fetched()?.into_iter();
            let bodies = messages.map(|(uid, mut message)| {
                let body = message.remove("BODY[]").context("no body")?;
                Ok((uid, body))
            });
            bodies.collect()
        };
        let mut now = messages(&mut session)?;
        for (round, uids) in (1..).zip([&[2, 1][..], &[4, 7], &[8]]) {
            session.ok(&format!("UID STORE {} +FLAGS ($Round{round})", uids[0]))?;
            side.with_store(|store| {
                let mut mailbox = store.open("INBOX", OpenMode::Write)?;
                mailbox.refresh()?;
                mailbox.reassign_uids(uids)?;
                mailbox.commit()?;
                Ok(())
            })?;
            let next = now.keys().next_back().context("no message")? + 1;
            for (new, uid) in (next..).zip(uids) {
                let body = now.remove(uid).context("no such UID")?;
                now.insert(new, body);
            }
            let seen = messages(&mut session)?;
            ensure!(seen == now, "{version:?}: {seen:?}\ninstead of {now:?}");
            let flags = flags_of(&session.ok(&format!("UID FETCH {next} (FLAGS)"))?)?;
            ensure!(
                flags[&next].contains(&format!("$Round{round}")),
                "{version:?}: {flags:?}"
            );
        }
        session.logout()?;
        look(&side)?;
    }
    Ok(())
}

/// A session works on while we sync again and again: nothing is lost, doubled or logged.
#[test]
fn busy_session() -> Result<()> {
    for version in VERSIONS {
        let world = World::new(version)?;
        let source = made_by_dovecot(&world, "")?;
        let copy = world.side("copy")?;
        dsync(&source, "backup", &copy)?;
        let done = AtomicBool::new(false);
        let runs = thread::scope(|scope| -> Result<u32> {
            let worker = scope.spawn(|| {
                let result = keep_busy(&copy);
                done.store(true, Ordering::Relaxed);
                result
            });
            let mut runs = 0;
            while !done.load(Ordering::Relaxed) {
                let run = source.dsync(&["-q", "sync", &copy.location()])?;
                ensure!([0, 2].contains(&run.code), "{version:?}: {run:?}");
                runs += 1;
            }
            worker.join().map_err(|_| anyhow!("panic"))??;
            Ok(runs)
        })?;
        ensure!(runs > 2, "only {runs} runs at the same time");
        dsync(&source, "sync", &copy)?;
        let seen = look(&source)?.without_modseqs();
        seen.expect_equal(&look(&copy)?.without_modseqs(), "source | copy")?;
        for (name, rest) in [("Work", 0), ("INBOX", 2)] {
            let messages = &seen.boxes[name].messages;
            let mut busy: Vec<u32> = messages
                .values()
                .filter_map(|message| message["ENVELOPE"].list()[1].text()?.parse().ok())
                .collect();
            busy.sort_unstable();
            let wanted = (0..BUSY).filter(|number| number % 3 == rest);
            ensure!(
                wanted.eq(busy.iter().copied()),
                "{version:?} {name}: {busy:?}"
            );
        }
    }
    Ok(())
}

/// Messages that [`keep_busy`] makes.
const BUSY: u32 = 90;

/// Appends many messages; of three one moves to `Work`, one goes, and one gets flags.
fn keep_busy(side: &Side<'_>) -> Result<()> {
    let mut session = side.imap()?;
    session.ok("SELECT INBOX")?;
    for number in 0..BUSY {
        let appended = session.append("INBOX", &message(&number.to_string()))?;
        let code = appended.status.split(&[' ', ']'][..]).nth(3);
        let uid = code.context("no APPENDUID")?;
        session.ok(&match number % 3 {
            0 => format!("UID MOVE {uid} Work"),
            1 => format!("UID STORE {uid} +FLAGS.SILENT (\\Deleted)"),
            _ => format!("UID STORE {uid} +FLAGS ($Work \\Seen)"),
        })?;
        if number % 3 == 1 {
            session.ok(&format!("UID EXPUNGE {uid}"))?;
        }
    }
    session.logout()
}
