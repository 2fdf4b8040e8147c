//! Every option that chooses what is synced, with ours in place of Dovecot at either end: the
//! accounts must end as Dovecot with itself leaves identical copies of them.

use std::fs::{self, File};
use std::io::Write;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use bstr::ByteSlice;
use interop_tests::{ExtraNamespace, Facts, Run, Side, Version, World, own_all};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    Ours,
    Dovecot,
}

use Program::{Dovecot, Ours};

/// Client and server; both as Dovecot is what the others are compared with.
const PAIRS: [(Program, Program); 3] = [(Ours, Dovecot), (Dovecot, Ours), (Ours, Ours)];

fn run(a: &Side<'_>, b: &Side<'_>, pair: (Program, Program), words: &[&str]) -> Result<Run> {
    let server = match pair.1 {
        Ours => b.our_server()?,
        Dovecot => b.dovecot_server(),
    };
    let mut words: Vec<String> = words.iter().map(ToString::to_string).collect();
    words.extend(server);
    match pair.0 {
        Ours => a.dsync(&words),
        Dovecot => a.dovecot_dsync(&words[0], &words[1..]),
    }
}

/// A message of about this size that was received this many days ago.
fn deliver(side: &Side<'_>, mailbox: &str, name: &str, octets: usize, days: u64) -> Result<()> {
    let mut folder = side.outside_mail_root();
    if mailbox != "INBOX" {
        folder.push(format!(".{mailbox}"));
    }
    let path = folder.join("new").join(format!("{name}.example"));
    fs::create_dir_all(folder.join("new"))?;
    let mut file = File::create(&path)?;
    write!(
        file,
        "From: anna@example.org\nSubject: {name}\nDate: Mon, 02 Nov 2026 10:00:00 +0000\n\
         Message-ID: <{name}@example.org>\n\n{}\n",
        "x".repeat(octets)
    )?;
    file.set_modified(SystemTime::now() - Duration::from_secs(days * 86_400))?;
    own_all(&folder.join("new"))
}

/// Two accounts that were in sync once and have changed since; messages of several ages, sizes
/// and flags.
fn accounts(world: &World) -> Result<(Side<'_>, Side<'_>)> {
    let a = world.side("a")?;
    a.doveadm(
        "mailbox create",
        &["-s", "INBOX", "Work", "Work.Deep", "Trash"],
    )?;
    deliver(&a, "INBOX", "old", 100, 900)?;
    deliver(&a, "Work", "w1", 100, 20)?;
    a.doveadm("mailbox status", &["messages", "*"])?;
    let b = world.copy_side(&a, "b")?;
    for (side, name) in [(&a, "a"), (&b, "b")] {
        for (number, days) in [1, 10, 100, 1000].into_iter().enumerate() {
            let octets = [50, 2000, 50, 9000][number];
            for mailbox in ["INBOX", "Work", "Work.Deep", "Trash"] {
                deliver(
                    side,
                    mailbox,
                    &format!("{name}-{mailbox}-{days}"),
                    octets,
                    days,
                )?;
            }
        }
        // Equal numbers of new messages on both sides would be overlooked by Dovecot.
        for mailbox in ["INBOX", "Work", "Work.Deep", "Trash"]
            .into_iter()
            .filter(|_| name == "b")
        {
            deliver(side, mailbox, &format!("more-{mailbox}"), 30, 60)?;
        }
        side.doveadm("mailbox status", &["messages", "*"])?;
        side.doveadm("flags add", &["\\Flagged $Label1", "mailbox", "*", "2:3"])?;
        side.doveadm("flags add", &["\\Seen", "mailbox", "*", "3:4"])?;
        side.doveadm("mailbox create", &["-s", &format!("New{name}")])?;
    }
    a.doveadm("mailbox rename", &["Work.Deep", "Work.Deeper"])?;
    b.doveadm("expunge", &["mailbox", "Work", "1"])?;
    Ok((a, b))
}

fn both(a: &Side<'_>, b: &Side<'_>) -> Result<(Facts, Facts)> {
    Ok((a.facts()?, b.facts()?))
}

/// Does the same run with every pair, each on copies.
fn compare<'w>(world: &'w World, a: &Side<'w>, b: &Side<'w>, words: &[&str]) -> Result<()> {
    let copies = |name: &str| -> Result<_> {
        let copy = |side: &Side<'w>, end: &str| world.copy_side(side, &format!("{name}-{end}"));
        Ok((copy(a, "a")?, copy(b, "b")?))
    };
    let (left, right) = copies("expected")?;
    run(&left, &right, (Dovecot, Dovecot), words)?.expect_code(0)?;
    let expected = both(&left, &right)?;
    for pair in PAIRS {
        let what = format!("{pair:?} {}", words.join(" "));
        let (left, right) = copies("tried")?;
        run(&left, &right, pair, words)?
            .expect_code(0)
            .context(what.clone())?;
        let got = both(&left, &right)?;
        expected
            .0
            .expect_equal(&got.0, &format!("{what}: side a, expected | got"))?;
        expected
            .1
            .expect_equal(&got.1, &format!("{what}: side b, expected | got"))?;
        for side in [left, right] {
            fs::remove_dir_all(world.outside(side.name()))?;
        }
    }
    for side in [left, right] {
        fs::remove_dir_all(world.outside(side.name()))?;
    }
    Ok(())
}

