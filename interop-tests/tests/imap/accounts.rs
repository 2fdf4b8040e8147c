//! Accounts to begin with.

use std::fs::{self, File, FileTimes};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use interop_tests::imap::Value;
use interop_tests::{Side, World, own_all};

use crate::view::View;

pub(crate) fn message(subject: &str) -> Vec<u8> {
    format!(
        "From: Anna <anna@example.org>\r\nSubject: {subject}\r\n\
         Message-ID: <{subject}@example.org>\r\n\r\n{subject}\r\n.\r\n.a dot\r\nlast line\r\n"
    )
    .into_bytes()
}

/// A name below another one, as an IMAP client writes it.
pub(crate) fn below(options: &str, parent: &str, child: &str) -> String {
    let separator = if options.is_empty() { '.' } else { '/' };
    format!("{parent}{separator}{child}")
}

/// An account that an IMAP client filled.
pub(crate) fn made_by_dovecot<'w>(world: &'w World, options: &str) -> Result<Side<'w>> {
    let side = world.side_at("source", "maildir", options)?;
    let mut session = side.imap()?;
    let deep = below(options, "Work", "Deep");
    for name in ["Work", &deep, "Gr&APwA3w-e", "Empty", "Gone"] {
        session.ok(&format!("CREATE {name}"))?;
        session.ok(&format!("SUBSCRIBE {name}"))?;
    }
    session.ok("UNSUBSCRIBE Work")?;
    session.ok("DELETE Gone")?;
    for (number, subject) in ["one", "two", "three", "four", "five"].iter().enumerate() {
        for name in ["INBOX", &deep, "Gr&APwA3w-e"] {
            let date = format!("0{}-Nov-2026 10:00:00 +0100", number + 1);
            session.append(&format!("{name} (\\Seen) \"{date}\""), &message(subject))?;
        }
    }
    for name in ["INBOX", &deep] {
        session.ok(&format!("SELECT {name}"))?;
        session.ok("UID STORE 2 +FLAGS ($Work \\Answered)")?;
        session.ok("UID STORE 3 FLAGS (\\Flagged \\Deleted)")?;
        session.ok("UID STORE 4 -FLAGS (\\Seen)")?;
        session.ok("UID EXPUNGE 3")?;
    }
    session.logout()?;
    Ok(side)
}

/// Message files of [`plain`] (with a place for either size) and the flags that they stand for.
const PLAIN: [(&str, &str); 7] = [
    ("new/1795500001.M1P1.old", ""),
    ("cur/1795500000.M1P1.old:2,FS", "\\Flagged \\Seen"),
    ("cur/1795500002.two:2,", ""),
    (".Work.Deep/cur/1795500003.a:2,RT", "\\Answered \\Deleted"),
    (
        ".Work.Deep/cur/1795500004.b:2,Sac",
        "\\Seen unknown-0 unknown-2",
    ),
    (".Gr&APwA3w-e/cur/1795500005.x,S=LF:2,DP", "\\Draft"),
    (".Gr&APwA3w-e/new/1795500006.y,W=CRLF", ""),
];

/// A Maildir that no Dovecot has ever seen. Line ends are those of Unix.
pub(crate) fn plain<'w>(world: &'w World, options: &str) -> Result<Side<'w>> {
    let side = world.side_at("source", "maildir", options)?;
    for (number, (path, _)) in PLAIN.iter().enumerate() {
        let text = message(&number.to_string());
        let path = path.replace("CRLF", &text.len().to_string());
        let text = String::from_utf8(text)?.replace('\r', "");
        let mut path = path.replace("LF", &text.len().to_string());
        if !options.is_empty() {
            path = path.replace(".Work.Deep", "Work/Deep").replace(".Gr", "Gr");
        }
        let path = side.outside_mail_root().join(path);
        let directory = path.ancestors().nth(2).context("no directory")?;
        for folder in ["cur", "new", "tmp"] {
            fs::create_dir_all(directory.join(folder))?;
        }
        fs::write(&path, text)?;
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + number as u64);
        File::open(&path)?.set_times(FileTimes::new().set_modified(time))?;
    }
    own_all(&side.outside_mail_root())?;
    Ok(side)
}

/// Every file of [`plain`] is there with its flags and bytes.
pub(crate) fn check_plain(view: &View) -> Result<()> {
    let all: Vec<_> = view
        .boxes
        .values()
        .flat_map(|b| b.messages.values())
        .collect();
    ensure!(all.len() == PLAIN.len(), "{all:#?}");
    for (number, (_, flags)) in PLAIN.iter().enumerate() {
        let text = Value::Text(message(&number.to_string()));
        let found = all.iter().find(|message| message["BODY[]"] == text);
        let found = found.with_context(|| format!("message {number} is missing: {all:#?}"))?;
        let shown: Vec<String> = found["FLAGS"]
            .list()
            .iter()
            .filter_map(Value::text)
            .collect();
        ensure!(shown.join(" ") == *flags, "message {number}: {shown:?}");
        let date = found["INTERNALDATE"].text().context("no date")?;
        let end = format!(":13:{:02} +0000", 20 + number);
        ensure!(
            date.starts_with("14-Nov-2023") && date.ends_with(&end),
            "{number}: {date}"
        );
    }
    Ok(())
}
