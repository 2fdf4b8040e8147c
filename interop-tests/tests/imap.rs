//! IMAP sessions of a real Dovecot on Maildirs that we wrote: they see the source's UIDs, dates,
//! flags and bytes, have nothing to complain about, and what they change comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, FileTimes};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use interop_tests::imap::{Answer, Imap, Value, parse};
use interop_tests::{Side, Version, World, own_all};

const VERSIONS: [Version; 2] = [Version::V23, Version::V24];
const LAYOUTS: [&str; 2] = ["", ":LAYOUT=fs"];

/// A mailbox as a session shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct BoxView {
    status: BTreeMap<String, Value>,
    /// Flags and keywords that `SELECT` names.
    flags: BTreeSet<String>,
    /// What `SELECT` says beside that.
    selected: Vec<Option<String>>,
    messages: BTreeMap<u32, BTreeMap<String, Value>>,
    /// Answers to some searches.
    found: Vec<Vec<String>>,
}

/// An account as a session shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct View {
    listed: BTreeSet<String>,
    subscribed: BTreeSet<String>,
    boxes: BTreeMap<String, BoxView>,
}

impl View {
    /// Without modseqs: two sides that both changed go on counting by themselves.
    fn without_modseqs(mut self) -> Self {
        for mailbox in self.boxes.values_mut() {
            mailbox.status.remove("HIGHESTMODSEQ");
            mailbox.selected.truncate(3);
            for message in mailbox.messages.values_mut() {
                message.remove("MODSEQ");
            }
        }
        self
    }

    fn expect_equal(&self, other: &Self, what: &str) -> Result<()> {
        ensure!(self.listed == other.listed, "{what}: {self:#?}\n{other:#?}");
        ensure!(
            self.subscribed == other.subscribed,
            "{what}: {self:#?}\n{other:#?}"
        );
        for (name, left) in &self.boxes {
            let right = other.boxes.get(name);
            ensure!(Some(left) == right, "{what}: {name}\n{left:#?}\n{right:#?}");
        }
        ensure!(self == other, "{what}: more mailboxes on the right");
        Ok(())
    }
}

/// Everything that a session of its own shows.
fn look(side: &Side<'_>) -> Result<View> {
    let mut session = side.imap()?;
    // Whether a mailbox is told to be unchanged depends on the second in which it was looked at.
    let lines = |answer: Answer, word| -> BTreeSet<String> {
        let lines = answer.of(word).into_iter();
        lines.map(|line| line.replace(" \\UnMarked", "")).collect()
    };
    let mut view = View {
        listed: lines(session.ok("LIST \"\" \"*\"")?, "LIST"),
        subscribed: lines(session.ok("LSUB \"\" \"*\"")?, "LSUB"),
        ..View::default()
    };
    for line in view.listed.clone() {
        if line.contains("\\Noselect") || line.contains("\\NonExistent") {
            continue;
        }
        let (_, name) = line.rsplit_once("\" ").context("LIST without name")?;
        let mailbox = look_into(&mut session, name)?;
        view.boxes.insert(name.to_owned(), mailbox);
    }
    session.logout()?;
    Ok(view)
}

fn look_into(session: &mut Imap, name: &str) -> Result<BoxView> {
    let items = "(MESSAGES UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ)";
    let status = session.ok(&format!("STATUS {name} {items}"))?.of("STATUS");
    let status = parse(status.first().context("no STATUS")?.as_bytes())?;
    let selected = session.ok(&format!("SELECT {name}"))?;
    let codes = ["UIDVALIDITY", "UIDNEXT", "UNSEEN", "HIGHESTMODSEQ"];
    let mut flags = BTreeSet::new();
    for line in selected.of("FLAGS") {
        let values = parse(line.as_bytes())?;
        flags.extend(values[1].list().iter().filter_map(Value::text));
    }
    let mut messages = session
        .ok("UID FETCH 1:* (FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[] ENVELOPE MODSEQ)")?
        .fetched()?;
    for message in messages.values_mut() {
        let Some(Value::List(flags)) = message.get_mut("FLAGS") else {
            continue;
        };
        flags.retain(|flag| *flag != Value::Text(b"\\Recent".to_vec()));
        flags.sort_by_key(Value::text);
    }
    let mut found = Vec::new();
    for what in [
        "FLAGGED",
        "KEYWORD $Work",
        "SUBJECT two",
        "BODY last",
        "MODSEQ 2",
    ] {
        found.push(session.ok(&format!("UID SEARCH {what}"))?.of("SEARCH"));
    }
    Ok(BoxView {
        status: status.last().context("empty STATUS")?.pairs(),
        flags,
        selected: codes.map(|code| selected.code(code)).to_vec(),
        messages,
        found,
    })
}