fn compare_all(cases: &[&[&str]]) -> Result<()> {
    let world = World::new(Version::V23)?;
    let (a, b) = accounts(&world)?;
    for case in cases {
        compare(&world, &a, &b, case)?;
    }
    Ok(())
}

#[test]
fn one_mailbox() -> Result<()> {
    compare_all(&[
        &["sync", "-m", "INBOX"],
        &["sync", "-m", "Work*"],
        &["sync", "-m", "%"],
        &["sync", "-m", ""],
        &["backup", "-m", "Work"],
    ])
}

#[test]
fn one_guid() -> Result<()> {
    let world = World::new(Version::V23)?;
    let (a, b) = accounts(&world)?;
    let facts = a.facts()?;
    let work = facts.0.get("Work").and_then(|work| work.identity.as_ref());
    let guid = work.map(|(guid, ..)| guid.clone()).context("no Work")?;
    compare(&world, &a, &b, &["sync", "-g", &guid])?;
    compare(&world, &a, &b, &["sync", "-g", ""])
}

#[test]
fn excluded_mailboxes() -> Result<()> {
    compare_all(&[
        &["sync", "-x", "Work*", "-x", "NewA"],
        &["sync", "-x", "Wor?"],
        &["sync", "-1", "-R", "-x", "Trash", "-x", "Work.*"],
        &["sync", "-1", "-x", "*"],
    ])
}

#[test]
fn dates() -> Result<()> {
    let date = |days: u64| -> Result<String> {
        let time = SystemTime::now() - Duration::from_secs(days * 86_400);
        Ok(time
            .duration_since(SystemTime::UNIX_EPOCH)?
            .as_secs()
            .to_string())
    };
    compare_all(&[
        &["sync", "-t", &date(50)?],
        &["sync", "-1", "-t", &date(50)?],
        &["sync", "-1", "-R", "-t", &date(50)?],
    ])
}

#[test]
fn flags_and_sizes() -> Result<()> {
    compare_all(&[
        &["sync", "-1", "-O", "\\Flagged"],
        &["sync", "-O", "-\\Seen"],
        &["sync", "-1", "-O", "$Label1"],
        &["sync", "-I", "1000"],
        &["sync", "-1", "-R", "-I", "5k"],
    ])
}

#[test]
fn what_changes_nothing_in_the_result() -> Result<()> {
    compare_all(&[
        &["sync", "-P"],
        &["sync", "-l", "30"],
        &["sync", "-T", "60"],
        &["sync", "-U"],
        &["sync", "-f", "-1", "-R"],
    ])
}

const NAMESPACES: [ExtraNamespace; 3] = [
    ExtraNamespace {
        name: "archive",
        prefix: "Archive/",
        folder: "archive",
        hidden: false,
    },
    ExtraNamespace {
        name: "lists",
        prefix: "Lists/Old/",
        folder: "lists",
        hidden: false,
    },
    ExtraNamespace {
        name: "hidden",
        prefix: "Hidden/",
        folder: "hidden",
        hidden: true,
    },
];

#[test]
fn namespaces() -> Result<()> {
    let world = World::new(Version::V23)?;
    let a = world.side("a")?.with_namespaces(&NAMESPACES)?;
    let names = [
        "Sub/Deep",
        "Archive/2025",
        "Archive/2026/Q1",
        "Lists/Old/rust",
        "Hidden/h",
    ];
    a.doveadm("mailbox create", &names)?;
    for (number, name) in names.into_iter().enumerate() {
        a.save(name, format!("Subject: {number}\n\nx\n").as_bytes())?;
    }
    let b = world.copy_side(&a, "b")?;
    for (side, end) in [(&a, "a"), (&b, "b")] {
        for (number, name) in names.into_iter().enumerate() {
            side.save(name, format!("Subject: {end}{number}\n\nx\n").as_bytes())?;
        }
        side.doveadm(
            "mailbox create",
            &[&format!("Archive/New{end}"), &format!("Top{end}")],
        )?;
    }
    a.doveadm("mailbox rename", &["Sub/Deep", "Sub/Deeper"])?;
    a.doveadm("mailbox subscribe", &["Archive/2025", "Sub/Deeper"])?;
    b.doveadm("mailbox delete", &["Lists/Old/rust"])?;
    // Equal numbers of new messages on both sides would be overlooked by Dovecot.
    for name in &names[..3] {
        b.save(name, b"Subject: more\n\nx\n")?;
    }
    let cases: [&[&str]; 6] = [
        &["sync"],
        &["sync", "-N"],
        &["sync", "-n", "Archive/"],
        &["sync", "-n", "", "-n", "Lists/Old/"],
        &["backup", "-N"],
        &["sync", "-n", "Hidden/"],
    ];
    for case in cases {
        compare(&world, &a, &b, case)?;
    }
    Ok(())
}

