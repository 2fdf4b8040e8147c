//! mbox stores, written and read by us and by Dovecot in turn: both see the same UIDs, flags,
//! dates, sizes, modseqs and bodies, and Dovecot never has anything to complain about.

#[allow(dead_code, reason = "shared with other tests")]
#[path = "dbox/view.rs"]
mod view;

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail, ensure};
use dsync_proto::types::{Flags, MailGuid, Uid};
use dsync_storage::{FlagUpdate, Mailbox, MetadataUpdate, OpenMode, SaveMessage, Store};
use dsync_testkit::random::Random;
use interop_tests::history::{DovecotSteps, NAMES};
use interop_tests::{Side, Version, World, own_all};

use view::{Account, compare, dovecots_account, our_account};

/// What an mbox keeps of a message. GUIDs that came from elsewhere are known to us only, and what
/// has no saved date was saved at whatever time somebody asks Dovecot.
fn kept(mut account: Account, guids: bool) -> Account {
    for view in account.values_mut() {
        for row in view.rows.values_mut() {
            row.saved.clear();
            if !guids {
                row.guid.clear();
            }
        }
    }
    account
}

/// First we look, then Dovecot, then we again: all see the same.
fn agree(side: &Side<'_>, when: &str, guids: bool) -> Result<Account> {
    let first = our_account(side).with_context(|| when.to_owned())?;
    let dovecot = kept(
        dovecots_account(side).with_context(|| when.to_owned())?,
        guids,
    );
    compare(
        &format!("{when}: we and Dovecot"),
        &kept(first.clone(), guids),
        &dovecot,
    )?;
    let again = our_account(side)?;
    compare(
        &format!("{when}: we twice"),
        &kept(first.clone(), true),
        &kept(again, true),
    )?;
    Ok(first)
}

fn everywhere(check: impl Fn(&Side<'_>) -> Result<()>) -> Result<()> {
    for options in ["", ":INDEX=HOME/index", ":INBOX=HOME/spool/u"] {
        let world = World::new(Version::V23)?;
        let home = world.inside("u").display().to_string();
        let side = world.side_at("u", "mbox", &options.replace("HOME", &home))?;
        if options.contains("spool") {
            world.write("u/spool/u", b"")?;
            own_all(&side.outside(""))?;
        }
        check(&side).with_context(|| format!("with the options {options:?}"))?;
    }
    Ok(())
}

fn message(uid: Uid, guid: &str) -> SaveMessage {
    SaveMessage {
        uid,
        guid: MailGuid::from(guid),
        flags: Flags::RECENT,
        received_date: 1_000_000_000 + i64::from(uid),
        saved_date: 1_200_000_000,
        ..SaveMessage::default()
    }
}

fn save(mailbox: &mut dyn Mailbox, what: SaveMessage, number: u32) -> Result<()> {
    let text = format!(
        "Subject: {number}\r\nMessage-ID: <{number}@ours>\r\n\r\nbody\r\nFrom x Mon Jan  1 \
         10:00:00 2024\r\n>From y\n{}",
        "line\n".repeat(number as usize % 40)
    );
    mailbox.save_begin(what)?;
    mailbox.save_write(text.as_bytes())?;
    mailbox.save_finish()?;
    Ok(())
}

const DOVECOT: DovecotSteps = DovecotSteps {
    kinds: &["s", "s", "s", "f", "r", "e", "c", "b", "d"],
    message_ids: true,
    copies_to_itself: false,
};

/// One step by us.
fn our_step(store: &mut dyn Store, random: &mut Random, number: u32) -> Result<()> {
    let mut below = |limit: usize| random.below(limit);
    let name = NAMES[below(NAMES.len())];
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
        match (below(7), uid) {
            (0, Some(uid)) => mailbox.expunge(uid)?,
            (1 | 6, Some(uid)) => {
                let update = FlagUpdate {
                    add_flags: Flags(below(32) as u8),
                    remove_flags: Flags(below(32) as u8),
                    add_keywords: vec![format!("Work{}", below(30)).into()],
                    ..FlagUpdate::default()
                };
                mailbox.update_flags(uid, update)?;
            }
            (2, Some(uid)) => mailbox.reassign_uids(&[uid])?,
            (3, Some(uid)) => {
                let guid = format!("copy-{number}");
                mailbox.copy(uid, message(status.uid_next, &guid))?;
            }
            (4, _) => mailbox.update_metadata(MetadataUpdate {
                min_uid_next: Some(status.uid_next + 3),
                ..MetadataUpdate::default()
            })?,
            _ => {
                let mut what = message(status.uid_next + below(3) as u32, "");
                what.flags = Flags(below(64) as u8);
                save(mailbox.as_mut(), what, number)?;
            }
        }
    }
    mailbox.commit()?;
    Ok(())
}

