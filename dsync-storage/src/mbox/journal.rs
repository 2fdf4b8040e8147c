//! The journal of a change in place: the old bytes, and how far the change has come.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use sha1::{Digest, Sha1};

/// Name of the journal in the index directory.
pub(super) const JOURNAL: &str = "dsync-unfinished";
pub(super) const MAGIC: &[u8; 8] = b"dsyncmb1";
/// Magic, state, inode, device, old size, new size, number of ranges.
pub(super) const HEADER: usize = 8 + 6 * 8;
/// Where the state is.
pub(super) const STATE: u64 = 8;
/// The file may have been made longer with NULs, and has not been changed otherwise.
pub(super) const PREPARED: u64 = 0;
/// It has its full length; bytes are being written.
pub(super) const WRITING: u64 = 2;
/// All bytes are there.
pub(super) const DONE: u64 = 1;
/// Most ranges of a journal; more are joined.
pub(super) const MAX_RANGES: usize = 1 << 20;
pub(super) const CHUNK: usize = 128 << 10;

/// Calls `each` with the bytes of a range, piece by piece.
pub(super) fn copy(
    file: &File,
    from: u64,
    len: u64,
    mut each: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK.min(usize::try_from(len).unwrap_or(CHUNK)).max(1)];
    let mut done = 0;
    while done < len {
        let want = buffer
            .len()
            .min(usize::try_from(len - done).unwrap_or(CHUNK));
        file.read_exact_at(&mut buffer[..want], from + done)?;
        each(from + done, &buffer[..want])?;
        done += want as u64;
    }
    Ok(())
}

/// Writes, and remembers what.
pub(super) struct Hashing<W> {
    pub(super) out: W,
    pub(super) hash: Sha1,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hash.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A complete journal.
pub(super) struct Saved {
    pub(super) state: u64,
    pub(super) ino: u64,
    pub(super) dev: u64,
    pub(super) old_size: u64,
    pub(super) new_size: u64,
    pub(super) ranges: Vec<(u64, u64)>,
    /// Where the old bytes begin.
    pub(super) data: u64,
}

impl Saved {
    /// `None` if it was not written to its end.
    pub(super) fn read(journal: &File) -> io::Result<Option<Self>> {
        let size = journal.metadata()?.len();
        let mut input = BufReader::with_capacity(CHUNK, journal);
        input.seek(SeekFrom::Start(0))?;
        let mut header = [0; HEADER];
        match input.read_exact(&mut header) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        if !header.starts_with(MAGIC) {
            return Ok(None);
        }
        let number = |bytes: &[u8], place: usize| {
            let bytes = bytes
                .get(place * 8..)
                .and_then(|rest| rest.first_chunk::<8>());
            bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
        };
        let mut hash = Sha1::new();
        hash.update(&header[..8]);
        // The state is what changes later.
        hash.update([0; 8]);
        hash.update(&header[16..]);
        let count = number(&header, 6);
        if count > (MAX_RANGES as u64) || HEADER as u64 + count * 16 > size {
            return Ok(None);
        }
        let mut table = vec![0; count as usize * 16];
        input.read_exact(&mut table)?;
        hash.update(&table);
        let ranges: Vec<(u64, u64)> = (0..count as usize)
            .map(|place| (number(&table, place * 2), number(&table, place * 2 + 1)))
            .collect();
        let data = HEADER as u64 + count * 16;
        let total = ranges
            .iter()
            .try_fold(data, |sum: u64, (_, len)| sum.checked_add(*len));
        if total.and_then(|end| end.checked_add(20)) != Some(size) {
            return Ok(None);
        }
        copy(journal, data, size - 20 - data, |_, bytes| {
            hash.update(bytes);
            Ok(())
        })?;
        let mut expected = [0; 20];
        journal.read_exact_at(&mut expected, size - 20)?;
        if hash.finalize()[..] != expected {
            return Ok(None);
        }
        Ok(Some(Self {
            state: number(&header, 1),
            ino: number(&header, 2),
            dev: number(&header, 3),
            old_size: number(&header, 4),
            new_size: number(&header, 5),
            ranges,
            data,
        }))
    }

    /// Whether the end of the file, which had to be cut off, is still what it was.
    pub(super) fn tail_is_there(&self, file: &File, journal: &File) -> io::Result<bool> {
        let Some((from, len)) = self.ranges.last().copied() else {
            return Ok(false);
        };
        let before: u64 = self.ranges.iter().rev().skip(1).map(|(_, len)| len).sum();
        let skipped = self.new_size.saturating_sub(from);
        let mut same = true;
        let mut buffer = vec![0; CHUNK];
        let start = self.data + before + skipped;
        copy(journal, start, len.saturating_sub(skipped), |at, bytes| {
            let there = &mut buffer[..bytes.len()];
            file.read_exact_at(there, from + skipped + (at - start))?;
            same &= there == bytes;
            Ok(())
        })?;
        Ok(same)
    }
}
