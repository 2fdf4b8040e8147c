//! Up to which UID both sides have the same messages (`spec/mailbox-sync.md` 5.2 to 5.7).

use std::sync::Arc;

use bstr::BString;
use dsync_proto::header_hash::HeaderHash;
use dsync_proto::items::{Change, ChangeKind};
use dsync_proto::types::{MailGuid, Uid};
use dsync_storage::{LoggedKind, Mailbox};

use super::saves::Remote;
use super::{Importer, Scan};
use crate::Problem;
use crate::mailbox::Result;

/// The search for the common point, and the cursor over local messages above it.
pub(super) struct CommonPoint {
    /// Highest UID that is known to be common.
    pub(super) uid: Uid,
    /// The search is over: everything above is new.
    pub(super) found: bool,
    /// Row of the cursor in the snapshot.
    row: usize,
    /// The message at the cursor is dealt with.
    used: bool,
    /// A change named the UID at the cursor.
    has_change: bool,
    /// Messages here that the peer does not have, or has expunged: they go if a later UID turns
    /// out to be common. With whether the peer named the UID.
    maybe_gone: Vec<(Uid, bool)>,
    /// Messages that are missing here: saved if they are above the common point.
    maybe_saves: Vec<Remote>,
}

impl CommonPoint {
    pub(super) fn new(scan: &Scan) -> Self {
        let mut common = Self {
            uid: scan.state.last_common_uid,
            found: scan.is_stateful(),
            row: 0,
            used: false,
            has_change: false,
            maybe_gone: Vec::new(),
            maybe_saves: Vec::new(),
        };
        common.rewind(scan);
        common
    }

    fn rewind(&mut self, scan: &Scan) {
        let place = scan.messages.position(self.uid.saturating_add(1));
        self.row = place.unwrap_or_else(|place| place);
        self.used = false;
        self.has_change = false;
    }

    /// UID at the cursor.
    pub(super) fn current(&self, scan: &Scan) -> Option<Uid> {
        scan.messages.get(self.row).map(|row| row.uid)
    }

    pub(super) fn use_up(&mut self) {
        self.used = true;
    }

    /// Moves to the first unused message with at least this UID; `false` if there is none (5.3).
    pub(super) fn advance(&mut self, scan: &Scan, uid: Uid) -> bool {
        while let Some(current) = self
            .current(scan)
            .filter(|current| self.used || *current < uid)
        {
            if !self.has_change && !self.found {
                self.maybe_gone.push((current, false));
            }
            self.row += 1;
            self.used = false;
            self.has_change = false;
        }
        match self.current(scan) {
            Some(current) => {
                self.has_change = current == uid;
                true
            }
            None => false,
        }
    }
}

impl Importer {
    /// 5.4: one change.
    pub(super) fn apply(&mut self, mailbox: &mut dyn Mailbox, change: Change) -> Result<()> {
        if !self.common.found {
            self.find_common(mailbox, &change)?;
            if self.delete.is_some() {
                return Ok(());
            }
        }
        if self.common.found && change.uid > self.common.uid && change.kind == ChangeKind::Expunge {
            return Ok(());
        }
        match change.kind {
            ChangeKind::Save if change.uid == self.common.uid && !self.common.found => {
                self.merge_flags(mailbox, &change)
            }
            ChangeKind::Save if !self.options.filters.accept(&change) => Ok(()),
            ChangeKind::Save => {
                let remote = self.remote_of(&change);
                if self.common.found {
                    return self.save(mailbox, &remote);
                }
                self.common.maybe_saves.push(remote);
                Ok(())
            }
            ChangeKind::Expunge => {
                self.apply_expunge(&change);
                Ok(())
            }
            ChangeKind::Flags => self.merge_flags(mailbox, &change),
        }
    }

    fn apply_expunge(&mut self, change: &Change) {
        let uid = change.uid;
        if self.common.found {
            if self.verify(change) {
                self.gone.insert(uid);
            }
            return;
        }
        match self.common.current(&self.scan) {
            Some(current) if uid >= current => {
                if uid == self.common.uid {
                    self.gone.insert(uid);
                } else {
                    self.common.maybe_gone.push((uid, true));
                }
            }
            // It is not here any more either.
            _ => {}
        }
    }

    /// 5.5: looks whether this change shows the end of what is common.
    fn find_common(&mut self, mailbox: &mut dyn Mailbox, change: &Change) -> Result<()> {
        let scan = Arc::clone(&self.scan);
        let uid = change.uid;
        if !self.common.advance(&scan, uid) {
            if change.kind == ChangeKind::Expunge || !self.options.filters.accept(change) {
                return Ok(());
            }
            if scan.status.uid_next <= uid {
                return self.common_found(mailbox);
            }
            if self.options.revert {
                self.missing_locally(change);
                return Ok(());
            }
            if !self.expunged_match(mailbox, change)? {
                return self.common_found(mailbox);
            }
            return Ok(());
        }
        if self.options.mails_have_guids && change.guid.is_none() {
            return Ok(());
        }
        if self.common.current(&scan) == Some(uid) {
            return match self.is_same(mailbox, change)? {
                Some(true) => {
                    self.common.uid = uid;
                    Ok(())
                }
                Some(false) if self.options.revert => {
                    self.must_delete(format!(
                        "UID={uid} already exists locally for a different mail"
                    ));
                    Ok(())
                }
                Some(false) => self.common_found(mailbox),
                None => Ok(()),
            };
        }
        if !self.options.filters.accept(change) {
            return Ok(());
        }
        if self.options.revert && change.kind != ChangeKind::Expunge {
            self.missing_locally(change);
            return Ok(());
        }
        self.expunged_match(mailbox, change).map(drop)
    }

