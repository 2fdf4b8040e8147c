//! Ours in place of Dovecot, at either end, in every mode: afterwards both accounts must be as
//! Dovecot with itself left identical copies of them, and a second run must change nothing.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use interop_tests::{Facts, Run, Side, Version, World, own_all};

/// A run of the client on `a` with the server on `b`.
type Runner = fn(&Side<'_>, &Side<'_>, &[&str]) -> Result<Run>;

fn dovecot_dovecot(a: &Side<'_>, b: &Side<'_>, arguments: &[&str]) -> Result<Run> {
    dovecot_client(a, &b.dovecot_server(), arguments)
}

fn dovecot_ours(a: &Side<'_>, b: &Side<'_>, arguments: &[&str]) -> Result<Run> {
    dovecot_client(a, &b.our_server()?, arguments)
}

fn dovecot_client(a: &Side<'_>, server: &[String], arguments: &[&str]) -> Result<Run> {
    let mut words: Vec<String> = arguments[1..].iter().map(ToString::to_string).collect();
    words.extend_from_slice(server);
    a.dovecot_dsync(arguments[0], &words)
}

fn our_client(a: &Side<'_>, server: Vec<String>, arguments: &[&str]) -> Result<Run> {
    let mut words: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    words.extend(server);
    a.dsync(&words)
}

fn ours_dovecot(a: &Side<'_>, b: &Side<'_>, arguments: &[&str]) -> Result<Run> {
    our_client(a, b.dovecot_server(), arguments)
}

fn ours_ours(a: &Side<'_>, b: &Side<'_>, arguments: &[&str]) -> Result<Run> {
    our_client(a, b.our_server()?, arguments)
}

fn ours_alone(a: &Side<'_>, b: &Side<'_>, arguments: &[&str]) -> Result<Run> {
    our_client(a, vec![b.location()], arguments)
}

/// Who takes part, beside Dovecot with itself.
const PAIRS: [(&str, Runner); 3] = [
    ("ours-dovecot", ours_dovecot),
    ("dovecot-ours", dovecot_ours),
    ("ours-ours", ours_ours),
];

const MODES: [&[&str]; 6] = [
    &["sync"],
    &["sync", "-f"],
    &["sync", "-1"],
    &["sync", "-1", "-R"],
    &["backup"],
    &["backup", "-R"],
];

fn message(subject: &str) -> Vec<u8> {
    format!(
        "From: Anna <anna@example.org>\nTo: Bob <bob@example.com>\nSubject: {subject}\n\
         Date: Mon, 02 Nov 2026 10:00:00 +0000\nMessage-ID: <{subject}@example.org>\n\n\
         {subject}\n.a line that begins with a dot\n.\n\nlast line\n"
    )
    .into_bytes()
}

fn save_all(side: &Side<'_>, mailbox: &str, subjects: &[&str]) -> Result<()> {
    for subject in subjects {
        side.save(mailbox, &message(subject))?;
    }
    Ok(())
}

fn flags(side: &Side<'_>, how: &str, flags: &str, mailbox: &str, uids: &str) -> Result<()> {
    side.doveadm(
        &format!("flags {how}"),
        &[flags, "mailbox", mailbox, "uid", uids],
    )
    .map(drop)
}

fn expunge(side: &Side<'_>, mailbox: &str, uids: &str) -> Result<()> {
    side.doveadm("expunge", &["mailbox", mailbox, "uid", uids])
        .map(drop)
}

