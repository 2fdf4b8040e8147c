//! Accounts to measure with: plain Maildirs that Dovecot has looked at once, so that no program
//! pays for the first look.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use anyhow::Result;
use dsync_testkit::mail::{MailKind, generate};
use dsync_testkit::random::Random;

use crate::{Side, World, own_all};

/// What an account consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Size {
    /// Mailboxes, INBOX included.
    pub(super) mailboxes: usize,
    /// Messages in each.
    pub(super) messages: usize,
    /// Octets of a message: half of them to one and a half.
    pub(super) octets: usize,
}

/// Messages made for each account; files beyond that repeat them with a number in front.
const DISTINCT: usize = 64;

/// Makes an account.
pub(super) fn make<'w>(world: &'w World, name: &str, size: Size) -> Result<Side<'w>> {
    let side = world.side(name)?;
    let root = side.outside_mail_root();
    let bodies = bodies(size.octets);
    for mailbox in 0..size.mailboxes {
        let folder = match mailbox {
            0 => root.clone(),
            number => root.join(format!(".box{number}")),
        };
        fill(&folder, mailbox, size.messages, &bodies)?;
    }
    own_all(&root)?;
    side.doveadm("mailbox status", &["messages uidnext", "*"])?;
    Ok(side)
}

/// Different messages of about this size.
pub(super) fn bodies(octets: usize) -> Vec<Vec<u8>> {
    let mut random = Random::new(2026);
    let mut body = || {
        let octets = octets / 2 + random.below(octets);
        generate(MailKind::Plain, octets, &mut random)
    };
    (0..DISTINCT).map(|_| body()).collect()
}

fn fill(folder: &Path, mailbox: usize, messages: usize, bodies: &[Vec<u8>]) -> Result<()> {
    for part in ["cur", "new", "tmp"] {
        fs::create_dir_all(folder.join(part))?;
    }
    if mailbox > 0 {
        fs::write(folder.join("maildirfolder"), "")?;
    }
    for number in 0..messages {
        let flags = if number % 3 == 0 { "" } else { "S" };
        deliver(folder, mailbox, number, flags, bodies)?;
    }
    Ok(())
}

/// Puts one more message into a mailbox.
pub(super) fn deliver(
    folder: &Path,
    mailbox: usize,
    number: usize,
    flags: &str,
    bodies: &[Vec<u8>],
) -> Result<()> {
    let name = file_name(mailbox, number, flags);
    let mut file = File::create(folder.join("cur").join(name))?;
    let body = &bodies[number % bodies.len()];
    let header = format!("Message-ID: <{mailbox}.{number}@bench.example>\r\n");
    file.write_all(header.as_bytes())?;
    file.write_all(body)?;
    Ok(())
}

/// Name of the file that [`deliver`] makes.
pub(super) fn file_name(mailbox: usize, number: usize, flags: &str) -> String {
    let seconds = 1_700_000_000 + number;
    format!("{seconds}.M{number}P{mailbox}.bench:2,{flags}")
}