/// A mail server appends a message that knows nothing of UIDs.
fn deliver(side: &Side<'_>, number: u32) -> Result<()> {
    let path = side.outside_mail_root().join("inbox");
    if side.location().contains("spool") || !path.exists() {
        return Ok(());
    }
    let mut file = OpenOptions::new().append(true).open(&path)?;
    write!(
        file,
        "From mta@example.org Tue Nov 24 10:00:{:02} 2026\nSubject: {number}\nMessage-ID: \
         <{number}@mta>\n\ndelivered\n\n",
        number % 60
    )?;
    Ok(())
}

fn history(side: &Side<'_>, seed: u64, we_write: bool) -> Result<()> {
    let mut random = Random::new(seed);
    for number in 0..50 {
        let context = || format!("seed {seed}, step {number}");
        if number % 7 == 6 {
            deliver(side, number)?;
        } else if we_write && random.below(2) == 0 {
            side.with_store(|store| our_step(store, &mut random, number))
                .with_context(context)?;
        } else {
            DOVECOT
                .step(side, &mut random, number)
                .with_context(context)?;
        }
        if number % 8 == 7 {
            agree(side, &context(), !we_write)?;
        }
    }
    let account = agree(side, &format!("seed {seed}, at the end"), !we_write)?;
    if account.values().all(|view| view.rows.is_empty()) {
        bail!("an empty history says nothing");
    }
    Ok(())
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

fn fill(side: &Side<'_>) -> Result<()> {
    for (mailbox, count) in [("INBOX", 7), ("Par/Kid", 3), ("Other", 2)] {
        if mailbox != "INBOX" {
            side.doveadm("mailbox create", &[mailbox])?;
        }
        for number in 0..count {
            let text = format!(
                "Subject: {mailbox} {number}\nDate: Tue, 24 Nov 2026 10:00:0{number} +0000\n\
                 Message-ID: <{number}.{count}@fill>\n\n.\ndotted\nFrom x\n>From y\n{number}\n"
            );
            side.save(mailbox, text.as_bytes())?;
        }
    }
    side.doveadm(
        "flags add",
        &["\\Seen Work", "mailbox", "INBOX", "uid", "2:5"],
    )?;
    side.doveadm("expunge", &["mailbox", "INBOX", "uid", "3,7"])?;
    Ok(())
}

fn run(side: &Side<'_>, words: &[&str], other: Vec<String>) -> Result<()> {
    let mut words: Vec<String> = words.iter().map(ToString::to_string).collect();
    words.extend(other);
    let run = side.dsync(&words)?.expect_code(0)?;
    let mut said = run.stderr.lines();
    ensure!(said.all(|line| line.contains(" mailbox")), "{run:?}");
    Ok(())
}

/// From one format to the next, and back into the first: nothing is lost, GUIDs included.
#[test]
fn accounts_are_converted_and_back() -> Result<()> {
    let world = World::new(Version::V23)?;
    let maildir = world.side_at("a", "maildir", ":LAYOUT=fs")?;
    let mbox = world.side_at("b", "mbox", "")?;
    let sdbox = world.side_at("c", "sdbox", "")?;
    let again = world.side_at("d", "mbox", "")?;
    let back = world.side_at("e", "maildir", ":LAYOUT=fs")?;
    fill(&maildir)?;
    run(&maildir, &["backup"], vec![mbox.location()])?;
    agree(&mbox, "converted", false)?;
    run(&mbox, &["backup"], vec![sdbox.location()])?;
    run(&sdbox, &["backup"], vec![again.location()])?;
    agree(&again, "converted again", false)?;
    run(&again, &["backup"], vec![back.location()])?;
    let expected = maildir.facts()?;
    expected.expect_equal(&sdbox.facts()?, "sdbox by way of mbox")?;
    expected.expect_equal(&back.facts()?, "back in a Maildir")
}

fn edit(side: &Side<'_>, other: &Side<'_>) -> Result<()> {
    side.doveadm("flags remove", &["\\Seen", "mailbox", "INBOX", "uid", "2"])?;
    side.doveadm("flags add", &["\\Answered", "mailbox", "INBOX", "uid", "5"])?;
    side.doveadm("expunge", &["mailbox", "Par/Kid", "uid", "1"])?;
    side.save("Other", b"Subject: new\nMessage-ID: <new@a>\n\nby one\n")?;
    other.save(
        "Other",
        b"Subject: newer\nMessage-ID: <newer@b>\n\nby the other\n",
    )?;
    other.doveadm("flags add", &["\\Flagged", "mailbox", "INBOX", "uid", "4"])?;
    Ok(())
}

fn sides_agree(a: &Side<'_>, b: &Side<'_>, when: &str) -> Result<()> {
    let (mut one, mut other) = (kept(our_account(a)?, false), kept(our_account(b)?, false));
    for account in [&mut one, &mut other] {
        for view in account.values_mut() {
            // Each side's own.
            view.status[1].clear();
            view.status[4].clear();
            for row in view.rows.values_mut() {
                row.modseq.clear();
            }
        }
    }
    compare(when, &one, &other)
}

/// Two-way, again and again, with an mbox at either end.
#[test]
fn syncs_with_every_kind_of_server() -> Result<()> {
    type Server = fn(&Side<'_>) -> Result<Vec<String>>;
    let local: Server = |b| Ok(vec![b.location()]);
    let ours: Server = |b| b.our_server();
    let dovecots: Server = |b| Ok(b.dovecot_server());
    for (from, to, server) in [
        ("maildir", "mbox", local),
        ("mbox", "sdbox", local),
        ("mbox", "mbox", local),
        ("sdbox", "mbox", ours),
        ("mbox", "maildir", ours),
        ("mbox", "sdbox", dovecots),
        ("mbox", "maildir", dovecots),
    ] {
        let world = World::new(Version::V23)?;
        let options = |format| {
            if format == "maildir" {
                ":LAYOUT=fs"
            } else {
                ""
            }
        };
        let a = world.side_at("a", from, options(from))?;
        let b = world.side_at("b", to, options(to))?;
        let check = || -> Result<()> {
            fill(&a)?;
            run(&a, &["backup"], server(&b)?)?;
            sides_agree(&a, &b, "after the backup")?;
            edit(&a, &b)?;
            run(&a, &["sync"], server(&b)?)?;
            sides_agree(&a, &b, "after edits on both sides")?;
            let before = our_account(&b)?;
            run(&a, &["sync"], server(&b)?)?;
            run(&a, &["sync", "-f"], server(&b)?)?;
            compare(
                "a further run",
                &kept(before, true),
                &kept(our_account(&b)?, true),
            )?;
            for (side, format) in [(&a, from), (&b, to)] {
                if format == "mbox" {
                    agree(side, "in the end", false)?;
                }
            }
            Ok(())
        };
        check().with_context(|| format!("{from} to {to}: {:?}", server(&b)))?;
    }
    Ok(())
}

/// Dovecot's own mbox as the other side: one-way, which is all that 2.3 can do safely.
#[test]
fn an_mbox_of_dovecots_server_is_filled_and_read() -> Result<()> {
    let world = World::new(Version::V23)?;
    let a = world.side_at("a", "mbox", "")?;
    let b = world.side_at("b", "mbox", "")?;
    let c = world.side_at("c", "mbox", "")?;
    fill(&a)?;
    run(&a, &["backup"], b.dovecot_server())?;
    sides_agree(&a, &b, "their destination")?;
    run(&c, &["backup", "-R"], b.dovecot_server())?;
    sides_agree(&b, &c, "their source")?;
    agree(&c, "in the end", false)?;
    Ok(())
}

/// What mbox cannot hold is said, and nothing is half done in other mailboxes.
#[test]
fn a_mailbox_with_children_is_refused() -> Result<()> {
    let world = World::new(Version::V23)?;
    let a = world.side_at("a", "sdbox", "")?;
    let b = world.side_at("b", "mbox", "")?;
    for name in ["Par", "Par/Kid"] {
        a.doveadm("mailbox create", &[name])?;
    }
    let run = a.dsync(&["backup".to_owned(), b.location()])?;
    ensure!(run.code == 65, "{run:?}");
    ensure!(
        run.stderr.contains("mbox mailboxes cannot have children"),
        "{run:?}"
    );
    Ok(())
}

/// We sync an mbox while Dovecot saves, flags and expunges in it: nothing is lost or doubled.
#[test]
fn beside_a_live_mbox() -> Result<()> {
    const EDITS: u32 = 25;
    let world = World::new(Version::V23)?;
    let a = world.side_at("a", "mbox", "")?;
    let b = world.side_at("b", "sdbox", "")?;
    a.save("INBOX", b"Subject: first\nMessage-ID: <first@x>\n\nx\n")?;
    let sync = || a.dsync(&["sync", &b.location()]);
    sync()?.expect_code(0)?;
    let done = AtomicBool::new(false);
    let runs = std::thread::scope(|scope| -> Result<u32> {
        let editors = [(&a, "a"), (&b, "b")].map(|(side, who)| {
            scope.spawn(move || -> Result<()> {
                for number in 0..EDITS {
                    let text =
                        format!("Subject: {who}{number}\nMessage-ID: <{who}{number}@x>\n\nx\n");
                    side.save("INBOX", text.as_bytes())?;
                    let keyword = format!("\\Flagged {who}{number}");
                    side.doveadm("flags add", &[&keyword, "mailbox", "INBOX", "uid", "1"])?;
                }
                Ok(())
            })
        });
        let done = &done;
        let syncer = scope.spawn(move || -> Result<u32> {
            let mut runs = 0;
            while !done.load(Ordering::Relaxed) {
                let run = sync()?;
                ensure!(run.code == 0 || run.code == 2, "{run:?}");
                runs += 1;
            }
            Ok(runs)
        });
        let edited = editors.map(std::thread::ScopedJoinHandle::join);
        done.store(true, Ordering::Relaxed);
        let runs = syncer.join().ok().context("the syncer panicked")??;
        for result in edited {
            result.ok().context("an editor panicked")??;
        }
        Ok(runs)
    })?;
    ensure!(runs > 3, "only {runs} runs");
    for _ in 0..2 {
        sync()?;
    }
    sync()?.expect_code(0)?;
    sides_agree(&a, &b, "in the end")?;
    let account = agree(&a, "in the end", false)?;
    let inbox = &account["INBOX"];
    let subjects: BTreeSet<&str> = inbox
        .rows
        .values()
        .filter_map(|row| row.text.lines().next())
        .collect();
    let expected = 2 * EDITS as usize + 1;
    ensure!(
        subjects.len() == expected && inbox.rows.len() == expected,
        "{} messages: {subjects:?}",
        inbox.rows.len()
    );
    let keywords = inbox.rows.values().flat_map(|row| row.flags.split(' '));
    let keywords: BTreeSet<&str> = keywords.filter(|name| !name.starts_with('\\')).collect();
    ensure!(keywords.len() >= 2 * EDITS as usize, "{keywords:?}");
    Ok(())
}