/// Two accounts that were in sync once and changed on both sides since.
fn diverged<'w>(world: &'w World, one_way: bool) -> Result<(Side<'w>, Side<'w>)> {
    let a = world.side("a")?;
    save_all(&a, "INBOX", &["one", "two", "three", "four", "five"])?;
    a.doveadm("mailbox create", &["-s", "Work", "Work.Deep"])?;
    a.doveadm("mailbox create", &["Gruesse", "Old", "Name"])?;
    save_all(&a, "Work", &["w1", "w2", "w3"])?;
    save_all(&a, "Work.Deep", &["d1"])?;
    save_all(&a, "Name", &["n1", "n2"])?;
    save_all(&a, "Old", &["o1"])?;
    flags(&a, "add", "\\Seen work", "INBOX", "1:3")?;
    a.doveadm(
        "mailbox metadata set",
        &["INBOX", "/private/comment", "first"],
    )?;
    let b = world.copy_side(&a, "b")?;

    flags(&a, "add", "\\Answered urgent", "INBOX", "1")?;
    flags(&a, "remove", "work", "INBOX", "2")?;
    expunge(&a, "INBOX", "4")?;
    save_all(&a, "INBOX", &["from-a-1", "from-a-2"])?;
    a.doveadm("mailbox rename", &["Name", "Renamed"])?;
    a.doveadm("mailbox delete", &["Old"])?;
    a.doveadm("mailbox create", &["-s", "NewA", "Entwürfe"])?;
    save_all(&a, "NewA", &["na1", "na2"])?;
    a.doveadm("mailbox unsubscribe", &["Work"])?;
    a.doveadm(
        "mailbox metadata set",
        &["INBOX", "/private/comment", "second"],
    )?;

    flags(&b, "add", "\\Flagged", "INBOX", "3")?;
    flags(&b, "add", "\\Deleted", "Work", "2")?;
    if !one_way {
        expunge(&b, "Work", "1")?;
        save_all(&b, "INBOX", &["from-b-1"])?;
        save_all(&b, "Work", &["from-b-2"])?;
        b.doveadm("mailbox create", &["NewB", "NewB.Child"])?;
        save_all(&b, "NewB.Child", &["nb1"])?;
        b.doveadm("mailbox rename", &["Gruesse", "Grüße"])?;
    }
    Ok((a, b))
}

fn both(a: &Side<'_>, b: &Side<'_>) -> Result<(Facts, Facts)> {
    Ok((
        a.facts()?.with_attributes(a)?,
        b.facts()?.with_attributes(b)?,
    ))
}

/// Runs every pair on copies and compares with what Dovecot with itself made of copies.
///
/// Two Maildirs of Dovecot 2.4 do not manage a first sync in one run; there only the two sides
/// are compared with each other.
fn compare(world: &World, a: &Side<'_>, b: &Side<'_>, mode: &[&str]) -> Result<()> {
    let expected = match world.version() {
        Version::V23 => {
            let (a, b) = (world.copy_side(a, "dd-a")?, world.copy_side(b, "dd-b")?);
            dovecot_dovecot(&a, &b, mode)?.expect_quiet()?;
            Some(both(&a, &b)?)
        }
        Version::V24 => None,
    };
    for (name, runner) in PAIRS {
        let what = format!("{name} {}", mode.join(" "));
        let (a, b) = (
            world.copy_side(a, &format!("{}-a", what.replace(' ', "")))?,
            world.copy_side(b, &format!("{}-b", what.replace(' ', "")))?,
        );
        check(&a, &b, mode, runner, expected.as_ref()).context(what)?;
    }
    Ok(())
}

fn check(
    a: &Side<'_>,
    b: &Side<'_>,
    mode: &[&str],
    runner: Runner,
    expected: Option<&(Facts, Facts)>,
) -> Result<()> {
    let first = runner(a, b, mode)?;
    if a.world().version() == Version::V24 && first.code == 2 {
        // A Maildir of 2.4 that makes its INBOX in this run gives it a GUID of its own and
        // answers that it has lost ours; the next run brings them together.
        runner(a, b, mode)?
            .expect_code(0)
            .context("run after \"run again\"")?;
    } else {
        first.expect_code(0)?;
    }
    let (facts_a, facts_b) = both(a, b)?;
    if let Some((expected_a, expected_b)) = expected {
        expected_a.expect_equal(&facts_a, "side a: Dovecot with itself | this run")?;
        expected_b.expect_equal(&facts_b, "side b: Dovecot with itself | this run")?;
    }
    if mode.contains(&"-1") {
        // The sides stay different, and a further one-way run looks at them again.
        return Ok(());
    }
    facts_a.expect_equal(&facts_b, "both sides")?;
    runner(a, b, mode)?.expect_code(0).context("second run")?;
    let (again_a, again_b) = both(a, b)?;
    facts_a.expect_equal(&again_a, "side a after a second run")?;
    facts_b.expect_equal(&again_b, "side b after a second run")
}

