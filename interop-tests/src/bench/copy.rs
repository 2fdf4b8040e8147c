//! First copies.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Options;
use super::contest::{Contest, Rival};
use super::data::{self, Size};
use crate::{Side, World};

/// A destination that does not exist yet. The ones before stay until the end: ext4 makes new files
/// several times more slowly for minutes after many were removed, because it looks for an inode
/// that was not freed just now (`recently_deleted`).
pub(super) fn fresh<'w>(world: &'w World, name: &str) -> Result<Side<'w>> {
    fresh_in(world, name, "maildir")
}

/// The same in another format.
fn fresh_in<'w>(world: &'w World, name: &str, format: &str) -> Result<Side<'w>> {
    let free = (1..).map(|number| format!("{name}{number}"));
    let name = free.take(1000).find(|name| !world.outside(name).exists());
    world.side_at(&name.context("too many copies")?, format, "")
}

/// `dsync backup` into this account, both stores in one process.
fn ours(source: &Side<'_>, to: &Side<'_>) -> Result<Command> {
    source.dsync_command(&["backup".to_owned(), to.location()])
}

/// `doveadm backup` into this account, both stores in one process.
fn doveadm(source: &Side<'_>, to: &Side<'_>, option: Option<&str>) -> Command {
    let mut command = match option {
        Some(option) => source.doveadm_command(&format!("-o {option} backup")),
        None => source.doveadm_command("backup"),
    };
    command.arg(to.location());
    command
}

fn shell(source: &Side<'_>, script: &str, to: &Side<'_>) -> Command {
    let mut command = source.world().command(&source.home(), "sh");
    command.args(["-c", script, "sh"]);
    command.arg(source.mail_root()).arg(to.mail_root());
    command
}

/// Copies file by file: what the disk needs at least.
fn copy_files(source: &Side<'_>, to: &Side<'_>) -> Command {
    shell(source, "cp -a \"$1\" \"$2\" && sync", to)
}

fn rsync(source: &Side<'_>, to: &Side<'_>) -> Command {
    shell(source, "rsync -a \"$1/\" \"$2\" && sync", to)
}

fn mbsync(source: &Side<'_>, to: &Side<'_>) -> Result<Command> {
    let world = source.world();
    let mut config = String::from("SyncState *\nCreate Near\nSync Pull\n");
    for (store, root) in [("far", source.mail_root()), ("near", to.mail_root())] {
        let root = root.display();
        config += &format!("\nMaildirStore {store}\nInbox {root}\nSubFolders Maildir++\n");
    }
    config += "\nChannel all\nFar :far:\nNear :near:\nPatterns *\n";
    world.write("mbsyncrc", config.as_bytes())?;
    ensure!(
        Path::new("/usr/bin/mbsync").exists(),
        "install isync for this"
    );
    let mut command = world.command(&source.home(), "mbsync");
    command.arg("-c").arg(world.inside("mbsyncrc")).arg("all");
    Ok(command)
}

/// 10 mailboxes, 190 MB in all.
pub(super) fn ten_mailboxes(world: &World, options: &Options) -> Result<String> {
    let messages = if options.quick { 200 } else { 1000 };
    let size = Size {
        mailboxes: 10,
        messages,
        octets: 19_000,
    };
    let source = data::make(world, "source", size)?;
    let to = || fresh(world, "copy");
    let dbox = |format: &str| fresh_in(world, format, format);
    let rivals = vec![
        Rival::new("dsync", || ours(&source, &to()?)),
        Rival::new("dsync, to sdbox", || ours(&source, &dbox("sdbox")?)),
        Rival::new("doveadm, to sdbox", || {
            Ok(doveadm(&source, &dbox("sdbox")?, None))
        }),
        Rival::new("dsync, to mdbox", || ours(&source, &dbox("mdbox")?)),
        Rival::new("doveadm, to mdbox", || {
            Ok(doveadm(&source, &dbox("mdbox")?, None))
        }),
        Rival::new("dsync, server as a command", || {
            let mut words = vec!["backup".to_owned()];
            words.extend(to()?.our_server()?);
            source.dsync_command(&words)
        }),
        Rival::new("doveadm", || Ok(doveadm(&source, &to()?, None))),
        Rival::new("doveadm, mail_fsync=never", || {
            Ok(doveadm(&source, &to()?, Some("mail_fsync=never")))
        }),
        Rival::new("cp -a; sync", || Ok(copy_files(&source, &to()?))),
        Rival::new("rsync -a; sync", || Ok(rsync(&source, &to()?))),
        Rival::new("mbsync", || mbsync(&source, &to()?)),
    ];
    let name = format!("first copy, 10 × {messages} messages of 19 kB");
    Contest::new(name, rivals).run(options.rounds)
}

/// Many small messages in one mailbox.
pub(super) fn one_mailbox(world: &World, options: &Options) -> Result<String> {
    let messages = if options.quick { 20_000 } else { 100_000 };
    let size = Size {
        mailboxes: 1,
        messages,
        octets: 1200,
    };
    let source = data::make(world, "source", size)?;
    let to = || fresh(world, "copy");
    let rivals = vec![
        Rival::new("dsync", || ours(&source, &to()?)),
        Rival::new("cp -a; sync", || Ok(copy_files(&source, &to()?))),
        Rival::new("mbsync", || mbsync(&source, &to()?)),
        Rival::new("doveadm, mail_fsync=never", || {
            Ok(doveadm(&source, &to()?, Some("mail_fsync=never")))
        }),
    ];
    let name = format!("first copy, {messages} messages of 1.2 kB in one mailbox");
    Contest::new(name, rivals).run(options.rounds)
}

/// The same for different numbers of messages, ours only.
pub(super) fn growth(world: &World, options: &Options) -> Result<String> {
    let numbers: &[usize] = match options.quick {
        true => &[5_000, 20_000],
        false => &[10_000, 100_000, 1_000_000],
    };
    let mut rows = String::new();
    for messages in numbers {
        let size = Size {
            mailboxes: 1,
            messages: *messages,
            octets: 1200,
        };
        let name = format!("growth{messages}");
        let source = data::make(world, &name, size)?;
        let rival = Rival::new("dsync", || ours(&source, &fresh(world, "copy")?));
        let name = format!("first copy, {messages} messages");
        rows += &Contest::new(name, vec![rival]).run(options.rounds.min(3))?;
    }
    Ok(rows)
}
