//! What the differential generator has found, as small as it gets, with a real Dovecot at one end.
//! What can be shown without one is in `dsync-testkit/tests/regressions.rs`.

use anyhow::{Context, Result, ensure};
use interop_tests::{Run, Side, Version, World};

const OLD: &str = "22222222222222222222222222222222";
const NEW: &str = "33333333333333333333333333333333";

fn save(side: &Side<'_>, mailbox: &str, subjects: &[&str]) -> Result<()> {
    for subject in subjects {
        let message = format!("Subject: {subject}\nMessage-ID: <{subject}@x>\n\n{subject}\n");
        side.save(mailbox, message.as_bytes())?;
    }
    Ok(())
}

/// GUID and UIDVALIDITY of a mailbox.
fn identity(side: &Side<'_>, mailbox: &str) -> Result<(String, String)> {
    let facts = side.facts()?;
    let found = facts.0.get(mailbox).and_then(|it| it.identity.clone());
    let (guid, uid_validity, _) = found.with_context(|| format!("no mailbox {mailbox}"))?;
    Ok((guid, uid_validity))
}

fn equal(a: &Side<'_>, b: &Side<'_>, what: &str) -> Result<()> {
    a.facts()?.expect_equal(&b.facts()?, what)
}

fn words(words: &[&str], server: Vec<String>) -> Vec<String> {
    let words = words.iter().map(ToString::to_string);
    words.chain(server).collect()
}

/// A run of a client on the first with a server on the second.
type Client = fn(&Side<'_>, &Side<'_>, &[&str]) -> Result<Run>;

/// Our client, Dovecot's server.
fn ours_dovecot(a: &Side<'_>, b: &Side<'_>, options: &[&str]) -> Result<Run> {
    a.dsync(&words(options, b.dovecot_server()))
}

/// Dovecot's client, our server.
fn dovecot_ours(a: &Side<'_>, b: &Side<'_>, options: &[&str]) -> Result<Run> {
    a.dovecot_dsync(options[0], &words(&options[1..], b.our_server()?))
}

/// Ours at both ends of a pipe.
fn ours_ours(a: &Side<'_>, b: &Side<'_>, options: &[&str]) -> Result<Run> {
    a.dsync(&words(options, b.our_server()?))
}

/// The state that one of them printed; Dovecot puts it into JSON.
fn state(run: &Run) -> String {
    let mut words = run
        .stdout
        .split(|c: char| !(c.is_ascii_alphanumeric() || "+/=".contains(c)));
    let found = words.find(|word| word.len() >= 12);
    found.unwrap_or_default().to_owned()
}

/// Two copies of an account with a mailbox and an INBOX.
fn copies(world: &World) -> Result<(Side<'_>, Side<'_>)> {
    let a = world.side("a")?;
    save(&a, "INBOX", &["i1", "i2", "i3"])?;
    a.doveadm("mailbox create", &["-g", OLD, "Box"])?;
    save(&a, "Box", &["b1", "b2"])?;
    let b = world.copy_side(&a, "b")?;
    Ok((a, b))
}

#[test]
fn a_mailbox_made_again_takes_the_uid_validity_of_its_source() -> Result<()> {
    for client in [ours_dovecot, dovecot_ours] {
        let world = World::new(Version::V23)?;
        let (a, b) = copies(&world)?;
        a.doveadm("mailbox delete", &["Box"])?;
        a.doveadm("mailbox create", &["-g", NEW, "Box"])?;
        a.doveadm("mailbox update", &["--uid-validity", "1000", "Box"])?;
        // The destination has more mail, whose UIDVALIDITY would win otherwise.
        save(&a, "Box", &["b3"])?;
        let source = a.facts()?;
        client(&a, &b, &["sync", "-1"])?.expect_code(0)?;
        source.expect_equal(&a.facts()?, "the source")?;
        ensure!(identity(&b, "Box")? == (NEW.into(), "1000".into()));
        ensure!(b.facts()?.0["Box"].messages.len() == 3);
    }
    Ok(())
}

#[test]
fn a_failing_dovecot_destination_is_told_and_the_source_stays() -> Result<()> {
    let world = World::new(Version::V23)?;
    let (a, b) = copies(&world)?;
    save(&b, "INBOX", &["only at the destination"])?;
    let source = a.facts()?;
    let run = ours_dovecot(&a, &b, &["backup"])?.expect_code(65)?;
    ensure!(run.stderr.contains("INBOX can't be deleted"), "{run:?}");
    source.expect_equal(&a.facts()?, "the source")
}

/// Only `mailbox create -g` on a mailbox that is there does this: the GUID is in its UID list, and
/// Dovecot's list index, from which it tells its tree, knows the old one. Two Dovecots never get
/// over it.
#[test]
fn a_list_index_that_knows_an_old_guid_costs_one_run_more() -> Result<()> {
    let world = World::new(Version::V23)?;
    let (a, b) = copies(&world)?;
    save(&b, "Box", &["b3"])?;
    a.doveadm_run("mailbox create", &["-g", NEW, "Box"], b"")?;
    dovecot_ours(&a, &b, &["sync"])?.expect_code(2)?;
    dovecot_ours(&a, &b, &["sync"])?.expect_code(0)?;
    equal(&a, &b, "after two runs")?;
    ensure!(a.facts()?.0["Box"].messages.len() == 3);
    Ok(())
}

