//! The harness itself: if it could not see a difference, nothing else here would mean anything.

use anyhow::{Result, ensure};
use interop_tests::{Version, World};

fn dovecot_with_itself(version: Version) -> Result<()> {
    let world = World::new(version)?;
    let (a, b) = (world.side("a")?, world.side("b")?);
    a.doveadm("mailbox create", &["-s", "Work"])?;
    a.save("Work", b"Subject: one\n\nbody\n")?;
    a.doveadm(
        "mailbox metadata set",
        &["Work", "/private/comment", "hello"],
    )?;
    ensure!(
        !a.facts()?.differences(&b.facts()?).is_empty(),
        "no difference seen"
    );

    a.dovecot_dsync("sync", &b.dovecot_server())?
        .expect_quiet()?;
    let facts = a.facts()?.with_attributes(&a)?;
    facts.expect_equal(&b.facts()?.with_attributes(&b)?, "after the sync")?;
    ensure!(
        facts.0["Work"].messages[0].text.contains("one"),
        "message not seen"
    );
    ensure!(facts.0["Work"].subscribed, "subscription not seen");
    ensure!(
        facts.0["Work"].attributes["/private/comment"] == "hello",
        "attribute not seen"
    );

    b.doveadm("flags add", &["\\Flagged", "mailbox", "Work", "all"])?;
    ensure!(
        !a.facts()?.differences(&b.facts()?).is_empty(),
        "flag change not seen"
    );
    Ok(())
}

#[test]
fn dovecot_23_with_itself() -> Result<()> {
    dovecot_with_itself(Version::V23)
}

#[test]
fn dovecot_24_with_itself() -> Result<()> {
    dovecot_with_itself(Version::V24)
}
