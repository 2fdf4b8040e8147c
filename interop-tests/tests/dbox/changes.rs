//! Stores made and changed by us, in every way that there is.

use anyhow::{Result, ensure};
use dsync_proto::types::Flags;
use dsync_storage::{FlagUpdate, MetadataUpdate, OpenMode};
use interop_tests::{Side, Version, World};

use crate::view::{agree, compare, resync};
use crate::{everywhere, in_inbox, message, save, save_ten};

#[test]
fn dovecot_reads_what_we_make() -> Result<()> {
    everywhere(|side| {
        side.with_store(|store| {
            store.create_mailbox("Par/Kid", None, Some(77))?;
            store.create_mailbox("Par", None, None)?;
            store.create_directory("Only/Folders")?;
            store.set_subscribed("Par/Kid", true)?;
            Ok(())
        })?;
        in_inbox(side, save_ten)?;
        let account = agree(side, "after the saves")?;
        let inbox = &account["INBOX"];
        ensure!(inbox.rows.len() == 11 && account["Par/Kid"].status[3] == "77");
        ensure!(inbox.rows[&13].guid == "x:y" && inbox.rows[&30].guid == "another");
        ensure!(inbox.rows[&11].flags == "$Label1 Junk \\Answered \\Flagged");
        ensure!(inbox.rows[&11].modseq == "103", "{:#?}", inbox.rows[&11]);
        ensure!(inbox.rows[&11].saved == "1200000011");
        ensure!(inbox.rows[&11].pop3 == ["uidl-3", "3"]);
        let listed = side.doveadm("mailbox list", &["-s"])?;
        ensure!(listed.contains("Par/Kid"), "{listed}");
        resync(side, &account)?;
        // Expunged and flagged by Dovecot, saved again by us.
        side.doveadm("expunge", &["mailbox", "INBOX", "uid", "7,23"])?;
        side.doveadm(
            "flags add",
            &["\\Seen NewKeyword", "mailbox", "INBOX", "uid", "5:9"],
        )?;
        agree(side, "after changes by Dovecot")?;
        let moved = in_inbox(side, |mailbox| {
            mailbox.refresh()?;
            save(mailbox, message(3, "too low"))?;
            save(mailbox, message(40, "recent"))?;
            Ok(mailbox.commit()?.moved)
        })?;
        let account = agree(side, "after more saves")?;
        ensure!(moved.len() == 1 && moved[0].0 == 3, "{moved:?}");
        ensure!(
            account["INBOX"].status[1] == "2",
            "{:?}",
            account["INBOX"].status
        );
        resync(side, &account)
    })
}

