//! What an IMAP client could see of an account.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use bstr::{BString, ByteSlice};
use serde::Deserialize;

use crate::Side;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageFacts {
    /// UID.
    pub uid: u32,
    /// GUID text.
    pub guid: String,
    /// Flags and keywords, sorted, `\Recent` left out.
    pub flags: Vec<String>,
    /// Received date as printed.
    pub received: String,
    /// Size with CRLF line ends.
    pub size: String,
    /// All of it.
    pub text: BString,
}

/// A mailbox, or a name that is only subscribed or a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailboxFacts {
    /// Whether the name is subscribed.
    pub subscribed: bool,
    /// Whether it is listed at all.
    pub listed: bool,
    /// GUID, UIDVALIDITY, UIDNEXT; `None` if it cannot be selected.
    pub identity: Option<(String, String, String)>,
    /// Messages by UID.
    pub messages: Vec<MessageFacts>,
    /// Attributes by name; read-only ones left out.
    pub attributes: BTreeMap<String, String>,
}

/// An account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts(pub BTreeMap<String, MailboxFacts>);

#[derive(Deserialize)]
struct Listed {
    mailbox: String,
}

#[derive(Deserialize)]
struct Status {
    mailbox: String,
    guid: String,
    uidvalidity: String,
    uidnext: String,
}

#[derive(Deserialize)]
struct Fetched {
    mailbox: String,
    uid: String,
    guid: String,
    flags: String,
    #[serde(rename = "date.received")]
    received: String,
    #[serde(rename = "size.virtual")]
    size: String,
    text: String,
}

#[derive(Deserialize)]
struct AttributeKey {
    key: String,
}

#[derive(Deserialize)]
struct AttributeValue {
    value: String,
}

fn parse<T: for<'a> Deserialize<'a>>(output: &str) -> Result<Vec<T>> {
    if output.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(output).with_context(|| format!("cannot read {output}"))
}

/// Looks at all mailboxes. After a rename of `a` to `a.b` Dovecot's list index still has an `a`
/// that can be selected, whoever renamed it: that it cannot be opened says nothing.
fn look(side: &Side<'_>, command: &str, arguments: &[&str]) -> Result<String> {
    const GONE: &str = "Mailbox doesn't exist: ";
    let run = side.doveadm_run(command, arguments, b"")?;
    let is_phantom = run.code == 68 && run.stderr.lines().all(|line| line.contains(GONE));
    if is_phantom {
        return Ok(run.stdout);
    }
    let what = || format!("doveadm {command} {arguments:?} on {}", side.name());
    Ok(run.expect_quiet().with_context(what)?.stdout)
}

impl Facts {
    pub(crate) fn read(side: &Side<'_>) -> Result<Self> {
        let mut facts = Self::default();
        // Makes Dovecot look at the folders again instead of trusting its list index.
        look(side, "mailbox status", &["messages", "*"])?;
        for listed in parse::<Listed>(&side.doveadm("mailbox list", &[])?)? {
            facts.0.entry(listed.mailbox).or_default().listed = true;
        }
        for listed in parse::<Listed>(&side.doveadm("mailbox list", &["-s"])?)? {
            facts.0.entry(listed.mailbox).or_default().subscribed = true;
        }
        let status = look(side, "mailbox status", &["guid uidvalidity uidnext", "*"])?;
        for status in parse::<Status>(&status)? {
            let mailbox = facts.0.entry(status.mailbox).or_default();
            mailbox.identity = Some((status.guid, status.uidvalidity, status.uidnext));
        }
        let fields = "mailbox uid guid flags date.received size.virtual text";
        for fetched in parse::<Fetched>(&look(side, "fetch", &[fields, "all"])?)? {
            let mut flags: Vec<String> = fetched
                .flags
                .split_whitespace()
                .filter(|flag| *flag != "\\Recent")
                .map(str::to_owned)
                .collect();
            flags.sort();
            let mailbox = facts.0.entry(fetched.mailbox).or_default();
            mailbox.messages.push(MessageFacts {
                uid: fetched.uid.parse()?,
                guid: fetched.guid,
                flags,
                received: fetched.received,
                size: fetched.size,
                text: fetched.text.into(),
            });
        }
        for mailbox in facts.0.values_mut() {
            mailbox.messages.sort_by_key(|message| message.uid);
        }
        Ok(facts)
    }

