//! Everything that an IMAP session shows of an account.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use interop_tests::Side;
use interop_tests::imap::{Answer, Imap, Value, parse};

/// A mailbox as a session shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BoxView {
    pub(crate) status: BTreeMap<String, Value>,
    /// Flags and keywords that `SELECT` names.
    pub(crate) flags: BTreeSet<String>,
    /// What `SELECT` says beside that.
    pub(crate) selected: Vec<Option<String>>,
    pub(crate) messages: BTreeMap<u32, BTreeMap<String, Value>>,
    /// Answers to some searches.
    pub(crate) found: Vec<Vec<String>>,
}

/// An account as a session shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) listed: BTreeSet<String>,
    pub(crate) subscribed: BTreeSet<String>,
    pub(crate) boxes: BTreeMap<String, BoxView>,
}

impl View {
    /// Without modseqs: two sides that both changed go on counting by themselves.
    pub(crate) fn without_modseqs(mut self) -> Self {
        for mailbox in self.boxes.values_mut() {
            mailbox.status.remove("HIGHESTMODSEQ");
            mailbox.selected.truncate(3);
            for message in mailbox.messages.values_mut() {
                message.remove("MODSEQ");
            }
        }
        self
    }

    pub(crate) fn expect_equal(&self, other: &Self, what: &str) -> Result<()> {
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
pub(crate) fn look(side: &Side<'_>) -> Result<View> {
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
