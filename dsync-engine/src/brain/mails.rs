//! Exchange of one mailbox: the two state machines of `spec/brain-and-tree.md` 5.2.
//!
//! Sending and receiving advance on their own. The only waits: own requests are closed when the
//! peer's changes are all read, bodies go out when the peer's requests are all read, and the
//! result is told when bodies are through in both directions.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use dsync_proto::items::{Attribute, AttributeValue, Item, Mail, MailboxInfo, MailboxState};
use dsync_proto::types::{MailErrorClass, ModSeq};
use dsync_storage::Mailbox;

use super::errors::{mailbox_error, unexpected};
use crate::mailbox::{
    Counters, ExportOptions, Exporter, ImportOptions, ImportResult, Importer, MailBody, Scan,
};
use crate::options::Direction;
use crate::{Progress, RunError};

/// Body bytes per chunk, in octets.
const CHUNK: usize = 64 * 1024;
/// Items of one kind that are queued before the caller gets its turn.
const BATCH: usize = 64;
/// Largest value of a streamed attribute, in octets.
const MAX_ATTRIBUTE: usize = 64 * 1024 * 1024;

/// What is sent next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Send {
    Attributes,
    Changes,
    Requests,
    Mails,
    Done,
}

/// What is expected next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Receive {
    Attributes,
    Changes,
    Requests,
    Mails,
    State,
}

/// A body that is being received.
enum BodyInto {
    Attribute(Attribute, Vec<u8>),
    Mail(MailBody),
}

/// How the two sides of a mailbox work together; the same on both ends but for the direction.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) direction: Direction,
    /// Bodies are sent only on request.
    pub(super) requests: bool,
    /// The peer knows attributes (minor 1).
    pub(super) attributes: bool,
}

/// One mailbox whose messages are being exchanged.
pub(super) struct MailExchange {
    pub(super) mailbox: Box<dyn Mailbox>,
    /// Our `B` as sent.
    pub(super) local: MailboxInfo,
    /// UIDVALIDITY now; `local` may tell an older one.
    uid_validity: u32,
    remote_uid_validity: u32,
    remote_highest_modseq: ModSeq,
    stateful: bool,
    terms: Terms,
    exporter: Option<Exporter>,
    importer: Option<Importer>,
    send: Send,
    receive: Receive,
    sending_body: Option<Box<dyn Read + std::marker::Send>>,
    receiving_body: Option<BodyInto>,
    buffer: Vec<u8>,
    progress: Arc<Progress>,
    result: Option<ImportResult>,
    /// One side took over the identity of the other in this run and has a new log, which does not
    /// reach back to what both had before: the next stateful run compares all of this mailbox.
    pub(super) has_nothing_in_common: bool,
}

impl MailExchange {
    /// Starts the exchange after both `B` were agreed on.
    pub(super) fn new(
        mut mailbox: Box<dyn Mailbox>,
        local: MailboxInfo,
        scan: Scan,
        terms: Terms,
        export: ExportOptions,
        import: ImportOptions,
        progress: Arc<Progress>,
    ) -> Result<Self, RunError> {
        let uid_validity = scan.status.uid_validity;
        let stateful = scan.is_stateful();
        let remote_uid_validity = import.remote.uid_validity;
        let remote_highest_modseq = import.remote.highest_modseq;
        let scan = Arc::new(scan);
        let exporter = match terms.direction {
            Direction::Receive => None,
            _ => Some(Exporter::new(mailbox.as_mut(), &scan, export).map_err(mailbox_error)?),
        };
        let importer = match terms.direction {
            Direction::Send => None,
            _ => Some(Importer::new(&scan, import)),
        };
        let (send, receive) = match (terms.direction, terms.requests) {
            (Direction::Both, _) => (Send::Attributes, Receive::Attributes),
            (Direction::Send, true) => (Send::Attributes, Receive::Requests),
            (Direction::Send, false) => (Send::Attributes, Receive::State),
            (Direction::Receive, true) => (Send::Requests, Receive::Attributes),
            (Direction::Receive, false) => (Send::Done, Receive::Attributes),
        };
        let mut exchange = Self {
            mailbox,
            local,
            uid_validity,
            remote_uid_validity,
            remote_highest_modseq,
            stateful,
            terms,
            exporter,
            importer,
            send,
            receive,
            sending_body: None,
            receiving_body: None,
            buffer: Vec::new(),
            progress,
            result: None,
            has_nothing_in_common: false,
        };
        if !exchange.terms.attributes {
            exchange.skip_attributes();
        }
        Ok(exchange)
    }

    fn skip_attributes(&mut self) {
        if self.send == Send::Attributes {
            self.send = Send::Changes;
        }
        if self.receive == Receive::Attributes {
            self.receive = Receive::Changes;
        }
    }

