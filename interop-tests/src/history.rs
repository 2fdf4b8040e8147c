//! Random histories of an account, made by Dovecot step by step.

use anyhow::{Result, ensure};
use dsync_testkit::random::Random;

use crate::Side;

/// Mailboxes of the histories; the third is made and deleted now and then.
pub const NAMES: [&str; 4] = ["INBOX", "A/B", "Tmp", "Grüße"];

/// What Dovecot does in a history.
#[derive(Clone, Copy, Debug)]
pub struct DovecotSteps {
    /// Kinds of steps, the likely ones more than once: `s`ave, add `f`lags, `r`eplace them,
    /// `e`xpunge, `c`opy, `m`ove, make a mailbox (`b`), `p`urge, `d`elete a mailbox.
    pub kinds: &'static [&'static str],
    /// Saved messages have a Message-ID.
    pub message_ids: bool,
    /// Copies within one mailbox; with an mbox Dovecot would wait for its own lock.
    pub copies_to_itself: bool,
}

impl DovecotSteps {
    /// One step; what is not possible just fails.
    ///
    /// # Errors
    ///
    /// Dovecot complained about anything else.
    pub fn step(&self, side: &Side<'_>, random: &mut Random, number: u32) -> Result<()> {
        let mut pick = |from: &[&str]| from[random.below(from.len())].to_owned();
        let (mailbox, other) = (pick(&NAMES), pick(&NAMES));
        let uids = pick(&["1", "2:4", "3,5", "7:9", "*", "11:20", "6"]);
        let flags = pick(&[
            "\\Seen",
            "\\Flagged \\Answered",
            "$Label1",
            "Work \\Draft",
            "\\Deleted",
        ]);
        let query = ["mailbox", &mailbox, "uid", &uids];
        let can_copy = self.copies_to_itself || mailbox != other;
        let (command, arguments): (&str, Vec<&str>) = match pick(self.kinds).as_str() {
            "s" => ("save", vec!["-m", &mailbox]),
            "f" => ("flags add", [&[flags.as_str()][..], &query].concat()),
            "r" => ("flags replace", [&[flags.as_str()][..], &query].concat()),
            "e" => ("expunge", query.to_vec()),
            "c" if can_copy => ("copy", [&[other.as_str()][..], &query].concat()),
            "m" => ("move", [&[other.as_str()][..], &query].concat()),
            "c" | "b" => ("mailbox create", vec![&other]),
            "p" => ("purge", Vec::new()),
            _ => ("mailbox delete", vec!["Tmp"]),
        };
        let run = side.doveadm_run(command, &arguments, self.text(number).as_bytes())?;
        // Changing flags in a mailbox that does not exist is an assertion in 2.3.
        let harmless = ["exist", "not found", "assertion failed: (box->opened)"];
        ensure!(
            (run.code == 0 && run.stderr.is_empty())
                || harmless.iter().any(|text| run.stderr.contains(text)),
            "{command} {arguments:?}: {run:?}"
        );
        Ok(())
    }

    fn text(&self, number: u32) -> String {
        let message_id = match self.message_ids {
            true => format!("Message-ID: <{number}@dovecot>\n"),
            false => String::new(),
        };
        format!(
            "Subject: {number}\n{message_id}\nhistory {number}\n{}",
            "line\n".repeat(number as usize % 50)
        )
    }
}