fn first_sync(version: Version) -> Result<()> {
    for mode in MODES {
        let world = World::new(version)?;
        let (a, b) = (world.side("a")?, world.side("b")?);
        let source = if mode.contains(&"-R") { &b } else { &a };
        save_all(source, "INBOX", &["one", "two"])?;
        source.doveadm("mailbox create", &["-s", "Work.Deep", "Grüße"])?;
        save_all(source, "Work.Deep", &["d1", "d2", "d3"])?;
        flags(source, "add", "\\Seen $Label1", "Work.Deep", "2")?;
        compare(&world, &a, &b, mode).with_context(|| format!("first {}", mode.join(" ")))?;
    }
    Ok(())
}

fn changes(version: Version, mode: &[&str]) -> Result<()> {
    let world = World::new(version)?;
    let one_way = mode[0] == "backup";
    let (a, b) = match mode.contains(&"-R") {
        // The source is where more happened.
        true => {
            let (a, b) = diverged(&world, one_way)?;
            (b, a)
        }
        false => diverged(&world, one_way)?,
    };
    compare(&world, &a, &b, mode)
}

#[test]
fn first_sync_23() -> Result<()> {
    first_sync(Version::V23)
}

#[test]
fn changes_two_way_23() -> Result<()> {
    changes(Version::V23, &["sync"])
}

#[test]
fn changes_full_23() -> Result<()> {
    changes(Version::V23, &["sync", "-f"])
}

#[test]
fn changes_one_way_23() -> Result<()> {
    changes(Version::V23, &["sync", "-1"])
}

#[test]
fn changes_one_way_reverse_23() -> Result<()> {
    changes(Version::V23, &["sync", "-1", "-R"])
}

#[test]
fn changes_backup_23() -> Result<()> {
    changes(Version::V23, &["backup"])
}

#[test]
fn changes_backup_reverse_23() -> Result<()> {
    changes(Version::V23, &["backup", "-R"])
}

#[test]
fn first_sync_24() -> Result<()> {
    first_sync(Version::V24)
}

#[test]
fn changes_two_way_24() -> Result<()> {
    changes(Version::V24, &["sync"])
}

#[test]
fn changes_backup_24() -> Result<()> {
    changes(Version::V24, &["backup"])
}

/// Both stores in one process, without a codec in between.
#[test]
fn in_one_process() -> Result<()> {
    for mode in [&["sync"][..], &["backup"]] {
        let world = World::new(Version::V23)?;
        let (a, b) = diverged(&world, mode[0] == "backup")?;
        let dovecot = (world.copy_side(&a, "dd-a")?, world.copy_side(&b, "dd-b")?);
        dovecot_dovecot(&dovecot.0, &dovecot.1, mode)?.expect_code(0)?;
        ours_alone(&a, &b, mode)?.expect_code(0)?;
        dovecot.0.facts()?.expect_equal(&a.facts()?, "side a")?;
        dovecot.1.facts()?.expect_equal(&b.facts()?, "side b")?;
        ours_alone(&a, &b, mode)?.expect_code(0)?;
        a.facts()?.expect_equal(&b.facts()?, "after a second run")?;
    }
    Ok(())
}

/// States printed by one program are good for the other.
#[test]
fn states_are_exchangeable() -> Result<()> {
    let world = World::new(Version::V23)?;
    let (a, b) = diverged(&world, false)?;
    let mut state = String::new();
    let runners: [Runner; 6] = [
        ours_dovecot,
        dovecot_dovecot,
        ours_ours,
        dovecot_ours,
        ours_dovecot,
        dovecot_dovecot,
    ];
    for (round, runner) in runners.into_iter().enumerate() {
        save_all(&a, "INBOX", &[&format!("round-{round}")])?;
        flags(&a, "add", "\\Seen", "INBOX", "1:*")?;
        let run = runner(&a, &b, &["sync", "-s", &state])?.expect_code(0)?;
        state = read_state(&run.stdout).to_owned();
        ensure!(!state.is_empty(), "round {round} printed no state: {run:?}");
        a.facts()?
            .expect_equal(&b.facts()?, &format!("round {round}"))?;
    }
    Ok(())
}

