//! The edits of a scenario, done by Dovecot; only where a GUID or a UIDVALIDITY is given, which
//! no command of Dovecot can do, by our storage.

use anyhow::{Context, Result, bail, ensure};
use dsync_proto::types::{Flags, Guid};
use dsync_storage::location::{Location, Variables};
use dsync_storage::{Namespace, OpenMode, SaveMessage, Store, StoreSettings, open_store};
use dsync_testkit::vectors::scenarios::{Scenario, time};
use dsync_testkit::vectors::{guid, strings, uid};
use interop_tests::{Side, own_all};
use serde_json::Value;

/// Does `edit` on its side. `later` is that side before the next sync: who made what is missing
/// here knows its GUID and UIDVALIDITY from there.
pub(crate) fn apply(
    scenario: &Scenario,
    edit: &Value,
    side: &Side<'_>,
    later: &Value,
) -> Result<()> {
    let text = |key: &str| edit[key].as_str().unwrap_or_default();
    let mailbox = text("mailbox");
    let query = ["mailbox", mailbox, "uid", text("uids")];
    match text("op") {
        "save" => {
            create(side, mailbox, &later[mailbox])?;
            save(scenario, edit, side, mailbox)?;
        }
        "mailbox_create" => {
            // Dovecot makes INBOX with the first mailbox.
            side.doveadm(
                "mailbox create",
                &["-g", &guid(&later[mailbox]["guid"]).to_string(), mailbox],
            )?;
            let uid_validity = later[mailbox]["uidvalidity"].to_string();
            side.doveadm(
                "mailbox update",
                &["--uid-validity", &uid_validity, mailbox],
            )?;
        }
        "flags" => {
            let flags = strings(&edit["flags"]).join(" ");
            // One scenario needs a keyword that the other side refuses.
            let command = format!("-o mail_max_keyword_length=100 flags {}", text("how"));
            side.doveadm(&command, &[&[flags.as_str()][..], &query].concat())?;
        }
        "expunge" => drop(side.doveadm("expunge", &query)?),
        op @ ("copy" | "move") => {
            side.doveadm(op, &[&[text("to")][..], &query].concat())?;
        }
        "mailbox_update" => {
            let (option, value) = match edit["uid_validity"].is_null() {
                true => ("--min-next-uid", &edit["min_next_uid"]),
                false => ("--uid-validity", &edit["uid_validity"]),
            };
            side.doveadm("mailbox update", &[option, &value.to_string(), mailbox])?;
        }
        "attribute_set" => {
            let words = [mailbox, text("key"), text("value")];
            side.doveadm("mailbox metadata set", &words)?;
        }
        "attribute_unset" => {
            side.doveadm("mailbox metadata unset", &[mailbox, text("key")])?;
        }
        "rotate_log" => rotate(side, text("uid"))?,
        // Those of the scenarios are about dates, which a sync does not look at.
        "wait" => {}
        op => bail!("unknown operation {op}"),
    }
    Ok(())
}

fn store(side: &Side<'_>) -> Result<Box<dyn Store>> {
    let location = Location::parse(&side.location(), &Variables::default())?;
    let settings = StoreSettings::default();
    Ok(open_store(&location, Namespace::default(), &settings)?)
}

fn create(side: &Side<'_>, mailbox: &str, later: &Value) -> Result<()> {
    let mut store = store(side)?;
    if store.identity(mailbox).is_err() {
        ensure!(!later.is_null(), "{mailbox} is not there before the sync");
        let guid: Guid = guid(&later["guid"]);
        store.create_mailbox(mailbox, Some(guid), Some(uid(&later["uidvalidity"])))?;
    }
    own_all(&side.outside(""))
}

fn save(scenario: &Scenario, edit: &Value, side: &Side<'_>, mailbox: &str) -> Result<()> {
    let subject = edit["subject"].as_str().context("a subject")?;
    let body = scenario.body(subject);
    let Some(guid) = edit["guid"].as_str() else {
        return side.save(mailbox, body.as_bytes());
    };
    let received = edit["received"].as_str().map_or_else(
        || time("2024-01-01 10:00:00"),
        |date| time(date) + 12 * 3600,
    );
    let mut store = store(side)?;
    let mut mailbox = store.open(mailbox, OpenMode::Write)?;
    let status = mailbox.refresh()?;
    // The operation that sets them names this message.
    let has_pop3_fields = scenario.id().starts_with("S90") && subject == "m1";
    mailbox.save_begin(SaveMessage {
        uid: status.uid_next,
        guid: guid.into(),
        flags: Flags::RECENT,
        keywords: Vec::new(),
        min_modseq: 0,
        min_pvt_modseq: 0,
        received_date: received,
        saved_date: 0,
        pop3_uidl: if has_pop3_fields { "myuidl1" } else { "" }.into(),
        pop3_order: if has_pop3_fields { 7 } else { 0 },
    })?;
    mailbox.save_write(body.as_bytes())?;
    mailbox.save_finish()?;
    mailbox.commit()?;
    own_all(&side.outside(""))
}

/// Changes a message until all of its older log records are gone.
fn rotate(side: &Side<'_>, uid: &str) -> Result<()> {
    let at_once = "-o mail_index_log_rotate_min_size=64 -o mail_index_log_rotate_max_size=64";
    for how in ["add", "remove"].repeat(3) {
        let command = format!("{at_once} flags {how}");
        side.doveadm(&command, &["rot", "mailbox", "INBOX", "uid", uid])?;
    }
    Ok(())
}
