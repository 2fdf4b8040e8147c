//! What an IMAP client does: changes that do not come from a sync.

use bstr::BString;
use bytes::Bytes;
use dsync_proto::items::{AttributeKind, CacheField};
use dsync_proto::types::{Flags, Guid, MailGuid, ModSeq, Uid};

use super::contents::{Append, Contents, Message};
use super::load::LoadMailbox;
use super::records::LogRecord;
use super::store::{Shared, lock};
use crate::{AttributeData, AttributeName, FlagUpdate, MailboxLogRecord, MetadataUpdate, Result};

/// Whether an expunge leaves the GUID in the change log. Dovecot's sdbox does not if nobody ever
/// fetched it (`spec/mailbox-sync.md` 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogGuid {
    /// As it should be.
    Known,
    /// The record has a zero GUID.
    Unknown,
}

/// A message for [`MemoryUser::save`].
#[derive(Clone, Debug, Default)]
pub struct NewMail {
    /// GUID; made up if empty.
    pub guid: MailGuid,
    /// User flags.
    pub flags: Flags,
    /// Keywords.
    pub keywords: Vec<BString>,
    /// INTERNALDATE in seconds since the epoch; 0 for now.
    pub received_date: i64,
    /// Save date in seconds since the epoch; 0 for now.
    pub saved_date: i64,
    /// POP3 UIDL, empty for none.
    pub pop3_uidl: BString,
    /// POP3 order, 0 for none.
    pub pop3_order: u32,
    /// The bytes.
    pub body: Bytes,
}

impl NewMail {
    /// A message with this body and nothing else.
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self {
            body: body.into(),
            ..Self::default()
        }
    }

    /// A small message with this subject.
    pub fn with_subject(subject: &str) -> Self {
        Self::new(format!(
            "From: a@example.org\r\nSubject: {subject}\r\nMessage-ID: <{subject}@example.org>\r\n\
             \r\nbody of {subject}\r\n"
        ))
    }

    /// The same with this GUID.
    #[must_use]
    pub fn guid(mut self, guid: impl Into<MailGuid>) -> Self {
        self.guid = guid.into();
        self
    }

    /// The same with these flags.
    #[must_use]
    pub fn flags(mut self, flags: Flags) -> Self {
        self.flags = flags;
        self
    }

    /// The same with these keywords.
    #[must_use]
    pub fn keywords<'k>(mut self, keywords: impl IntoIterator<Item = &'k str>) -> Self {
        self.keywords = keywords.into_iter().map(BString::from).collect();
        self
    }

    /// The same with this received date.
    #[must_use]
    pub fn received(mut self, received_date: i64) -> Self {
        self.received_date = received_date;
        self
    }
}

/// The hands of a user on a [`super::MemoryStore`]. Nothing here counts as written by a sync.
#[derive(Clone)]
pub struct MemoryUser {
    shared: Shared,
}

impl MemoryUser {
    pub(crate) fn new(shared: Shared) -> Self {
        Self { shared }
    }

    fn mailbox<T>(&self, name: &str, change: impl FnOnce(&mut Contents) -> T) -> Result<T> {
        lock(&self.shared).mailbox_mut(name).map(change)
    }

    /// Sets the present time, in seconds since the epoch.
    pub fn set_clock(&self, now: i64) {
        lock(&self.shared).clock = now;
    }

    /// The present time, in seconds since the epoch.
    pub fn clock(&self) -> i64 {
        lock(&self.shared).clock
    }

    /// Creates a mailbox; one that exists stays as it is.
    pub fn create(&self, name: &str) -> Result<()> {
        lock(&self.shared)
            .create_mailbox(name, None, None)
            .map(drop)
    }

    /// Creates a directory, see [`crate::Store::create_directory`].
    pub fn create_directory(&self, name: &str) -> Result<()> {
        lock(&self.shared).create_directory(name).map(drop)
    }

    /// Deletes a mailbox, or else a directory.
    pub fn delete(&self, name: &str) -> Result<()> {
        let mut tree = lock(&self.shared);
        match tree.mailbox(name).map(|mailbox| mailbox.guid) {
            Ok(guid) => tree.delete_mailbox(guid),
            Err(_) => tree.delete_directory(name),
        }
    }

