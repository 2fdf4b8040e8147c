//! A log record changes the state (`spec/dovecot-index.md` 5.1, 5.2, 7.4).

use dsync_proto::types::{ModSeq, Uid};

use super::extension::MAX_EXTENSION_RECORD;
use super::format::{u32_at, u64_at};
use super::header::{HEADER_HAVE_DIRTY, HeaderField};
use super::keywords::KeywordTable;
use super::payload::{
    KeywordUpdate, appends, expunged_guids, ext_intros, flag_updates, header_updates,
    modseq_updates, ranges,
};
use super::record::{Record, RecordKind};
use super::state::IndexState;

const SEEN: u8 = 0x08;
const DELETED: u8 = 0x04;
const DIRTY: u8 = 0x80;

/// A record that does not fit the state; the rest of the record is ignored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApplyError {
    #[error("append with UID {uid}, but UIDNEXT is {next_uid}")]
    AppendBelowNextUid { uid: Uid, next_uid: Uid },
    #[error("too many messages for one index")]
    TooManyMessages,
    #[error("header update beyond the header")]
    HeaderUpdate,
    #[error("unknown or forbidden extension")]
    Extension,
    #[error("extension record without an introduction")]
    NoIntro,
    #[error("extension data that does not fit its size")]
    ExtensionSize,
    #[error("extension record for UID {0}, which never existed")]
    ExtensionUid(Uid),
    #[error("counter of UID {0} leaves its range")]
    Counter(Uid),
    #[error("modseqs of messages before they were enabled")]
    ModseqsDisabled,
    #[error("record of an unknown type")]
    UnknownType,
}

pub(crate) type Applied = Result<(), ApplyError>;

impl IndexState {
    /// Applies a record; `modseq` is the running modseq after it.
    pub(crate) fn apply(&mut self, record: &Record<'_>, modseq: ModSeq) -> Applied {
        self.highest_modseq = modseq.max(1);
        let payload = record.payload;
        match record.kind.ok_or(ApplyError::UnknownType)? {
            RecordKind::Append => self.append(payload),
            RecordKind::Expunge if record.external => {
                for (first, last) in ranges(payload) {
                    self.each_in(first..=last, Self::expunge);
                }
                Ok(())
            }
            RecordKind::ExpungeGuid if record.external => {
                for (uid, _) in expunged_guids(payload) {
                    self.each_in(uid..=uid, Self::expunge);
                }
                Ok(())
            }
            RecordKind::FlagUpdate => {
                for entry in flag_updates(payload) {
                    self.each_in(entry.first..=entry.last, |state, position| {
                        state.change_flags(position, entry.add, entry.remove);
                        if !entry.is_internal() {
                            state.touch(position);
                        }
                    });
                }
                Ok(())
            }
            RecordKind::KeywordUpdate => self.update_keyword(payload),
            RecordKind::KeywordReset => {
                let slot = self.keywords_id().map(|id| self.extensions[id].slot());
                for (first, last) in ranges(payload) {
                    self.each_in(first..=last, |state, position| {
                        let record = state.records.get_mut(position);
                        if let Some(mask) = record.zip(slot.clone()).and_then(|(r, s)| r.get_mut(s))
                        {
                            mask.fill(0);
                        }
                        state.touch(position);
                    });
                }
                Ok(())
            }
            RecordKind::HeaderUpdate => self.update_header(payload),
            RecordKind::ExtIntro => ext_intros(payload)
                .flatten()
                .try_for_each(|intro| self.introduce(&intro)),
            RecordKind::ExtReset => self.reset_extension(payload),
            RecordKind::ExtHdrUpdate => self.update_extension_header(payload, false),
            RecordKind::ExtHdrUpdate32 => self.update_extension_header(payload, true),
            RecordKind::ExtRecUpdate => self.update_extension_records(payload),
            RecordKind::ExtAtomicInc => self.increment(payload),
            RecordKind::ModseqUpdate => self.update_modseqs(payload),
            RecordKind::IndexDeleted | RecordKind::IndexUndeleted => {
                self.deleted = record.kind == Some(RecordKind::IndexDeleted);
                Ok(())
            }
            RecordKind::Expunge
            | RecordKind::ExpungeGuid
            | RecordKind::Boundary
            | RecordKind::AttributeUpdate => Ok(()),
        }
    }

