//! Requests of the peer and the messages that answer them (`spec/mailbox-sync.md` 3.5).

use std::collections::{BTreeSet, VecDeque};

use bstr::ByteSlice;
use dsync_proto::items::{Mail, MailRequest};
use dsync_proto::types::{MailGuid, Uid};
use dsync_storage::{Mailbox, MessageRef, OpenMessage, StorageError};
use tracing::{info, warn};

use super::{ExportOptions, OutMail, Scan};
use crate::Problem;
use crate::mailbox::{MailboxError, PeerFault, Result};

/// A message that shall be sent: its row in the snapshot, and whether it was requested by GUID.
type Wanted = (u32, bool);

/// Requests and what is left to send.
#[derive(Default)]
pub(super) struct Bodies {
    /// Rows of announced messages by GUID, then by UID; made at the first request.
    by_guid: Option<Vec<u32>>,
    queue: BTreeSet<Wanted>,
    all_queued: bool,
    /// Announced messages that are gone, to be told before the next one with a body.
    gone: VecDeque<Mail>,
    /// A message that is opened and waits for the next one: should that be gone, it is told
    /// before this one.
    ready: Option<OutMail>,
    undelivered: Vec<Uid>,
}

impl Bodies {
    pub(super) fn add_request(&mut self, scan: &Scan, request: &MailRequest) -> Result<()> {
        let wanted = match &request.guid {
            Some(guid) if !guid.is_empty() => self
                .instances(scan, guid.as_bytes())
                .first()
                .map(|row| (*row, true))
                .ok_or_else(|| PeerFault::UnexpectedGuidRequested { guid: guid.clone() }),
            _ if request.uid == 0 => Err(PeerFault::EmptyRequest),
            _ => announced_row(scan, request.uid)
                .map(|row| (row, false))
                .ok_or(PeerFault::UnexpectedUidRequested { uid: request.uid }),
        };
        let wanted = wanted.map_err(|fault| MailboxError::peer(&scan.name, fault))?;
        self.queue.insert(wanted);
        Ok(())
    }

    /// Rows of all announced messages with this GUID, by rising UID.
    fn instances(&mut self, scan: &Scan, guid: &[u8]) -> &[u32] {
        let by_guid = self.by_guid.get_or_insert_with(|| rows_by_guid(scan));
        let start = by_guid.partition_point(|row| guid_of(scan, *row) < guid);
        let behind = by_guid.partition_point(|row| guid_of(scan, *row) <= guid);
        by_guid.get(start..behind).unwrap_or_default()
    }

    pub(super) fn take_undelivered(&mut self) -> Vec<Uid> {
        std::mem::take(&mut self.undelivered)
    }

    /// The next message. One is always opened ahead: the peer must not be told of a message
    /// without body last, since a Dovecot with sdbox then throws away what it saved before.
    pub(super) fn next(
        &mut self,
        mailbox: &mut dyn Mailbox,
        scan: &Scan,
        options: &ExportOptions,
        problems: &mut Vec<Problem>,
    ) -> Option<OutMail> {
        if options.send_all_unasked && !self.all_queued {
            self.queue_all(scan, options.mails_have_guids);
            self.all_queued = true;
        }
        loop {
            if self.ready.is_some()
                && let Some(item) = self.gone.pop_front()
            {
                return Some(OutMail { item, body: None });
            }
            let Some(wanted) = self.queue.pop_first() else {
                break;
            };
            if let Some(opened) = self.open(mailbox, scan, wanted, problems)
                && let Some(before) = self.ready.replace(opened)
            {
                // What vanished behind it is told before the one that was opened now.
                return Some(before);
            }
        }
        if let Some(last) = self.ready.take() {
            return Some(last);
        }
        let item = self.gone.pop_front()?;
        if options.peer_is_dovecot {
            // Not one has a body. Left out, the run fails there and nothing is lost.
            warn!(
                "Mailbox {}: no requested message is there any more",
                scan.name
            );
            self.gone.clear();
            return None;
        }
        Some(OutMail { item, body: None })
    }

    /// The peer sends no requests: of several instances of a GUID the first one (14).
    fn queue_all(&mut self, scan: &Scan, by_guid: bool) {
        let mut rows = rows_by_guid(scan);
        if by_guid {
            rows.dedup_by_key(|row| guid_of(scan, *row));
        }
        self.queue = rows.into_iter().map(|row| (row, by_guid)).collect();
    }

    /// Opens a message, or the next instance of its GUID that is still there.
    fn open(
        &mut self,
        mailbox: &mut dyn Mailbox,
        scan: &Scan,
        (row, by_guid): Wanted,
        problems: &mut Vec<Problem>,
    ) -> Option<OutMail> {
        let message = scan.messages.get(row as usize)?;
        let instances = match by_guid {
            true => self.instances(scan, message.guid).to_vec(),
            false => vec![row],
        };
        let mut unreadable = Vec::new();
        for instance in instances {
            let Some(instance) = scan.messages.get(instance as usize) else {
                continue;
            };
            match mailbox.open_message(instance.uid) {
                Ok(Some(opened)) => {
                    return Some(out_mail(opened, address(&message, by_guid)));
                }
                Ok(None) => info!(
                    "mailbox {}: UID={} was expunged meanwhile",
                    scan.name, instance.uid
                ),
                Err(error) => unreadable.push((instance, error)),
            }
        }
        for (instance, error) in unreadable {
            self.undelivered.push(instance.uid);
            problems.push(unreadable_message(scan, &instance, &error));
        }
        self.gone.push_back(address(&message, by_guid));
        None
    }
}

fn unreadable_message(scan: &Scan, message: &MessageRef<'_>, error: &StorageError) -> Problem {
    Problem {
        mailbox: scan.name.clone(),
        uid: message.uid,
        guid: message.guid.to_owned(),
        reason: format!("cannot be read, it was left out: {error}"),
    }
}

/// Rows above the common UID.
fn announced(scan: &Scan) -> std::ops::Range<u32> {
    let first = scan
        .messages
        .position(scan.state.last_common_uid.saturating_add(1));
    let first = first.unwrap_or_else(|place| place);
    first as u32..scan.messages.len() as u32
}

fn announced_row(scan: &Scan, uid: Uid) -> Option<u32> {
    let row = scan.messages.position(uid).ok()? as u32;
    announced(scan).contains(&row).then_some(row)
}

fn rows_by_guid(scan: &Scan) -> Vec<u32> {
    let mut rows: Vec<u32> = announced(scan).collect();
    rows.sort_unstable_by_key(|row| (guid_of(scan, *row), *row));
    rows
}

fn guid_of(scan: &Scan, row: u32) -> &[u8] {
    let message = scan.messages.get(row as usize);
    message.map_or(&[], |message| message.guid.as_bytes())
}

fn address(message: &MessageRef<'_>, by_guid: bool) -> Mail {
    let guid = if by_guid {
        MailGuid::new(message.guid.as_bytes())
    } else {
        MailGuid::default()
    };
    Mail {
        guid: Some(guid),
        uid: if by_guid { 0 } else { message.uid },
        ..Mail::default()
    }
}

fn out_mail(opened: OpenMessage, address: Mail) -> OutMail {
    let item = Mail {
        pop3_uidl: opened.pop3_uidl,
        pop3_order: opened.pop3_order,
        received_date: opened.received_date,
        saved_date: opened.saved_date,
        stream: true,
        ..address
    };
    OutMail {
        item,
        body: Some(opened.body),
    }
}