#[test]
fn dovecot_sees_our_changes() -> Result<()> {
    everywhere(|side| {
        in_inbox(side, save_ten)?;
        agree(side, "before")?;
        in_inbox(side, |mailbox| {
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
            // Moved as it is, and copied under another GUID.
            ensure!(mailbox.copy(15, message(50, ".dot"))?);
            ensure!(mailbox.copy(17, message(51, "other"))?);
            mailbox.expunge(15)?;
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
        let account = agree(side, "after")?;
        let inbox = &account["INBOX"];
        ensure!(inbox.rows[&11].flags == "$Label1 Later \\Answered \\Draft");
        let uids = [5, 11, 17, 19, 21, 23, 30, 50, 51, 52, 53];
        ensure!(
            inbox.rows.keys().copied().eq(uids),
            "{:?}",
            inbox.rows.keys()
        );
        ensure!(inbox.rows[&52].guid == "x:y" && inbox.rows[&51].guid == "other");
        ensure!(inbox.rows[&50].received == "1000000015");
        ensure!(inbox.status[2] == "77" && inbox.status[4] == "1001");
        resync(side, &account)?;
        in_inbox(side, |mailbox| {
            mailbox.refresh()?;
            mailbox.update_metadata(MetadataUpdate {
                uid_validity: Some(1_234_567),
                ..MetadataUpdate::default()
            })?;
            mailbox.commit()?;
            Ok(())
        })?;
        let account = agree(side, "after a new UIDVALIDITY")?;
        ensure!(account["INBOX"].status[3] == "1234567");
        Ok(())
    })
}

#[test]
fn mailboxes_come_and_go() -> Result<()> {
    everywhere(|side| {
        in_inbox(side, save_ten)?;
        side.with_store(|store| {
            for name in ["P", "P/K", "Q"] {
                store.create_mailbox(name, None, None)?;
                save_ten(store.open(name, OpenMode::Write)?.as_mut())?;
            }
            Ok(())
        })?;
        agree(side, "before")?;
        side.doveadm("mailbox delete", &["Q"])?;
        let removed = side.with_store(|store| {
            store.rename("P", "New/Place")?;
            let guid = store.identity("New/Place/K")?.guid;
            store.delete_mailbox(guid)?;
            let inbox = store.identity("INBOX")?.guid;
            store.delete_mailbox(inbox)?;
            store.create_mailbox("Q", None, None)?;
            Ok(guid)
        })?;
        let account = agree(side, "after")?;
        let names: Vec<_> = account.keys().map(String::as_str).collect();
        // Dovecot makes an INBOX when it looks.
        ensure!(
            names == ["INBOX", "New/Place", "Q"] || names == ["New/Place", "Q"],
            "{names:?}"
        );
        ensure!(account["New/Place"].rows.len() == 11);
        let log = side.with_store(|store| Ok(store.mailbox_log()?))?;
        ensure!(log.iter().any(|record| record.id == removed), "{log:?}");
        side.doveadm("mailbox rename", &["New/Place", "P"])?;
        ensure!(agree(side, "in the end")?["P"].rows.len() == 11);
        Ok(())
    })
}

#[test]
fn what_dovecot_compresses_is_read() -> Result<()> {
    let world = World::new(Version::V23)?;
    for format in ["sdbox", "mdbox"] {
        for method in ["gz", "bz2", "zstd", "lz4"] {
            let name = format!("{format}-{method}");
            let side = world.side_at(&name, format, "")?;
            let config = format!("{name}.conf");
            let mut text = std::fs::read_to_string(world.outside(&config))?;
            text.push_str("mail_plugins = zlib\nplugin {\n  zlib_save = ");
            text.push_str(&format!("{method}\n}}\n"));
            world.write(&config, text.as_bytes())?;
            for lines in [0, 1, 100, 20_000] {
                let mut mail = "Subject: packed\n\n".to_owned();
                for line in 0..lines {
                    mail.push_str(&format!("line {line} of {lines}\n"));
                }
                side.save("INBOX", mail.as_bytes())?;
            }
            let account = agree(&side, &name)?;
            ensure!(account["INBOX"].rows.len() == 4);
            // Moved to a file of its own, it is still as Dovecot packed it.
            in_inbox(&side, |mailbox| {
                mailbox.refresh()?;
                ensure!(mailbox.copy(4, message(9, "unpacked"))?);
                mailbox.commit()?;
                Ok(())
            })?;
            let account = agree(&side, &name)?;
            let (old, new) = (&account["INBOX"].rows[&4], &account["INBOX"].rows[&9]);
            ensure!(old.text == new.text && old.text.len() > 100_000);
        }
    }
    Ok(())
}

/// Where the index of INBOX is, from outside.
fn index_dir(side: &Side<'_>) -> std::path::PathBuf {
    match side.location().contains("INDEX") {
        true => side.outside("index/mailboxes/INBOX"),
        false => side.outside_mail_root().join("mailboxes/INBOX/dbox-Mails"),
    }
}

#[test]
fn dovecot_reads_what_we_cache() -> Result<()> {
    everywhere(|side| {
        for number in 0..20 {
            let text = format!("Subject: {number}\n\nbody\n");
            side.save("INBOX", text.as_bytes())?;
        }
        // Some have records in the cache before, some have none.
        side.doveadm(
            "fetch",
            &["hdr.subject size.virtual", "mailbox", "INBOX", "uid", "3:9"],
        )?;
        let before = agree(side, "before")?;
        in_inbox(side, |mailbox| {
            mailbox.refresh()?;
            ensure!(mailbox.messages()?.len() == 20);
            Ok(())
        })?;
        let cache = dsync_storage::index::cache_fields(&index_dir(side), "dovecot.index")?;
        ensure!(cache.iter().any(|field| field.name == "guid"), "{cache:?}");
        let after = agree(side, "after")?;
        compare("with GUIDs in the cache", &before, &after)?;
        side.doveadm("mailbox cache purge", &["INBOX"])?;
        compare(
            "after a purge of the cache",
            &before,
            &agree(side, "at the end")?,
        )?;
        resync(side, &before)
    })
}
