//! Runs over a link of 100 ms round trip time.

use std::process::Command;

use anyhow::Result;

use super::Options;
use super::contest::{Contest, Rival};
use super::copy::fresh;
use super::data::{self, Size};
use crate::{Side, World};

/// Octets a second of the link for copies: 100 Mbit/s.
const RATE: usize = 12_500_000;

/// Words that run a server behind the link.
fn behind(world: &World, link: &str, server: Vec<String>) -> Result<Vec<String>> {
    let delay = world.program("dsync-delay")?;
    let mut words = vec![delay.display().to_string(), link.to_owned()];
    words.extend(server);
    Ok(words)
}

fn ours(source: &Side<'_>, options: &[&str], server: Vec<String>) -> Result<Command> {
    let mut words: Vec<String> = options.iter().map(|word| (*word).to_owned()).collect();
    words.extend(behind(source.world(), "100", server)?);
    source.dsync_command(&words)
}

/// 100 mailboxes in which nothing has changed.
pub(super) fn many_mailboxes(world: &World, options: &Options) -> Result<String> {
    let mailboxes = if options.quick { 30 } else { 100 };
    let size = Size {
        mailboxes,
        messages: 10,
        octets: 500,
    };
    let source = data::make(world, "source", size)?;
    let copies = [
        fresh(world, "ours")?,
        fresh(world, "mixed")?,
        fresh(world, "theirs")?,
    ];
    for copy in &copies {
        source
            .dsync(&["backup".to_owned(), copy.location()])?
            .expect_code(0)?;
    }
    let [same, mixed, theirs] = &copies;
    let rivals = vec![
        Rival::new("dsync", || ours(&source, &["sync"], same.our_server()?)),
        Rival::new("dsync with a Dovecot server", || {
            ours(&source, &["sync"], mixed.dovecot_server())
        }),
        Rival::new("dsync -f with a Dovecot server", || {
            ours(&source, &["sync", "-f"], mixed.dovecot_server())
        }),
        Rival::new("doveadm", || {
            let mut command = source.doveadm_command("sync");
            command.args(behind(world, "100", theirs.dovecot_server())?);
            Ok(command)
        }),
    ];
    let name = format!("nothing changed, {mailboxes} mailboxes, 100 ms round trip");
    Contest::new(name, rivals).run(options.rounds)
}

/// A first copy, beside the bare octets on the same link.
pub(super) fn first_copy(world: &World, options: &Options) -> Result<String> {
    let messages = if options.quick { 1000 } else { 5000 };
    let size = Size {
        mailboxes: 1,
        messages,
        octets: 10_000,
    };
    let source = data::make(world, "source", size)?;
    let link = format!("100:{RATE}");
    let rivals = vec![
        Rival::new("dsync", || {
            let mut words = vec!["backup".to_owned()];
            let server = fresh(world, "copy")?.our_server()?;
            words.extend(behind(world, &link, server)?);
            source.dsync_command(&words)
        }),
        Rival::new("the octets alone", || {
            let mut command = world.command(&source.home(), "sh");
            let script = "tar cf - -C \"$1\" . | \"$2\" \"$3\" cat > /dev/null";
            command.args(["-c", script, "sh"]).arg(source.mail_root());
            command.arg(world.program("dsync-delay")?).arg(&link);
            Ok(command)
        }),
    ];
    let name = format!("first copy, {messages} messages of 10 kB, 100 ms, 100 Mbit/s");
    Contest::new(name, rivals).run(options.rounds)
}
