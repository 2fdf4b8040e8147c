//! An open mailbox.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use bstr::{BString, ByteSlice};
use dsync_proto::items::{AttributeKind, CacheField};
use dsync_proto::types::{Flags, Guid, MailGuid, ModSeq, Uid};

use crate::{ChangeLog, MessageTable, Result};

/// What a storage can keep (`spec/wire.md` 7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Messages have GUIDs.
    pub have_guids: bool,
    /// A given GUID can be kept.
    pub have_save_guids: bool,
    /// Only the 128-bit form of GUIDs is kept.
    pub have_only_guid128: bool,
}

impl Capabilities {
    /// Maildir, sdbox, mdbox and the in-memory store.
    pub const FULL: Self = Self {
        have_guids: true,
        have_save_guids: true,
        have_only_guid128: false,
    };
}

/// Counters of a mailbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MailboxStatus {
    /// Mailbox GUID.
    pub guid: Guid,
    /// UIDVALIDITY.
    pub uid_validity: u32,
    /// UIDNEXT.
    pub uid_next: Uid,
    /// Number of messages.
    pub messages: u32,
    /// Messages from this UID on are `\Recent`; at least 1.
    pub first_recent_uid: Uid,
    /// HIGHESTMODSEQ; 0 if modseqs are not permanent.
    pub highest_modseq: ModSeq,
    /// The same for private flags; 0 without private index.
    pub highest_pvt_modseq: ModSeq,
}

/// Name of an attribute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttributeName {
    /// Private or shared.
    pub kind: AttributeKind,
    /// Name without `/private/` or `/shared/`.
    pub key: BString,
}

/// Value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributeData {
    /// The value, at most 64 MiB.
    pub value: BString,
    /// The peer is told with a body instead of an inline value (NUL inside, Sieve scripts).
    pub stream: bool,
    /// Seconds since the epoch; 0 if the storage does not know.
    pub last_change: i64,
}

/// A message opened for reading.
pub struct OpenMessage {
    /// INTERNALDATE in seconds since the epoch.
    pub received_date: i64,
    /// Save date in seconds since the epoch; 0 if the storage does not know.
    pub saved_date: i64,
    /// POP3 UIDL, empty for none.
    pub pop3_uidl: BString,
    /// POP3 order, 0 for none.
    pub pop3_order: u32,
    /// The bytes as stored (decompressed).
    pub body: Box<dyn Read + Send>,
}

/// What to save: everything about a message but its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SaveMessage {
    /// The UID it shall get; if it is below UIDNEXT at commit it gets the next free one.
    pub uid: Uid,
    /// GUID; the store makes one if empty.
    pub guid: MailGuid,
    /// User flags and `\Recent`.
    pub flags: Flags,
    /// Keywords; invalid names were left out by the engine.
    pub keywords: Vec<BString>,
    /// Lowest modseq that it shall get; 0 for any.
    pub min_modseq: ModSeq,
    /// Lowest private modseq; 0 for any.
    pub min_pvt_modseq: ModSeq,
    /// INTERNALDATE in seconds since the epoch.
    pub received_date: i64,
    /// Save date; 0 for now.
    pub saved_date: i64,
    /// POP3 UIDL, empty for none.
    pub pop3_uidl: BString,
    /// POP3 order, 0 for none.
    pub pop3_order: u32,
}

/// A change of flags and keywords of one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlagUpdate {
    /// User flags to set.
    pub add_flags: Flags,
    /// User flags to clear.
    pub remove_flags: Flags,
    /// Keywords to set.
    pub add_keywords: Vec<BString>,
    /// Keywords to clear.
    pub remove_keywords: Vec<BString>,
    /// Raise the modseq of the message to at least this; 0 for no change beyond the update's own.
    pub min_modseq: ModSeq,
    /// The same for the private modseq.
    pub min_pvt_modseq: ModSeq,
}

/// Header fields of a mailbox to change; each only where given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataUpdate {
    /// New UIDVALIDITY; UIDs, flags and keywords stay.
    pub uid_validity: Option<u32>,
    /// Raise UIDNEXT to at least this.
    pub min_uid_next: Option<Uid>,
    /// Raise the first recent UID to at least this.
    pub min_first_recent_uid: Option<Uid>,
    /// Raise HIGHESTMODSEQ to at least this.
    pub min_highest_modseq: Option<ModSeq>,
    /// The same for private flags.
    pub min_highest_pvt_modseq: Option<ModSeq>,
    /// New cache decisions; stores without such a cache ignore them.
    pub cache_fields: Vec<CacheField>,
}

/// Result of [`Mailbox::commit`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitReport {
    /// Saved messages that could not get the UID they asked for: wanted and real UID.
    pub moved: Vec<(Uid, Uid)>,
    /// UIDs that copies asked for whose source was expunged before the commit: they were not made.
    pub gone: Vec<Uid>,
}

/// An open mailbox with one implicit transaction.
///
/// Reading calls answer from the snapshot of the last [`Mailbox::refresh`]. Writing calls collect
/// changes; nothing is visible to others, and the snapshot stays, until [`Mailbox::commit`].
/// Everything written counts as "by dsync" in the change log. Dropping a mailbox forgets what was
/// not committed and gives up all locks.
pub trait Mailbox: Send {
    /// Full name when it was opened.
    fn name(&self) -> &str;

