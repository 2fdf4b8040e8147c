//! Large mailboxes and large messages go through in bounded memory.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Result, ensure};
use interop_tests::{Side, Version, World, own_all};
use nix::sys::resource::{UsageWho, getrusage};

/// Most memory of one process, in KiB, whatever the mail.
const MEMORY: i64 = 100 * 1024;

/// An INBOX with `cur`, `new` and `tmp` that no Dovecot has ever seen.
fn plain_maildir(side: &Side<'_>) -> Result<std::path::PathBuf> {
    let root = side.outside_mail_root();
    for folder in ["", "cur", "new", "tmp"] {
        let folder = root.join(folder);
        fs::create_dir_all(&folder)?;
    }
    own_all(&root)?;
    Ok(root)
}

fn add_message(
    root: &Path,
    name: &str,
    write: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    let path = root.join("cur").join(name);
    let mut file = BufWriter::new(File::create(&path)?);
    write(&mut file)?;
    file.flush()?;
    own_all(&path)
}

fn messages(side: &Side<'_>) -> Result<Vec<fs::DirEntry>> {
    let root = side.outside_mail_root();
    let mut entries = Vec::new();
    for folder in ["cur", "new"] {
        entries.extend(fs::read_dir(root.join(folder))?.collect::<Result<Vec<_>, _>>()?);
    }
    Ok(entries)
}

/// Largest memory of any program that this test has run, in KiB.
fn largest_memory() -> Result<i64> {
    Ok(getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss())
}

fn check_memory(what: &str) -> Result<()> {
    let used = largest_memory()?;
    ensure!(used <= MEMORY, "{what}: {used} KiB used");
    Ok(())
}

/// Backs up by way of a server and in one process, and looks at the result.
fn back_up(count: usize, bytes: u64, world: &World, source: &Side<'_>) -> Result<()> {
    for kind in ["pipe", "local"] {
        let destination = world.side(kind)?;
        let mut words = vec!["backup".to_owned()];
        match kind {
            "pipe" => words.extend(destination.our_server()?),
            _ => words.push(destination.location()),
        }
        source.dsync(&words)?.expect_code(0)?;
        check_memory(kind)?;
        let entries = messages(&destination)?;
        ensure!(entries.len() == count, "{kind}: {} messages", entries.len());
        let mut total = 0;
        for entry in entries {
            total += entry.metadata()?.size();
        }
        ensure!(total == bytes, "{kind}: {total} octets instead of {bytes}");
    }
    Ok(())
}

#[test]
fn a_hundred_thousand_messages() -> Result<()> {
    const COUNT: usize = 100_000;
    let world = World::new(Version::V23)?;
    let source = world.side("source")?;
    let root = plain_maildir(&source)?;
    let mut bytes = 0;
    for number in 0..COUNT {
        let text =
            format!("Subject: {number}\nMessage-ID: <{number}@example.org>\n\nbody {number}\n");
        bytes += text.len() as u64;
        add_message(
            &root,
            &format!("1700000000.M{number}P1.example.org:2,S"),
            |file| Ok(file.write_all(text.as_bytes())?),
        )?;
    }
    back_up(COUNT, bytes, &world, &source)
}

#[test]
fn a_message_of_one_gibibyte() -> Result<()> {
    const SIZE: u64 = 1 << 30;
    let world = World::new(Version::V23)?;
    let source = world.side("source")?;
    let root = plain_maildir(&source)?;
    let line = [b'x'; 76];
    let mut bytes = 0;
    add_message(&root, "1700000000.M1P1.example.org:2,", |file| {
        let header = b"Subject: large\n\n";
        file.write_all(header)?;
        bytes += header.len() as u64;
        while bytes < SIZE {
            file.write_all(&line)?;
            file.write_all(b"\n.")?;
            bytes += line.len() as u64 + 2;
        }
        Ok(())
    })?;
    back_up(1, bytes, &world, &source)
}