    fn missing_locally(&mut self, change: &Change) {
        let guid = change.guid.clone().unwrap_or_default();
        self.must_delete(format!("UID={} GUID={guid} is missing locally", change.uid));
    }

    /// Whether the change is about the message at the cursor; `None` if that cannot be told.
    fn is_same(&mut self, mailbox: &mut dyn Mailbox, change: &Change) -> Result<Option<bool>> {
        let scan = Arc::clone(&self.scan);
        let Some(row) = scan.messages.by_uid(change.uid) else {
            return Ok(None);
        };
        if self.options.mails_have_guids {
            let same = |guid| self.same_guid(change.kind, guid, row.guid);
            return Ok(change.guid.as_ref().map(same));
        }
        if change.kind == ChangeKind::Expunge {
            return Ok(None);
        }
        let Some(local) = self.local_hash(mailbox, row.uid)? else {
            return Ok(None);
        };
        let remote = change
            .hdr_hash
            .as_ref()
            .and_then(|hash| HeaderHash::from_hex(hash));
        Ok(Some(self.same_hash(local, remote)))
    }

    fn same_hash(&self, local: HeaderHash, remote: Option<HeaderHash>) -> bool {
        let nothing_hashed = local == HeaderHash::EMPTY || remote == Some(HeaderHash::EMPTY);
        remote == Some(local) || (self.options.empty_hdr_workaround && nothing_hashed)
    }

    /// 5.6: whether our log tells what became of a message that is missing here.
    fn expunged_match(&mut self, mailbox: &mut dyn Mailbox, change: &Change) -> Result<bool> {
        let Some(guid) = change.guid.as_ref().filter(|guid| !guid.is_empty()) else {
            return Ok(false);
        };
        let scan = Arc::clone(&self.scan);
        let Some(logged) = scan
            .log
            .changes
            .get(&change.uid)
            .filter(|logged| logged.kind == LoggedKind::Expunge && !logged.guid.is_zero())
        else {
            return Ok(false);
        };
        if logged.guid == MailGuid::short(guid) {
            self.common.uid = change.uid;
        } else if change.kind != ChangeKind::Expunge {
            self.common_found(mailbox)?;
        }
        Ok(true)
    }

    /// 5.7: everything above the common UID is new; what waited for the decision is done.
    fn common_found(&mut self, mailbox: &mut dyn Mailbox) -> Result<()> {
        self.common.found = true;
        self.common.rewind(&self.scan);
        // A filter leaves messages out on one side: what the peer does not have and does not
        // name was perhaps refused, not expunged.
        let only_named = self.options.safe_filters && !self.options.filters.is_empty();
        for (uid, named) in std::mem::take(&mut self.common.maybe_gone) {
            if uid <= self.common.uid
                && (named || !only_named)
                && self.scan.messages.position(uid).is_ok()
                && (named || self.may_have_been_sent(mailbox, uid))
            {
                self.gone.insert(uid);
            }
        }
        for remote in std::mem::take(&mut self.common.maybe_saves) {
            if remote.uid > self.common.uid && self.delete.is_none() {
                self.save(mailbox, &remote)?;
            }
        }
        Ok(())
    }

    /// A message that cannot be read could not be sent in an earlier run either. So that the peer
    /// does not have it does not show that it was expunged there.
    fn may_have_been_sent(&mut self, mailbox: &mut dyn Mailbox, uid: Uid) -> bool {
        let Err(error) = mailbox.open_message(uid) else {
            return true;
        };
        if self.options.revert {
            return true;
        }
        self.problems.push(Problem {
            mailbox: self.scan.name.clone(),
            uid,
            guid: BString::default(),
            reason: format!("cannot be read and is not on the other side, it is kept: {error}"),
        });
        false
    }

    /// All changes are read: the local messages behind them are new.
    pub(super) fn merge_rest(&mut self, mailbox: &mut dyn Mailbox) -> Result<()> {
        if !self.common.found {
            self.common_found(mailbox)?;
        }
        let scan = Arc::clone(&self.scan);
        self.common
            .advance(&scan, self.common.uid.saturating_add(1));
        loop {
            self.common.advance(&scan, 0);
            if self.common.current(&scan).is_none() || self.delete.is_some() {
                return Ok(());
            }
            self.merge_step(mailbox, None)?;
        }
    }
}
