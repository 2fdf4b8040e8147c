//! Requests of the peer and the messages that answer them (`spec/mailbox-sync.md` 3.5).

use std::collections::{HashSet, VecDeque};

use bstr::ByteSlice;
use dsync_proto::items::{Mail, MailRequest};
use dsync_proto::types::{MailGuid, Uid};
use dsync_storage::{Mailbox, OpenMessage};
use tracing::info;

use super::{ExportOptions, OutMail, Scan};
use crate::Problem;
use crate::mailbox::{MailboxError, PeerFault, Result};

/// Requests and what is left to send.
#[derive(Default)]
pub(super) struct Bodies {
    guids: HashSet<MailGuid>,
    uids: HashSet<Uid>,
    /// Rows of the snapshot to send, and whether they were requested by GUID.
    queue: Option<VecDeque<(usize, bool)>>,
    /// Announced messages that are gone, to be told before the next one with a body.
    gone: VecDeque<Mail>,
    /// A message that is opened and waits for `gone`.
    ready: Option<OutMail>,
    undelivered: Vec<Uid>,
}

impl Bodies {
    pub(super) fn add_request(&mut self, scan: &Scan, request: &MailRequest) -> Result<()> {
        let fault = |fault| Err(MailboxError::peer(&scan.name, fault));
        match &request.guid {
            Some(guid) if !guid.is_empty() => {
                self.guids.insert(guid.clone());
                Ok(())
            }
            _ if request.uid == 0 => fault(PeerFault::EmptyRequest),
            _ if is_announced(scan, request.uid) => {
                self.uids.insert(request.uid);
                Ok(())
            }
            _ => fault(PeerFault::UnexpectedUidRequested { uid: request.uid }),
        }
    }

    pub(super) fn take_undelivered(&mut self) -> Vec<Uid> {
        std::mem::take(&mut self.undelivered)
    }

    pub(super) fn next(
        &mut self,
        mailbox: &mut dyn Mailbox,
        scan: &Scan,
        options: &ExportOptions,
        problems: &mut Vec<Problem>,
    ) -> Result<Option<OutMail>> {
        if self.queue.is_none() {
            self.queue = Some(self.plan(scan, options)?);
        }
        if self.ready.is_none() {
            self.ready = self.open_next(mailbox, scan, problems);
        }
        if self.ready.is_none() && options.peer_is_dovecot {
            // Its sdbox would throw away what it saved before. Left out, the run fails there and
            // nothing is lost.
            self.gone.clear();
        }
        if let Some(item) = self.gone.pop_front() {
            return Ok(Some(OutMail { item, body: None }));
        }
        Ok(self.ready.take())
    }

    /// Rows in UID order: of several instances of a GUID the first one.
    fn plan(&mut self, scan: &Scan, options: &ExportOptions) -> Result<VecDeque<(usize, bool)>> {
        let first = scan
            .messages
            .position(scan.state.last_common_uid.saturating_add(1));
        let first = first.unwrap_or_else(|place| place);
        let mut queue = VecDeque::new();
        let mut seen = HashSet::new();
        for index in first..scan.messages.len() {
            let Some(row) = scan.messages.get(index) else {
                break;
            };
            if options.send_all_unasked {
                let by_guid = options.mails_have_guids;
                if !by_guid || seen.insert(row.guid) {
                    queue.push_back((index, by_guid));
                }
            } else if !self.guids.is_empty()
                && self.guids.remove(&MailGuid::new(row.guid.as_bytes()))
            {
                queue.push_back((index, true));
            } else if self.uids.contains(&row.uid) {
                queue.push_back((index, false));
            }
        }
        match self.guids.iter().min() {
            None => Ok(queue),
            Some(guid) => Err(MailboxError::peer(
                &scan.name,
                PeerFault::UnexpectedGuidRequested { guid: guid.clone() },
            )),
        }
    }

    fn open_next(
        &mut self,
        mailbox: &mut dyn Mailbox,
        scan: &Scan,
        problems: &mut Vec<Problem>,
    ) -> Option<OutMail> {
        loop {
            let (index, by_guid) = self.queue.as_mut()?.pop_front()?;
            let row = scan.messages.get(index)?;
            match open_instance(mailbox, scan, index, by_guid) {
                Ok(Some(message)) => return Some(out_mail(message, row.uid, row.guid, by_guid)),
                Ok(None) => info!(
                    "mailbox {}: UID={} was expunged meanwhile",
                    scan.name, row.uid
                ),
                Err(error) => {
                    self.undelivered.push(row.uid);
                    problems.push(Problem {
                        mailbox: scan.name.clone(),
                        uid: row.uid,
                        guid: row.guid.to_owned(),
                        reason: format!("cannot be read, it was left out: {error}"),
                    });
                }
            }
            self.gone.push_back(address(row.uid, row.guid, by_guid));
        }
    }
}

fn is_announced(scan: &Scan, uid: Uid) -> bool {
    uid > scan.state.last_common_uid && scan.messages.position(uid).is_ok()
}

/// The message, or the next instance of the same GUID that still exists.
fn open_instance(
    mailbox: &mut dyn Mailbox,
    scan: &Scan,
    index: usize,
    by_guid: bool,
) -> dsync_storage::Result<Option<OpenMessage>> {
    let Some(row) = scan.messages.get(index) else {
        return Ok(None);
    };
    let mut result = mailbox.open_message(row.uid);
    if !by_guid {
        return result;
    }
    for other in index + 1..scan.messages.len() {
        if matches!(result, Ok(Some(_))) {
            break;
        }
        match scan.messages.get(other) {
            Some(instance) if instance.guid == row.guid => {
                let next = mailbox.open_message(instance.uid);
                if !matches!(next, Ok(None)) || result.is_ok() {
                    result = next;
                }
            }
            _ => {}
        }
    }
    result
}

fn address(uid: Uid, guid: &bstr::BStr, by_guid: bool) -> Mail {
    let guid = if by_guid {
        MailGuid::new(guid.as_bytes())
    } else {
        MailGuid::default()
    };
    Mail {
        guid: Some(guid),
        uid: if by_guid { 0 } else { uid },
        ..Mail::default()
    }
}

fn out_mail(message: OpenMessage, uid: Uid, guid: &bstr::BStr, by_guid: bool) -> OutMail {
    let item = Mail {
        pop3_uidl: message.pop3_uidl,
        pop3_order: message.pop3_order,
        received_date: message.received_date,
        saved_date: message.saved_date,
        stream: true,
        ..address(uid, guid, by_guid)
    };
    OutMail {
        item,
        body: Some(message.body),
    }
}