    /// Applies only what a record does to the modseqs of messages: for a snapshot whose modseqs
    /// are older than the snapshot itself (`spec/dovecot-index.md` 7.4, "Loading").
    pub(crate) fn apply_modseqs(&mut self, record: &Record<'_>, modseq: ModSeq) {
        self.highest_modseq = modseq.max(1);
        let payload = record.payload;
        match record.kind {
            Some(RecordKind::Append) => {
                for (uid, _) in appends(payload) {
                    self.each_in(uid..=uid, Self::touch);
                }
            }
            Some(RecordKind::FlagUpdate) => {
                for entry in flag_updates(payload).filter(|entry| !entry.is_internal()) {
                    self.each_in(entry.first..=entry.last, Self::touch);
                }
            }
            Some(RecordKind::KeywordUpdate) => {
                let update = KeywordUpdate::decode(payload);
                for (first, last) in update.iter().flat_map(KeywordUpdate::ranges) {
                    self.each_in(first..=last, Self::touch);
                }
            }
            Some(RecordKind::KeywordReset) => {
                for (first, last) in ranges(payload) {
                    self.each_in(first..=last, Self::touch);
                }
            }
            Some(RecordKind::ModseqUpdate) => {
                self.update_modseqs(payload).unwrap_or_default();
            }
            _ => {}
        }
    }

    /// Calls `action` with the position of each message in a range of UIDs.
    fn each_in(
        &mut self,
        uids: std::ops::RangeInclusive<Uid>,
        mut action: impl FnMut(&mut Self, usize),
    ) {
        let mut position = self.records.lower_bound(*uids.start());
        while self
            .records
            .uid(position)
            .is_some_and(|uid| uid <= *uids.end())
        {
            if !self.records.is_dead(position) {
                action(self, position);
            }
            position += 1;
        }
    }

    fn append(&mut self, payload: &[u8]) -> Applied {
        for (uid, flags) in appends(payload) {
            let next_uid = self.header.next_uid();
            if uid < next_uid || uid == Uid::MAX {
                return Err(ApplyError::AppendBelowNextUid { uid, next_uid });
            }
            if !self.records.push(uid, 0) {
                return Err(ApplyError::TooManyMessages);
            }
            self.header.set(HeaderField::NextUid, uid + 1);
            let messages = self.header.get(HeaderField::MessagesCount);
            self.header
                .set(HeaderField::MessagesCount, messages.saturating_add(1));
            let position = self.records.positions() - 1;
            self.change_flags(position, flags, SEEN | DELETED);
            self.touch(position);
        }
        Ok(())
    }

    fn expunge(&mut self, position: usize) {
        let Some(flags) = self.records.kill(position) else {
            return;
        };
        self.count(HeaderField::MessagesCount, -1);
        if flags & SEEN != 0 {
            self.count(HeaderField::SeenCount, -1);
        }
        if flags & DELETED != 0 {
            self.one_deleted_less();
        }
    }

    fn one_deleted_less(&mut self) {
        if self.count(HeaderField::DeletedCount, -1) == 0 {
            let next_uid = self.header.next_uid();
            self.header.set(HeaderField::FirstDeletedLowwater, next_uid);
        }
    }

    fn count(&mut self, field: HeaderField, difference: i32) -> u32 {
        let value = self.header.get(field).saturating_add_signed(difference);
        self.header.set(field, value);
        value
    }

