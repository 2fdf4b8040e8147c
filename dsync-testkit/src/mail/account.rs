//! Whole accounts: a tree of mailboxes with messages and subscriptions.

use dsync_proto::types::Guid;
use dsync_storage::{Mailbox, OpenMode, Result, SaveMessage, Store};

use super::{Mail, Mails};
use crate::random::Random;

/// Messages saved between two commits.
const GROUP: usize = 500;

/// How large a generated account is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountSize {
    /// Mailboxes besides INBOX.
    pub mailboxes: usize,
    /// Messages in all of them together.
    pub messages: usize,
    /// Only ordinary messages of about this size in octets; `None` for some of every kind.
    pub ordinary: Option<usize>,
}

impl AccountSize {
    /// A handful of everything, for tests.
    pub const SMALL: Self = Self {
        mailboxes: 8,
        messages: 60,
        ordinary: None,
    };
}

/// An account that can be put into any store.
#[derive(Clone, Debug)]
pub struct AccountPlan {
    seed: u64,
    size: AccountSize,
    /// Names below the namespace prefix, parents first.
    pub mailboxes: Vec<String>,
    /// Subscribed names below the namespace prefix; one of them has no mailbox.
    pub subscriptions: Vec<String>,
}

const LEVELS: [&str; 18] = [
    "Archive",
    "Sent",
    "Drafts",
    "Trash",
    "Kunden",
    "Grüße",
    "2023",
    "2024",
    "日本語",
    "a b",
    "R&D",
    "Проекты",
    "[Gmail]",
    "100%",
    "Écoles",
    "x'y",
    "UPPER",
    "\u{1f4e7}",
];

impl AccountPlan {
    /// The account for this seed.
    pub fn new(seed: u64, size: AccountSize) -> Self {
        let mut random = Random::new(seed);
        let mut mailboxes: Vec<String> = vec!["INBOX".into()];
        for number in 0..size.mailboxes {
            let parent = random.pick(&mailboxes).clone();
            let level = *random.pick(&LEVELS);
            let nested = random.one_in(2) && parent != "INBOX" && parent.matches('/').count() < 4;
            let mut name = if nested {
                format!("{parent}/{level}")
            } else {
                level.to_owned()
            };
            if mailboxes.contains(&name) {
                name = format!("{name} {number}");
            }
            mailboxes.push(name);
        }
        let mut subscriptions: Vec<String> = mailboxes
            .iter()
            .filter(|_| random.one_in(2))
            .cloned()
            .collect();
        subscriptions.push("Gone/Älter".into());
        Self {
            seed,
            size,
            mailboxes,
            subscriptions,
        }
    }

    /// Makes it all in this store. Bodies are made one by one, whatever the size.
    pub fn fill(&self, store: &mut dyn Store) -> Result<()> {
        let namespace = store.namespace().clone();
        let full_name = |name: &str| {
            if name == "INBOX" {
                return name.to_owned();
            }
            let local = name.replace('/', &namespace.separator.to_string());
            format!("{}{local}", namespace.prefix)
        };
        let mut random = Random::new(self.seed ^ 0xacc0);
        let mut mails = Mails::new(self.seed);
        if let Some(size) = self.size.ordinary {
            mails = mails.ordinary(size);
        }
        let count = self.mailboxes.len();
        for (index, name) in self.mailboxes.iter().enumerate() {
            let name = full_name(name);
            store.create_mailbox(&name, None, None)?;
            let share =
                self.size.messages / count + usize::from(index < self.size.messages % count);
            let mut mailbox = store.open(&name, OpenMode::Write)?;
            let mut uid = mailbox.refresh()?.uid_next;
            for number in 1..=share {
                save(
                    mailbox.as_mut(),
                    uid,
                    &mails.next_mail(),
                    Guid(random.bytes16()),
                )?;
                uid += 1 + u32::from(random.one_in(10));
                if number % GROUP == 0 {
                    mailbox.commit()?;
                }
            }
            mailbox.commit()?;
        }
        for name in &self.subscriptions {
            store.set_subscribed(&full_name(name), true)?;
        }
        Ok(())
    }
}

fn save(mailbox: &mut dyn Mailbox, uid: u32, mail: &Mail, guid: Guid) -> Result<()> {
    mailbox.save_begin(SaveMessage {
        uid,
        guid: guid.into(),
        flags: mail.flags | dsync_proto::types::Flags::RECENT,
        keywords: mail.keywords.iter().map(|name| (*name).into()).collect(),
        min_modseq: 0,
        min_pvt_modseq: 0,
        received_date: mail.received_date,
        saved_date: mail.received_date,
        pop3_uidl: "".into(),
        pop3_order: 0,
    })?;
    mailbox.save_write(&mail.body)?;
    mailbox.save_finish()
}

#[cfg(test)]
mod tests {
    use dsync_storage::memory::{MemoryOptions, MemoryStore};

    use super::*;

    #[test]
    fn fills_both_layouts_alike() {
        let plan = AccountPlan::new(5, AccountSize::SMALL);
        let mut dbox = MemoryStore::new(MemoryOptions::dbox(1));
        let mut maildir = MemoryStore::new(MemoryOptions::maildir(1));
        plan.fill(&mut dbox).unwrap();
        plan.fill(&mut maildir).unwrap();
        let (dbox, maildir) = (dbox.dump(), maildir.dump());
        assert_eq!(dbox.mailboxes.len(), 9);
        let messages = dbox
            .mailboxes
            .values()
            .map(|mailbox| mailbox.messages.len());
        assert_eq!(messages.sum::<usize>(), 60);
        assert_eq!(dbox.subscriptions, maildir.subscriptions);
        for (name, mailbox) in &dbox.mailboxes {
            assert_eq!(mailbox.messages, maildir.mailboxes[name].messages);
        }
    }
}
