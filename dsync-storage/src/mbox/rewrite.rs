//! Changes a file in place, and takes a change back that a kill left half done.
//!
//! An mbox is never replaced by another file: who waits for a lock on the old one would write
//! into nowhere (`spec/mbox.md` 8). So bytes move inside the file, and a journal in the index
//! directory keeps the old ones meanwhile. The order, all of it under the write locks, and what
//! the next run does if we are killed right after each step:
//!
//! 1. the journal is written and flushed: it is dropped, or puts back the same bytes;
//! 2. room for a longer file is made, so that a full disk ends it here; bytes are written and
//!    flushed: the old bytes come back, and what others appended since stays behind them;
//! 3. the journal says "done": from now on nothing is taken back; a longer file is cut;
//! 4. the journal goes.
//!
//! A Dovecot that looks in between sees a damaged mailbox, as it does when it is killed itself.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use dsync_proto::types::MailErrorClass;
use sha1::{Digest, Sha1};

use super::journal::{
    CHUNK, DONE, HEADER, Hashing, JOURNAL, MAGIC, MAX_RANGES, PREPARED, STATE, Saved, WRITING, copy,
};
use crate::permissions::CreateModes;
use crate::{Result, StorageError, path_io};

/// A part of the new contents.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    /// These bytes of the old file.
    Old { from: u64, len: u64 },
    /// New bytes.
    New(Vec<u8>),
    /// Bytes of the file of new messages.
    Staged { from: u64, len: u64 },
}

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Self::Old { len, .. } | Self::Staged { len, .. } => *len,
            Self::New(bytes) => bytes.len() as u64,
        }
    }
}

/// A piece that must be written, and where to.
struct Placed<'a> {
    at: u64,
    piece: &'a Piece,
}

/// What has to be done to get from the old contents to the new ones.
struct Plan<'a> {
    writes: Vec<Placed<'a>>,
    /// Old bytes to keep: rising, apart from each other.
    ranges: Vec<(u64, u64)>,
    old_size: u64,
    new_size: u64,
}

fn plan(pieces: &[Piece], old_size: u64) -> Plan<'_> {
    let mut writes = Vec::new();
    let (mut at, mut moved_from) = (0, u64::MAX);
    for piece in pieces {
        match piece {
            Piece::Old { from, .. } if *from == at => {}
            Piece::Old { from, .. } => {
                moved_from = moved_from.min(*from).min(at);
                writes.push(Placed { at, piece });
            }
            _ => writes.push(Placed { at, piece }),
        }
        at += piece.len();
    }
    if at < old_size {
        moved_from = moved_from.min(at);
    }
    if writes.len() >= MAX_RANGES {
        moved_from = moved_from.min(writes.first().map_or(at, |write| write.at));
    }
    let tail = moved_from.min(old_size);
    let mut ranges: Vec<(u64, u64)> = writes
        .iter()
        .map(|write| (write.at, (write.at + write.piece.len()).min(tail)))
        .filter(|(from, to)| from < to)
        .map(|(from, to)| (from, to - from))
        .collect();
    if tail < old_size {
        ranges.push((tail, old_size - tail));
    }
    Plan {
        writes,
        ranges,
        old_size,
        new_size: at,
    }
}

/// Where a file lies, and how it is written.
pub(super) struct Place<'a> {
    pub(super) path: &'a Path,
    pub(super) index_dir: &'a Path,
    pub(super) modes: &'a CreateModes,
    pub(super) sync: bool,
}