/// Dovecot prints it in the format that the harness asks for, ours as it is.
fn read_state(stdout: &str) -> &str {
    stdout
        .split(|c: char| !(c.is_ascii_alphanumeric() || "+/=".contains(c)))
        .max_by_key(|word| word.len())
        .unwrap_or_default()
}

/// Where Dovecot deletes the destination and fails, or empties an INBOX for ever: ours makes it
/// equal in one run.
#[test]
fn backup_over_expunged_and_added_mail() -> Result<()> {
    for runner in [dovecot_ours as Runner, ours_ours, ours_alone] {
        let world = World::new(Version::V23)?;
        let (a, b) = diverged(&world, true)?;
        expunge(&b, "Work", "1")?;
        expunge(&b, "INBOX", "2")?;
        save_all(
            &b,
            "INBOX",
            &["only-here", "only-here-2", "only-here-3", "only-here-4"],
        )?;
        save_all(&b, "Work.Deep", &["only-here-5"])?;
        let before = a.facts()?;
        runner(&a, &b, &["backup"])?.expect_code(0)?;
        before.expect_equal(&a.facts()?, "the source")?;
        before.expect_equal(&b.facts()?, "source | destination")?;
        runner(&a, &b, &["backup"])?.expect_code(0)?;
        before.expect_equal(&b.facts()?, "source | destination after a second run")?;
    }
    Ok(())
}

/// Both sides made an INBOX by themselves. Two Dovecots swap its GUID for ever.
#[test]
fn inboxes_born_apart_are_merged() -> Result<()> {
    for version in [Version::V23, Version::V24] {
        for (name, runner) in PAIRS {
            let world = World::new(version)?;
            let (a, b) = (world.side("a")?, world.side("b")?);
            save_all(&a, "INBOX", &["one", "two"])?;
            save_all(&b, "INBOX", &["three"])?;
            for round in 1..4 {
                let run = runner(&a, &b, &["sync"])?;
                ensure!(run.code == 0 || round == 1, "{name} round {round}: {run:?}");
            }
            let facts = a.facts()?;
            facts.expect_equal(&b.facts()?, name)?;
            ensure!(facts.0["INBOX"].messages.len() == 3, "{name}: {facts:?}");
        }
    }
    Ok(())
}

/// `INDEX=MEMORY` puts nothing on the disk, not even for a moment.
#[test]
fn index_in_memory() -> Result<()> {
    let world = World::new(Version::V23)?;
    let (a, _) = diverged(&world, true)?;
    let b = world.side_at("memory", "maildir", ":INDEX=MEMORY")?;
    for round in ["first", "second"] {
        let mut command = a.dsync_command(&["backup", &b.location()])?;
        let output = command.env("TMPDIR", "/nonexistent").output()?;
        ensure!(output.status.success(), "{round}: {output:?}");
        a.facts()?.expect_equal(&b.facts()?, round)?;
    }
    let list = Command::new("find").arg(b.outside("")).output()?.stdout;
    let list = String::from_utf8(list)?;
    ensure!(!list.contains("dovecot.index"), "{list}");
    Ok(())
}

/// A name with a control character, which Dovecot gives to no client: it comes over as another
/// name, but what is below it on both sides keeps it.
#[test]
fn control_characters_in_names() -> Result<()> {
    let make = |side: &Side<'_>, name: &str| -> Result<()> {
        for folder in ["cur", "new", "tmp"] {
            fs::create_dir_all(side.outside_mail_root().join(name).join(folder))?;
        }
        own_all(&side.outside_mail_root())
    };
    for one_way in [true, false] {
        let world = World::new(Version::V23)?;
        let a = world.side("a")?;
        save_all(&a, "INBOX", &["zero"])?;
        make(&a, ".odd&AAE-")?;
        save_all(&a, "odd\u{1}", &["one"])?;
        if one_way {
            compare(&world, &a, &world.side("b")?, &["sync", "-1"])?;
            continue;
        }
        let b = world.copy_side(&a, "b")?;
        make(&b, ".odd&AAE-.child")?;
        save_all(&b, "odd\u{1}.child", &["two"])?;
        compare(&world, &a, &b, &["sync"])?;
    }
    Ok(())
}
