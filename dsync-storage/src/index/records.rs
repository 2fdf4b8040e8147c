//! All messages in one flat array, as in the snapshot (`spec/dovecot-index.md` 3.3).

use dsync_proto::types::Uid;

use super::format::u32_at;

/// UID and flags; extension data follows.
pub(crate) const FIXED_RECORD_SIZE: usize = 5;
/// Offsets inside a record are 16 bits wide.
pub(crate) const MAX_RECORD_SIZE: usize = u16::MAX as usize;
/// Most bytes of all records together: a damaged file must not eat the memory.
pub(crate) const MAX_TABLE_SIZE: usize = 1 << 30;

/// Message records by rising UID, each of `record_size` bytes.
///
/// Expunged records are only marked; [`RecordTable::compact`] drops them in one pass, so that
/// many small expunge records cost no more than one.
#[derive(Clone, Debug)]
pub(crate) struct RecordTable {
    bytes: Vec<u8>,
    record_size: usize,
    /// One bit per position; empty if nothing was expunged.
    dead: Vec<u64>,
    dead_count: usize,
}

impl RecordTable {
    pub(crate) fn new(record_size: usize) -> Self {
        Self::from_bytes(Vec::new(), record_size)
    }

    /// `record_size` must be at least 5.
    pub(crate) fn from_bytes(bytes: Vec<u8>, record_size: usize) -> Self {
        Self {
            bytes,
            record_size: record_size.max(FIXED_RECORD_SIZE),
            dead: Vec::new(),
            dead_count: 0,
        }
    }

    pub(crate) fn record_size(&self) -> usize {
        self.record_size
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Positions, dead ones included.
    pub(crate) fn positions(&self) -> usize {
        self.bytes.len() / self.record_size
    }

    /// Living messages.
    pub(crate) fn count(&self) -> usize {
        self.positions() - self.dead_count
    }

    pub(crate) fn get(&self, position: usize) -> Option<&[u8]> {
        let start = position.checked_mul(self.record_size)?;
        self.bytes.get(start..start + self.record_size)
    }

    /// A living record.
    pub(crate) fn get_mut(&mut self, position: usize) -> Option<&mut [u8]> {
        if self.is_dead(position) {
            return None;
        }
        let start = position.checked_mul(self.record_size)?;
        self.bytes.get_mut(start..start + self.record_size)
    }

    pub(crate) fn uid(&self, position: usize) -> Option<Uid> {
        u32_at(self.get(position)?, 0)
    }

    pub(crate) fn is_dead(&self, position: usize) -> bool {
        self.dead
            .get(position / 64)
            .is_some_and(|word| word >> (position % 64) & 1 == 1)
    }

    /// First position whose UID is not below this one.
    pub(crate) fn lower_bound(&self, uid: Uid) -> usize {
        let (mut low, mut high) = (0, self.positions());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.uid(middle).is_some_and(|there| there < uid) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Position of a living message.
    pub(crate) fn position(&self, uid: Uid) -> Option<usize> {
        let position = self.lower_bound(uid);
        (self.uid(position) == Some(uid) && !self.is_dead(position)).then_some(position)
    }

    /// Adds a message with a UID above all others and zeroed extension data; `false` if the
    /// table is full.
    #[must_use]
    pub(crate) fn push(&mut self, uid: Uid, flags: u8) -> bool {
        let end = self.bytes.len();
        if end + self.record_size > MAX_TABLE_SIZE {
            return false;
        }
        self.bytes.resize(end + self.record_size, 0);
        self.bytes[end..end + 4].copy_from_slice(&uid.to_le_bytes());
        self.bytes[end + 4] = flags;
        true
    }

    /// Marks a message as expunged and gives its flags, if it lives.
    pub(crate) fn kill(&mut self, position: usize) -> Option<u8> {
        if self.is_dead(position) {
            return None;
        }
        let flags = self.get(position)?[4];
        if self.dead.len() <= position / 64 {
            self.dead.resize(self.positions().div_ceil(64), 0);
        }
        self.dead[position / 64] |= 1 << (position % 64);
        self.dead_count += 1;
        Some(flags)
    }

    /// Drops the expunged records: one pass over the array.
    pub(crate) fn compact(&mut self) {
        if self.dead_count == 0 {
            return;
        }
        let size = self.record_size;
        let mut to = 0;
        for from in 0..self.positions() {
            if !self.is_dead(from) {
                if from != to {
                    self.bytes
                        .copy_within(from * size..(from + 1) * size, to * size);
                }
                to += 1;
            }
        }
        self.bytes.truncate(to * size);
        self.dead = Vec::new();
        self.dead_count = 0;
    }

    /// Moves extension data to new places (`(old offset, new offset, bytes)`); everything else
    /// behind the flags becomes zero. `false` if that would be too large.
    #[must_use]
    pub(crate) fn relayout(&mut self, record_size: usize, moves: &[(usize, usize, usize)]) -> bool {
        let positions = self.positions();
        if record_size > MAX_RECORD_SIZE || positions * record_size > MAX_TABLE_SIZE {
            return false;
        }
        let mut bytes = vec![0; positions * record_size];
        for (old, new) in self
            .bytes
            .chunks_exact(self.record_size)
            .zip(bytes.chunks_exact_mut(record_size))
        {
            new[..FIXED_RECORD_SIZE].copy_from_slice(&old[..FIXED_RECORD_SIZE]);
            for (from, to, length) in moves.iter().copied() {
                new[to..to + length].copy_from_slice(&old[from..from + length]);
            }
        }
        self.bytes = bytes;
        self.record_size = record_size;
        true
    }

    /// Sets some bytes of every living record.
    pub(crate) fn fill(&mut self, offset: usize, data: &[u8]) {
        for record in self.bytes.chunks_exact_mut(self.record_size) {
            if let Some(target) = record.get_mut(offset..offset + data.len()) {
                target.copy_from_slice(data);
            }
        }
    }
}
