//! Those who work while we sync: IMAP sessions that stay open, and programs that open the mailbox
//! anew each time.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use dsync_testkit::random::Random;

use super::ledger::Ledger;
use super::mail;
use crate::Side;
use crate::imap::Imap;

/// Time between two steps of a client: as fast as it can it would only measure Dovecot.
const PAUSE: Duration = Duration::from_millis(30);

const FETCH: &str = "UID FETCH 1:* (UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])";

/// UIDs and names of the mails in the selected mailbox.
pub(super) fn mails(session: &mut Imap) -> Result<BTreeMap<u32, String>> {
    let mut names = BTreeMap::new();
    for line in session.ok(FETCH)?.of("FETCH") {
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
pub(super) struct Client {
    session: Imap,
    who: String,
    random: Random,
    saved: u32,
    /// What each UID of INBOX stood for, ever.
    known: BTreeMap<u32, String>,
    uid_validity: Option<String>,
}

impl Client {
    pub(super) fn new(side: &Side<'_>, who: String, random: Random) -> Result<Self> {
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

    /// Works until then, and gives what Dovecot has logged.
    pub(super) fn work(mut self, ledger: &Ledger, end: Instant) -> Result<Vec<String>> {
        while Instant::now() < end {
            self.step(ledger)?;
            thread::sleep(PAUSE);
        }
        let answer = self.session.ok("SELECT INBOX")?;
        ensure!(
            answer.code("UIDVALIDITY") == self.uid_validity,
            "UIDVALIDITY changed"
        );
        self.look()?;
        self.session.complaints()
    }

    /// A UID never becomes another mail's.
    fn look(&mut self) -> Result<BTreeMap<u32, String>> {
        self.session.ok("NOOP")?;
        let now = mails(&mut self.session)?;
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

    fn step(&mut self, ledger: &Ledger) -> Result<()> {
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
                ledger.removes(&name, Some(uid))?;
                self.on_mail(&format!("UID STORE {uid} +FLAGS (\\Deleted)"))?;
                self.on_mail(&format!("UID EXPUNGE {uid}"))?;
            }
            (3, Some((uid, name))) => {
                ledger.moves(&name, uid)?;
                self.on_mail(&format!("UID MOVE {uid} Work"))?;
            }
            _ => {
                self.saved += 1;
                let name = format!("{}m{}", self.who, self.saved);
                self.session.append("INBOX", mail(&name).as_bytes())?;
                ledger.saved(&name)?;
            }
        }
        Ok(())
    }
}

/// A program that opens the mailbox anew each time.
pub(super) fn write(
    side: &Side<'_>,
    who: &str,
    mut random: Random,
    ledger: &Ledger,
    end: Instant,
) -> Result<Vec<String>> {
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
                ledger.removes(&name, None)?;
                side.doveadm("expunge", &subject)?;
            }
            _ => {
                number += 1;
                let name = format!("{who}m{number}");
                side.save("INBOX", mail(&name).as_bytes())?;
                ledger.saved(&name)?;
            }
        }
    }
    Ok(Vec::new())
}