fn message(subject: &str) -> Vec<u8> {
    format!(
        "From: Anna <anna@example.org>\r\nSubject: {subject}\r\n\
         Message-ID: <{subject}@example.org>\r\n\r\n{subject}\r\n.\r\n.a dot\r\nlast line\r\n"
    )
    .into_bytes()
}

/// A name below another one, as an IMAP client writes it.
fn below(options: &str, parent: &str, child: &str) -> String {
    let separator = if options.is_empty() { '.' } else { '/' };
    format!("{parent}{separator}{child}")
}

/// An account that an IMAP client filled.
fn made_by_dovecot<'w>(world: &'w World, options: &str) -> Result<Side<'w>> {
    let side = world.side_at("source", "maildir", options)?;
    let mut session = side.imap()?;
    let deep = below(options, "Work", "Deep");
    for name in ["Work", &deep, "Gr&APwA3w-e", "Empty", "Gone"] {
        session.ok(&format!("CREATE {name}"))?;
        session.ok(&format!("SUBSCRIBE {name}"))?;
    }
    session.ok("UNSUBSCRIBE Work")?;
    session.ok("DELETE Gone")?;
    for (number, subject) in ["one", "two", "three", "four", "five"].iter().enumerate() {
        for name in ["INBOX", &deep, "Gr&APwA3w-e"] {
            let date = format!("0{}-Nov-2026 10:00:00 +0100", number + 1);
            session.append(&format!("{name} (\\Seen) \"{date}\""), &message(subject))?;
        }
    }
    for name in ["INBOX", &deep] {
        session.ok(&format!("SELECT {name}"))?;
        session.ok("UID STORE 2 +FLAGS ($Work \\Answered)")?;
        session.ok("UID STORE 3 FLAGS (\\Flagged \\Deleted)")?;
        session.ok("UID STORE 4 -FLAGS (\\Seen)")?;
        session.ok("UID EXPUNGE 3")?;
    }
    session.logout()?;
    Ok(side)
}

/// Message files of [`plain`] (with a place for either size) and the flags that they stand for.
const PLAIN: [(&str, &str); 7] = [
    ("new/1795500001.M1P1.old", ""),
    ("cur/1795500000.M1P1.old:2,FS", "\\Flagged \\Seen"),
    ("cur/1795500002.two:2,", ""),
    (".Work.Deep/cur/1795500003.a:2,RT", "\\Answered \\Deleted"),
    (
        ".Work.Deep/cur/1795500004.b:2,Sac",
        "\\Seen unknown-0 unknown-2",
    ),
    (".Gr&APwA3w-e/cur/1795500005.x,S=LF:2,DP", "\\Draft"),
    (".Gr&APwA3w-e/new/1795500006.y,W=CRLF", ""),
];

/// A Maildir that no Dovecot has ever seen. Line ends are those of Unix.
fn plain<'w>(world: &'w World, options: &str) -> Result<Side<'w>> {
    let side = world.side_at("source", "maildir", options)?;
    for (number, (path, _)) in PLAIN.iter().enumerate() {
        let text = message(&number.to_string());
        let path = path.replace("CRLF", &text.len().to_string());
        let text = String::from_utf8(text)?.replace('\r', "");
        let mut path = path.replace("LF", &text.len().to_string());
        if !options.is_empty() {
            path = path.replace(".Work.Deep", "Work/Deep").replace(".Gr", "Gr");
        }
        let path = side.outside_mail_root().join(path);
        let directory = path.ancestors().nth(2).context("no directory")?;
        for folder in ["cur", "new", "tmp"] {
            fs::create_dir_all(directory.join(folder))?;
        }
        fs::write(&path, text)?;
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + number as u64);
        File::open(&path)?.set_times(FileTimes::new().set_modified(time))?;
    }
    own_all(&side.outside_mail_root())?;
    Ok(side)
}

/// Every file of [`plain`] is there with its flags and bytes.
fn check_plain(view: &View) -> Result<()> {
    let all: Vec<_> = view
        .boxes
        .values()
        .flat_map(|b| b.messages.values())
        .collect();
    ensure!(all.len() == PLAIN.len(), "{all:#?}");
    for (number, (_, flags)) in PLAIN.iter().enumerate() {
        let text = Value::Text(message(&number.to_string()));
        let found = all.iter().find(|message| message["BODY[]"] == text);
        let found = found.with_context(|| format!("message {number} is missing: {all:#?}"))?;
        let shown: Vec<String> = found["FLAGS"]
            .list()
            .iter()
            .filter_map(Value::text)
            .collect();
        ensure!(shown.join(" ") == *flags, "message {number}: {shown:?}");
        let date = found["INTERNALDATE"].text().context("no date")?;
        let end = format!(":13:{:02} +0000", 20 + number);
        ensure!(
            date.starts_with("14-Nov-2023") && date.ends_with(&end),
            "{number}: {date}"
        );
    }
    Ok(())
}

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
