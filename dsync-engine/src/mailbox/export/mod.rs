//! The sending side of a mailbox (`spec/mailbox-sync.md` 3).

mod attributes;
mod bodies;
mod changes;

use std::io::Read;
use std::sync::Arc;

use bstr::BString;
use dsync_proto::items::{Attribute, Change, Mail, MailRequest};
use dsync_proto::types::Uid;
use dsync_storage::Mailbox;

use self::attributes::Attributes;
use self::bodies::Bodies;
use self::changes::Changes;
use super::{HashSettings, Result, Scan};
use crate::Problem;

/// How a mailbox is exported (`spec/brain-and-tree.md` 6.5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportOptions {
    /// Messages are identified by GUID, not by header hash.
    pub mails_have_guids: bool,
    /// The peer does not send requests: every message goes out (`spec/mailbox-sync.md` 14).
    pub send_all_unasked: bool,
    /// Changes carry received dates, since date filters are active.
    pub with_received: bool,
    /// Changes carry sizes, since a size filter is active.
    pub with_virtual_size: bool,
    /// The peer's mailbox is empty: header hashes are sent as empty strings.
    pub no_header_hashes: bool,
    /// How header hashes are made.
    pub hashes: HashSettings,
    /// The peer is a Dovecot, whose sdbox loses messages if the last mail has no body
    /// (`spec/mailbox-sync.md` 16): announced messages that vanished are then left out if no
    /// other message follows them.
    pub peer_is_dovecot: bool,
}

/// An attribute to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutAttribute {
    /// The item.
    pub item: Attribute,
    /// The bytes of its stream, if the item announces one.
    pub body: Option<BString>,
}

/// A message to send.
pub struct OutMail {
    /// The item; `stream` is set if there is a body.
    pub item: Mail,
    /// The body. If reading fails in the middle, the session must be cut: a complete body must
    /// never be claimed.
    pub body: Option<Box<dyn Read + Send>>,
}

/// Sends the attributes, changes and bodies of one mailbox.
pub struct Exporter {
    scan: Arc<Scan>,
    options: ExportOptions,
    attributes: Option<Attributes>,
    changes: Changes,
    bodies: Bodies,
    problems: Vec<Problem>,
}

impl Exporter {
    /// Prepares the export of what `scan` found.
    pub fn new(
        _mailbox: &mut dyn Mailbox,
        scan: &Arc<Scan>,
        options: ExportOptions,
    ) -> Result<Self> {
        Ok(Self {
            scan: Arc::clone(scan),
            changes: Changes::new(scan),
            bodies: Bodies::default(),
            attributes: None,
            problems: Vec::new(),
            options,
        })
    }

    /// The next attribute; `None` after the last one.
    pub fn next_attribute(&mut self, mailbox: &mut dyn Mailbox) -> Result<Option<OutAttribute>> {
        let (scan, problems) = (&self.scan, &mut self.problems);
        let attributes = self
            .attributes
            .get_or_insert_with(|| Attributes::new(mailbox, scan, problems));
        Ok(attributes.next(mailbox, &mut self.problems))
    }

    /// The next change, strictly by rising UID; `None` after the last one.
    pub fn next_change(&mut self, mailbox: &mut dyn Mailbox) -> Result<Option<Change>> {
        self.changes.next(mailbox, &self.scan, &self.options)
    }

    /// Takes a request of the peer. Fails at once if the message was not announced.
    pub fn add_request(&mut self, request: &MailRequest) -> Result<()> {
        self.bodies.add_request(&self.scan, request)
    }

    /// The next requested message; `None` when all requests so far are answered. Call it first
    /// when the peer's requests are complete, so that messages go out by rising UID.
    pub fn next_mail(&mut self, mailbox: &mut dyn Mailbox) -> Result<Option<OutMail>> {
        let (scan, options) = (&self.scan, &self.options);
        Ok(self.bodies.next(mailbox, scan, options, &mut self.problems))
    }

    /// UIDs here of messages that the peer asked for and that could not be read.
    pub fn take_undelivered(&mut self) -> Vec<Uid> {
        self.bodies.take_undelivered()
    }

    /// What a person should know, since the last call.
    pub fn take_problems(&mut self) -> Vec<Problem> {
        std::mem::take(&mut self.problems)
    }
}
