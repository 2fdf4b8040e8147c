//! What both sides tell about an account.

use std::collections::BTreeMap;
use std::io::Read;

use anyhow::{Context, Result, ensure};
use dsync_proto::types::{Flags, Uid};
use dsync_storage::{Mailbox, OpenMode};
use interop_tests::Side;
use serde::Deserialize;

/// Everything about a message that both can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) guid: String,
    pub(crate) flags: String,
    pub(crate) modseq: String,
    pub(crate) received: String,
    pub(crate) saved: String,
    pub(crate) physical: String,
    pub(crate) virtual_size: String,
    pub(crate) pop3: [String; 2],
    pub(crate) text: String,
}

/// What both can tell about a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// Messages, recent ones, UIDNEXT, UIDVALIDITY, HIGHESTMODSEQ, GUID.
    pub(crate) status: [String; 6],
    pub(crate) rows: BTreeMap<Uid, Row>,
}

pub(crate) type Account = BTreeMap<String, View>;

#[derive(Deserialize)]
struct Fetched {
    mailbox: String,
    uid: String,
    guid: String,
    flags: String,
    modseq: String,
    #[serde(rename = "date.received.unixtime")]
    received: String,
    #[serde(rename = "date.saved.unixtime")]
    saved: String,
    #[serde(rename = "size.physical")]
    physical: String,
    #[serde(rename = "size.virtual")]
    virtual_size: String,
    #[serde(rename = "pop3.uidl")]
    uidl: String,
    #[serde(rename = "pop3.order")]
    order: String,
    text: String,
}

#[derive(Deserialize)]
struct Status {
    mailbox: String,
    messages: String,
    recent: String,
    uidnext: String,
    uidvalidity: String,
    highestmodseq: String,
    guid: String,
    vsize: String,
}

pub(crate) fn our_account(side: &Side<'_>) -> Result<Account> {
    side.with_store(|store| {
        let mut account = Account::new();
        for entry in store.list()? {
            if entry.selectable {
                let mut mailbox = store.open(&entry.name, OpenMode::Read)?;
                let view = view_of(mailbox.as_mut()).with_context(|| entry.name.clone())?;
                account.insert(entry.name, view);
            }
        }
        Ok(account)
    })
}

pub(crate) fn view_of(mailbox: &mut dyn Mailbox) -> Result<View> {
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
        let received = mailbox.received_date(message.uid)?.context("no date")?;
        ensure!(received == opened.received_date);
        let order = opened.pop3_order;
        let row = Row {
            guid: message.guid.to_string(),
            flags: flags.join(" "),
            modseq: message.modseq.to_string(),
            received: received.to_string(),
            saved: opened.saved_date.to_string(),
            physical: text.len().to_string(),
            virtual_size: mailbox
                .virtual_size(message.uid)?
                .context("no size")?
                .to_string(),
            pop3: [opened.pop3_uidl.to_string(), order.to_string()],
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

pub(crate) fn parse<T: for<'a> Deserialize<'a>>(output: &str) -> Result<Vec<T>> {
    if output.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(output).with_context(|| format!("cannot read {output}"))
}

pub(crate) fn dovecots_account(side: &Side<'_>) -> Result<Account> {
    let fields = "mailbox uid guid flags modseq date.received.unixtime date.saved.unixtime \
                  size.physical size.virtual pop3.uidl pop3.order text";
    let fetched = parse::<Fetched>(&side.doveadm("fetch", &[fields, "all"])?)?;
    let fields = "messages recent uidnext uidvalidity highestmodseq guid vsize";
    let text = side.doveadm("mailbox status", &[fields, "*"])?;
    let mut sizes = BTreeMap::new();
    let mut account: Account = parse::<Status>(&text)?
        .into_iter()
        .map(|row| {
            sizes.insert(row.mailbox.clone(), row.vsize);
            let status = [
                row.messages,
                row.recent,
                row.uidnext,
                row.uidvalidity,
                row.highestmodseq,
                row.guid,
            ];
            let rows = BTreeMap::new();
            (row.mailbox, View { status, rows })
        })
        .collect();
    for message in fetched {
        let mut flags: Vec<&str> = message.flags.split(' ').collect();
        flags.retain(|flag| !flag.is_empty() && *flag != "\\Recent");
        flags.sort_unstable();
        let order = match message.order.as_str() {
            "" => "0".to_owned(),
            order => order.to_owned(),
        };
        let row = Row {
            guid: message.guid,
            flags: flags.join(" "),
            modseq: message.modseq,
            received: message.received,
            saved: message.saved,
            physical: message.physical,
            virtual_size: message.virtual_size,
            pop3: [message.uidl, order],
            text: message.text.replace("\r\n", "\n"),
        };
        let view = account.get_mut(&message.mailbox).context("no status")?;
        view.rows.insert(message.uid.parse()?, row);
    }
    for (name, view) in &account {
        let sizes_of = view
            .rows
            .values()
            .map(|row| row.virtual_size.parse::<u64>());
        let sum = sizes_of.sum::<Result<u64, _>>()?.to_string();
        ensure!(
            sizes[name] == sum,
            "{name}: {} instead of {sum}",
            sizes[name]
        );
    }
    Ok(account)
}

pub(crate) fn compare(what: &str, one: &Account, other: &Account) -> Result<()> {
    let names = |account: &Account| account.keys().cloned().collect::<Vec<_>>();
    ensure!(
        names(one) == names(other),
        "{what}: mailboxes {:?} and {:?}",
        names(one),
        names(other)
    );
    for (name, view) in one {
        let theirs = &other[name];
        ensure!(
            view.status == theirs.status,
            "{what}: {name}: {:?} and {:?}",
            view.status,
            theirs.status
        );
        let uids = |view: &View| view.rows.keys().copied().collect::<Vec<_>>();
        ensure!(
            uids(view) == uids(theirs),
            "{what}: {name}: {:?} and {:?}",
            uids(view),
            uids(theirs)
        );
        for (uid, row) in &view.rows {
            let their = &theirs.rows[uid];
            ensure!(
                row == their,
                "{what}: {name} {uid}: {row:#?} and {their:#?}"
            );
        }
    }
    Ok(())
}

/// First we look, then Dovecot, then we again: all see the same.
pub(crate) fn agree(side: &Side<'_>, when: &str) -> Result<Account> {
    let first = our_account(side).with_context(|| when.to_owned())?;
    let dovecot = dovecots_account(side).with_context(|| when.to_owned())?;
    compare(&format!("{when}: we and Dovecot"), &first, &dovecot)?;
    let again = our_account(side)?;
    compare(&format!("{when}: we twice"), &first, &again)?;
    Ok(first)
}

/// What a rebuild of the index must keep.
pub(crate) fn after_resync(account: &Account) -> Account {
    let mut account = account.clone();
    for view in account.values_mut() {
        view.status[4].clear();
        for row in view.rows.values_mut() {
            row.modseq.clear();
        }
    }
    account
}

/// Dovecot rebuilds all indexes from the message files and finds nothing else.
pub(crate) fn resync(side: &Side<'_>, before: &Account) -> Result<()> {
    let run = side
        .doveadm_run("force-resync", &["*"], b"")?
        .expect_code(0)?;
    let expected = ["ebuilding index", "fscking index file"];
    let is_expected = |line: &str| expected.iter().any(|text| line.contains(text));
    ensure!(run.stderr.lines().all(is_expected), "{run:?}");
    let after = agree(side, "after force-resync")?;
    compare("resync", &after_resync(before), &after_resync(&after))
}
