//! Second runs: nothing, or almost nothing, has changed.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::Options;
use super::contest::{Contest, Rival};
use super::copy::fresh;
use super::data::{self, Size};
use crate::{Side, World};

/// Makes both copies equal to the source, each by its own program.
fn two_copies<'w>(world: &'w World, source: &Side<'w>) -> Result<[Side<'w>; 2]> {
    let (ours, theirs) = (fresh(world, "ours")?, fresh(world, "theirs")?);
    source
        .dsync(&["backup".to_owned(), ours.location()])?
        .expect_code(0)?;
    source
        .dovecot_dsync("-o mail_fsync=never backup", &[theirs.location()])?
        .expect_code(0)?;
    Ok([ours, theirs])
}

fn nothing_changed(world: &World, size: Size, name: String, rounds: usize) -> Result<String> {
    let source = data::make(world, "source", size)?;
    let [ours, theirs] = two_copies(world, &source)?;
    let rivals = vec![
        Rival::new("dsync", || {
            source.dsync_command(&["sync".to_owned(), ours.location()])
        }),
        Rival::new("doveadm", || {
            let mut command = source.doveadm_command("sync");
            command.arg(theirs.location());
            Ok(command)
        }),
    ];
    Contest::new(name, rivals).run(rounds)
}

/// Nothing changed in a large mailbox.
pub(super) fn one_mailbox(world: &World, options: &Options) -> Result<String> {
    let messages = if options.quick { 20_000 } else { 100_000 };
    let size = Size {
        mailboxes: 1,
        messages,
        octets: 500,
    };
    let name = format!("nothing changed, {messages} messages in one mailbox");
    nothing_changed(world, size, name, options.rounds)
}

/// Nothing changed in many mailboxes.
pub(super) fn many_mailboxes(world: &World, options: &Options) -> Result<String> {
    let mailboxes = if options.quick { 200 } else { 1000 };
    let size = Size {
        mailboxes,
        messages: 10,
        octets: 500,
    };
    let name = format!("nothing changed, {mailboxes} mailboxes of 10 messages");
    nothing_changed(world, size, name, options.rounds)
}

/// One more message and one more flag in the source.
fn edit(source: &Side<'_>, number: usize, bodies: &[Vec<u8>]) -> Result<()> {
    let root = source.outside_mail_root();
    data::deliver(&root, 9, number, "", bodies)?;
    crate::own_all(&root.join("cur").join(data::file_name(9, number, "")))?;
    let old = (0..).map(|at| data::file_name(0, 3 * at, ""));
    let old = old.take(1_000_000).map(|name| root.join("cur").join(name));
    let old = old.into_iter().find(|path| path.exists());
    let old = old.context("no message without a flag is left")?;
    let mut new = old.clone().into_os_string();
    new.push("F");
    Ok(fs::rename(old, new)?)
}

/// One new mail and one flag in a large mailbox, from a saved state.
pub(super) fn stateful(world: &World, options: &Options) -> Result<String> {
    let messages = if options.quick { 20_000 } else { 100_000 };
    let size = Size {
        mailboxes: 1,
        messages,
        octets: 500,
    };
    let source = data::make(world, "source", size)?;
    let [ours, theirs] = two_copies(world, &source)?;
    let bodies = data::bodies(500);
    let mut number = messages;
    let mut change = || {
        number += 1;
        edit(&source, number, &bodies)
    };
    let change = std::cell::RefCell::new(&mut change);
    let rivals = vec![
        Rival::new("dsync", || {
            let words = |state: &str| ["sync", "-s", state].map(str::to_owned).to_vec();
            let mut first = words("");
            first.push(ours.location());
            let state = source.dsync(&first)?.expect_code(0)?.stdout;
            (change.borrow_mut())()?;
            let mut second = words(state.trim());
            second.push(ours.location());
            source.dsync_command(&second)
        }),
        Rival::new("doveadm", || {
            let to = theirs.location();
            let state = source
                .dovecot_dsync("sync", &["-s", "", &to])?
                .expect_code(0)?
                .stdout;
            (change.borrow_mut())()?;
            let mut command: Command = source.doveadm_command("sync");
            command.args(["-s", state.trim(), &to]);
            Ok(command)
        }),
    ];
    let name = format!("one new mail, one flag among {messages}, stateful");
    Contest::new(name, rivals).run(options.rounds)
}
