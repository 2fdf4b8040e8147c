//! Log records about extensions (`spec/dovecot-index.md` 5.1, 5.2).

use std::ops::Range;

use bstr::ByteSlice;
use dsync_proto::types::Uid;

use super::apply::{Applied, ApplyError};
use super::extension::{
    Extension, ExtensionSpec, MAX_EXTENSION_RECORD, MAX_EXTENSIONS, MAX_HEADER_SIZE, valid_name,
};
use super::format::{pad4, pad8, u32_at};
use super::payload::{ExtIntro, atomic_incs, header_updates};
use super::record::EXT_BY_NAME;
use super::state::{CurrentExtension, IndexState};

impl IndexState {
    pub(super) fn introduce(&mut self, intro: &ExtIntro<'_>) -> Applied {
        self.current = CurrentExtension::None;
        let known = if intro.id == EXT_BY_NAME {
            self.extension_id(intro.name)
        } else {
            Some(intro.id as usize)
        };
        let Some(id) = known else {
            return self.create_extension(intro);
        };
        let extension = self.extensions.get(id).ok_or(ApplyError::Extension)?;
        if extension.is("keywords") {
            return Err(ApplyError::Extension);
        }
        if extension.reset_id != intro.reset_id {
            self.current = CurrentExtension::Ignored(id);
            return Ok(());
        }
        self.resize(id, intro)?;
        self.current = CurrentExtension::Active(id, intro.record_size);
        Ok(())
    }

    fn create_extension(&mut self, intro: &ExtIntro<'_>) -> Applied {
        let nothing = intro.header_size == 0 && intro.record_size == 0;
        if !valid_name(intro.name)
            || intro.name == b"keywords"
            || nothing
            || self.extensions.len() >= MAX_EXTENSIONS
        {
            return Err(ApplyError::Extension);
        }
        check_sizes(intro)?;
        let id = self.add_extension(intro.name, intro.reset_id);
        let header_size = intro.header_size as usize;
        if !self.resize_extension(id, header_size, intro.record_size, intro.record_align) {
            self.extensions.pop();
            return Err(ApplyError::ExtensionSize);
        }
        self.current = CurrentExtension::Active(id, intro.record_size);
        if intro.name == ExtensionSpec::MODSEQ.name.as_bytes()
            && let Some(offset) = self.modseq_offset
        {
            // From now on each message has the modseq that it had in common with all others.
            self.records
                .fill(offset, &self.highest_modseq.to_le_bytes());
        }
        Ok(())
    }

    fn resize(&mut self, id: usize, intro: &ExtIntro<'_>) -> Applied {
        check_sizes(intro)?;
        let extension = &self.extensions[id];
        let (old, new) = (extension.header.len(), intro.header_size as usize);
        let header_size = if pad8(new) < pad8(old) && intro.no_shrink {
            old
        } else {
            new
        };
        let grow = |old: u16, new: u16| if intro.no_shrink { old.max(new) } else { new };
        let record_size = grow(extension.record_size, intro.record_size);
        let record_align = grow(extension.record_align, intro.record_align);
        if self.resize_extension(id, header_size, record_size, record_align) {
            Ok(())
        } else {
            Err(ApplyError::ExtensionSize)
        }
    }

    pub(super) fn reset_extension(&mut self, payload: &[u8]) -> Applied {
        let id = match self.current {
            CurrentExtension::None => return Err(ApplyError::NoIntro),
            CurrentExtension::Ignored(id) | CurrentExtension::Active(id, _) => id,
        };
        let reset_id = u32_at(payload, 0).ok_or(ApplyError::ExtensionSize)?;
        let preserve = payload.get(4).is_some_and(|byte| *byte != 0);
        let extension = self.extensions.get_mut(id).ok_or(ApplyError::Extension)?;
        extension.reset_id = reset_id;
        if !preserve {
            extension.header.fill(0);
            let (offset, size) = (extension.record_offset, extension.record_size);
            self.records.fill(offset, &vec![0; size.into()]);
        }
        Ok(())
    }

