//! The receiving side of a mailbox (`spec/mailbox-sync.md` 5 to 13).

mod options;

use std::sync::Arc;

use dsync_proto::items::{Attribute, Change, Mail, MailRequest};
use dsync_storage::Mailbox;

pub use self::options::{
    CommitInterval, Counters, DeleteMailbox, ImportOptions, ImportResult, MailBody,
};
use super::{Result, Scan};

/// Receives the attributes, changes and bodies of one mailbox and brings the local one in step.
///
/// After an error every further call does nothing; [`Importer::finish`] then keeps what can be
/// kept safely and reports the error again.
pub struct Importer {
    _scan: Arc<Scan>,
    _options: ImportOptions,
}

impl Importer {
    /// Prepares the import into what `scan` found.
    pub fn new(scan: &Arc<Scan>, options: ImportOptions) -> Self {
        Self {
            _scan: Arc::clone(scan),
            _options: options,
        }
    }

    /// An attribute; `stream` is its value if the item announces one.
    pub fn attribute(
        &mut self,
        _mailbox: &mut dyn Mailbox,
        _attribute: &Attribute,
        _stream: Option<Vec<u8>>,
    ) -> Result<()> {
        Ok(())
    }

    /// A change; they come strictly by rising UID.
    pub fn change(&mut self, _mailbox: &mut dyn Mailbox, _change: Change) -> Result<()> {
        Ok(())
    }

    /// The changes are complete: new UIDs are decided, messages that exist here already are
    /// copied or moved, and the requests are ready.
    pub fn changes_end(&mut self, _mailbox: &mut dyn Mailbox) -> Result<()> {
        Ok(())
    }

    /// The next request to send; `None` after the last one and before [`Importer::changes_end`].
    pub fn next_request(&mut self) -> Option<MailRequest> {
        None
    }

    /// A message; if it has a stream, its body must follow, also if the answer is
    /// [`MailBody::Ignore`].
    pub fn mail_begin(&mut self, _mailbox: &mut dyn Mailbox, _mail: &Mail) -> Result<MailBody> {
        Ok(MailBody::Ignore)
    }

    /// A piece of the body.
    pub fn mail_chunk(&mut self, _mailbox: &mut dyn Mailbox, _bytes: &[u8]) -> Result<()> {
        Ok(())
    }

    /// The body is complete.
    pub fn mail_end(&mut self, _mailbox: &mut dyn Mailbox) -> Result<()> {
        Ok(())
    }

    /// In a backup: the mailbox must be deleted, since it cannot be made equal to the source
    /// (`spec/mailbox-sync.md` 9.2). Look at it after [`Importer::change`] and
    /// [`Importer::changes_end`]. Either finish, delete the mailbox and let the run fail as
    /// Dovecot does, or empty it and go on with [`Importer::restart_empty`].
    pub fn delete_mailbox(&self) -> Option<&DeleteMailbox> {
        None
    }

    /// The mailbox was deleted and created anew, empty, with the GUID and UIDVALIDITY of the
    /// source; `mailbox` and `scan` are the new one. Everything received so far is applied to it;
    /// then go on where the run was. Possible once, and only before the first request was taken.
    pub fn restart_empty(&mut self, _mailbox: &mut dyn Mailbox, _scan: &Arc<Scan>) -> Result<()> {
        Ok(())
    }

    /// UIDs of messages here that the peer asked for and that could not be read
    /// ([`super::Exporter::take_problems`]): they get new UIDs at the end, so that a later run does
    /// not take them for expunged by the peer.
    pub fn undelivered(&mut self, _uids: &[u32]) {}

    /// Everything was sent and received: commits and reports. Drop the mailbox afterwards.
    pub fn finish(&mut self, _mailbox: &mut dyn Mailbox) -> ImportResult {
        ImportResult::default()
    }

    /// The session ended early: keeps what can be kept without a later run taking half of the
    /// work for deletions. Drop the mailbox afterwards.
    pub fn abort(&mut self, _mailbox: &mut dyn Mailbox) -> ImportResult {
        ImportResult::default()
    }
}
