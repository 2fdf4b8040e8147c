//! A two-way sync in a loop while everybody works on both sides.
//!
//! Two IMAP sessions append, flag, expunge and move; two programs beside them save, flag and
//! expunge; ours syncs. Every mail has a name of its own, so that in the end it is known which
//! must be there, and that none is there twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use dsync_testkit::random::Random;

use crate::imap::{Answer, Imap};
use crate::{Side, Version, World};

/// How long and with which luck.
#[derive(Clone, Debug)]
pub struct Options {
    /// Everybody stops after that.
    pub time: Duration,
    /// Decides who does what.
    pub seed: u64,
    /// Formats of both sides: `maildir`, `sdbox`, `mdbox`.
    pub formats: [String; 2],
}

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Runs of ours.
    pub runs: u32,
    /// Mails that were saved.
    pub saved: usize,
    /// Mails that somebody removed.
    pub removed: usize,
}

/// Names of mails: all that were saved, and those that somebody wanted to remove.
#[derive(Default)]
struct Names {
    saved: Mutex<BTreeSet<String>>,
    removed: Mutex<BTreeSet<String>>,
    /// Those that a session moved. Its MOVE of a mail that got another UID meanwhile copies the old
    /// one and expunges nothing: Dovecot says OK, and there are two.
    moved: Mutex<BTreeSet<String>>,
}

fn add(names: &Mutex<BTreeSet<String>>, name: &str) -> Result<()> {
    let mut names = names.lock().map_err(|_| anyhow!("somebody panicked"))?;
    names.insert(name.to_owned());
    Ok(())
}

fn mail(name: &str) -> String {
    format!(
        "From: soak@example.org\r\nMessage-ID: <{name}@soak>\r\nSubject: {name}\r\n\r\nbody of \
         {name}\r\n"
    )
}

/// Works until the time is over, then syncs in quiet, and compares.
pub fn run(options: &Options) -> Result<Report> {
    let world = World::new(Version::V23)?;
    let location = |format: &str| {
        if format == "maildir" {
            ":LAYOUT=fs"
        } else {
            ""
        }
    };
    let [one, other] = &options.formats;
    let a = world.side_at("a", one, location(one))?;
    let b = world.side_at("b", other, location(other))?;
    a.doveadm("mailbox create", &["Work"])?;
    // Two INBOXes born apart would have to agree on one UIDVALIDITY under the sessions.
    a.save("INBOX", mail("first").as_bytes())?;
    let sync = || a.dsync(&["sync", &b.location()]);
    sync()?.expect_code(0)?;
    let (names, done) = (Names::default(), AtomicBool::new(false));
    add(&names.saved, "first")?;
    let end = Instant::now() + options.time;
    let runs = thread::scope(|scope| -> Result<u32> {
        let mut workers = Vec::new();
        for (number, side) in (0_u64..).zip([&a, &b, &a, &b]) {
            let names = &names;
            let random = Random::new(options.seed * 10 + number);
            let who = format!("w{number}");
            workers.push(scope.spawn(move || match number {
                0 | 1 => Client::new(side, who, random)?.work(names, end),
                _ => write(side, &who, random, names, end),
            }));
        }
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
        let ends: Vec<_> = workers
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect();
        done.store(true, Ordering::Relaxed);
        let runs = syncer.join().map_err(|_| anyhow!("the syncer panicked"))?;
        for result in ends {
            result.map_err(|_| anyhow!("a worker panicked"))??;
        }
        runs
    })?;
    for _ in 0..2 {
        sync()?;
    }
    sync()?.expect_code(0)?;
    a.facts()?.expect_equal(&b.facts()?, "in the end")?;
    let saved = taken(names.saved)?;
    let removed = taken(names.removed)?;
    let moved = taken(names.moved)?;
    for side in [&a, &b] {
        check(side, &saved, &removed, &moved).with_context(|| format!("on {}", side.name()))?;
    }
    Ok(Report {
        runs,
        saved: saved.len(),
        removed: removed.len(),
    })
}

fn taken(names: Mutex<BTreeSet<String>>) -> Result<BTreeSet<String>> {
    names.into_inner().map_err(|_| anyhow!("somebody panicked"))
}

/// All mails that nobody removed are there, none twice.
fn check(
    side: &Side<'_>,
    saved: &BTreeSet<String>,
    removed: &BTreeSet<String>,
    moved: &BTreeSet<String>,
) -> Result<()> {
    let mut there: BTreeMap<String, u32> = BTreeMap::new();
    let mut session = side.imap()?;
    for mailbox in ["INBOX", "Work"] {
        session.ok(&format!("EXAMINE {mailbox}"))?;
        for name in names_of(&session.ok(FETCH)?)?.into_values() {
            *there.entry(name).or_default() += 1;
        }
    }
    session.logout()?;
    let twice: Vec<_> = there
        .iter()
        .filter(|(name, count)| **count > 1 && !moved.contains(*name))
        .collect();
    ensure!(twice.is_empty(), "more than once: {twice:?}");
    let lost: Vec<_> = saved
        .iter()
        .filter(|name| !there.contains_key(*name) && !removed.contains(*name))
        .collect();
    ensure!(lost.is_empty(), "lost: {lost:?}");
    let strange: Vec<_> = there.keys().filter(|name| !saved.contains(*name)).collect();
    ensure!(strange.is_empty(), "nobody saved: {strange:?}");
    Ok(())
}