    /// Whether a body is half sent: then nothing else may be written.
    pub(super) fn is_sending_body(&self) -> bool {
        self.sending_body.is_some()
    }

    /// Names of the two states, for the message about a stalled run.
    pub(super) fn state_name(&self) -> String {
        let send = match self.send {
            Send::Attributes => "attributes",
            Send::Changes => "changes",
            Send::Requests => "mail_requests",
            Send::Mails => "mails",
            Send::Done => "done",
        };
        let receive = match self.receive {
            Receive::Attributes => "attributes",
            Receive::Changes => "changes",
            Receive::Requests => "mail_requests",
            Receive::Mails => "mails",
            Receive::State => "recv_last_common",
        };
        format!("sync_mails (send={send} recv={receive})")
    }

    /// Queues what can be sent now; `false` if it waits for the peer.
    pub(super) fn step(&mut self, out: &mut VecDeque<Item>) -> Result<bool, RunError> {
        if self.sending_body.is_some() {
            return self.send_chunk(out).map(|()| true);
        }
        match self.send {
            Send::Attributes => self.send_attributes(out),
            Send::Changes => self.send_changes(out),
            Send::Requests => Ok(self.send_requests(out)),
            Send::Mails => self.send_mails(out),
            Send::Done => Ok(false),
        }
    }

    fn send_attributes(&mut self, out: &mut VecDeque<Item>) -> Result<bool, RunError> {
        let Some(exporter) = &mut self.exporter else {
            return Ok(false);
        };
        match exporter
            .next_attribute(self.mailbox.as_mut())
            .map_err(mailbox_error)?
        {
            Some(attribute) => {
                out.push_back(Item::Attribute(attribute.item));
                if let Some(body) = attribute.body {
                    out.push_back(Item::BodyChunk(Vec::from(body).into()));
                    out.push_back(Item::BodyEnd);
                }
            }
            None => {
                out.push_back(Item::EndOfList);
                self.send = Send::Changes;
            }
        }
        Ok(true)
    }

    fn send_changes(&mut self, out: &mut VecDeque<Item>) -> Result<bool, RunError> {
        let Some(exporter) = &mut self.exporter else {
            return Ok(false);
        };
        for _ in 0..BATCH {
            match exporter
                .next_change(self.mailbox.as_mut())
                .map_err(mailbox_error)?
            {
                Some(change) => out.push_back(Item::Change(change)),
                None => {
                    out.push_back(Item::EndOfList);
                    let requests = self.importer.is_some() && self.terms.requests;
                    self.send = if requests {
                        Send::Requests
                    } else {
                        Send::Mails
                    };
                    break;
                }
            }
        }
        Ok(true)
    }

    fn send_requests(&mut self, out: &mut VecDeque<Item>) -> bool {
        let before = out.len();
        if let Some(importer) = &mut self.importer {
            for request in std::iter::from_fn(|| importer.next_request()).take(BATCH) {
                self.progress.messages_wanted.add(1);
                out.push_back(Item::Request(request));
            }
        }
        let sent = out.len() - before;
        if sent < BATCH && self.receive >= Receive::Requests {
            out.push_back(Item::EndOfList);
            self.send = if self.exporter.is_some() {
                Send::Mails
            } else {
                Send::Done
            };
            return true;
        }
        sent > 0
    }

    fn send_mails(&mut self, out: &mut VecDeque<Item>) -> Result<bool, RunError> {
        if self.terms.requests && self.receive < Receive::Mails {
            return Ok(false);
        }
        let Some(exporter) = &mut self.exporter else {
            return Ok(false);
        };
        match exporter
            .next_mail(self.mailbox.as_mut())
            .map_err(mailbox_error)?
        {
            Some(mail) => {
                out.push_back(Item::Mail(mail.item));
                self.sending_body = mail.body;
                self.progress.messages_sent.add(1);
            }
            None => {
                let undelivered = exporter.take_undelivered();
                if let Some(importer) = &mut self.importer {
                    importer.undelivered(&undelivered);
                }
                out.push_back(Item::EndOfList);
                self.send = Send::Done;
            }
        }
        Ok(true)
    }

