//! dbox stores, written and read by us and by Dovecot in turn: both see the same UIDs, GUIDs,
//! flags, dates, sizes, modseqs and bodies, and Dovecot never has anything to complain about.

mod changes;
mod convert;
mod histories;
mod live;
mod view;

use anyhow::{Context, Result, ensure};
use dsync_proto::types::{Flags, MailGuid, Uid};
use dsync_storage::{Mailbox, OpenMode, SaveMessage};
use interop_tests::{Side, Version, World};

const LOCATIONS: [(&str, &str); 4] = [
    ("mdbox", ""),
    ("mdbox", ":INDEX=HOME/index:CONTROL=HOME/control"),
    ("sdbox", ""),
    ("sdbox", ":INDEX=HOME/index:CONTROL=HOME/control"),
];

pub(crate) fn everywhere(check: impl Fn(&Side<'_>) -> Result<()>) -> Result<()> {
    for (number, (format, options)) in LOCATIONS.iter().enumerate() {
        let world = World::new(Version::V23)?;
        let name = format!("u{number}");
        let home = world.inside(&name).display().to_string();
        let side = world.side_at(&name, format, &options.replace("HOME", &home))?;
        check(&side).with_context(|| format!("with the location {format}:...{options}"))?;
    }
    Ok(())
}

pub(crate) fn message(uid: Uid, guid: &str) -> SaveMessage {
    SaveMessage {
        uid,
        guid: MailGuid::from(guid),
        flags: Flags::RECENT,
        received_date: 1_000_000_000 + i64::from(uid),
        saved_date: 1_200_000_000 + i64::from(uid),
        ..SaveMessage::default()
    }
}

pub(crate) fn save(mailbox: &mut dyn Mailbox, what: SaveMessage) -> Result<()> {
    let text = format!("Subject: {}\r\n\r\nbody\r\nof {}\n", what.uid, what.guid);
    mailbox.save_begin(what)?;
    let (start, end) = text.as_bytes().split_at(20);
    mailbox.save_write(start)?;
    mailbox.save_write(end)?;
    mailbox.save_finish()?;
    Ok(())
}

/// Ten messages with everything that a message can have.
pub(crate) fn save_ten(mailbox: &mut dyn Mailbox) -> Result<()> {
    mailbox.refresh()?;
    let guids = [
        "",
        "00112233445566778899aabbccddeeff",
        "1795447313.M1P2.vm",
        "a/b c",
        "x:y",
        ".dot",
        "1.M1.h,S=1,W=1",
        "ünï",
        "twice as long as needed",
        "last",
    ];
    for (number, guid) in (0_u32..).zip(guids) {
        let mut what = message(5 + 2 * number, guid);
        what.flags = Flags(number as u8 & 0x1f);
        if number % 3 == 0 {
            what.keywords = vec!["$Label1".into(), "Junk".into()];
            what.min_modseq = 100 + u64::from(number);
            what.pop3_uidl = format!("uidl-{number}").as_str().into();
            what.pop3_order = number;
        }
        save(mailbox, what)?;
    }
    let mut another = message(30, "another");
    another.flags = Flags::SEEN;
    mailbox.save_another(another)?;
    let report = mailbox.commit()?;
    ensure!(report.moved.is_empty(), "{report:?}");
    Ok(())
}

pub(crate) fn in_inbox<T>(
    side: &Side<'_>,
    work: impl FnOnce(&mut dyn Mailbox) -> Result<T>,
) -> Result<T> {
    side.with_store(|store| {
        store.create_mailbox("INBOX", None, None)?;
        let mut mailbox = store.open("INBOX", OpenMode::Write)?;
        work(mailbox.as_mut())
    })
}
