//! Snapshot and log of a mailbox at the start, and whether an incremental sync is possible
//! (`spec/mailbox-sync.md` 3.1, 3.2).

use std::sync::Arc;

use dsync_proto::items::MailboxState;
use dsync_proto::types::Uid;
use dsync_storage::{Capabilities, ChangeLog, Mailbox, MailboxStatus, MessageTable, StorageError};

/// Everything that exporter and importer know about the local mailbox; it does not change during
/// the run.
#[derive(Clone, Debug)]
pub struct Scan {
    /// Full name.
    pub name: String,
    /// Counters, as sent in `B`.
    pub status: MailboxStatus,
    /// What the storage can keep.
    pub capabilities: Capabilities,
    /// What both sides had in common; zeros without a state.
    pub state: MailboxState,
    /// Changes since then.
    pub log: ChangeLog,
    /// All messages.
    pub messages: Arc<MessageTable>,
}

impl Scan {
    /// Whether a saved state is used (`spec/mailbox-sync.md` 1).
    pub fn is_stateful(&self) -> bool {
        self.state.last_common_uid != 0 || self.state.last_common_modseq != 0
    }
}

/// Why there is no [`Scan`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// The mailbox does not fit to the state. The text is the REASON of
    /// "Failed to do incremental sync for mailbox X, retry with a full sync (REASON)".
    #[error("{0}")]
    Desync(String),
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Scans the log since `state` and takes the snapshot of the messages.
///
/// `status` are the counters that were sent in `B`, `state` the saved state of this mailbox or
/// zeros. The mailbox was refreshed and is locked.
pub fn scan(
    mailbox: &mut dyn Mailbox,
    status: MailboxStatus,
    state: &MailboxState,
) -> Result<Scan, ScanError> {
    let top = match state.last_common_uid {
        0 => Uid::MAX,
        uid => uid,
    };
    let log = mailbox.changes_since(state.last_common_modseq, state.last_common_pvt_modseq, top)?;
    if let Some(reason) = desync_reason(&status, state, log.covered) {
        return Err(ScanError::Desync(reason));
    }
    Ok(Scan {
        name: mailbox.name().to_owned(),
        status,
        capabilities: mailbox.capabilities(),
        state: *state,
        log,
        messages: mailbox.messages()?,
    })
}

/// The checks of 3.1 step 2.
fn desync_reason(status: &MailboxStatus, state: &MailboxState, covered: bool) -> Option<String> {
    let common = state.last_common_uid;
    if !covered {
        return Some(format!(
            "Modseq {} no longer in transaction log \
             (highest={}, last_common_uid={common}, nextuid={})",
            state.last_common_modseq, status.highest_modseq, status.uid_next
        ));
    }
    if common == 0 {
        return None;
    }
    if status.uid_next < common {
        return Some(format!("uidnext {} < {common}", status.uid_next));
    }
    if status.highest_modseq < state.last_common_modseq {
        return Some(format!(
            "highest_modseq {} < {}",
            status.highest_modseq, state.last_common_modseq
        ));
    }
    (status.highest_pvt_modseq < state.last_common_pvt_modseq).then(|| {
        format!(
            "highest_pvt_modseq {} < {}",
            status.highest_pvt_modseq, state.last_common_pvt_modseq
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(uid_next: u32, highest_modseq: u64) -> MailboxStatus {
        MailboxStatus {
            uid_next,
            highest_modseq,
            ..MailboxStatus::default()
        }
    }

    fn state(uid: u32, modseq: u64) -> MailboxState {
        MailboxState {
            last_common_uid: uid,
            last_common_modseq: modseq,
            ..MailboxState::default()
        }
    }

    #[test]
    fn desync_texts() {
        let reason = |s, st, covered| desync_reason(&s, &st, covered);
        assert_eq!(reason(status(4, 9), state(3, 9), true), None);
        assert_eq!(
            reason(status(3, 9), state(3, 9), true),
            None,
            "5.1 finds this one"
        );
        assert_eq!(
            reason(status(4, 3), state(0, 99), true),
            None,
            "only with a common UID"
        );
        assert_eq!(
            reason(status(3, 9), state(50, 9), true).as_deref(),
            Some("uidnext 3 < 50")
        );
        assert_eq!(
            reason(status(4, 3), state(3, 99), true).as_deref(),
            Some("highest_modseq 3 < 99")
        );
        assert_eq!(
            reason(status(4, 30), state(3, 9), false).as_deref(),
            Some(
                "Modseq 9 no longer in transaction log (highest=30, last_common_uid=3, nextuid=4)"
            )
        );
    }
}
