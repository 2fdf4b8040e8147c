//! The harness itself: if it could not see a difference, nothing else here would mean anything.

use anyhow::{Result, ensure};
use bstr::ByteSlice;
use interop_tests::{MAIL_UID, Version, World, run};

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
        facts.0["Work"].messages[0].text.contains_str("one"),
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

/// Files that root's groups may read are closed to commands, and root's environment is not theirs.
#[test]
fn commands_are_those_of_the_mail_user_alone() -> Result<()> {
    for version in [Version::V23, Version::V24] {
        let world = World::new(version)?;
        let side = world.side("a")?;
        let show = |program: &str, arguments: &[&str]| -> Result<String> {
            let mut command = world.command(&side.home(), program);
            command.args(arguments);
            Ok(run(command, b"")?.expect_quiet()?.stdout)
        };
        ensure!(show("id", &["-u"])?.trim() == MAIL_UID.to_string());
        ensure!(show("id", &["-G"])?.trim() == MAIL_UID.to_string());
        let environment = show("env", &[])?;
        let mut names: Vec<&str> = environment
            .lines()
            .filter_map(|line| Some(line.split_once('=')?.0))
            .collect();
        names.sort_unstable();
        ensure!(names == ["HOME", "PATH", "USER"], "{environment}");
    }
    Ok(())
}
