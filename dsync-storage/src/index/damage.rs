//! What can be wrong with index files (`spec/dovecot-index.md` 14).

use std::fmt;

/// More notes of one kind do not help anybody.
const MAX_NOTES: usize = 8;

/// Something that was wrong with the files of an index; the state is what could be kept.
///
/// The next [`super::Index::lock`] mends the files.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// The snapshot could not be used at all.
    SnapshotUnusable {
        /// Why.
        reason: String,
        /// The backup snapshot was taken instead.
        backup_used: bool,
    },
    /// Details of the snapshot were wrong and were mended.
    SnapshotRepaired(String),
    /// The snapshot lies behind the end of its log.
    SnapshotBeyondLog,
    /// There is a snapshot but no log.
    LogMissing,
    /// The header of the log is invalid.
    LogUnusable,
    /// Somebody marked the log as corrupted; its records were read nevertheless.
    LogMarkedCorrupted,
    /// A record in the log is invalid; what follows is lost.
    LogInvalid(String),
    /// Records between the snapshot and the oldest log are lost.
    LogGap,
    /// A record did not fit the state.
    RecordSkipped(String),
    /// Bytes of a writer that died were cut off.
    TornTail {
        /// Bytes that were cut off.
        bytes: u64,
    },
    /// Neither a snapshot nor logs that go back to the beginning: messages are not known. The
    /// caller must build the index anew ([`super::LockedIndex::reset`]).
    HistoryLost,
}

impl Damage {
    /// Whether appending to the existing log would not help.
    pub(crate) fn needs_new_log(&self) -> bool {
        matches!(
            self,
            Self::SnapshotBeyondLog
                | Self::LogMissing
                | Self::LogUnusable
                | Self::LogMarkedCorrupted
                | Self::LogInvalid(_)
                | Self::LogGap
        )
    }

    /// Whether messages or flags may be missing or wrong now.
    pub(crate) fn lost_something(&self) -> bool {
        !matches!(
            self,
            Self::SnapshotUnusable { .. }
                | Self::LogMissing
                | Self::LogMarkedCorrupted
                | Self::TornTail { .. }
        )
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SnapshotUnusable {
                reason,
                backup_used: true,
            } => write!(
                f,
                "the snapshot is unusable ({reason}), its backup was used"
            ),
            Self::SnapshotUnusable { reason, .. } => {
                write!(f, "the snapshot is unusable ({reason})")
            }
            Self::SnapshotRepaired(what) => write!(f, "the snapshot was mended: {what}"),
            Self::SnapshotBeyondLog => f.write_str("the log is shorter than its snapshot says"),
            Self::LogMissing => f.write_str("the log is missing, the snapshot was used"),
            Self::LogUnusable => f.write_str("the header of the log is invalid"),
            Self::LogMarkedCorrupted => f.write_str("the log was marked as corrupted"),
            Self::LogInvalid(what) => write!(f, "the log is damaged: {what}"),
            Self::LogGap => f.write_str("log records after the snapshot are lost"),
            Self::RecordSkipped(what) => write!(f, "a log record was skipped: {what}"),
            Self::TornTail { bytes } => {
                write!(
                    f,
                    "{bytes} bytes of an unfinished write were cut off the log"
                )
            }
            Self::HistoryLost => f.write_str("the index is lost and must be built anew"),
        }
    }
}

/// Notes a record that does not fit the state.
pub(crate) fn note(damage: &mut Vec<Damage>, error: &dyn fmt::Display, offset: u32) {
    let notes = damage
        .iter()
        .filter(|known| matches!(known, Damage::RecordSkipped(_)))
        .count();
    if notes < MAX_NOTES {
        damage.push(Damage::RecordSkipped(format!("{error} (offset {offset})")));
    }
}
