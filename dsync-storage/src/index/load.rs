//! Snapshot and logs become the state (`spec/dovecot-index.md` 5, 14).

use std::fs::File;
use std::path::Path;

use dsync_proto::types::ModSeq;

use crate::{Result, StorageError};

use super::damage::{Damage, note};
use super::files::{self, FileId, Files};
use super::format::MAX_LOG_SIZE;
use super::header::HeaderField;
use super::log_header::LogHeader;
use super::pending::LogCursor;
use super::record::{Record, RecordKind, RecordReader};
use super::records::MAX_TABLE_SIZE;
use super::snapshot::{self, Snapshot, SnapshotPosition};
use super::state::IndexState;

/// Largest snapshot that is read.
const MAX_SNAPSHOT: u64 = MAX_TABLE_SIZE as u64 + (64 << 20);
/// How often files may be replaced while we read before we give up.
const MAX_RACES: usize = 20;

/// An open log file with a valid header.
#[derive(Debug)]
pub(crate) struct OpenLog {
    pub(crate) file: File,
    pub(crate) id: FileId,
    pub(crate) header: LogHeader,
}

/// A log with what it contained when it was read.
struct ReadLog {
    log: OpenLog,
    bytes: Vec<u8>,
}

impl ReadLog {
    /// Records, from the first one on.
    fn records(&self) -> &[u8] {
        self.bytes
            .get(usize::from(self.log.header.header_size)..)
            .unwrap_or(&[])
    }
}

/// Everything that was found.
pub(crate) struct Loaded {
    pub(crate) state: IndexState,
    /// The current log and how far it was read.
    pub(crate) log: Option<(OpenLog, LogCursor)>,
    /// The log before, if it belongs to the current one.
    pub(crate) older: Option<OpenLog>,
    /// Bytes in the current log behind the last complete record.
    pub(crate) torn: u64,
    pub(crate) snapshot: Option<SnapshotPosition>,
    pub(crate) damage: Vec<Damage>,
}

/// Reads the files; retries when they are replaced meanwhile.
pub(crate) fn load(files: &Files) -> Result<Loaded> {
    for _ in 0..MAX_RACES {
        if let Some(loaded) = load_once(files)? {
            return Ok(loaded);
        }
    }
    Err(StorageError::new(
        dsync_proto::types::MailErrorClass::Temporary,
        format!(
            "{} is replaced faster than it can be read, try again later",
            files.log().display()
        ),
    ))
}

fn load_once(files: &Files) -> Result<Option<Loaded>> {
    // The logs are opened before the snapshot and read after it: then the snapshot is never
    // newer than what we see of its log.
    let log_file = files::open_log(&files.log())?;
    let older_file = files::open_log(&files.log2())?;
    let snapshot_bytes = files::read(&files.snapshot(), MAX_SNAPSHOT)?;
    let (log_exists, log) = (log_file.is_some(), read_log(log_file, &files.log())?);
    let older = read_log(older_file, &files.log2())?;
    let log_id = log.as_ref().map(|log| log.log.id);
    if log_exists && log_id.is_some() && FileId::at(&files.log())? != log_id {
        return Ok(None);
    }
    let mut damage = Vec::new();
    let snapshot = choose_snapshot(files, snapshot_bytes, log.as_ref(), &mut damage)?;
    let log = log.filter(|log| {
        let id = log.log.header.index_id;
        id == 0
            || snapshot
                .as_ref()
                .is_none_or(|snapshot| snapshot.index_id() == id)
    });
    if log_exists && log.is_none() {
        damage.push(Damage::LogUnusable);
    }
    Ok(Some(combine(snapshot, log, older, damage)))
}

fn read_log(file: Option<File>, path: &Path) -> Result<Option<ReadLog>> {
    let Some(file) = file else {
        return Ok(None);
    };
    let bytes = files::read_from(&file, path, 0, MAX_LOG_SIZE)?;
    let id = FileId::of(&file).map_err(|error| StorageError::io("stat", path, &error))?;
    Ok(LogHeader::decode(&bytes).map(|header| ReadLog {
        log: OpenLog { file, id, header },
        bytes,
    }))
}

/// The snapshot, or its backup where it is unusable (`spec/dovecot-index.md` 14.3).
fn choose_snapshot(
    files: &Files,
    bytes: Option<Vec<u8>>,
    log: Option<&ReadLog>,
    damage: &mut Vec<Damage>,
) -> Result<Option<Snapshot>> {
    let mut foreign = None;
    let reason = match bytes.map(|bytes| usable(&bytes, log)) {
        None => None,
        Some(Usable::Yes(snapshot)) => return Ok(Some(snapshot)),
        Some(Usable::Foreign(snapshot)) => {
            foreign = Some(snapshot);
            Some("it belongs to another log")
        }
        Some(Usable::No(reason)) => Some(reason),
    };
    let replays_alone = log.is_some_and(|log| log.log.header.is_reset());
    if reason.is_none() && replays_alone {
        return Ok(None); // no snapshot was written yet
    }
    let backup =
        files::read(&files.backup(), MAX_SNAPSHOT)?.and_then(|bytes| match usable(&bytes, log) {
            Usable::Yes(snapshot) if !replays_alone => Some(snapshot),
            _ => None,
        });
    if reason.is_some() || backup.is_some() {
        damage.push(Damage::SnapshotUnusable {
            reason: reason.unwrap_or("it is missing").into(),
            backup_used: backup.is_some(),
        });
    }
    // A log that cannot stand alone is worth less than the snapshot of another index.
    Ok(backup.or(foreign.filter(|_| !replays_alone)))
}