    /// What this storage can keep.
    fn capabilities(&self) -> Capabilities;

    /// Takes the lock that keeps other sync runs from this mailbox until it is dropped
    /// (`spec/brain-and-tree.md` 4.2).
    fn lock_for_sync(&mut self, timeout: Duration) -> Result<()>;

    /// Brings UIDs, index and files in step and takes a new snapshot.
    fn refresh(&mut self) -> Result<MailboxStatus>;

    /// Counters: of the snapshot, or read quickly before the first [`Mailbox::refresh`].
    fn status(&mut self) -> Result<MailboxStatus>;

    /// Cache decisions, for the peer.
    fn cache_fields(&mut self) -> Result<Vec<CacheField>>;

    /// The snapshot of all messages.
    fn messages(&mut self) -> Result<Arc<MessageTable>>;

    /// Changes in the log since `modseq` (and `pvt_modseq`) for UIDs up to `highest_uid`.
    fn changes_since(
        &mut self,
        modseq: ModSeq,
        pvt_modseq: ModSeq,
        highest_uid: Uid,
    ) -> Result<ChangeLog>;

    /// Opens a message; `None` if it was expunged meanwhile.
    fn open_message(&mut self, uid: Uid) -> Result<Option<OpenMessage>>;

    /// Size in octets with CRLF line ends; `None` if it was expunged meanwhile.
    fn virtual_size(&mut self, uid: Uid) -> Result<Option<u64>> {
        let message = self.open_message(uid)?;
        message
            .map(|message| counted_size(self.name(), uid, message))
            .transpose()
    }

    /// Received date in seconds since the epoch; `None` if it was expunged meanwhile.
    fn received_date(&mut self, uid: Uid) -> Result<Option<i64>> {
        Ok(self.open_message(uid)?.map(|message| message.received_date))
    }

    /// Names of all attributes that a sync carries (not the read-only ones), private ones first,
    /// in the order in which they must be set.
    fn attributes(&mut self) -> Result<Vec<AttributeName>>;

    /// Value of an attribute.
    fn attribute(&mut self, name: &AttributeName) -> Result<Option<AttributeData>>;

    /// Starts to save a message. Body bytes follow with [`Mailbox::save_write`], then
    /// [`Mailbox::save_finish`]; [`Mailbox::save_abort`] forgets this message only.
    fn save_begin(&mut self, message: SaveMessage) -> Result<()>;

    /// More of the body, as sent by the peer.
    fn save_write(&mut self, bytes: &[u8]) -> Result<()>;

    /// The body is complete.
    fn save_finish(&mut self) -> Result<()>;

    /// Forgets the message that is being saved.
    fn save_abort(&mut self);

    /// Saves one more instance of the message that the last [`Mailbox::save_finish`] of this
    /// transaction completed: same body (a hard link where the format can), other metadata.
    fn save_another(&mut self, message: SaveMessage) -> Result<()>;

    /// Saves a copy of an existing message of this mailbox. `false` if the source is gone.
    /// UID, GUID, flags, keywords and modseqs are those of `message`; body, dates and POP3 fields
    /// stay those of the source.
    fn copy(&mut self, source: Uid, message: SaveMessage) -> Result<bool>;

    /// Changes flags, keywords or modseq of a message; a message that is gone is no error.
    fn update_flags(&mut self, uid: Uid, update: FlagUpdate) -> Result<()>;

    /// Expunges a message; one that is gone already is no error.
    fn expunge(&mut self, uid: Uid) -> Result<()>;

    /// Sets an attribute, or removes it.
    fn set_attribute(&mut self, name: &AttributeName, data: Option<AttributeData>) -> Result<()>;

    /// Changes header fields.
    fn update_metadata(&mut self, update: MetadataUpdate) -> Result<()>;

    /// Gives existing messages new UIDs from UIDNEXT on, in this order; the rest stays.
    fn reassign_uids(&mut self, uids: &[Uid]) -> Result<()>;

    /// Makes everything since the last commit durable, then visible: saves and copies first
    /// (`\Recent` and UID order kept), then flags, expunges and attributes, then metadata and
    /// reassigned UIDs. On an error the saves of this transaction are rolled back. The snapshot
    /// is taken anew.
    fn commit(&mut self) -> Result<CommitReport>;
}

/// Size of a message with CRLF line ends, in octets.
pub(crate) fn counted_size(mailbox: &str, uid: Uid, mut message: OpenMessage) -> Result<u64> {
    count_virtual_size(&mut message.body).map_err(|error| {
        crate::StorageError::new(
            dsync_proto::types::MailErrorClass::Temporary,
            format!("cannot read message UID={uid} of {mailbox}: {error}"),
        )
    })
}

/// Size of a body with CRLF line ends.
pub(crate) fn count_virtual_size(body: &mut dyn Read) -> io::Result<u64> {
    let mut size = 0_u64;
    let mut buffer = [0; 16 * 1024];
    let mut last = 0;
    loop {
        let read = body.read(&mut buffer)?;
        if read == 0 {
            return Ok(size);
        }
        for line_end in buffer[..read].find_iter(b"\n") {
            let before = line_end.checked_sub(1).map_or(last, |index| buffer[index]);
            size += u64::from(before != b'\r');
        }
        size += read as u64;
        last = buffer[read - 1];
    }
}
