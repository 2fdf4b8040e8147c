//! Single changes of an account.

use anyhow::{Context, Result};
use dsync_proto::types::Flags;
use dsync_storage::{FlagUpdate, Mailbox, OpenMode, SaveMessage, Store};

use crate::Side;

/// What is done between two syncs. Mails are named by the UID that both sides know them by.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// New mails with these names, and flags.
    Save(String, Vec<(String, Vec<&'static str>)>),
    /// A copy of this mail.
    Copy(String, u32),
    /// Another flag or keyword.
    Flag(String, u32, &'static str),
    /// A flag or keyword less.
    Unflag(String, u32, &'static str),
    Expunge(String, u32),
    Create(String),
    Rename(String, String),
    Delete(String),
}

/// The flags of all mails are among these.
pub(super) const FLAGS: [&str; 6] = [
    "\\Seen",
    "\\Flagged",
    "\\Answered",
    "\\Draft",
    "$Label1",
    "Work",
];

/// Everything of a mail but its header.
pub(super) fn body(name: &str) -> String {
    // Some take several writes.
    let lines = if name.ends_with('7') { 400 } else { 2 };
    format!("body of {name}, not very long but there\r\n").repeat(lines)
}

impl Step {
    /// Whether it is about the mailbox, not about mail.
    pub(super) fn is_of_tree(&self) -> bool {
        matches!(self, Self::Create(_) | Self::Rename(..) | Self::Delete(_))
    }

    /// Does it. Flags are changed by Dovecot: what our storage writes counts as a sync's work, not
    /// as a user's, and would give way to a higher modseq.
    pub(super) fn make(&self, side: &Side<'_>) -> Result<()> {
        let (how, mailbox, uid, flag) = match self {
            Self::Flag(mailbox, uid, flag) => ("flags add", mailbox, uid, flag),
            Self::Unflag(mailbox, uid, flag) => ("flags remove", mailbox, uid, flag),
            _ => return side.with_store(|store| self.make_in(store)),
        };
        let uid = uid.to_string();
        side.doveadm(how, &[flag, "mailbox", mailbox, "uid", &uid])
            .map(drop)
    }

    fn make_in(&self, store: &mut dyn Store) -> Result<()> {
        let what = || format!("{self:?}");
        match self {
            Self::Create(name) => store
                .create_mailbox(name, None, None)
                .map(drop)
                .with_context(what),
            Self::Rename(from, to) => store.rename(from, to).with_context(what),
            Self::Delete(name) => {
                let guid = store.open(name, OpenMode::Read)?.refresh()?.guid;
                store.delete_mailbox(guid).with_context(what)
            }
            Self::Save(mailbox, _) | Self::Copy(mailbox, _) | Self::Expunge(mailbox, _) => {
                let mut mailbox = store.open(mailbox, OpenMode::Write)?;
                mailbox.refresh()?;
                self.change(mailbox.as_mut()).with_context(what)?;
                mailbox.commit().map(drop).with_context(what)
            }
            Self::Flag(..) | Self::Unflag(..) => Ok(()),
        }
    }

    fn change(&self, mailbox: &mut dyn Mailbox) -> Result<()> {
        let next = mailbox.status()?.uid_next;
        match self {
            Self::Save(_, mails) => {
                for (uid, (name, flags)) in (next..).zip(mails) {
                    let mut message = message(uid);
                    let update = update(flags);
                    message.flags |= update.add_flags;
                    message.keywords = update.add_keywords;
                    mailbox.save_begin(message)?;
                    mailbox.save_write(format!("Message-ID: <{name}>\r\n\r\n").as_bytes())?;
                    mailbox.save_write(body(name).as_bytes())?;
                    mailbox.save_finish()?;
                }
            }
            Self::Copy(_, uid) => {
                mailbox.copy(*uid, message(next))?;
            }
            Self::Expunge(_, uid) => mailbox.expunge(*uid)?,
            _ => {}
        }
        Ok(())
    }
}

fn update(names: &[&str]) -> FlagUpdate {
    let mut update = FlagUpdate::default();
    for name in names {
        match Flags::from_name(name) {
            Some(flag) => update.add_flags |= flag,
            None => update.add_keywords.push((*name).into()),
        }
    }
    update
}

fn message(uid: u32) -> SaveMessage {
    SaveMessage {
        uid,
        flags: Flags::RECENT,
        received_date: 1_000_000_000 + i64::from(uid),
        ..SaveMessage::default()
    }
}
