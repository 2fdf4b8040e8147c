//! Whole accounts go from one format to another, by our client with every kind of server.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use interop_tests::{Side, Version, World};

use crate::view::{View, agree, our_account, resync};

fn fill(side: &Side<'_>) -> Result<()> {
    for (mailbox, count) in [("INBOX", 7), ("Par", 2), ("Par/Kid", 3)] {
        if mailbox != "INBOX" {
            side.doveadm("mailbox create", &[mailbox])?;
        }
        for number in 0..count {
            let text = format!("Subject: {mailbox} {number}\n\n.\ndotted\n..\n{number}\n");
            side.save(mailbox, text.as_bytes())?;
        }
    }
    side.doveadm(
        "flags add",
        &["\\Seen Work", "mailbox", "INBOX", "uid", "2:5"],
    )?;
    side.doveadm("expunge", &["mailbox", "INBOX", "uid", "3,7"])?;
    side.doveadm("mailbox metadata set", &["Par", "/private/comment", "kept"])?;
    Ok(())
}

fn edit(side: &Side<'_>, other: &Side<'_>) -> Result<()> {
    side.doveadm("flags remove", &["\\Seen", "mailbox", "INBOX", "uid", "2"])?;
    // Not as many changes as on the other side: Dovecot skips mailboxes with equal modseqs.
    side.doveadm("flags add", &["\\Answered", "mailbox", "INBOX", "uid", "5"])?;
    side.doveadm("expunge", &["mailbox", "Par/Kid", "uid", "1"])?;
    side.save("Par", b"Subject: new\n\nby one\n")?;
    other.save("Par", b"Subject: newer\n\nby the other\n")?;
    other.doveadm("flags add", &["\\Flagged", "mailbox", "INBOX", "uid", "4"])?;
    other.doveadm("mailbox rename", &["Par/Kid", "Moved"])?;
    Ok(())
}

/// Facts do not tell when messages were saved.
fn saved_at_the_same_time(a: &Side<'_>, b: &Side<'_>) -> Result<()> {
    let dates = |side| -> Result<BTreeMap<String, Vec<String>>> {
        let dates = |view: View| view.rows.into_values().map(|row| row.saved).collect();
        let account = our_account(side)?.into_iter();
        Ok(account.map(|(name, view)| (name, dates(view))).collect())
    };
    let (left, right) = (dates(a)?, dates(b)?);
    ensure!(left == right, "saved dates: {left:?} | {right:?}");
    Ok(())
}

/// A full account goes over, edits go both ways, and a further run changes nothing.
fn converts(
    a: &Side<'_>,
    b: &Side<'_>,
    server: &dyn Fn(&Side<'_>) -> Result<Vec<String>>,
) -> Result<()> {
    let sync = |words: &[&str]| -> Result<()> {
        let mut words: Vec<String> = words.iter().map(ToString::to_string).collect();
        words.extend(server(b)?);
        let run = a.dsync(&words)?.expect_code(0)?;
        let mut said = run.stderr.lines();
        ensure!(said.all(|line| line.contains(" mailbox")), "{run:?}");
        Ok(())
    };
    let equal = |when: &str| -> Result<()> {
        let (mut left, mut right) = (a.facts()?, b.facts()?);
        // In one process both stores have the attributes of the first.
        if server(b)?.len() > 1 {
            (left, right) = (left.with_attributes(a)?, right.with_attributes(b)?);
        }
        left.expect_equal(&right, when)
    };
    fill(a)?;
    sync(&["backup"])?;
    equal("after the backup")?;
    saved_at_the_same_time(a, b)?;
    edit(a, b)?;
    sync(&["sync"])?;
    equal("after edits on both sides")?;
    let before = b.facts()?;
    sync(&["sync"])?;
    sync(&["sync", "-f"])?;
    equal("after more runs")?;
    before.expect_equal(&b.facts()?, "a further run")
}

const PAIRS: [(&str, &str); 6] = [
    ("maildir", "sdbox"),
    ("sdbox", "maildir"),
    ("sdbox", "sdbox"),
    ("maildir", "mdbox"),
    ("mdbox", "sdbox"),
    ("mdbox", "mdbox"),
];

fn in_pairs(version: Version, server: &dyn Fn(&Side<'_>) -> Result<Vec<String>>) -> Result<()> {
    // Each format once is enough for a Dovecot that starts slowly.
    let pairs = match version {
        Version::V23 => &PAIRS[..],
        Version::V24 => &PAIRS[3..5],
    };
    for (from, to) in pairs.iter().copied() {
        let world = World::new(version)?;
        let options = |format| {
            if format == "maildir" {
                ":LAYOUT=fs"
            } else {
                ""
            }
        };
        let a = world.side_at("a", from, options(from))?;
        let b = world.side_at("b", to, options(to))?;
        converts(&a, &b, server).with_context(|| format!("{from} to {to}"))?;
        // As we leave it, so it is after Dovecot has looked at all files.
        for (side, format) in [(&a, from), (&b, to)] {
            if format != "maildir" {
                resync(side, &agree(side, "at the end")?)?;
            }
        }
    }
    Ok(())
}

#[test]
fn formats_are_converted_in_one_process() -> Result<()> {
    in_pairs(Version::V23, &|b| Ok(vec![b.location()]))
}

#[test]
fn formats_are_converted_by_our_server() -> Result<()> {
    in_pairs(Version::V23, &|b| b.our_server())
}

#[test]
fn formats_are_converted_by_dovecots_server() -> Result<()> {
    in_pairs(Version::V23, &|b| Ok(b.dovecot_server()))
}

#[test]
fn formats_are_converted_by_the_server_of_2_4() -> Result<()> {
    in_pairs(Version::V24, &|b| Ok(b.dovecot_server()))
}

#[test]
fn formats_of_2_4_are_converted_in_one_process() -> Result<()> {
    in_pairs(Version::V24, &|b| Ok(vec![b.location()]))
}
