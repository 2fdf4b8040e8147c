//! Our list of Maildir mailboxes beside Dovecot's: what one makes, the other sees.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use dsync_proto::types::Guid;
use dsync_storage::{Created, MailboxLogKind};
use interop_tests::{Side, Version, World};

/// Every layout, with and without separate directories. `HOME` is replaced.
const LOCATIONS: [&str; 9] = [
    "",
    ":INDEX=HOME/index:CONTROL=HOME/control",
    ":INBOX=HOME/inbox",
    ":LAYOUT=fs",
    ":LAYOUT=fs:INDEX=HOME/index:CONTROL=HOME/control",
    ":LAYOUT=fs:DIRNAME=.box",
    ":LAYOUT=fs:FULLDIRNAME=.box:MAILBOXDIR=boxes:INDEX=HOME/index:CONTROL=HOME/control",
    ":LAYOUT=imapdir",
    ":UTF-8:VOLATILEDIR=HOME/volatile",
];

const NAMES: [&str; 7] = [
    "Work",
    "Work/Old",
    "Work/Old/er",
    "Ünï/ké",
    "50%",
    "A&B",
    "日本語",
];

/// Runs the check in an account for each location.
fn everywhere(check: impl Fn(&Side<'_>) -> Result<()>) -> Result<()> {
    for (number, options) in LOCATIONS.iter().enumerate() {
        let world = World::new(Version::V23)?;
        let name = format!("u{number}");
        let home = world.inside(&name).display().to_string();
        let side = world.side_at(&name, "maildir", &options.replace("HOME", &home))?;
        use_slashes(&world, &name)?;
        check(&side).with_context(|| format!("with the location maildir:...{options}"))?;
    }
    Ok(())
}

/// Gives Dovecot's names the separator that ours have by default, whatever the layout.
fn use_slashes(world: &World, name: &str) -> Result<()> {
    let file = format!("{name}.conf");
    let mut config = std::fs::read(world.outside(&file))?;
    config.extend_from_slice(b"namespace inbox {\n  inbox = yes\n  separator = /\n}\n");
    world.write(&file, &config)
}

/// GUID and UIDVALIDITY of all mailboxes.
type Identities = BTreeMap<String, (String, String)>;

fn dovecots_view(side: &Side<'_>) -> Result<Identities> {
    let text = side.doveadm("mailbox status", &["guid uidvalidity", "*"])?;
    let rows: Vec<BTreeMap<String, String>> = serde_json::from_str(&text)?;
    rows.into_iter()
        .map(|mut row| {
            let mut take = |key: &str| row.remove(key).with_context(|| format!("no {key}: {text}"));
            Ok((take("mailbox")?, (take("guid")?, take("uidvalidity")?)))
        })
        .collect()
}

fn our_view(side: &Side<'_>) -> Result<Identities> {
    side.with_store(|store| {
        let mut view = Identities::new();
        for entry in store.list()?.into_iter().filter(|entry| entry.selectable) {
            let identity = store.identity(&entry.name)?;
            ensure!(store.find_guid(identity.guid)?.as_deref() == Some(entry.name.as_str()));
            let both = (identity.guid.to_string(), identity.uid_validity.to_string());
            view.insert(entry.name, both);
        }
        Ok(view)
    })
}

/// Names of one column of a doveadm table.
fn dovecots_list(side: &Side<'_>, options: &[&str]) -> Result<Vec<String>> {
    let text = side.doveadm("mailbox list", options)?;
    let rows: Vec<BTreeMap<String, String>> = serde_json::from_str(&text)?;
    let mut names: Vec<String> = rows.into_iter().flat_map(BTreeMap::into_values).collect();
    names.sort();
    Ok(names)
}

fn our_list(side: &Side<'_>) -> Result<Vec<String>> {
    side.with_store(|store| Ok(store.list()?.into_iter().map(|entry| entry.name).collect()))
}

fn sorted_subscriptions(side: &Side<'_>) -> Result<Vec<String>> {
    side.with_store(|store| {
        let mut names = store.subscriptions()?;
        names.sort();
        Ok(names)
    })
}

fn expect_same_view(side: &Side<'_>, when: &str) -> Result<Identities> {
    let (ours, theirs) = (our_view(side)?, dovecots_view(side)?);
    ensure!(
        ours == theirs,
        "{when}:\nours   {ours:#?}\ntheirs {theirs:#?}"
    );
    Ok(ours)
}

fn guid(number: usize) -> Guid {
    Guid([u8::try_from(number + 0xa0).unwrap_or(0xff); 16])
}

#[test]
fn dovecot_sees_what_we_make() -> Result<()> {
    everywhere(|side| {
        side.with_store(|store| {
            for (number, name) in ["INBOX"].iter().chain(&NAMES).enumerate() {
                let uid_validity = 1_000_000 + u32::try_from(number)?;
                let created = store.create_mailbox(name, Some(guid(number)), Some(uid_validity))?;
                ensure!(created == Created::New, "{name} was there");
                let again = store.create_mailbox(name, None, None)?;
                ensure!(again == Created::Existed, "{name} was not there");
            }
            store.create_mailbox("own", None, None)?;
            Ok(())
        })?;
        let view = expect_same_view(side, "after creating")?;
        for (number, name) in ["INBOX"].iter().chain(&NAMES).enumerate() {
            let expected = (guid(number).to_string(), (1_000_000 + number).to_string());
            ensure!(
                view.get(*name) == Some(&expected),
                "{name}: {:?}",
                view.get(*name)
            );
        }
        // The mailboxes work.
        side.save("Ünï/ké", b"Subject: x\n\nx\n")?;

        side.with_store(|store| {
            store.rename("Work", "Neu/Werk")?;
            store.delete_mailbox(guid(5))?;
            for name in ["Neu/Werk", "Ünï/ké", "nirgends", "INBOX"] {
                ensure!(store.set_subscribed(name, true)?);
                ensure!(!store.set_subscribed(name, true)?);
            }
            ensure!(store.set_subscribed("nirgends", false)?);
            Ok(())
        })?;
        let view = expect_same_view(side, "after renaming and deleting")?;
        ensure!(view["Neu/Werk/Old/er"].0 == guid(3).to_string());
        ensure!(!view.contains_key("50%") && !view.contains_key("Work"));
        ensure!(dovecots_list(side, &["-s"])? == ["INBOX", "Neu/Werk", "Ünï/ké"]);
        ensure!(sorted_subscriptions(side)? == ["INBOX", "Neu/Werk", "Ünï/ké"]);
        ensure!(
            side.doveadm("fetch", &["text", "mailbox", "Ünï/ké"])?
                .contains("Subject: x")
        );
        Ok(())
    })
}

#[test]
fn we_see_what_dovecot_makes() -> Result<()> {
    everywhere(|side| {
        for name in NAMES {
            side.doveadm("mailbox create", &["-s", name])?;
        }
        side.save("INBOX", b"Subject: x\n\nx\n")?;
        expect_same_view(side, "after creating")?;
        let mut subscribed = NAMES.map(str::to_owned);
        subscribed.sort();
        ensure!(sorted_subscriptions(side)? == subscribed);

        side.doveadm("mailbox rename", &["Work/Old", "Neu"])?;
        side.doveadm("mailbox delete", &["50%"])?;
        side.doveadm("mailbox unsubscribe", &["50%"])?;
        side.doveadm("mailbox delete", &["Ünï/ké"])?;
        expect_same_view(side, "after changes")?;
        ensure!(our_list(side)? == dovecots_list(side, &["*"])?);
        side.with_store(|store| {
            let kinds: Vec<_> = store
                .mailbox_log()?
                .iter()
                .map(|record| record.kind)
                .collect();
            ensure!(
                kinds.starts_with(&[MailboxLogKind::Subscribe; 7]),
                "{kinds:?}"
            );
            ensure!(
                kinds[7..]
                    == [
                        MailboxLogKind::Rename,
                        MailboxLogKind::DeleteMailbox,
                        MailboxLogKind::DeleteDir,
                        MailboxLogKind::Unsubscribe,
                        MailboxLogKind::DeleteMailbox,
                        MailboxLogKind::DeleteDir,
                    ],
                "{kinds:?}"
            );
            Ok(())
        })
    })
}

#[test]
fn our_log_records_are_dovecots() -> Result<()> {
    let world = World::new(Version::V23)?;
    let side = world.side("u")?;
    side.with_store(|store| {
        store.create_mailbox("Par", Some(guid(1)), None)?;
        store.create_mailbox("Gone", Some(guid(2)), None)?;
        store.rename("Par", "New/Par2")?;
        store.delete_mailbox(guid(2))?;
        store.set_subscribed("Ünï/ké", true)?;
        store.set_subscribed("Ünï/ké", false)?;
        Ok(())
    })?;
    let log = side.mail_root().join("dovecot.mailbox.log");
    let dump = side.doveadm("dump", &["-t", "mailboxlog", &log.display().to_string()])?;
    let expected = [
        "rename 52fa55a9600a714fd2b5822d72f645d3",
        "delete-mailbox a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2",
        &format!("delete-dir {}", Guid::of_mailbox_name(b"Gone")),
        "subscribe 7995ebb9b8d2401863e84f51d7166444",
        "unsubscribe 7995ebb9b8d2401863e84f51d7166444",
    ];
    let got: Vec<&str> = dump.lines().filter(|line| line.contains('#')).collect();
    ensure!(got.len() == expected.len(), "{dump}");
    for (line, part) in got.iter().zip(expected) {
        ensure!(line.contains(part), "{part} not in:\n{dump}");
    }
    Ok(())
}

/// Dovecot's list index remembers GUIDs of mailboxes that it has seen. Ours must win.
#[test]
fn dovecot_sees_new_identities_of_mailboxes_that_it_knows() -> Result<()> {
    everywhere(|side| {
        for name in ["INBOX", "Replaced", "Renumbered", "Moved"] {
            side.doveadm("mailbox create", &[name]).ok();
            side.save(name, b"Subject: x\n\nx\n")?;
        }
        let before = expect_same_view(side, "before")?;
        let id = |name: &str| Guid::from_hex(before[name].0.as_bytes()).context("no GUID");
        let [inbox, replaced, moved] = [id("INBOX")?, id("Replaced")?, id("Moved")?];
        side.with_store(|store| {
            store.delete_mailbox(replaced)?;
            store.create_mailbox("Replaced", Some(guid(1)), Some(77))?;
            store.set_guid("Renumbered", guid(2))?;
            store.rename("Moved", "There")?;
            store.create_mailbox("Moved", Some(guid(3)), Some(78))?;
            store.delete_mailbox(inbox)?;
            Ok(())
        })?;
        for (name, number) in [("Replaced", 1), ("Renumbered", 2), ("Moved", 3)] {
            let status = side.doveadm("mailbox status", &["guid", name])?;
            ensure!(
                status.contains(&guid(number).to_string()),
                "{name}: {status}"
            );
        }
        let status = side.doveadm("mailbox status", &["messages", "Replaced"])?;
        ensure!(status.contains("\"messages\":\"0\""), "{status}");
        let after = expect_same_view(side, "after")?;
        ensure!(after["Replaced"] == (guid(1).to_string(), "77".into()));
        ensure!(after["Renumbered"] == (guid(2).to_string(), before["Renumbered"].1.clone()));
        ensure!(after["There"].0 == moved.to_string());
        ensure!(after["INBOX"].0 != before["INBOX"].0 && after["INBOX"].1 != before["INBOX"].1);
        ensure!(side.doveadm("fetch", &["uid", "mailbox", "INBOX"])? == "[]");
        ensure!(
            side.doveadm("fetch", &["text", "mailbox", "Renumbered"])?
                .contains("Subject")
        );
        Ok(())
    })
}
