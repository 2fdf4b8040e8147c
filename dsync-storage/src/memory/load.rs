//! A mailbox's complete state, as test vectors describe it.

use std::collections::BTreeMap;

use bstr::BString;
use bytes::Bytes;
use dsync_proto::types::{Flags, Guid, MailGuid, ModSeq, Uid};

use super::contents::{Contents, Message};
use super::records::{LogRecord, RecordLog};
use crate::{AttributeData, AttributeName};

/// A mailbox with messages, counters and change log, for [`super::MemoryUser::load`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadMailbox {
    /// Mailbox GUID; the store makes one if zero.
    pub guid: Guid,
    /// UIDVALIDITY; the store makes one if 0.
    pub uid_validity: u32,
    /// UIDNEXT.
    pub uid_next: Uid,
    /// First recent UID.
    pub first_recent_uid: Uid,
    /// HIGHESTMODSEQ.
    pub highest_modseq: ModSeq,
    /// Messages.
    pub messages: Vec<LoadMessage>,
    /// Running modseq before the first record.
    pub initial_modseq: ModSeq,
    /// The change log.
    pub records: Vec<LogRecord>,
    /// Attributes.
    pub attributes: BTreeMap<AttributeName, AttributeData>,
}

/// A message of a [`LoadMailbox`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadMessage {
    /// UID.
    pub uid: Uid,
    /// GUID.
    pub guid: MailGuid,
    /// User flags.
    pub flags: Flags,
    /// Keywords.
    pub keywords: Vec<BString>,
    /// Modseq.
    pub modseq: ModSeq,
    /// INTERNALDATE in seconds since the epoch.
    pub received_date: i64,
    /// Save date in seconds since the epoch.
    pub saved_date: i64,
    /// The bytes.
    pub body: Bytes,
}

impl LoadMailbox {
    /// The same as the contents of a store.
    pub(crate) fn into_contents(self, private_flags: Flags) -> Contents {
        let mut contents = Contents::new(self.guid, self.uid_validity, private_flags);
        for message in self.messages {
            let loaded = Message {
                guid: message.guid,
                flags: message.flags & Flags::USER,
                keywords: message
                    .keywords
                    .iter()
                    .map(|k| contents.spelling(k))
                    .collect(),
                modseq: message.modseq,
                pvt_modseq: 0,
                received_date: message.received_date,
                saved_date: message.saved_date,
                pop3_uidl: BString::default(),
                pop3_order: 0,
                body: message.body,
            };
            contents.uid_next = contents.uid_next.max(message.uid.saturating_add(1));
            contents.messages.insert(message.uid, loaded);
        }
        contents.uid_next = contents.uid_next.max(self.uid_next);
        contents.first_recent_uid = self.first_recent_uid.max(1);
        contents.attributes = self.attributes;
        let initial = self.initial_modseq.max(1);
        contents.log = RecordLog::load(initial, self.highest_modseq, self.records);
        contents
    }
}
