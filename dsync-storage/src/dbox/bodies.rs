//! What sdbox and mdbox do differently.

use dsync_proto::types::Uid;

use super::message::StoredMessage;
use crate::changes::Changes;
use crate::folders::MailboxPaths;
use crate::index::{Index, Message};
use crate::unique::UniqueSource;
use crate::{CommitReport, Result, SaveMessage, StoreSettings};

/// Where a mailbox lies and how it is written. Never changes.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    pub(super) paths: MailboxPaths,
    pub(super) settings: StoreSettings,
    pub(super) unique: UniqueSource,
}

/// The messages of one mailbox: where their bodies are, and those that are being saved.
pub(super) trait Bodies: Send {
    /// Looks a message up; `None` if its file is not there.
    fn stored(&mut self, message: &Message<'_>) -> Result<Option<StoredMessage>>;

    /// Save date, unless the cache knows it.
    fn saved_date(&self, message: &Message<'_>, stored: &StoredMessage) -> i64;

    /// Starts a new message; its GUID is not empty.
    fn begin(&mut self, message: SaveMessage) -> Result<()>;

    /// More of its body.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// The body is complete.
    fn finish(&mut self) -> Result<()>;

    /// Forgets the message that is being written.
    fn abort(&mut self);

    /// The body of the last finished message once more.
    fn another(&mut self, message: SaveMessage) -> Result<()>;

    /// A copy of a message of this mailbox.
    fn copy(
        &mut self,
        source: &Message<'_>,
        stored: &StoredMessage,
        message: SaveMessage,
    ) -> Result<()>;

    /// Whether messages wait for the commit.
    fn has_saves(&self) -> bool;

    /// Makes new messages and changes durable, then visible. Takes the locks. Whatever comes of
    /// it, no new message waits any more.
    fn commit(&mut self, index: &mut Index, changes: &Changes) -> Result<CommitReport>;

    /// Whether somebody died here, or asked for something that we must do.
    fn needs_repair(&self, index: &mut Index) -> Result<bool>;

    /// Does that. Takes the locks.
    fn repair(&mut self, index: &mut Index) -> Result<()>;
}

/// UIDs for new messages: what was asked for, or the next free one.
#[derive(Debug)]
pub(super) struct UidSequence {
    next: Uid,
}

impl UidSequence {
    pub(super) fn new(next: Uid) -> Self {
        Self { next }
    }

    /// At least `wanted`, and more than all before.
    pub(super) fn take(&mut self, wanted: Uid) -> Uid {
        let uid = wanted.max(self.next);
        self.next = uid.saturating_add(1);
        uid
    }

    /// The next free one.
    pub(super) fn peek(&self) -> Uid {
        self.next
    }

    /// UIDs go on from here at least.
    pub(super) fn skip_to(&mut self, next: Uid) {
        self.next = self.next.max(next);
    }
}