    pub(super) fn update_extension_header(&mut self, payload: &[u8], wide: bool) -> Applied {
        let id = match self.current {
            CurrentExtension::None => return Err(ApplyError::NoIntro),
            CurrentExtension::Ignored(_) => return Ok(()),
            CurrentExtension::Active(id, _) => id,
        };
        let extension = self.extensions.get_mut(id).ok_or(ApplyError::Extension)?;
        for update in header_updates(payload, wide) {
            let (offset, data) = update.ok_or(ApplyError::ExtensionSize)?;
            let target = offset
                .checked_add(data.len())
                .and_then(|end| extension.header.get_mut(offset..end))
                .ok_or(ApplyError::ExtensionSize)?;
            target.copy_from_slice(data);
        }
        Ok(())
    }

    pub(super) fn update_extension_records(&mut self, payload: &[u8]) -> Applied {
        let (id, size) = match self.current {
            CurrentExtension::None => return Err(ApplyError::NoIntro),
            CurrentExtension::Ignored(_) => return Ok(()),
            CurrentExtension::Active(id, size) => (id, usize::from(size)),
        };
        let slot = self
            .extensions
            .get(id)
            .map(Extension::slot)
            .ok_or(ApplyError::Extension)?;
        let entry_size = pad4(4 + size);
        if size == 0 || !payload.len().is_multiple_of(entry_size) {
            return Err(ApplyError::ExtensionSize);
        }
        for entry in payload.chunks_exact(entry_size) {
            let uid = u32_at(entry, 0).unwrap_or(0);
            if let Some(target) = self.extension_record(uid, slot.clone())? {
                let copied = size.min(target.len());
                target.fill(0);
                target[..copied].copy_from_slice(&entry[4..4 + copied]);
            }
        }
        Ok(())
    }

    /// Bytes of an extension in the record of a message; `None` if the message is gone.
    fn extension_record(
        &mut self,
        uid: Uid,
        slot: Range<usize>,
    ) -> Result<Option<&mut [u8]>, ApplyError> {
        if uid == 0 || uid >= self.header.next_uid() {
            return Err(ApplyError::ExtensionUid(uid));
        }
        let Some(position) = self.records.position(uid) else {
            return Ok(None);
        };
        let record = self.records.get_mut(position);
        Ok(record.and_then(|record| record.get_mut(slot)))
    }

    pub(super) fn increment(&mut self, payload: &[u8]) -> Applied {
        let id = match self.current {
            CurrentExtension::None => return Err(ApplyError::NoIntro),
            CurrentExtension::Ignored(_) => return Ok(()),
            CurrentExtension::Active(id, _) => id,
        };
        let extension = self.extensions.get(id).ok_or(ApplyError::Extension)?;
        let slot = extension.slot();
        if ![1, 2, 4, 8].contains(&slot.len()) {
            return Err(ApplyError::ExtensionSize);
        }
        for (uid, difference) in atomic_incs(payload) {
            if let Some(target) = self.extension_record(uid, slot.clone())? {
                add_to_counter(target, difference).ok_or(ApplyError::Counter(uid))?;
            }
        }
        Ok(())
    }
}

fn add_to_counter(counter: &mut [u8], difference: i32) -> Option<()> {
    let mut wide = [0; 8];
    let size = counter.len();
    wide[..size].copy_from_slice(counter);
    let value = u64::from_le_bytes(wide).checked_add_signed(difference.into())?;
    let bytes = value.to_le_bytes();
    if bytes[size..].iter().any(|byte| *byte != 0) {
        return None;
    }
    counter.copy_from_slice(&bytes[..size]);
    Some(())
}

fn check_sizes(intro: &ExtIntro<'_>) -> Applied {
    let fits = intro.header_size as usize <= MAX_HEADER_SIZE
        && usize::from(intro.record_size) <= MAX_EXTENSION_RECORD
        && intro.name.find_byte(0).is_none();
    if fits {
        Ok(())
    } else {
        Err(ApplyError::ExtensionSize)
    }
}