#[test]
fn a_state_is_good_after_an_inbox_was_emptied_and_filled() -> Result<()> {
    let world = World::new(Version::V23)?;
    let (a, b) = copies(&world)?;
    for number in 0..4 {
        b.doveadm("flags add", &["\\Seen", "mailbox", "INBOX", "uid", "1"])?;
        let how = if number % 2 == 0 { "add" } else { "remove" };
        b.doveadm(
            &format!("flags {how}"),
            &["\\Flagged", "mailbox", "INBOX", "uid", "2"],
        )?;
    }
    save(&a, "INBOX", &["only at the destination"])?;
    save(&b, "INBOX", &["only at the source"])?;
    let first = ours_dovecot(&a, &b, &["backup", "-R", "-s", ""])?.expect_code(0)?;
    equal(&a, &b, "after the backup")?;
    let options = ["backup", "-R", "-s", &state(&first)];
    ours_dovecot(&a, &b, &options)?.expect_code(0)?;
    equal(&a, &b, "after another one")
}

#[test]
fn another_uid_validity_under_a_state_costs_one_run_with_dovecot() -> Result<()> {
    for value in ["1000", "2000000000"] {
        for (client, change_a) in [
            (ours_dovecot as Client, true),
            (ours_dovecot, false),
            (dovecot_ours, true),
        ] {
            let world = World::new(Version::V23)?;
            let (a, b) = copies(&world)?;
            let first = client(&a, &b, &["sync", "-f", "-s", ""])?.expect_code(0)?;
            let changed = if change_a { &a } else { &b };
            changed.doveadm("mailbox update", &["--uid-validity", value, "Box"])?;
            save(&a, "INBOX", &["i4"])?;
            save(&b, "Box", &["b3"])?;
            let second = client(&a, &b, &["sync", "-s", &state(&first)])?.expect_code(2)?;
            // The others went on.
            ensure!(b.facts()?.0["INBOX"].messages.len() == 4);
            client(&a, &b, &["sync", "-s", &state(&second)])?.expect_code(0)?;
            equal(&a, &b, "after another run")?;
        }
    }
    Ok(())
}

#[test]
fn a_backup_made_anew_is_filled_by_the_next_run_with_dovecot() -> Result<()> {
    for (client, code) in [(ours_dovecot as Client, 2), (dovecot_ours, 0)] {
        let world = World::new(Version::V23)?;
        let (a, b) = copies(&world)?;
        let first = client(&a, &b, &["backup", "-f", "-s", ""])?.expect_code(0)?;
        // One run more, so that the client sees from its state that nothing has changed.
        let first = client(&a, &b, &["backup", "-s", &state(&first)])?.expect_code(0)?;
        b.doveadm("mailbox update", &["--uid-validity", "2000000000", "Box"])?;
        let second = client(&a, &b, &["backup", "-s", &state(&first)])?.expect_code(code)?;
        ensure!(state(&second).is_empty(), "{second:?}");
        client(&a, &b, &["backup", "-s", ""])?.expect_code(0)?;
        equal(&a, &b, "after another run")?;
    }
    Ok(())
}

/// A source that is a Dovecot tells only what has changed since the state.
#[test]
fn a_stateful_backup_that_cannot_be_made_equal_asks_for_a_whole_one() -> Result<()> {
    let world = World::new(Version::V23)?;
    let (a, b) = copies(&world)?;
    let backup = |state: &str| ours_dovecot(&a, &b, &["backup", "-R", "-s", state]);
    let first = backup("")?.expect_code(0)?;
    // One run more, so that the state knows all messages.
    let first = backup(&state(&first))?.expect_code(0)?;
    // The same UID for two messages, below the same UIDNEXT.
    for (side, subject) in [(&a, "a"), (&b, "b")] {
        save(side, "Box", &[subject])?;
        side.doveadm("mailbox update", &["--min-next-uid", "90", "Box"])?;
    }
    let second = backup(&state(&first))?.expect_code(2)?;
    ensure!(state(&second).is_empty(), "{second:?}");
    backup("")?.expect_code(0)?;
    equal(&a, &b, "after another run")
}

/// The UIDs must not start anew when the UIDVALIDITY does: the peer counts on what it was told.
#[test]
fn a_mailbox_without_messages_that_takes_another_uid_validity_agrees_on_all_uids() -> Result<()> {
    let cases: [(Client, bool); 3] = [
        (ours_dovecot, false),
        (dovecot_ours, true),
        (ours_ours, false),
    ];
    for (client, server_is_empty) in cases {
        let world = World::new(Version::V23)?;
        let (a, b) = copies(&world)?;
        let (empty, full) = if server_is_empty { (&b, &a) } else { (&a, &b) };
        empty.doveadm("expunge", &["mailbox", "Box", "all"])?;
        full.doveadm("mailbox update", &["--uid-validity", "1000", "Box"])?;
        save(full, "Box", &["b3"])?;
        client(&a, &b, &["sync"])?.expect_code(0)?;
        equal(&a, &b, "after the run")?;
        ensure!(identity(empty, "Box")? == (OLD.into(), "1000".into()));
    }
    Ok(())
}
