//! The change list: messages and logged changes, by rising UID (`spec/mailbox-sync.md` 3.3).

use std::collections::btree_map;
use std::ops::Bound;

use bstr::{BString, ByteSlice};
use dsync_proto::items::{Change, ChangeKind};
use dsync_proto::types::{Flags, KeywordChange, KeywordOp, MailGuid, Uid};
use dsync_storage::{LoggedChange, LoggedKind, Mailbox, MessageRef};

use super::{ExportOptions, Scan};
use crate::mailbox::header_hash::hash_message;
use crate::mailbox::{MailboxError, Result, keywords};

/// Where the list stands.
pub(super) struct Changes {
    /// Next message of the snapshot.
    row: usize,
    /// Logged changes up to this UID are done.
    logged: Uid,
}

impl Changes {
    /// A stateful list begins with logged changes; without state there is nothing below UID 1.
    pub(super) fn new(_scan: &Scan) -> Self {
        Self { row: 0, logged: 0 }
    }

    pub(super) fn next(
        &mut self,
        mailbox: &mut dyn Mailbox,
        scan: &Scan,
        options: &ExportOptions,
    ) -> Result<Option<Change>> {
        loop {
            let row = self.next_row(scan);
            let logged = self.next_logged(scan);
            match (row, logged) {
                (None, None) => return Ok(None),
                (Some(row), Some((uid, logged))) if uid == row.uid => {
                    self.row += 1;
                    self.logged = uid;
                    let logged = (logged.kind == LoggedKind::Flags).then_some(logged);
                    if let Some(change) = existing(mailbox, scan, options, &row, logged)? {
                        return Ok(Some(change));
                    }
                }
                (Some(row), logged) if logged.is_none_or(|(uid, _)| row.uid < uid) => {
                    self.row += 1;
                    if let Some(change) = existing(mailbox, scan, options, &row, None)? {
                        return Ok(Some(change));
                    }
                }
                (_, Some((uid, logged))) => {
                    self.logged = uid;
                    if let Some(change) = vanished(uid, logged) {
                        return Ok(Some(change));
                    }
                }
                // The guard above is true without a logged change.
                (Some(_), None) => return Ok(None),
            }
        }
    }

    /// The next message that is not common without a change: for an incremental list most of the
    /// snapshot is skipped at once.
    fn next_row<'a>(&mut self, scan: &'a Scan) -> Option<MessageRef<'a>> {
        let common = scan.state.last_common_uid;
        if !scan.log.complete
            && scan
                .messages
                .get(self.row)
                .is_some_and(|row| row.uid <= common)
        {
            let next_logged = self.next_logged(scan).map_or(Uid::MAX, |(uid, _)| uid);
            let wanted = next_logged.min(common.saturating_add(1));
            let position = scan.messages.position(wanted).unwrap_or_else(|place| place);
            self.row = self.row.max(position);
        }
        scan.messages.get(self.row)
    }

    fn next_logged<'a>(&self, scan: &'a Scan) -> Option<(Uid, &'a LoggedChange)> {
        let bounds = (Bound::Excluded(self.logged), Bound::Unbounded);
        let mut range: btree_map::Range<'a, Uid, LoggedChange> = scan.log.changes.range(bounds);
        range.next().map(|(uid, change)| (*uid, change))
    }
}