    /// Changes flags and keeps the counters and lowwaters (`spec/dovecot-index.md` 5.1).
    fn change_flags(&mut self, position: usize, add: u8, remove: u8) {
        let Some(record) = self.records.get_mut(position) else {
            return;
        };
        let uid = u32_at(record, 0).unwrap_or(0);
        let old = record[4];
        let new = (old & !remove) | add;
        record[4] = new;
        if new & DIRTY != 0 {
            let flags = self.header.get(HeaderField::Flags);
            self.header
                .set(HeaderField::Flags, flags | HEADER_HAVE_DIRTY);
        }
        if new & !old & SEEN != 0 {
            let seen = self.count(HeaderField::SeenCount, 1);
            if seen == self.header.get(HeaderField::MessagesCount) {
                let next_uid = self.header.next_uid();
                self.header.set(HeaderField::FirstUnseenLowwater, next_uid);
            }
        } else if old & !new & SEEN != 0 {
            self.count(HeaderField::SeenCount, -1);
        }
        if new & !old & DELETED != 0 {
            self.count(HeaderField::DeletedCount, 1);
        } else if old & !new & DELETED != 0 {
            self.one_deleted_less();
        }
        if (add | remove) & (SEEN | DELETED) != 0 {
            if new & SEEN == 0 && uid < self.header.get(HeaderField::FirstUnseenLowwater) {
                self.header.set(HeaderField::FirstUnseenLowwater, uid);
            }
            if new & DELETED != 0 && uid < self.header.get(HeaderField::FirstDeletedLowwater) {
                self.header.set(HeaderField::FirstDeletedLowwater, uid);
            }
        }
    }

    /// Raises the modseq of a message to the running one.
    fn touch(&mut self, position: usize) {
        let modseq = self.highest_modseq;
        self.raise_modseq(position, modseq);
    }

    fn raise_modseq(&mut self, position: usize, modseq: ModSeq) {
        let Some(offset) = self.modseq_offset else {
            return;
        };
        if let Some(record) = self.records.get_mut(position)
            && u64_at(record, offset).is_some_and(|old| old < modseq)
        {
            record[offset..offset + 8].copy_from_slice(&modseq.to_le_bytes());
        }
    }

    fn update_modseqs(&mut self, payload: &[u8]) -> Applied {
        for (uid, modseq) in modseq_updates(payload).filter(|(uid, _)| *uid != 0) {
            if !self.has_modseqs() {
                return Err(ApplyError::ModseqsDisabled);
            }
            self.each_in(uid..=uid, |state, position| {
                state.raise_modseq(position, modseq);
            });
        }
        Ok(())
    }

    fn update_keyword(&mut self, payload: &[u8]) -> Applied {
        let Some(update) = KeywordUpdate::decode(payload) else {
            return Ok(()); // was validated
        };
        let bit = match self.keywords.find(update.name) {
            Some(bit) => bit,
            None => self.add_keyword(update.name)?,
        };
        let slot = self
            .keywords_id()
            .map(|id| self.extensions[id].slot())
            .ok_or(ApplyError::Extension)?;
        let inside = bit / 8 < slot.len();
        for (first, last) in update.ranges() {
            self.each_in(first..=last, |state, position| {
                if let Some(byte) = state
                    .records
                    .get_mut(position)
                    .filter(|_| inside)
                    .and_then(|record| record.get_mut(slot.start + bit / 8))
                {
                    let mask = 1 << (bit % 8);
                    *byte = if update.add {
                        *byte | mask
                    } else {
                        *byte & !mask
                    };
                }
                state.touch(position);
            });
        }
        Ok(())
    }

    /// A new keyword; creates or grows the extension (`spec/dovecot-index.md` 3.4).
    fn add_keyword(&mut self, name: &[u8]) -> Result<usize, ApplyError> {
        let id = match self.keywords_id() {
            Some(id) => id,
            None => self.add_extension(b"keywords", 0),
        };
        let mask = KeywordTable::mask_size(self.keywords.len() + 1);
        if mask > MAX_EXTENSION_RECORD {
            return Err(ApplyError::ExtensionSize);
        }
        let old_size = usize::from(self.extensions[id].record_size);
        let too_small = old_size * 8 <= self.keywords.len();
        let size = if too_small { mask } else { old_size };
        let align = self.extensions[id].record_align.max(1);
        let header_size = self.extensions[id].header.len();
        if !self.resize_extension(id, header_size, size as u16, align) {
            return Err(ApplyError::ExtensionSize);
        }
        let bit = self.keywords.add(name);
        let keep = if too_small { 0 } else { header_size };
        self.extensions[id].header = self.keywords.encode(keep);
        Ok(bit)
    }

    fn update_header(&mut self, payload: &[u8]) -> Applied {
        for update in header_updates(payload, false) {
            let (offset, data) = update.ok_or(ApplyError::HeaderUpdate)?;
            if !self.header.update(offset, data) {
                return Err(ApplyError::HeaderUpdate);
            }
        }
        Ok(())
    }
}