impl Place<'_> {
    fn failed(&self, what: &'static str) -> impl Fn(io::Error) -> StorageError + '_ {
        move |error| StorageError::io(what, self.path, &error)
    }

    fn flush(&self, file: &File) -> io::Result<()> {
        match self.sync {
            true => file.sync_data(),
            false => Ok(()),
        }
    }

    /// Gives the file, which must be locked, new contents. `false` if they are the old ones.
    pub(super) fn rewrite(
        &self,
        file: &File,
        pieces: &[Piece],
        staged: Option<&File>,
    ) -> Result<bool> {
        let old_size = file.metadata().map_err(self.failed("stat"))?.len();
        let plan = plan(pieces, old_size);
        if plan.writes.is_empty() && plan.new_size == old_size {
            return Ok(false);
        }
        let journal = self.index_dir.join(JOURNAL);
        let kept = self
            .write_journal(file, &plan)
            .map_err(|error| StorageError::io("write", &journal, &error))?;
        if let Err(error) = self.carry_out(file, &plan, &kept, staged) {
            // The same as the next run would do.
            self.recover(file)?;
            return Err(StorageError::io("write", self.path, &error));
        }
        drop(kept);
        self.drop_journal(&journal)?;
        Ok(true)
    }

    /// Does only so many steps, as if killed then; whether the change was done.
    #[cfg(test)]
    pub(super) fn rewrite_until(
        &self,
        file: &File,
        pieces: &[Piece],
        steps: usize,
    ) -> Result<bool> {
        let failed = self.failed("write");
        let old_size = file.metadata().map_err(&failed)?.len();
        let plan = plan(pieces, old_size);
        if plan.writes.is_empty() && plan.new_size == old_size {
            return Ok(false);
        }
        let journal = self.write_journal(file, &plan).map_err(&failed)?;
        let mut left = steps;
        self.step_by_step(file, &plan, &journal, None, &mut || {
            let more = left > 0;
            left = left.saturating_sub(1);
            more
        })
        .map_err(&failed)
    }

    fn drop_journal(&self, journal: &Path) -> Result<()> {
        path_io::remove(journal)?;
        match self.sync {
            true => path_io::sync(self.index_dir),
            false => Ok(()),
        }
    }

    fn write_journal(&self, file: &File, plan: &Plan<'_>) -> io::Result<File> {
        let path = self.index_dir.join(JOURNAL);
        let journal = self.modes.create_truncated(&path)?;
        let meta = file.metadata()?;
        let mut out = Hashing {
            out: BufWriter::with_capacity(CHUNK, &journal),
            hash: Sha1::new(),
        };
        out.write_all(MAGIC)?;
        let count = plan.ranges.len() as u64;
        for number in [
            0,
            meta.ino(),
            meta.dev(),
            plan.old_size,
            plan.new_size,
            count,
        ] {
            out.write_all(&number.to_le_bytes())?;
        }
        for (from, len) in &plan.ranges {
            out.write_all(&from.to_le_bytes())?;
            out.write_all(&len.to_le_bytes())?;
        }
        for (from, len) in &plan.ranges {
            copy(file, *from, *len, |_, bytes| out.write_all(bytes))?;
        }
        let digest = out.hash.clone().finalize();
        out.out.write_all(&digest)?;
        out.out.flush()?;
        drop(out);
        if self.sync {
            journal.sync_data()?;
            path_io::sync(self.index_dir).map_err(|error| io::Error::other(error.message))?;
        }
        Ok(journal)
    }

    fn carry_out(
        &self,
        file: &File,
        plan: &Plan<'_>,
        journal: &File,
        staged: Option<&File>,
    ) -> io::Result<()> {
        self.step_by_step(file, plan, journal, staged, &mut || true)
            .map(drop)
    }

    /// Goes on as long as `more` says so; whether it came so far that nothing is taken back.
    fn step_by_step(
        &self,
        file: &File,
        plan: &Plan<'_>,
        journal: &File,
        staged: Option<&File>,
        more: &mut dyn FnMut() -> bool,
    ) -> io::Result<bool> {
        if !more() {
            return Ok(false);
        }
        if plan.new_size > plan.old_size {
            grow(file, plan.old_size, plan.new_size)?;
        }
        if !more() {
            return Ok(false);
        }
        self.enter(journal, WRITING)?;
        let kept = Kept::of(plan);
        for write in &plan.writes {
            if !more() {
                return Ok(false);
            }
            match write.piece {
                Piece::New(bytes) => file.write_all_at(bytes, write.at)?,
                Piece::Staged { from, len } => {
                    let staged = staged.ok_or_else(|| io::Error::other("no new messages"))?;
                    move_to(staged, *from, *len, file, write.at)?;
                }
                Piece::Old { from, len } => {
                    move_to(journal, kept.offset(*from), *len, file, write.at)?;
                }
            }
        }
        self.flush(file)?;
        if !more() {
            return Ok(false);
        }
        self.enter(journal, DONE)?;
        if plan.new_size < plan.old_size && more() {
            file.set_len(plan.new_size)?;
            self.flush(file)?;
        }
        Ok(true)
    }

    fn enter(&self, journal: &File, state: u64) -> io::Result<()> {
        journal.write_all_at(&state.to_le_bytes(), STATE)?;
        self.flush(journal)
    }

    /// Ends or takes back what a killed writer began. The file must be locked for writing.
    pub(super) fn recover(&self, file: &File) -> Result<()> {
        let path = self.index_dir.join(JOURNAL);
        let Some(journal) = path_io::open(&path)? else {
            return Ok(());
        };
        let failed = |error: io::Error| StorageError::io("read", &path, &error);
        match Saved::read(&journal).map_err(failed)? {
            // It was not complete, so nothing has been changed.
            None => {}
            Some(saved) => {
                let meta = file.metadata().map_err(self.failed("stat"))?;
                if (saved.ino, saved.dev) == (meta.ino(), meta.dev()) {
                    self.finish(file, meta.len(), &journal, &saved)?;
                } else {
                    tracing::warn!(
                        "{} was replaced while it was being changed; its old bytes are not put back",
                        self.path.display()
                    );
                }
            }
        }
        self.drop_journal(&path)
    }

    fn finish(&self, file: &File, size: u64, journal: &File, saved: &Saved) -> Result<()> {
        let (old, new) = (saved.old_size, saved.new_size);
        let physical = old.max(new);
        if saved.state == DONE {
            let uncut = new < old && size >= old;
            if uncut
                && saved
                    .tail_is_there(file, journal)
                    .map_err(self.failed("read"))?
            {
                self.cut(file, old, new, size).map_err(self.failed("cut"))?;
            }
            return Ok(());
        }
        if saved.state == PREPARED {
            let room = physical.min(size).saturating_sub(old);
            let nuls = leading_nuls(file, old, room).map_err(self.failed("read"))?;
            return match nuls {
                0 => Ok(()),
                _ => self
                    .cut(file, old + nuls, old, size)
                    .map_err(self.failed("cut")),
            };
        }
        if size < physical {
            return Err(StorageError::new(
                MailErrorClass::InvalidData,
                format!(
                    "{} was made shorter by another program after a run was killed while changing \
                     it; its bytes from before are in {}. Look at both, then remove that file",
                    self.path.display(),
                    self.index_dir.join(JOURNAL).display()
                ),
            ));
        }
        tracing::warn!(
            "{}: a run was killed while changing it; the old bytes are put back",
            self.path.display()
        );
        let put_back = || -> io::Result<()> {
            let mut at = saved.data;
            for (from, len) in &saved.ranges {
                move_to(journal, at, *len, file, *from)?;
                at += len;
            }
            self.flush(file)
        };
        put_back().map_err(self.failed("write"))?;
        match size > old {
            true => self
                .cut(file, physical, old, size)
                .map_err(self.failed("cut")),
            false => Ok(()),
        }
    }

    /// What lies behind `from` moves to `to`, and the file ends behind it.
    fn cut(&self, file: &File, from: u64, to: u64, size: u64) -> io::Result<()> {
        let mut at = to;
        copy(file, from, size - from, |_, bytes| {
            file.write_all_at(bytes, at)?;
            at += bytes.len() as u64;
            Ok(())
        })?;
        file.set_len(at)?;
        self.flush(file)
    }
}