/// Time between two steps of a client: as fast as it can it would only measure Dovecot.
const PAUSE: Duration = Duration::from_millis(30);

const FETCH: &str = "UID FETCH 1:* (UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])";

/// UIDs and names of mails.
fn names_of(answer: &Answer) -> Result<BTreeMap<u32, String>> {
    let mut names = BTreeMap::new();
    for line in answer.of("FETCH") {
        // Flags that others changed come without either.
        let (Some((_, uid)), Some((_, name))) =
            (line.split_once("(UID "), line.split_once("Subject: "))
        else {
            continue;
        };
        let uid: String = uid.chars().take_while(char::is_ascii_digit).collect();
        let name: String = name
            .chars()
            .take_while(char::is_ascii_alphanumeric)
            .collect();
        names.insert(uid.parse()?, name);
    }
    Ok(names)
}

/// An IMAP session that stays open.
struct Client {
    session: Imap,
    who: String,
    random: Random,
    saved: u32,
    /// What each UID of INBOX stood for, ever.
    known: BTreeMap<u32, String>,
    uid_validity: Option<String>,
}

impl Client {
    fn new(side: &Side<'_>, who: String, random: Random) -> Result<Self> {
        let mut session = side.imap()?;
        let answer = session.ok("SELECT INBOX")?;
        Ok(Self {
            session,
            who,
            random,
            saved: 0,
            known: BTreeMap::new(),
            uid_validity: answer.code("UIDVALIDITY"),
        })
    }

    fn work(mut self, names: &Names, end: Instant) -> Result<()> {
        while Instant::now() < end {
            self.step(names)?;
            thread::sleep(PAUSE);
        }
        let answer = self.session.ok("SELECT INBOX")?;
        ensure!(
            answer.code("UIDVALIDITY") == self.uid_validity,
            "UIDVALIDITY changed"
        );
        self.look()?;
        self.session.logout()
    }

    /// A UID never becomes another mail's.
    fn look(&mut self) -> Result<BTreeMap<u32, String>> {
        self.session.ok("NOOP")?;
        let now = names_of(&self.session.ok(FETCH)?)?;
        for (uid, name) in &now {
            let before = self.known.entry(*uid).or_insert_with(|| name.clone());
            ensure!(before == name, "UID {uid} was {before} and is {name}");
        }
        Ok(now)
    }

    /// The mail may have got another UID since, or have gone.
    fn on_mail(&mut self, command: &str) -> Result<()> {
        let answer = self.session.command(command)?;
        ensure!(
            answer.status.starts_with("OK ") || answer.status.contains("EXPUNGEISSUED"),
            "{command}: {}",
            answer.status
        );
        Ok(())
    }

    fn step(&mut self, names: &Names) -> Result<()> {
        let now = self.look()?;
        let mine: Vec<(u32, String)> = now
            .into_iter()
            .filter(|(_, name)| name.starts_with(&format!("{}m", self.who)))
            .collect();
        let some = mine.get(self.random.below(mine.len().max(1))).cloned();
        match (self.random.below(6), some) {
            (0 | 1, Some((uid, _))) => {
                let flag = ["\\Seen", "\\Flagged", "Soaked"][self.random.below(3)];
                self.on_mail(&format!("UID STORE {uid} +FLAGS ({flag})"))?;
            }
            (2, Some((uid, name))) => {
                add(&names.removed, &name)?;
                self.on_mail(&format!("UID STORE {uid} +FLAGS (\\Deleted)"))?;
                self.on_mail(&format!("UID EXPUNGE {uid}"))?;
            }
            (3, Some((uid, name))) => {
                add(&names.moved, &name)?;
                self.on_mail(&format!("UID MOVE {uid} Work"))?;
            }
            _ => {
                self.saved += 1;
                let name = format!("{}m{}", self.who, self.saved);
                self.session.append("INBOX", mail(&name).as_bytes())?;
                add(&names.saved, &name)?;
            }
        }
        Ok(())
    }
}

/// A program that opens the mailbox anew each time.
fn write(
    side: &Side<'_>,
    who: &str,
    mut random: Random,
    names: &Names,
    end: Instant,
) -> Result<()> {
    let mut number = 0;
    while Instant::now() < end {
        let name = format!("{who}m{}", random.below(number + 1));
        let subject = [
            "mailbox",
            "INBOX",
            "header",
            "Message-ID",
            &format!("<{name}@soak>"),
        ];
        match random.below(4) {
            0 => {
                side.doveadm(
                    "flags add",
                    &[&["\\Answered Doveadm"][..], &subject].concat(),
                )?;
            }
            1 => {
                add(&names.removed, &name)?;
                side.doveadm("expunge", &subject)?;
            }
            _ => {
                number += 1;
                let name = format!("{who}m{number}");
                side.save("INBOX", mail(&name).as_bytes())?;
                add(&names.saved, &name)?;
            }
        }
    }
    Ok(())
}
