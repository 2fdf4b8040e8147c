//! A Dovecot server far away: our client asks for many mailboxes at once in a second session,
//! which must change nothing by itself and miss nothing that the first one would have found.

use std::fs;

use anyhow::{Result, ensure};
use interop_tests::{Side, Version, World};

const MAILBOXES: usize = 60;

fn mail(subject: &str) -> Vec<u8> {
    format!("Subject: {subject}\nMessage-ID: <{subject}@example.org>\n\nbody\n").into_bytes()
}

/// Words that run the Dovecot server of this account behind a link, and note each start of it.
fn far_away(world: &World, side: &Side<'_>, starts: &str) -> Result<Vec<String>> {
    let script = format!("echo started >> {starts}; exec \"$@\"");
    let mut words = vec![
        world.program("dsync-delay")?.display().to_string(),
        "150".to_owned(),
    ];
    words.extend(["sh", "-c", &script, "sh"].map(str::to_owned));
    words.extend(side.dovecot_server());
    Ok(words)
}

fn sync_far_away(world: &World, a: &Side<'_>, b: &Side<'_>, starts: usize) -> Result<()> {
    let path = a.home().join("starts");
    let outside = a.outside("starts");
    let _ = fs::remove_file(&outside);
    let mut words = vec!["sync".to_owned()];
    words.extend(far_away(world, b, &path.display().to_string())?);
    a.dsync(&words)?.expect_code(0)?;
    let seen = fs::read_to_string(&outside)?.lines().count();
    ensure!(seen == starts, "{seen} sessions instead of {starts}");
    a.facts()?.expect_equal(&b.facts()?, "after the sync")
}

fn many_mailboxes(version: Version) -> Result<()> {
    let world = World::new(version)?;
    let (a, b) = (world.side("a")?, world.side("b")?);
    let names: Vec<String> = (1..MAILBOXES)
        .map(|number| format!("box{number}"))
        .collect();
    let mut words = vec!["-s"];
    words.extend(names.iter().map(String::as_str));
    a.doveadm("mailbox create", &words)?;
    a.save("box7", &mail("seven"))?;
    a.save("box30", &mail("thirty"))?;
    // Everything is new there: nothing to ask about.
    sync_far_away(&world, &a, &b, 1)?;

    a.save("box9", &mail("nine"))?;
    a.save("INBOX", &mail("inbox"))?;
    b.save("box40", &mail("forty"))?;
    b.doveadm("flags add", &["\\Flagged", "mailbox", "box7", "all"])?;
    a.doveadm("expunge", &["mailbox", "box30", "all"])?;
    b.doveadm("mailbox create", &["-s", "fresh"])?;
    b.save("fresh", &mail("fresh"))?;
    sync_far_away(&world, &a, &b, 2)?;
    ensure!(a.facts()?.0["box7"].messages[0].flags == ["\\Flagged"]);

    let before = (a.facts()?, b.facts()?);
    sync_far_away(&world, &a, &b, 2)?;
    ensure!(
        (a.facts()?, b.facts()?) == before,
        "a second run changed something"
    );
    Ok(())
}

#[test]
fn many_mailboxes_with_dovecot_23_far_away() -> Result<()> {
    many_mailboxes(Version::V23)
}

#[test]
fn many_mailboxes_with_dovecot_24_far_away() -> Result<()> {
    many_mailboxes(Version::V24)
}