/// Dovecot sends the value of `-t` for `-e`, and its server refuses none (0); ours sends the right
/// one and its server takes none.
#[test]
fn until_a_date() -> Result<()> {
    let time = SystemTime::now() - Duration::from_secs(50 * 86_400);
    let until = time
        .duration_since(SystemTime::UNIX_EPOCH)?
        .as_secs()
        .to_string();
    let mut results = Vec::new();
    for server in [Dovecot, Ours] {
        let world = World::new(Version::V23)?;
        let (a, b) = accounts(&world)?;
        run(&a, &b, (Ours, server), &["sync", "-1", "-e", &until])?.expect_code(0)?;
        let facts = b.facts()?;
        let inbox = facts.0.get("INBOX").context("no INBOX")?;
        let has = |name: &str| {
            inbox
                .messages
                .iter()
                .any(|mail| mail.text.contains_str(name))
        };
        ensure!(
            has("<a-INBOX-100@") && has("<a-INBOX-1000@"),
            "{server:?}: old mail is missing"
        );
        ensure!(
            !has("<a-INBOX-1@") && !has("<a-INBOX-10@"),
            "{server:?}: new mail came, too"
        );
        results.push(inbox.messages.len());
    }
    ensure!(results[0] == results[1], "{results:?}");
    Ok(())
}

/// `\Name` in `-m` and `-x` means the special use, as documented; Dovecot 2.3 does not find any.
#[test]
fn special_use() -> Result<()> {
    for (option, comes) in [("-x", false), ("-m", true)] {
        let world = World::new(Version::V23)?;
        let (a, b) = accounts(&world)?;
        let settings = b"[[namespace]]\nname = 'inbox'\ninbox = true\n\
                         special_use = { Trash = '\\Trash' }\n";
        world.write("dsync.toml", settings)?;
        let settings = world.inside("dsync.toml").display().to_string();
        let location = b.location();
        let words = ["-c", &settings, "sync", "-1", option, "\\Trash", &location];
        a.dsync(&words)?.expect_code(0)?;
        let facts = b.facts()?;
        let came = |mailbox: &str| {
            let mailbox = facts.0.get(mailbox);
            mailbox.is_some_and(|found| {
                found
                    .messages
                    .iter()
                    .any(|mail| mail.text.contains_str("<a-"))
            })
        };
        ensure!(came("Trash") == comes, "{option}: Trash");
        ensure!(came("INBOX") != comes, "{option}: INBOX");
    }
    Ok(())
}

/// Dovecot looks for the records of a namespace among the names of those before it, so that a
/// rename in a second namespace may be undone.
#[test]
fn rename_in_a_second_namespace() -> Result<()> {
    for server in [Dovecot, Ours] {
        let world = World::new(Version::V23)?;
        let a = world.side("a")?.with_namespaces(&NAMESPACES)?;
        a.doveadm("mailbox create", &["Archive/2025", "Plain"])?;
        // With a message it has a GUID, too.
        a.save("Archive/2025", b"Subject: one\n\nx\n")?;
        let b = world.copy_side(&a, "b")?;
        a.doveadm("mailbox rename", &["Archive/2025", "Archive/Last"])?;
        run(&a, &b, (Ours, server), &["sync", "-N"])?.expect_code(0)?;
        let (left, right) = both(&a, &b)?;
        left.expect_equal(&right, &format!("{server:?}"))?;
        let names: Vec<_> = left.0.keys().collect();
        let last = left.0.contains_key("Archive/Last");
        ensure!(
            last && !left.0.contains_key("Archive/2025"),
            "{server:?}: {names:?}"
        );
    }
    Ok(())
}

/// It would empty the copy of an archive that is not mounted. Two-way it counts as new.
#[test]
fn a_missing_namespace_is_not_an_empty_source() -> Result<()> {
    let world = World::new(Version::V23)?;
    let a = world.side("a")?.with_namespaces(&NAMESPACES)?;
    a.doveadm("mailbox create", &["Plain"])?;
    let b = world.side("b")?.with_namespaces(&NAMESPACES)?;
    b.save("INBOX", b"Subject: kept\n\nx\n")?;
    b.doveadm("mailbox create", &["Archive/2025"])?;
    let refused = run(&a, &b, (Ours, Ours), &["backup", "-N"])?.expect_code(68)?;
    ensure!(
        refused.stderr.contains("/archive does not exist"),
        "{refused:?}"
    );
    ensure!(b.facts()?.0.contains_key("Archive/2025"));
    run(&a, &b, (Ours, Ours), &["sync", "-N"])?.expect_code(0)?;
    ensure!(a.facts()?.0.contains_key("Archive/2025"));
    Ok(())
}
