//! Mending damaged files under the lock (`spec/dovecot-index.md` 14).

use crate::{Result, StorageError};

use super::damage::Damage;
use super::header::{HEADER_FSCKD, HeaderField};
use super::log_header::LOG_HEADER_SIZE;
use super::snapshot::SnapshotPosition;
use super::store::LockedIndex;

impl LockedIndex<'_> {
    /// Repairs what loading found, under the lock.
    pub(crate) fn mend(&mut self) -> Result<()> {
        let open = self.index.damage.get(self.index.mended..).unwrap_or(&[]);
        let (anything, lost, new_log) = (
            !open.is_empty(),
            open.iter().any(Damage::lost_something),
            open.iter().any(Damage::needs_new_log),
        );
        if self.index.torn > 0 && !new_log {
            self.cut_tail()?;
        }
        if !anything || self.index.needs_rebuild() {
            return Ok(()); // whoever rebuilds it resets the index
        }
        if lost {
            let header = &mut self.index.state.header;
            let flags = header.get(HeaderField::Flags);
            header.set(HeaderField::Flags, flags | HEADER_FSCKD);
        }
        if new_log {
            self.salvage()?;
        } else {
            self.write_snapshot()?;
        }
        self.index.mended = self.index.damage.len();
        Ok(())
    }

    /// Cuts off what a writer that died left behind: Dovecot would drop everything since the
    /// snapshot instead (`spec/dovecot-index.md` 9, 14.3).
    fn cut_tail(&mut self) -> Result<()> {
        let bytes = self.index.torn;
        let path = self.index.files.log();
        if let Some((log, cursor)) = self.index.log.as_ref() {
            log.file
                .set_len(cursor.offset.into())
                .map_err(|error| StorageError::io("cut", &path, &error))?;
        }
        let damage = Damage::TornTail { bytes };
        tracing::warn!(index = %path.display(), "index log mended: {damage}");
        self.index.damage.insert(self.index.mended, damage);
        self.index.mended += 1;
        self.index.torn = 0;
        Ok(())
    }

    /// A new log for a state that the old one does not lead to. First the snapshot, which
    /// already belongs to the new log: killed between, everybody has the whole state.
    fn salvage(&mut self) -> Result<()> {
        let seq = self.next_seq();
        let position = SnapshotPosition {
            log_seq: seq,
            tail: LOG_HEADER_SIZE as u32,
            head: LOG_HEADER_SIZE as u32,
        };
        let mut header = self.index.fresh_header();
        header.index_id = self.index.state.header.get(HeaderField::IndexId);
        if header.index_id == 0 {
            header.index_id = header.create_stamp;
            self.index.state.set_index_id(header.index_id);
        }
        header.file_seq = seq;
        header.prev_file_seq = seq - 1;
        header.prev_file_offset = self.index.log_size();
        self.index.write_snapshot(position)?;
        self.install_log(&header, &[], false)
    }
}