/// Whether a snapshot file can be used with a log.
enum Usable {
    Yes(Snapshot),
    /// It belongs to another log.
    Foreign(Snapshot),
    No(&'static str),
}

fn usable(bytes: &[u8], log: Option<&ReadLog>) -> Usable {
    let snapshot = match snapshot::decode(bytes) {
        Ok(snapshot) => snapshot,
        Err(error) => return Usable::No(error.0),
    };
    let log_index_id = log.map_or(0, |log| log.log.header.index_id);
    if log_index_id != 0 && log_index_id != snapshot.index_id() {
        return Usable::Foreign(snapshot);
    }
    Usable::Yes(snapshot)
}

/// The pure part: values in, state out.
fn combine(
    snapshot: Option<Snapshot>,
    log: Option<ReadLog>,
    older: Option<ReadLog>,
    mut damage: Vec<Damage>,
) -> Loaded {
    let older = older.filter(|older| {
        log.as_ref().is_none_or(|log| {
            let (new, old) = (&log.log.header, &older.log.header);
            let related = new.index_id == old.index_id || new.index_id == 0;
            related
                && (new.is_reset() || new.prev_file_seq == old.file_seq)
                && old.file_seq < new.file_seq
        })
    });
    if let Some(snapshot) = snapshot.as_ref() {
        if let Some(what) = snapshot.repaired {
            damage.push(Damage::SnapshotRepaired(what.into()));
        }
        if log.is_none() && !damage.contains(&Damage::LogUnusable) {
            damage.push(Damage::LogMissing);
        }
    }
    let Some(log) = log else {
        return without_log(snapshot, older, damage);
    };
    if log.log.header.index_id == 0 {
        damage.push(Damage::LogMarkedCorrupted);
    }
    let mut replay = Replay::new(snapshot, &log.log.header, damage);
    replay.start(&log, older.as_ref());
    replay.finish(log, older)
}

fn without_log(
    snapshot: Option<Snapshot>,
    older: Option<ReadLog>,
    mut damage: Vec<Damage>,
) -> Loaded {
    if snapshot.is_none() && (older.is_some() || !damage.is_empty()) {
        damage.push(Damage::HistoryLost);
    }
    let position = snapshot.as_ref().map(|snapshot| snapshot.position);
    let mut state = snapshot.map_or_else(IndexState::new, |snapshot| {
        let highest = snapshot.highest_modseq();
        let mut state = snapshot.state;
        state.resolve_modseqs(highest);
        state
    });
    // The highest modseq must not fall: at least what the log before reached.
    let reached = older.as_ref().map_or(0, |older| {
        let mut cursor = LogCursor::new(&older.log.header, None);
        for record in RecordReader::new(older.records(), cursor.offset).flatten() {
            cursor.step(&record, &older.log.header);
        }
        cursor.modseq
    });
    state.highest_modseq = state.highest_modseq.max(reached).max(1);
    Loaded {
        state,
        log: None,
        older: older.map(|older| older.log),
        torn: 0,
        snapshot: position,
        damage,
    }
}

/// Applies logs to a state.
struct Replay {
    state: IndexState,
    snapshot: Option<SnapshotPosition>,
    /// Modseqs of messages are complete up to here; later records must still raise them.
    modseqs_from: Option<(u32, u32)>,
    damage: Vec<Damage>,
}

impl Replay {
    fn new(snapshot: Option<Snapshot>, log: &LogHeader, damage: Vec<Damage>) -> Self {
        let snapshot = snapshot.filter(|snapshot| {
            // A reset: everything before this log is gone on purpose.
            !(log.is_reset() && snapshot.position.log_seq < log.file_seq)
        });
        let position = snapshot.as_ref().map(|snapshot| snapshot.position);
        let modseqs_from = snapshot.as_ref().and_then(Snapshot::modseq_position);
        let state = match snapshot {
            Some(snapshot) => {
                let highest = snapshot.highest_modseq();
                let mut state = snapshot.state;
                state.resolve_modseqs(highest);
                state
            }
            None => {
                let mut state = IndexState::new();
                state.set_index_id(log.index_id);
                state
            }
        };
        Self {
            state,
            snapshot: position,
            modseqs_from,
            damage,
        }
    }