/// Makes a file longer; the disk has room for all of it then.
fn grow(file: &File, old: u64, new: u64) -> io::Result<()> {
    let (Ok(at), Ok(len)) = (i64::try_from(old), i64::try_from(new - old)) else {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    };
    match nix::fcntl::posix_fallocate(file, at, len) {
        Ok(()) => Ok(()),
        Err(nix::errno::Errno::EOPNOTSUPP | nix::errno::Errno::EINVAL) => file.set_len(new),
        Err(error) => Err(error.into()),
    }
}

/// How many NULs there are, at most `limit`.
fn leading_nuls(file: &File, from: u64, limit: u64) -> io::Result<u64> {
    let (mut nuls, mut over) = (0, false);
    copy(file, from, limit, |_, bytes| {
        let run = bytes.iter().take_while(|byte| **byte == 0).count();
        nuls += if over { 0 } else { run as u64 };
        over |= run < bytes.len();
        Ok(())
    })?;
    Ok(nuls)
}

fn move_to(source: &File, from: u64, len: u64, target: &File, at: u64) -> io::Result<()> {
    copy(source, from, len, |place, bytes| {
        target.write_all_at(bytes, at + (place - from))
    })
}

/// Where old bytes are in the journal.
struct Kept {
    /// Of a range: offset in the file, and in the journal.
    tail: (u64, u64),
}

impl Kept {
    /// Bytes that move are all in the last range.
    fn of(plan: &Plan<'_>) -> Self {
        let before: u64 = plan.ranges.iter().rev().skip(1).map(|(_, len)| len).sum();
        let start = (HEADER + plan.ranges.len() * 16) as u64;
        let tail = plan.ranges.last().map_or(0, |(from, _)| *from);
        Self {
            tail: (tail, start + before),
        }
    }

    fn offset(&self, from: u64) -> u64 {
        self.tail.1 + (from - self.tail.0)
    }
}