    /// Adds the attributes of every mailbox, which takes a command for each of them.
    pub fn with_attributes(mut self, side: &Side<'_>) -> Result<Self> {
        for (name, mailbox) in &mut self.0 {
            if mailbox.identity.is_none() {
                continue;
            }
            for prefix in ["/private/", "/shared/"] {
                let keys = side.doveadm("mailbox metadata list", &[name, prefix])?;
                for AttributeKey { key } in parse(&keys)? {
                    if key == "specialuse" {
                        continue;
                    }
                    let full = format!("{prefix}{key}");
                    let value = side.doveadm("mailbox metadata get", &[name, &full])?;
                    if let Some(AttributeValue { value }) = parse(&value)?.pop() {
                        mailbox.attributes.insert(full, value);
                    }
                }
            }
        }
        Ok(self)
    }

    /// Leaves an INBOX out that nobody touched: Dovecot makes one at a mere look.
    #[must_use]
    pub fn without_empty_inbox(mut self) -> Self {
        if self
            .0
            .get("INBOX")
            .is_some_and(|inbox| inbox.messages.is_empty() && !inbox.subscribed)
        {
            self.0.remove("INBOX");
        }
        self
    }

    /// Each difference as one line; empty if equal.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for name in self
            .0
            .keys()
            .chain(other.0.keys().filter(|name| !self.0.contains_key(*name)))
        {
            match (self.0.get(name), other.0.get(name)) {
                (Some(one), Some(two)) => one.differences(two, name, &mut lines),
                (Some(one), None) => lines.push(format!("{name}: {} | missing", one.kind())),
                (None, Some(two)) => lines.push(format!("{name}: missing | {}", two.kind())),
                (None, None) => {}
            }
        }
        lines
    }

    /// Fails with all differences unless both are equal.
    pub fn expect_equal(&self, other: &Self, what: &str) -> Result<()> {
        let differences = self.differences(other);
        ensure!(
            differences.is_empty(),
            "{what}: not equal\n{}",
            differences.join("\n")
        );
        Ok(())
    }
}

impl MailboxFacts {
    fn kind(&self) -> &'static str {
        match (&self.identity, self.listed) {
            (Some(_), _) => "a mailbox",
            (None, true) => "a name",
            (None, false) => "a subscription",
        }
    }

    fn differences(&self, other: &Self, name: &str, lines: &mut Vec<String>) {
        if self.subscribed != other.subscribed {
            lines.push(format!(
                "{name}: subscribed {} | {}",
                self.subscribed, other.subscribed
            ));
        }
        if self.listed != other.listed {
            lines.push(format!("{name}: listed {} | {}", self.listed, other.listed));
        }
        if self.identity != other.identity {
            lines.push(format!(
                "{name}: {:?} | {:?}",
                self.identity, other.identity
            ));
        }
        if self.attributes != other.attributes {
            lines.push(format!(
                "{name}: {:?} | {:?}",
                self.attributes, other.attributes
            ));
        }
        let left: BTreeMap<u32, _> = self.messages.iter().map(|m| (m.uid, m)).collect();
        let right: BTreeMap<u32, _> = other.messages.iter().map(|m| (m.uid, m)).collect();
        for uid in left
            .keys()
            .chain(right.keys().filter(|uid| !left.contains_key(uid)))
        {
            let (one, two) = (left.get(uid), right.get(uid));
            if one != two {
                lines.push(format!("{name} UID {uid}: {} | {}", brief(one), brief(two)));
            }
        }
    }
}

fn brief(message: Option<&&MessageFacts>) -> String {
    message.map_or("missing".into(), |message| {
        let MessageFacts {
            guid,
            flags,
            received,
            size,
            text,
            ..
        } = message;
        let start = text.get(..60).unwrap_or(text).as_bstr();
        format!("{guid} {flags:?} {received} {size} {start:?}")
    })
}
