//! One Maildir mailbox, written and read by us and by Dovecot in turn: both see the same UIDs,
//! GUIDs, flags, dates, modseqs and bodies, and Dovecot never has anything to complain about.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use dsync_proto::types::{Flags, MailGuid, Uid};
use dsync_storage::{FlagUpdate, LoggedKind, Mailbox, MetadataUpdate, OpenMode, SaveMessage};
use interop_tests::{Side, Version, World, own_all};

const LOCATIONS: [&str; 2] = ["", ":LAYOUT=fs:INDEX=HOME/index:CONTROL=HOME/control"];

/// Everything about a message that both can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    guid: String,
    flags: String,
    received: String,
    saved: String,
    modseq: String,
    text: String,
}

/// What both can tell about a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
struct View {
    /// Messages, recent ones, UIDNEXT, UIDVALIDITY, HIGHESTMODSEQ, GUID.
    status: [String; 6],
    rows: BTreeMap<Uid, Row>,
}

fn everywhere(check: impl Fn(&Side<'_>) -> Result<()>) -> Result<()> {
    for (number, options) in LOCATIONS.iter().enumerate() {
        let world = World::new(Version::V23)?;
        let name = format!("u{number}");
        let home = world.inside(&name).display().to_string();
        let side = world.side_at(&name, "maildir", &options.replace("HOME", &home))?;
        check(&side).with_context(|| format!("with the location maildir:...{options}"))?;
    }
    Ok(())
}

/// Works with INBOX.
fn ours<T>(side: &Side<'_>, work: impl FnOnce(&mut dyn Mailbox) -> Result<T>) -> Result<T> {
    side.with_store(|store| {
        store.create_mailbox("INBOX", None, None)?;
        work(store.open("INBOX", OpenMode::Write)?.as_mut())
    })
}

fn our_view(side: &Side<'_>) -> Result<View> {
    ours(side, view_of)
}

fn view_of(mailbox: &mut dyn Mailbox) -> Result<View> {
    let status = mailbox.refresh()?;
    let table = mailbox.messages()?;
    let mut rows = BTreeMap::new();
    let mut recent = 0;
    for message in table.iter() {
        recent += u32::from(message.flags.contains(Flags::RECENT));
        let mut flags: Vec<String> = (message.flags & Flags::USER)
            .names()
            .map(str::to_owned)
            .collect();
        for keyword in message.keywords {
            flags.push(String::from_utf8_lossy(keyword).into_owned());
        }
        flags.sort();
        let mut opened = mailbox.open_message(message.uid)?.context("no message")?;
        let mut text = String::new();
        opened.body.read_to_string(&mut text)?;
        let row = Row {
            guid: message.guid.to_string(),
            flags: flags.join(" "),
            received: opened.received_date.to_string(),
            saved: opened.saved_date.to_string(),
            modseq: message.modseq.to_string(),
            text,
        };
        rows.insert(message.uid, row);
    }
    let status = [
        status.messages.to_string(),
        recent.to_string(),
        status.uid_next.to_string(),
        status.uid_validity.to_string(),
        status.highest_modseq.to_string(),
        status.guid.to_string(),
    ];
    Ok(View { status, rows })
}

fn dovecots_view(side: &Side<'_>) -> Result<View> {
    let fields = "uid guid flags date.received.unixtime date.saved.unixtime modseq text";
    let text = side.doveadm("fetch", &[fields, "mailbox", "INBOX"])?;
    let fetched: Vec<BTreeMap<String, String>> = serde_json::from_str(&text)?;
    let mut rows = BTreeMap::new();
    for mut message in fetched {
        let mut take = |key: &str| {
            message
                .remove(key)
                .with_context(|| format!("no {key}: {text}"))
        };
        let flags = take("flags")?;
        let mut flags: Vec<&str> = flags.split(' ').collect();
        flags.retain(|flag| !flag.is_empty() && *flag != "\\Recent");
        flags.sort_unstable();
        let row = Row {
            guid: take("guid")?,
            flags: flags.join(" "),
            received: take("date.received.unixtime")?,
            saved: take("date.saved.unixtime")?,
            modseq: take("modseq")?,
            text: take("text")?.replace("\r\n", "\n"),
        };
        rows.insert(take("uid")?.parse()?, row);
    }
    let fields = "messages recent uidnext uidvalidity highestmodseq guid";
    let text = side.doveadm("mailbox status", &[fields, "INBOX"])?;
    let mut status: Vec<BTreeMap<String, String>> = serde_json::from_str(&text)?;
    let mut row = status.pop().context("no status")?;
    let mut take = |key: &str| row.remove(key).with_context(|| format!("no {key}: {text}"));
    let status = [
        take("messages")?,
        take("recent")?,
        take("uidnext")?,
        take("uidvalidity")?,
        take("highestmodseq")?,
        take("guid")?,
    ];
    Ok(View { status, rows })
}

/// First we look, then Dovecot, then we again: all see the same.
fn agree(side: &Side<'_>, when: &str) -> Result<View> {
    let first = our_view(side)?;
    let dovecot = dovecots_view(side)?;
    ensure!(
        first == dovecot,
        "{when}: we {first:#?}\nDovecot {dovecot:#?}"
    );
    let again = our_view(side)?;
    ensure!(
        first == again,
        "{when}: at first {first:#?}\nthen {again:#?}"
    );
    Ok(first)
}

fn message(uid: Uid, guid: &str) -> SaveMessage {
    SaveMessage {
        uid,
        guid: MailGuid::from(guid),
        flags: Flags::RECENT,
        received_date: 1_000_000_000 + i64::from(uid),
        saved_date: 1_200_000_000 + i64::from(uid),
        ..SaveMessage::default()
    }
}

fn save(mailbox: &mut dyn Mailbox, what: SaveMessage) -> Result<()> {
    let text = format!("Subject: {}\r\n\r\nbody\r\nof {}\n", what.uid, what.guid);
    mailbox.save_begin(what)?;
    let bytes = Bytes::from(text);
    let (start, end) = bytes.split_at(20);
    mailbox.save_write(start)?;
    mailbox.save_write(end)?;
    mailbox.save_finish()?;
    Ok(())
}

/// Ten messages with everything that a message can have.
fn save_ten(mailbox: &mut dyn Mailbox) -> Result<()> {
    mailbox.refresh()?;
    let guids = [
        "",
        "00112233445566778899aabbccddeeff",
        "1795447313.M1P2.vm",
        "a/b c",
        "x:y",
        ".dot",
        "1.M1.h,S=1,W=1",
        "ünï",
        "twice",
        "twice",
    ];
    for (number, guid) in (0_u32..).zip(guids) {
        let mut what = message(5 + 2 * number, guid);
        what.flags = Flags(number as u8 & 0x1f);
        if number % 3 == 0 {
            what.keywords = vec!["$Label1".into(), "Junk".into()];
            what.min_modseq = 100 + u64::from(number);
        }
        save(mailbox, what)?;
    }
    let report = mailbox.commit()?;
    ensure!(report.moved.is_empty(), "{report:?}");
    Ok(())
}

#[test]
fn dovecot_reads_what_we_save() -> Result<()> {
    everywhere(|side| {
        ours(side, save_ten)?;
        let view = agree(side, "after the saves")?;
        ensure!(
            view.rows.keys().copied().eq((5..25).step_by(2)),
            "{view:#?}"
        );
        ensure!(view.rows[&7].guid == "00112233445566778899aabbccddeeff");
        ensure!(view.rows[&13].guid == "x:y" && view.rows[&23].guid == "twice");
        ensure!(
            view.rows[&11].flags == "$Label1 Junk \\Answered \\Flagged",
            "{view:#?}"
        );
        ensure!(view.rows[&11].modseq == "103", "{view:#?}");
        ensure!(view.rows[&11].saved == "1200000011", "{view:#?}");
        // Expunged and flagged by Dovecot, saved again by us.
        side.doveadm("expunge", &["mailbox", "INBOX", "uid", "7,23"])?;
        side.doveadm(
            "flags add",
            &["\\Seen NewKeyword", "mailbox", "INBOX", "uid", "5:9"],
        )?;
        agree(side, "after changes by Dovecot")?;
        let moved = ours(side, |mailbox| {
            mailbox.refresh()?;
            save(mailbox, message(3, "too low"))?;
            save(mailbox, message(30, "recent"))?;
            Ok(mailbox.commit()?.moved)
        })?;
        let view = agree(side, "after more saves")?;
        ensure!(moved.len() == 1 && moved[0].0 == 3, "{moved:?}");
        ensure!(view.rows.contains_key(&moved[0].1) && view.rows.contains_key(&30));
        ensure!(view.status[1] == "2", "recent: {view:#?}");
        Ok(())
    })
}

#[test]
fn dovecot_sees_our_changes() -> Result<()> {
    everywhere(|side| {
        ours(side, save_ten)?;
        agree(side, "before")?;
        ours(side, |mailbox| {
            mailbox.refresh()?;
            for uid in [5, 11] {
                let update = FlagUpdate {
                    add_flags: Flags::DRAFT,
                    remove_flags: Flags::FLAGGED,
                    add_keywords: vec!["Later".into()],
                    remove_keywords: vec!["junk".into()],
                    min_modseq: 500,
                    min_pvt_modseq: 0,
                };
                mailbox.update_flags(uid, update)?;
            }
            mailbox.expunge(9)?;
            mailbox.expunge(999)?;
            mailbox.commit()?;
            mailbox.reassign_uids(&[13, 7])?;
            mailbox.update_metadata(MetadataUpdate {
                min_uid_next: Some(77),
                min_highest_modseq: Some(1000),
                min_first_recent_uid: Some(25),
                ..MetadataUpdate::default()
            })?;
            mailbox.commit()?;
            Ok(())
        })?;
        let view = agree(side, "after")?;
        ensure!(
            view.rows[&11].flags == "$Label1 Later \\Answered \\Draft",
            "{view:#?}"
        );
        ensure!(
            view.rows
                .keys()
                .copied()
                .eq([5, 11, 15, 17, 19, 21, 23, 24, 25]),
            "{view:#?}"
        );
        ensure!(view.rows[&24].guid == "x:y", "{view:#?}");
        ensure!(
            view.status[2] == "77" && view.status[4] == "1001",
            "{view:#?}"
        );
        // An expunge can be told to others only with its GUID.
        let log = ours(side, |mailbox| {
            mailbox.refresh()?;
            Ok(mailbox.changes_since(0, 0, u32::MAX)?)
        })?;
        let expunged = log.changes.get(&9).context("no expunge in the log")?;
        ensure!(expunged.kind == LoggedKind::Expunge, "{expunged:?}");
        ensure!(
            expunged.guid == MailGuid::short_of(b"1795447313.M1P2.vm"),
            "{expunged:?}"
        );
        Ok(())
    })
}

#[test]
fn what_dovecot_compresses_is_read_and_copied() -> Result<()> {
    let world = World::new(Version::V23)?;
    for method in ["gz", "bz2", "zstd", "lz4"] {
        let side = world.side(method)?;
        side.add_settings(&format!(
            "mail_plugins = zlib\nplugin {{\n  zlib_save = {method}\n}}\n"
        ))?;
        for lines in [0, 1, 100, 20_000] {
            let line = format!("a line of {lines}\n");
            let mail = format!("Subject: packed\n\n{}", line.repeat(lines));
            side.save("INBOX", mail.as_bytes())?;
        }
        let before = agree(&side, method)?;
        ensure!(before.rows.len() == 4 && before.rows[&4].text.len() > 100_000);
        ours(&side, |mailbox| {
            mailbox.refresh()?;
            ensure!(mailbox.copy(3, message(9, "unpacked"))?);
            mailbox.reassign_uids(&[4])?;
            mailbox.commit()?;
            Ok(())
        })?;
        let after = agree(&side, &format!("{method} after copies"))?;
        for (old, new) in [(3, 9), (4, 10)] {
            ensure!(before.rows[&old].text == after.rows[&new].text, "{old}");
        }
    }
    Ok(())
}

#[test]
fn uid_validity_changes_like_dovecots() -> Result<()> {
    let world = World::new(Version::V23)?;
    let side = world.side("a")?;
    ours(&side, save_ten)?;
    ours(&side, |mailbox| {
        mailbox.refresh()?;
        save(mailbox, message(40, "recent"))?;
        mailbox.commit()?;
        Ok(())
    })?;
    let before = agree(&side, "before")?;
    let other = world.copy_side(&side, "b")?;
    other.doveadm("mailbox update", &["--uid-validity", "1234567", "INBOX"])?;
    ours(&side, |mailbox| {
        mailbox.refresh()?;
        mailbox.update_metadata(MetadataUpdate {
            uid_validity: Some(1_234_567),
            ..MetadataUpdate::default()
        })?;
        mailbox.commit()?;
        Ok(())
    })?;
    let ours = agree(&side, "after our change")?;
    let dovecots = agree(&other, "after Dovecot's change")?;
    ensure!(ours.status[3] == "1234567" && before.status[3] != "1234567");
    ensure!(
        ours.status[..4] == dovecots.status[..4],
        "{ours:#?}\n{dovecots:#?}"
    );
    for (uid, row) in &before.rows {
        let after = ours.rows.get(uid).context("a message is lost")?;
        ensure!(
            (&row.guid, &row.flags) == (&after.guid, &after.flags),
            "{row:?} {after:?}"
        );
    }
    Ok(())
}

/// Files of a Maildir that nobody has numbered yet.
fn foreign_maildir(side: &Side<'_>) -> Result<()> {
    let root = side.outside_mail_root();
    for part in ["cur", "new", "tmp"] {
        fs::create_dir_all(root.join(part))?;
    }
    for (number, name) in [
        "new/1700000002.M9P1.host",
        "new/1700000002.M10P1.host",
        "new/1700000001.M500P1.host",
        "new/1600000000.12_3.host:2,F",
        "cur/1500000000.V1I2.host:2,S",
        "cur/1500000000.M3P4Q5.host,S=25,W=28:2,RSab",
        "cur/noclock:2,",
        "cur/1700000000.odd.host:1,S",
        "cur/1700000003.M1P1.host:2,SPxT,rest",
    ]
    .iter()
    .enumerate()
    {
        fs::write(
            root.join(name),
            format!("Subject: {number}\n\nforeign body\n"),
        )?;
    }
    own_all(&side.outside(""))
}

/// What must be equal although each made its own UIDVALIDITY and GUID.
fn numbering(view: &View) -> Vec<(Uid, &str, &str)> {
    view.rows
        .iter()
        .map(|(uid, row)| (*uid, row.guid.as_str(), row.flags.as_str()))
        .collect()
}

#[test]
fn foreign_messages_are_numbered_as_dovecot_does() -> Result<()> {
    let world = World::new(Version::V23)?;
    let (ours_first, dovecots) = (world.side("a")?, world.side("b")?);
    foreign_maildir(&ours_first)?;
    foreign_maildir(&dovecots)?;
    let ours = agree(&ours_first, "numbered by us")?;
    dovecots.doveadm("mailbox status", &["messages", "INBOX"])?;
    let theirs = agree(&dovecots, "numbered by Dovecot")?;
    ensure!(
        numbering(&ours) == numbering(&theirs),
        "{ours:#?}\n{theirs:#?}"
    );
    ensure!(
        ours.status[..3] == theirs.status[..3],
        "{ours:#?}\n{theirs:#?}"
    );
    Ok(())
}

#[test]
fn changes_of_foreign_programs_are_seen_alike() -> Result<()> {
    let world = World::new(Version::V23)?;
    let start = world.side("start")?;
    foreign_maildir(&start)?;
    let before = agree(&start, "before")?;
    let root = start.outside_mail_root();
    let rename = |from: &str, to: &str| fs::rename(root.join(from), root.join(to));
    rename("new/1700000002.M9P1.host", "cur/1700000002.M9P1.host:2,FS")?;
    rename("cur/noclock:2,", "cur/noclock:2,Tb")?;
    let gone = "cur/1700000000.odd.host:1,S";
    fs::remove_file(root.join(gone))?;
    fs::create_dir(root.join("cur/a-directory"))?;
    fs::write(
        root.join("new/1800000000.M1P1.host"),
        "Subject: late\n\nx\n",
    )?;
    own_all(&root)?;
    let (left, right) = (world.copy_side(&start, "a")?, world.copy_side(&start, "b")?);
    fs::remove_dir(right.outside_mail_root().join("cur/a-directory"))?;
    right.doveadm("mailbox status", &["messages", "INBOX"])?;
    let ours = our_view(&left)?;
    let theirs = dovecots_view(&right)?;
    ensure!(
        numbering(&ours) == numbering(&theirs),
        "{ours:#?}\n{theirs:#?}"
    );
    ensure!(
        ours.status[..4] == theirs.status[..4],
        "{ours:#?}\n{theirs:#?}"
    );
    // Ours tells the GUID of what vanished.
    let uid = before
        .rows
        .iter()
        .find(|(_, row)| row.guid == "1700000000.odd.host")
        .context("no such message")?;
    let log = self::ours(&left, |mailbox| {
        mailbox.refresh()?;
        Ok(mailbox.changes_since(0, 0, u32::MAX)?)
    })?;
    let expunged = log.changes.get(uid.0).context("no expunge in the log")?;
    ensure!(
        expunged.guid == MailGuid::short_of(b"1700000000.odd.host"),
        "{expunged:?}"
    );
    Ok(())
}

#[test]
fn torn_and_disordered_uidlists_cost_no_identity() -> Result<()> {
    everywhere(|side| {
        ours(side, save_ten)?;
        let before = agree(side, "before")?;
        let list = match side.location().contains("CONTROL") {
            true => side.outside("control/INBOX/dovecot-uidlist"),
            false => side.outside_mail_root().join("dovecot-uidlist"),
        };
        let mut bytes = fs::read(&list)?;
        bytes.extend_from_slice(b"3 :disorder\n999 Gtorn :12");
        fs::write(&list, bytes)?;
        agree(side, "after the damage").and_then(|after| {
            ensure!(before == after, "{before:#?}\n{after:#?}");
            Ok(())
        })
    })
}

#[test]
fn an_idle_look_changes_nothing() -> Result<()> {
    everywhere(|side| {
        ours(side, save_ten)?;
        agree(side, "before")?;
        // Two seconds after the last change the directories are read for the last time.
        std::thread::sleep(std::time::Duration::from_millis(3100));
        our_view(side)?;
        let log = match side.location().contains("INDEX") {
            true => side.outside("index/INBOX/dovecot.index.log"),
            false => side.outside_mail_root().join("dovecot.index.log"),
        };
        let before = fs::read(&log)?;
        our_view(side)?;
        dovecots_view(side)?;
        ensure!(before == fs::read(&log)?, "the log has grown");
        Ok(())
    })
}