    /// A read error in the middle cannot be told to the peer: only cutting the connection keeps
    /// it from taking half a message for a whole one.
    fn send_chunk(&mut self, out: &mut VecDeque<Item>) -> Result<(), RunError> {
        let Some(body) = &mut self.sending_body else {
            return Ok(());
        };
        self.buffer.resize(CHUNK, 0);
        let mut filled = 0;
        while filled < CHUNK {
            match body.read(&mut self.buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let name = self.mailbox.name();
                    let message = format!("cannot read a message of mailbox {name}: {error}");
                    return Err(RunError::local(MailErrorClass::Temporary, message));
                }
            }
        }
        if filled > 0 {
            self.progress.bytes_sent.add(filled as u64);
            // A copy: a slice of the buffer would keep all of it in memory for a small message.
            out.push_back(Item::BodyChunk(Bytes::copy_from_slice(
                &self.buffer[..filled],
            )));
        }
        if filled < CHUNK {
            self.sending_body = None;
            out.push_back(Item::BodyEnd);
        }
        Ok(())
    }

    /// Takes one item from the peer; its `S` is not for this function.
    pub(super) fn handle(&mut self, item: Item) -> Result<(), RunError> {
        match (self.receive, item) {
            (_, Item::BodyChunk(bytes)) => self.body_chunk(&bytes),
            (_, Item::BodyEnd) => self.body_end(),
            (Receive::Attributes, Item::Attribute(attribute)) => self.attribute(attribute),
            (Receive::Attributes, Item::EndOfList) => {
                self.receive = Receive::Changes;
                Ok(())
            }
            (Receive::Changes, Item::Change(change)) => match &mut self.importer {
                Some(importer) => importer
                    .change(self.mailbox.as_mut(), change)
                    .map_err(mailbox_error),
                None => Ok(()),
            },
            (Receive::Changes, Item::EndOfList) => {
                if let Some(importer) = &mut self.importer {
                    importer
                        .changes_end(self.mailbox.as_mut())
                        .map_err(mailbox_error)?;
                }
                let requests = self.exporter.is_some() && self.terms.requests;
                self.receive = if requests {
                    Receive::Requests
                } else {
                    Receive::Mails
                };
                Ok(())
            }
            (Receive::Requests, Item::Request(request)) => match &mut self.exporter {
                Some(exporter) => exporter.add_request(&request).map_err(mailbox_error),
                None => Ok(()),
            },
            (Receive::Requests, Item::EndOfList) => {
                let mails = self.importer.is_some();
                self.receive = if mails {
                    Receive::Mails
                } else {
                    Receive::State
                };
                Ok(())
            }
            (Receive::Mails, Item::Mail(mail)) => self.mail(&mail),
            (Receive::Mails, Item::EndOfList) => {
                self.receive = Receive::State;
                Ok(())
            }
            (Receive::State, Item::EndOfList) => Err(RunError::peer(
                "Remote sent end-of-list instead of a mailbox state",
            )),
            (receive, item) => Err(unexpected(&item, expected(receive))),
        }
    }

    fn attribute(&mut self, attribute: Attribute) -> Result<(), RunError> {
        if attribute.value == AttributeValue::Stream {
            self.receiving_body = Some(BodyInto::Attribute(attribute, Vec::new()));
            return Ok(());
        }
        match &mut self.importer {
            Some(importer) => importer
                .attribute(self.mailbox.as_mut(), &attribute, None)
                .map_err(mailbox_error),
            None => Ok(()),
        }
    }

    fn mail(&mut self, mail: &Mail) -> Result<(), RunError> {
        let Some(importer) = &mut self.importer else {
            return Ok(());
        };
        let wanted = importer
            .mail_begin(self.mailbox.as_mut(), mail)
            .map_err(mailbox_error)?;
        self.progress.messages_received.add(1);
        if mail.stream {
            self.receiving_body = Some(BodyInto::Mail(wanted));
        }
        Ok(())
    }

    fn body_chunk(&mut self, bytes: &[u8]) -> Result<(), RunError> {
        match (&mut self.receiving_body, &mut self.importer) {
            (Some(BodyInto::Attribute(attribute, value)), _) => {
                if value.len() + bytes.len() > MAX_ATTRIBUTE {
                    return Err(RunError::peer(format!(
                        "Remote sent attribute {} with more than {MAX_ATTRIBUTE} octets",
                        attribute.key
                    )));
                }
                value.extend_from_slice(bytes);
                Ok(())
            }
            (Some(BodyInto::Mail(wanted)), Some(importer)) => {
                self.progress.bytes_received.add(bytes.len() as u64);
                match wanted {
                    MailBody::Wanted => importer
                        .mail_chunk(self.mailbox.as_mut(), bytes)
                        .map_err(mailbox_error),
                    MailBody::Ignore => Ok(()),
                }
            }
            _ => Err(RunError::peer("Remote sent a body that belongs to nothing")),
        }
    }

    fn body_end(&mut self) -> Result<(), RunError> {
        match (self.receiving_body.take(), &mut self.importer) {
            (Some(BodyInto::Attribute(attribute, value)), Some(importer)) => importer
                .attribute(self.mailbox.as_mut(), &attribute, Some(value))
                .map_err(mailbox_error),
            (Some(BodyInto::Mail(_)), Some(importer)) => importer
                .mail_end(self.mailbox.as_mut())
                .map_err(mailbox_error),
            (Some(_), None) => Ok(()),
            (None, _) => Err(RunError::peer("Remote sent a body that belongs to nothing")),
        }
    }

    /// A backup destination differs so that only an empty mailbox can be made equal; possible
    /// while the source tells all of its messages.
    pub(super) fn must_empty(&self) -> bool {
        !self.stateful
            && self
                .importer
                .as_ref()
                .is_some_and(|it| it.delete_mailbox().is_some())
    }

    /// UIDVALIDITY of the peer's mailbox.
    pub(super) fn remote_uid_validity(&self) -> u32 {
        self.remote_uid_validity
    }

    /// Goes on with a new empty mailbox, which `make` opens after the old one is closed.
    pub(super) fn restart(
        self,
        make: impl FnOnce() -> Result<(Box<dyn Mailbox>, Scan), RunError>,
    ) -> Result<Self, RunError> {
        drop(self.mailbox);
        let (mailbox, scan) = make()?;
        let mut exchange = Self { mailbox, ..self };
        if let Some(importer) = &mut exchange.importer {
            importer
                .restart_empty(exchange.mailbox.as_mut(), &Arc::new(scan))
                .map_err(mailbox_error)?;
        }
        Ok(exchange)
    }

    /// Whether bodies are through in both directions, so that the result can be told.
    pub(super) fn is_complete(&self) -> bool {
        self.send == Send::Done && self.receive == Receive::State && self.result.is_none()
    }

    /// Commits what was imported and computes this side's result (7.2). Only now the peer may be
    /// told: its state must never be ahead of what is on our disk.
    pub(super) fn finish(&mut self) -> Result<(MailboxState, ImportResult), RunError> {
        let mut result = match &mut self.importer {
            Some(importer) => importer.finish(self.mailbox.as_mut()),
            None => ImportResult {
                last_common_uid: self.local.uid_next.saturating_sub(1),
                modseq: self.local.highest_modseq,
                pvt_modseq: self.local.highest_pvt_modseq,
                messages_count: self.local.messages_count,
                ..ImportResult::default()
            },
        };
        self.collect(&mut result);
        if let Some(failure) = result.failure.take() {
            return Err(mailbox_error(failure));
        }
        let mut state = MailboxState {
            mailbox_guid: self.local.mailbox_guid,
            last_uidvalidity: self.uid_validity,
            last_common_uid: result.last_common_uid,
            last_common_modseq: result.modseq,
            last_common_pvt_modseq: result.pvt_modseq,
            last_messages_count: result.messages_count,
            changes_during_sync: result.changes_during_sync.is_some(),
        };
        if self.has_nothing_in_common || !self.log_covers_result()? {
            state.last_common_uid = 0;
            state.last_common_modseq = 0;
            state.last_common_pvt_modseq = 0;
        }
        self.result = Some(result.clone());
        Ok((state, result))
    }

    /// Whether the own log reaches back to the modseq that this run without a state will leave as
    /// common. A mailbox that once took over an identity begins with a high one.
    fn log_covers_result(&mut self) -> Result<bool, RunError> {
        if self.stateful {
            return Ok(true);
        }
        let (own, peer) = (self.local.highest_modseq, self.remote_highest_modseq);
        let common = match self.terms.direction {
            Direction::Both => own.min(peer),
            Direction::Send => own,
            Direction::Receive => peer,
        };
        Ok(self.mailbox.changes_since(common, 0, 0)?.covered)
    }

    /// The session ended early: keeps what is safe to keep.
    pub(super) fn abort(&mut self) -> ImportResult {
        let mut result = match &mut self.importer {
            Some(importer) if self.result.is_none() => importer.abort(self.mailbox.as_mut()),
            _ => ImportResult::default(),
        };
        self.collect(&mut result);
        result
    }

    fn collect(&mut self, result: &mut ImportResult) {
        if let Some(exporter) = &mut self.exporter {
            result.problems.extend(exporter.take_problems());
        }
        let Counters {
            copied,
            flags_changed,
            expunged,
            attributes,
            ..
        } = result.counters;
        self.progress.messages_copied.add(copied);
        self.progress.flags_changed.add(flags_changed);
        self.progress.messages_expunged.add(expunged);
        self.progress.attributes_changed.add(attributes);
    }
}

fn expected(receive: Receive) -> &'static str {
    match receive {
        Receive::Attributes => "mailbox_attribute",
        Receive::Changes => "mail_change",
        Receive::Requests => "mail_request",
        Receive::Mails => "mail",
        Receive::State => "mailbox_state",
    }
}
