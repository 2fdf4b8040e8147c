//! Facts by one IMAP session, which costs a fraction of the five `doveadm` processes of
//! [`Side::facts`], and tells the very bytes of messages.
//!
//! Unlike those it makes an INBOX where there is none, and sees no hidden namespaces.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use bstr::{BString, ByteSlice};

use crate::imap::{self, Imap, Value};
use crate::{Facts, MailboxFacts, MessageFacts, Side, mutf7};

/// All facts but attributes.
pub(super) fn read(side: &Side<'_>) -> Result<Facts> {
    let mut session = Imap::with_log(side, &format!("{}.facts.log", side.name()))?;
    let mut facts = Facts::default();
    for name in names(&mut session, "LIST")?.0 {
        if let Some(mailbox) = look_into(&mut session, &name)? {
            facts.0.insert(mutf7::decode(&name)?, mailbox);
        }
    }
    // Again: Dovecot has looked at the folders by now instead of trusting its list index.
    let (mailboxes, others) = names(&mut session, "LIST")?;
    for name in mailboxes.into_iter().chain(others) {
        facts.0.entry(mutf7::decode(&name)?).or_default().listed = true;
    }
    let (mailboxes, others) = names(&mut session, "LSUB")?;
    for name in mailboxes.into_iter().chain(others) {
        facts.0.entry(mutf7::decode(&name)?).or_default().subscribed = true;
    }
    session.logout()?;
    Ok(facts)
}

/// Names as the session writes them, of `LIST` or `LSUB`; those that cannot be opened at the end.
fn names(session: &mut Imap, command: &str) -> Result<(Vec<String>, Vec<String>)> {
    let (mut mailboxes, mut others) = (Vec::new(), Vec::new());
    for response in session.ok(&format!("{command} \"\" *"))?.untagged {
        let values = imap::parse(&response)?;
        let [_, flags, _, name] = &values[..] else {
            bail!("cannot read {}", response.to_str_lossy());
        };
        let flags: Vec<_> = flags.list().iter().filter_map(Value::text).collect();
        let is_closed = flags
            .iter()
            .any(|flag| flag == "\\Noselect" || flag == "\\NonExistent");
        let name = name.text().context("a list as a name")?;
        match is_closed {
            true => others.push(name),
            false => mailboxes.push(name),
        }
    }
    Ok((mailboxes, others))
}

/// Name of a mailbox as a quoted string.
fn quoted(name: &str) -> String {
    let escaped = name.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}

/// What is in a mailbox; `None` if it cannot be opened because it is not there: after a rename of
/// `a` to `a.b` Dovecot's list index still has an `a`, whoever renamed it.
fn look_into(session: &mut Imap, name: &str) -> Result<Option<MailboxFacts>> {
    const FETCH: &str = "UID FETCH 1:* (FLAGS INTERNALDATE RFC822.SIZE X-GUID BODY.PEEK[])";
    let name = quoted(name);
    let opened = session.command(&format!("EXAMINE {name}"))?;
    if opened.status.contains("Mailbox doesn't exist: ") {
        return Ok(None);
    }
    ensure!(
        opened.status.starts_with("OK "),
        "EXAMINE {name}: {opened:?}"
    );
    let mut mailbox = MailboxFacts::default();
    for (uid, items) in session.ok(FETCH)?.fetched()? {
        mailbox.messages.push(message(uid, &items)?);
    }
    // Only now: opening it may have changed it.
    let answer = session.ok(&format!("STATUS {name} (X-GUID UIDVALIDITY UIDNEXT)"))?;
    let status = imap::parse(answer.untagged.first().context("no STATUS")?)?;
    let items = status.last().context("STATUS without items")?.pairs();
    mailbox.identity = Some((
        text_of(&items, "X-GUID")?,
        text_of(&items, "UIDVALIDITY")?,
        text_of(&items, "UIDNEXT")?,
    ));
    Ok(Some(mailbox))
}

fn text_of(items: &BTreeMap<String, Value>, name: &str) -> Result<String> {
    let text = items.get(name).and_then(Value::text);
    text.with_context(|| format!("no {name} in {items:?}"))
}

fn message(uid: u32, items: &BTreeMap<String, Value>) -> Result<MessageFacts> {
    let flags = items.get("FLAGS").context("no flags")?.list();
    let mut flags: Vec<String> = flags.iter().filter_map(Value::text).collect();
    flags.retain(|flag| flag != "\\Recent");
    flags.sort();
    let text = match items.get("BODY[]") {
        Some(Value::Text(text)) => BString::from(text.clone()),
        other => bail!("the text of UID {uid} is {other:?}"),
    };
    Ok(MessageFacts {
        uid,
        guid: text_of(items, "X-GUID")?,
        flags,
        received: text_of(items, "INTERNALDATE")?,
        size: text_of(items, "RFC822.SIZE")?,
        text,
    })
}
