//! What a store contains, as a value that can be compared and printed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bstr::{BStr, BString};
use bytes::Bytes;
use dsync_proto::types::{Flags, Guid, MailGuid, ModSeq, Uid};

use crate::{AttributeData, AttributeName};

/// Everything in a [`super::MemoryStore`] that an IMAP client can see, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dump {
    /// Mailboxes by full name.
    pub mailboxes: BTreeMap<String, MailboxDump>,
    /// Names that exist without a mailbox.
    pub directories: BTreeSet<String>,
    /// Subscribed names.
    pub subscriptions: BTreeSet<String>,
}

/// A mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailboxDump {
    /// Mailbox GUID.
    pub guid: Guid,
    /// UIDVALIDITY.
    pub uid_validity: u32,
    /// UIDNEXT.
    pub uid_next: Uid,
    /// Lowest UID with `\Recent`.
    pub first_recent_uid: Uid,
    /// HIGHESTMODSEQ.
    pub highest_modseq: ModSeq,
    /// Messages by UID.
    pub messages: BTreeMap<Uid, MessageDump>,
    /// Attributes.
    pub attributes: BTreeMap<AttributeName, AttributeData>,
}

/// A message.
#[derive(Clone, PartialEq, Eq)]
pub struct MessageDump {
    /// GUID.
    pub guid: MailGuid,
    /// The user flags.
    pub flags: Flags,
    /// Keywords.
    pub keywords: BTreeSet<BString>,
    /// Modseq.
    pub modseq: ModSeq,
    /// INTERNALDATE in seconds since the epoch.
    pub received_date: i64,
    /// Save date in seconds since the epoch.
    pub saved_date: i64,
    /// POP3 UIDL, empty for none.
    pub pop3_uidl: BString,
    /// POP3 order, 0 for none.
    pub pop3_order: u32,
    /// The bytes as stored.
    pub body: Bytes,
}

impl Dump {
    /// The same with all modseqs 0: what must be equal on both sides after a sync, where modseqs
    /// are only similar (`spec/mailbox-sync.md` 6.5).
    #[must_use]
    pub fn without_modseqs(mut self) -> Self {
        for mailbox in self.mailboxes.values_mut() {
            mailbox.highest_modseq = 0;
            for message in mailbox.messages.values_mut() {
                message.modseq = 0;
            }
        }
        self
    }
}

impl fmt::Debug for MessageDump {
    /// One line, with the first bytes of the body only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = self.body.get(..48).unwrap_or(&self.body);
        write!(
            f,
            "{} {:?} {:?} modseq={} received={} saved={} {} octets {:?}",
            self.guid,
            self.flags,
            self.keywords,
            self.modseq,
            self.received_date,
            self.saved_date,
            self.body.len(),
            BStr::new(start),
        )?;
        if !self.pop3_uidl.is_empty() || self.pop3_order != 0 {
            write!(f, " pop3={:?}/{}", self.pop3_uidl, self.pop3_order)?;
        }
        Ok(())
    }
}