    /// Replays the older log as far as it is needed.
    fn start(&mut self, log: &ReadLog, older: Option<&ReadLog>) {
        let head = &log.log.header;
        let in_older = |seq: u32| older.filter(|older| older.log.header.file_seq == seq);
        match self.snapshot {
            None if head.is_reset() => {}
            None => match older.filter(|older| older.log.header.is_reset()) {
                Some(older) => {
                    self.replay_older(older, head, u32::from(older.log.header.header_size));
                }
                None => self.damage.push(Damage::HistoryLost),
            },
            Some(position) if position.log_seq == head.file_seq => {
                if let Some((seq, offset)) = self.modseqs_from
                    && seq < head.file_seq
                    && !equals_start(head, seq, offset)
                {
                    match in_older(seq) {
                        Some(older) => {
                            let end = u32::MAX;
                            self.run(older, end, head.prev_file_offset);
                        }
                        None => self.modseqs_lost(older, head),
                    }
                }
            }
            Some(position) if equals_start(head, position.log_seq, position.head) => {}
            Some(position) => match in_older(position.log_seq) {
                Some(older) => self.replay_older(older, head, position.head),
                None if position.log_seq > head.file_seq => {
                    self.damage.push(Damage::SnapshotBeyondLog);
                }
                None => {
                    self.damage.push(Damage::LogGap);
                    self.state.raise_all_modseqs(head.initial_modseq);
                }
            },
        }
    }

    fn modseqs_lost(&mut self, older: Option<&ReadLog>, head: &LogHeader) {
        let oldest = older.map_or(head, |older| &older.log.header);
        self.state.raise_all_modseqs(oldest.initial_modseq);
        self.modseqs_from = Some((oldest.file_seq, oldest.header_size.into()));
    }

    fn replay_older(&mut self, older: &ReadLog, head: &LogHeader, from: u32) {
        let cursor = self.run(older, from, head.prev_file_offset);
        if cursor.offset < head.prev_file_offset {
            self.damage.push(Damage::LogGap);
            self.state.raise_all_modseqs(head.initial_modseq);
        }
    }

    /// Walks over a log up to the offset `end`, applying records at `from` and later.
    fn run(&mut self, log: &ReadLog, from: u32, end: u32) -> LogCursor {
        let header = &log.log.header;
        let tail = self
            .snapshot
            .filter(|position| position.log_seq == header.file_seq)
            .map(|position| position.tail);
        let mut cursor = LogCursor::new(header, tail);
        let modseqs_from = match self.modseqs_from {
            Some((seq, offset)) if seq == header.file_seq && seq != 0 => offset,
            Some((seq, _)) if seq < header.file_seq && seq != 0 => 0,
            _ => u32::MAX,
        };
        let mut reader = RecordReader::new(log.records(), cursor.offset);
        while cursor.offset < end {
            let record = match reader.next() {
                None => break,
                Some(Ok(record)) => record,
                Some(Err(invalid)) => {
                    cursor.invalid = Some(invalid);
                    break;
                }
            };
            cursor.step(&record, header);
            let deletion = matches!(
                record.kind,
                Some(RecordKind::IndexDeleted | RecordKind::IndexUndeleted)
            );
            if record.offset >= from || deletion {
                self.apply(&record, cursor.modseq);
            } else if record.offset >= modseqs_from {
                self.state.apply_modseqs(&record, cursor.modseq);
            }
        }
        self.state.highest_modseq = cursor.modseq.max(1);
        cursor
    }

    fn apply(&mut self, record: &Record<'_>, modseq: ModSeq) {
        if let Err(error) = self.state.apply(record, modseq) {
            note(&mut self.damage, &error, record.offset);
        }
    }

    fn finish(mut self, log: ReadLog, older: Option<ReadLog>) -> Loaded {
        let header = log.log.header;
        let from = match self.snapshot {
            Some(position) if position.log_seq == header.file_seq => position.head,
            Some(position) if position.log_seq > header.file_seq => u32::MAX,
            _ => 0,
        };
        let highest = self.state.highest_modseq;
        let mut cursor = self.run(&log, from, u32::MAX);
        if from != 0 && from != u32::MAX && cursor.offset < from && cursor.invalid.is_none() {
            self.damage.push(Damage::SnapshotBeyondLog);
        }
        if let Some(invalid) = &cursor.invalid {
            self.damage.push(Damage::LogInvalid(invalid.to_string()));
        }
        if from != 0 && cursor.offset < from || self.damage.contains(&Damage::LogGap) {
            self.state.highest_modseq = self.state.highest_modseq.max(highest);
            cursor.modseq = self.state.highest_modseq;
        }
        self.state.records.compact();
        if self.state.header.get(HeaderField::IndexId) == 0 {
            self.state.set_index_id(header.index_id);
        }
        Loaded {
            torn: (log.bytes.len() as u64).saturating_sub(cursor.offset.into()),
            state: self.state,
            log: Some((log.log, cursor)),
            older: older.map(|older| older.log),
            snapshot: self.snapshot,
            damage: self.damage,
        }
    }
}

/// A position at the end of the log before is the same as the start of this one.
fn equals_start(head: &LogHeader, seq: u32, offset: u32) -> bool {
    seq == head.prev_file_seq && offset == head.prev_file_offset
}