/// A message that exists: a save above the common UID, else a flag change if there is one.
fn existing(
    mailbox: &mut dyn Mailbox,
    scan: &Scan,
    options: &ExportOptions,
    row: &MessageRef<'_>,
    logged: Option<&LoggedChange>,
) -> Result<Option<Change>> {
    let above = row.uid > scan.state.last_common_uid;
    if !above && !scan.log.complete && logged.is_none() {
        return Ok(None);
    }
    let kind = if above {
        ChangeKind::Save
    } else {
        ChangeKind::Flags
    };
    let mut change = Change::new(kind, row.uid);
    change.guid = Some(
        match options.mails_have_guids || scan.capabilities.have_save_guids {
            true => MailGuid::new(row.guid.as_bytes()),
            false => MailGuid::default(),
        },
    );
    if options.mails_have_guids && row.guid.is_empty() {
        return Err(MailboxError::NoLocalGuid {
            mailbox: scan.name.clone(),
            uid: row.uid,
        });
    }
    if !options.mails_have_guids {
        change.hdr_hash = Some(if options.no_header_hashes {
            BString::default()
        } else {
            match hash_message(mailbox, row.uid, &options.hashes)? {
                Some(hash) => hash.to_string().into(),
                None => return Ok(None),
            }
        });
    }
    change.modseq = row.modseq;
    change.pvt_modseq = row.pvt_modseq;
    change.final_flags = row.flags & Flags::WIRE;
    if let Some(logged) = logged {
        change.add_flags = logged.add_flags & Flags::USER;
        change.remove_flags = logged.remove_flags & Flags::USER & !change.add_flags;
        change.keywords_reset = logged.keywords_reset;
    }
    change.keyword_changes = keyword_changes(row, logged);
    if above {
        add_filter_data(mailbox, scan, options, &mut change)?;
    }
    Ok(Some(change))
}

fn add_filter_data(
    mailbox: &mut dyn Mailbox,
    scan: &Scan,
    options: &ExportOptions,
    change: &mut Change,
) -> Result<()> {
    change.virtual_size = Some(u64::MAX);
    if options.with_virtual_size {
        let size = mailbox.virtual_size(change.uid);
        let size = size.map_err(MailboxError::storage(
            &scan.name,
            "Can't lookup virtual-size",
        ))?;
        change.virtual_size = Some(size.unwrap_or(u64::MAX));
    }
    if options.with_received {
        let date = mailbox.received_date(change.uid);
        let date = date.map_err(MailboxError::storage(
            &scan.name,
            "Can't lookup received-time",
        ))?;
        // Dovecot aborts without it, and 0 would be "absent".
        change.received_timestamp = Some(date.unwrap_or(1).max(1).unsigned_abs());
    }
    Ok(())
}

/// All present keywords, and those that were removed. Names that no Dovecot can store are left
/// out: it would drop all others of the message with them.
fn keyword_changes(row: &MessageRef<'_>, logged: Option<&LoggedChange>) -> Vec<KeywordChange> {
    let log = logged.map_or(&[][..], |logged| &logged.keywords);
    let present = |name: &[u8]| row.keywords.iter().any(|keyword| keyword.as_ref() == name);
    let mut changes: Vec<KeywordChange> = log
        .iter()
        .filter(|(_, name)| keywords::is_valid(name))
        .map(|(op, name)| {
            let op = match (op, present(name)) {
                (KeywordOp::Add, true) => KeywordOp::AddFinal,
                (KeywordOp::Remove, true) => KeywordOp::Final,
                (op, _) => *op,
            };
            KeywordChange::new(op, name.clone())
        })
        .collect();
    for keyword in row.keywords {
        let known = log
            .iter()
            .any(|(_, name)| name.as_bytes() == keyword.as_ref());
        if !known && keywords::is_valid(keyword) {
            changes.push(KeywordChange::new(
                KeywordOp::Final,
                keyword.as_bstr().to_owned(),
            ));
        }
    }
    changes
}

/// A message that is gone: its expunge, or a flag change that came before an unlogged one.
fn vanished(uid: Uid, logged: &LoggedChange) -> Option<Change> {
    match logged.kind {
        LoggedKind::Expunge => {
            let mut change = Change::new(ChangeKind::Expunge, uid);
            change.guid = (!logged.guid.is_zero()).then(|| MailGuid::from(logged.guid));
            Some(change)
        }
        // Nothing is left to change. Dovecot sends such a change of common messages without GUID
        // and its importer finds no message either, or one that it would change for nothing.
        LoggedKind::Flags => None,
    }
}
