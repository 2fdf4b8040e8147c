//! We sync while Dovecot saves, flags, copies and expunges in the same mailboxes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, ensure};
use interop_tests::{Side, Version, World};

use crate::view::{agree, resync};

const EDITS: u32 = 60;

fn edit(side: &Side<'_>, who: &str, number: u32) -> Result<()> {
    let text = format!("Subject: {who} {number}\n\nwhile others work\n");
    let uids = format!("{}:{}", number + 1, number + 2);
    let query = ["mailbox", "INBOX", "uid", uids.as_str()];
    let run = |command: &str, arguments: &[&str]| {
        let run = side.doveadm_run(command, arguments, b"")?;
        // Copied or expunged while somebody else did so.
        let harmless = ["expunged", "doesn't exist"];
        ensure!(
            run.code == 0 && run.stderr.is_empty()
                || harmless.iter().any(|text| run.stderr.contains(text)),
            "{command} {arguments:?}: {run:?}"
        );
        Ok(())
    };
    side.save("INBOX", text.as_bytes())?;
    match number % 4 {
        0 => run("flags add", &[&["\\Flagged Work"][..], &query].concat()),
        1 => run("copy", &[&["Other"][..], &query].concat()),
        2 => run("expunge", &query),
        _ => run("purge", &[]),
    }
}

fn beside(format: &str) -> Result<()> {
    let world = World::new(Version::V23)?;
    let a = world.side_at("a", format, "")?;
    let b = world.side_at("b", format, "")?;
    for side in [&a, &b] {
        side.doveadm("mailbox create", &["Other"])?;
    }
    let sync = || a.dsync(&["sync", "-P", &b.location()]);
    sync()?.expect_code(0)?;
    let done = AtomicBool::new(false);
    let runs = thread::scope(|scope| -> Result<u32> {
        let editors = [(&a, "a"), (&b, "b")].map(|(side, who)| {
            scope.spawn(move || -> Result<()> {
                (0..EDITS).try_for_each(|number| edit(side, who, number))
            })
        });
        let done = &done;
        let syncer = scope.spawn(move || -> Result<u32> {
            let mut runs = 0;
            while !done.load(Ordering::Relaxed) {
                let run = sync()?;
                ensure!(run.code == 0 || run.code == 2, "{run:?}");
                runs += 1;
            }
            Ok(runs)
        });
        let edited = editors.map(thread::ScopedJoinHandle::join);
        done.store(true, Ordering::Relaxed);
        let runs = syncer.join().ok().context("the syncer panicked")??;
        for result in edited {
            result.ok().context("an editor panicked")??;
        }
        Ok(runs)
    })?;
    ensure!(runs > 3, "only {runs} runs");
    for _ in 0..2 {
        sync()?;
    }
    sync()?.expect_code(0)?;
    a.facts()?.expect_equal(&b.facts()?, "in the end")?;
    for side in [&a, &b] {
        resync(side, &agree(side, "in the end")?)?;
    }
    Ok(())
}

#[test]
fn beside_a_live_sdbox() -> Result<()> {
    beside("sdbox")
}

#[test]
fn beside_a_live_mdbox() -> Result<()> {
    beside("mdbox")
}