    /// Renames a mailbox or directory with its children.
    pub fn rename(&self, from: &str, to: &str) -> Result<()> {
        lock(&self.shared).rename(from, to)
    }

    /// Subscribes to a name.
    pub fn subscribe(&self, name: &str) {
        lock(&self.shared).set_subscribed(name, true);
    }

    /// Unsubscribes a name.
    pub fn unsubscribe(&self, name: &str) {
        lock(&self.shared).set_subscribed(name, false);
    }

    /// Gives a name a special use such as `\Sent`.
    pub fn set_special_use(&self, name: &str, uses: &[&str]) {
        let uses = uses.iter().map(|name| (*name).to_owned()).collect();
        lock(&self.shared).special_use.insert(name.to_owned(), uses);
    }

    /// Replaces the mailbox log.
    pub fn set_mailbox_log(&self, records: Vec<MailboxLogRecord>) {
        lock(&self.shared).log = records;
    }

    /// Saves a message and returns its UID. INBOX is created if it does not exist.
    pub fn save(&self, name: &str, mail: NewMail) -> Result<Uid> {
        let mut tree = lock(&self.shared);
        if name == "INBOX" {
            tree.create_mailbox(name, None, None)?;
        }
        let now = tree.clock;
        let or_now = |date| if date == 0 { now } else { date };
        let guid = if mail.guid.is_empty() {
            tree.new_guid().into()
        } else {
            mail.guid
        };
        let message = Message {
            guid,
            flags: mail.flags,
            keywords: mail.keywords.into_iter().collect(),
            modseq: 0,
            pvt_modseq: 0,
            received_date: or_now(mail.received_date),
            saved_date: or_now(mail.saved_date),
            pop3_uidl: mail.pop3_uidl,
            pop3_order: mail.pop3_order,
            body: mail.body,
        };
        append(tree.mailbox_mut(name)?, message)
    }

    /// Adds flags.
    pub fn add_flags(&self, name: &str, uids: &[Uid], flags: Flags) -> Result<()> {
        let add_flags = flags;
        self.update(
            name,
            uids,
            &FlagUpdate {
                add_flags,
                ..FlagUpdate::default()
            },
        )
    }

    /// Removes flags.
    pub fn remove_flags(&self, name: &str, uids: &[Uid], flags: Flags) -> Result<()> {
        let remove_flags = flags;
        self.update(
            name,
            uids,
            &FlagUpdate {
                remove_flags,
                ..FlagUpdate::default()
            },
        )
    }

    /// Adds keywords.
    pub fn add_keywords(&self, name: &str, uids: &[Uid], keywords: &[&str]) -> Result<()> {
        let add_keywords = keywords.iter().map(|name| BString::from(*name)).collect();
        self.update(
            name,
            uids,
            &FlagUpdate {
                add_keywords,
                ..FlagUpdate::default()
            },
        )
    }

    /// Removes keywords.
    pub fn remove_keywords(&self, name: &str, uids: &[Uid], keywords: &[&str]) -> Result<()> {
        let remove_keywords = keywords.iter().map(|name| BString::from(*name)).collect();
        self.update(
            name,
            uids,
            &FlagUpdate {
                remove_keywords,
                ..FlagUpdate::default()
            },
        )
    }

    /// Changes flags and keywords of messages, each by records of its own.
    pub fn update(&self, name: &str, uids: &[Uid], update: &FlagUpdate) -> Result<()> {
        self.mailbox(name, |mailbox| {
            for uid in uids {
                mailbox.update_flags(vec![(*uid, update.clone())], false);
            }
        })
    }

    /// Expunges messages.
    pub fn expunge(&self, name: &str, uids: &[Uid], log_guid: LogGuid) -> Result<()> {
        let known = log_guid == LogGuid::Known;
        self.mailbox(name, |mailbox| mailbox.expunge(uids, known, false))
    }

    /// Copies messages, with their GUID as Dovecot does, and returns the new UIDs.
    pub fn copy(&self, from: &str, uids: &[Uid], to: &str) -> Result<Vec<Uid>> {
        let mut tree = lock(&self.shared);
        let source = tree.mailbox(from)?;
        let messages: Vec<Message> = uids
            .iter()
            .filter_map(|uid| source.messages.get(uid).cloned())
            .collect();
        let target = tree.mailbox_mut(to)?;
        messages
            .into_iter()
            .map(|message| append(target, message))
            .collect()
    }

