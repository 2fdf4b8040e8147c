//! Edits that a user makes, done by Dovecot.

use std::fmt;

use anyhow::Result;

use super::mail::Mail;
use crate::Side;

/// One edit. One that cannot be done, such as a deletion of nothing, is an edit that does
/// nothing, so that any edit can be dropped from a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Edit {
    /// `doveadm` with these words, the first of which may be several.
    Doveadm(&'static str, Vec<String>),
    /// Saves in order, by IMAP where that is possible.
    Save(String, Vec<Mail>),
}

impl Edit {
    pub(super) fn doveadm(command: &'static str, words: &[&str]) -> Self {
        Self::Doveadm(command, words.iter().map(ToString::to_string).collect())
    }

    pub(super) fn apply(&self, side: &Side<'_>) -> Result<()> {
        match self {
            Self::Doveadm(command, words) => {
                side.doveadm_run(command, words, b"")?;
            }
            Self::Save(mailbox, mails) => save(side, mailbox, mails)?,
        }
        Ok(())
    }
}

fn save(side: &Side<'_>, mailbox: &str, mails: &[Mail]) -> Result<()> {
    for group in mails.chunk_by(|one, two| !one.needs_doveadm() && !two.needs_doveadm()) {
        match group {
            [mail] if mail.needs_doveadm() => {
                side.doveadm_run("save", &["-m", mailbox], &mail.content())?;
            }
            mails => {
                side.doveadm_run("exec", &["imap"], &imap_session(mailbox, mails))?;
            }
        }
    }
    Ok(())
}

fn imap_session(mailbox: &str, mails: &[Mail]) -> Vec<u8> {
    let mut input = Vec::new();
    let mailbox = mutf7(mailbox);
    for mail in mails {
        let content = mail.content();
        let received = match mail.received {
            "" => String::new(),
            received => format!("\"{received}\" "),
        };
        let line = format!(
            "a APPEND \"{mailbox}\" ({}) {received}{{{}+}}\r\n",
            mail.flags,
            content.len()
        );
        input.extend_from_slice(line.as_bytes());
        input.extend_from_slice(&content);
        input.extend_from_slice(b"\r\n");
    }
    input.extend_from_slice(b"z LOGOUT\r\n");
    input
}

/// The two names of the generator that are not ASCII.
fn mutf7(name: &str) -> String {
    name.replace("Grüße", "Gr&APwA3w-e").replace('Ä', "&AMQ-")
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Doveadm(command, words) => {
                write!(f, "doveadm {command}")?;
                for word in words {
                    let plain = |c: char| c.is_alphanumeric() || "-_./:*,=".contains(c);
                    match !word.is_empty() && word.chars().all(plain) {
                        true => write!(f, " {word}")?,
                        false => write!(f, " '{word}'")?,
                    }
                }
                Ok(())
            }
            Self::Save(mailbox, mails) => {
                write!(f, "save to {mailbox}:")?;
                for mail in mails {
                    write!(f, " [{mail}]")?;
                }
                Ok(())
            }
        }
    }
}