    /// Moves messages and returns the new UIDs.
    pub fn move_to(&self, from: &str, uids: &[Uid], to: &str) -> Result<Vec<Uid>> {
        let moved = self.copy(from, uids, to)?;
        self.expunge(from, uids, LogGuid::Known)?;
        Ok(moved)
    }

    /// Sets UIDVALIDITY.
    pub fn set_uid_validity(&self, name: &str, uid_validity: u32) -> Result<()> {
        self.mailbox(name, |mailbox| mailbox.uid_validity = uid_validity)
    }

    /// Raises UIDNEXT.
    pub fn raise_uid_next(&self, name: &str, uid_next: Uid) -> Result<()> {
        self.mailbox(name, |mailbox| {
            mailbox.uid_next = mailbox.uid_next.max(uid_next);
        })
    }

    /// Takes `\Recent` from all messages below this UID, as opening a mailbox does.
    pub fn set_first_recent_uid(&self, name: &str, uid: Uid) -> Result<()> {
        self.mailbox(name, |mailbox| mailbox.first_recent_uid = uid.max(1))
    }

    /// Gives a mailbox another GUID.
    pub fn set_guid(&self, name: &str, guid: Guid) -> Result<()> {
        self.mailbox(name, |mailbox| mailbox.guid = guid)
    }

    /// Sets cache decisions.
    pub fn set_cache_fields(&self, name: &str, cache_fields: Vec<CacheField>) -> Result<()> {
        let update = MetadataUpdate {
            cache_fields,
            ..MetadataUpdate::default()
        };
        self.mailbox(name, |mailbox| mailbox.update_metadata(&update, false))
    }

    /// Sets an attribute such as `/private/comment`, or deletes it; a name without one of the
    /// two prefixes counts as private. No time of change is kept, as in Dovecot's dict.
    pub fn set_attribute(&self, name: &str, attribute: &str, value: Option<&str>) -> Result<()> {
        let data = value.map(|value| AttributeData {
            value: value.into(),
            stream: false,
            last_change: 0,
        });
        self.set_attribute_data(name, attribute_name(attribute), data)
    }

    /// Sets an attribute with everything about it, or deletes it.
    pub fn set_attribute_data(
        &self,
        name: &str,
        attribute: AttributeName,
        data: Option<AttributeData>,
    ) -> Result<()> {
        self.mailbox(name, |mailbox| {
            mailbox.set_attributes(vec![(attribute, data)], false);
        })
    }

    /// Forgets change log records up to this modseq, as rotation does; later ones stay.
    pub fn forget_log_up_to(&self, name: &str, modseq: ModSeq) -> Result<()> {
        self.mailbox(name, |mailbox| mailbox.log.forget_up_to(modseq))
    }

    /// The change log.
    pub fn log(&self, name: &str) -> Result<Vec<LogRecord>> {
        self.mailbox(name, |mailbox| mailbox.log.records().cloned().collect())
    }

    /// Puts a mailbox with a complete state at this name, in place of what is there.
    pub fn load(&self, name: &str, mut mailbox: LoadMailbox) -> Result<()> {
        let mut tree = lock(&self.shared);
        tree.check_name(name)?;
        if mailbox.guid.is_zero() {
            mailbox.guid = tree.new_guid();
        }
        if mailbox.uid_validity == 0 {
            mailbox.uid_validity = tree.new_uid_validity();
        }
        let contents = mailbox.into_contents(tree.options.private_flags);
        tree.insert(name, contents);
        Ok(())
    }
}

fn append(mailbox: &mut Contents, message: Message) -> Result<Uid> {
    let append = Append {
        uid: 0,
        min_modseq: 0,
        min_pvt_modseq: 0,
        message,
    };
    let uids = mailbox.append(vec![append], false)?;
    Ok(uids.first().copied().unwrap_or(0))
}

fn attribute_name(name: &str) -> AttributeName {
    let (kind, key) = match (
        name.strip_prefix("/private/"),
        name.strip_prefix("/shared/"),
    ) {
        (_, Some(key)) => (AttributeKind::Shared, key),
        (Some(key), None) => (AttributeKind::Private, key),
        (None, None) => (AttributeKind::Private, name),
    };
    AttributeName {
        kind,
        key: key.into(),
    }
}
