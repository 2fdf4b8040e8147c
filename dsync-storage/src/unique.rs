//! Names and GUIDs that nobody else makes (`spec/maildir.md` 8, 13.2).

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use dsync_proto::types::Guid;
use sha1::{Digest, Sha1};

use crate::StoreSettings;
use crate::settings::Clock;

/// Last moment handed out in this process, in nanoseconds since the epoch.
static LAST_MOMENT: AtomicU64 = AtomicU64::new(0);

/// Makes unique names and GUIDs. All sources of a process share one counter of moments, so that
/// sessions in several threads never make the same name, even if the clock stands still.
#[derive(Clone, Debug)]
pub struct UniqueSource {
    clock: Clock,
    hostname: String,
    host_id: [u8; 4],
}

impl UniqueSource {
    /// A source for this host.
    pub fn new(settings: &StoreSettings) -> Self {
        let mut host_id = [0; 4];
        host_id.copy_from_slice(&Sha1::digest(settings.host_domain.as_bytes())[16..]);
        Self {
            clock: settings.clock.clone(),
            hostname: file_safe(&settings.hostname),
            host_id,
        }
    }

    /// Base name for a new message file: `SECONDS.MmicrosecondsPpid.host`.
    pub fn base_name(&self) -> String {
        let micros = self.moment(1_000) / 1_000;
        format!(
            "{}.M{}P{}.{}",
            micros / 1_000_000,
            micros % 1_000_000,
            std::process::id(),
            self.hostname
        )
    }

    /// A new mailbox GUID.
    pub fn guid(&self) -> Guid {
        let moment = self.moment(1);
        let nanos = (moment % 1_000_000_000) as u32;
        let seconds = (moment / 1_000_000_000) as u32;
        mailbox_guid(seconds, nanos, std::process::id(), self.host_id)
    }

    /// Name for a temporary file or directory that nobody else uses: `host.pid.random`.
    pub fn temp_name(&self) -> String {
        format!(
            "{}.{}.{}",
            self.hostname,
            std::process::id(),
            random_suffix()
        )
    }

    /// The present moment in nanoseconds, at least `step` after the one before.
    fn moment(&self, step: u64) -> u64 {
        let now = u64::try_from(self.clock.since_epoch().as_nanos()).unwrap_or(u64::MAX / 2);
        let next = |last: u64| now.max(last.saturating_add(step));
        // The closure always gives a value, so both arms carry the moment before this one.
        let (Ok(last) | Err(last)) =
            LAST_MOMENT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
                Some(next(last))
            });
        next(last)
    }
}

/// The 128-bit layout of mailbox GUIDs.
fn mailbox_guid(seconds: u32, nanos: u32, pid: u32, host_id: [u8; 4]) -> Guid {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&nanos.to_le_bytes());
    bytes[4..8].copy_from_slice(&seconds.to_le_bytes());
    bytes[8..12].copy_from_slice(&pid.to_le_bytes());
    bytes[12..].copy_from_slice(&host_id);
    Guid(bytes)
}

/// Sixteen random hex digits.
pub fn random_suffix() -> String {
    // Each RandomState has keys of its own, which the system's random source seeded.
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

/// A host name as it may stand in a file name.
fn file_safe(hostname: &str) -> String {
    hostname
        .chars()
        .map(|c| match c {
            '/' | ':' | ',' => '_',
            c if c.is_control() || c == ' ' => '_',
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn guid_has_dovecots_layout() {
        let mut host_id = [0; 4];
        host_id.copy_from_slice(&Sha1::digest(b"vm")[16..]);
        assert_eq!(
            mailbox_guid(1_795_447_043, 0x1797_a753, 28_619, host_id).to_string(),
            "53a797170359046bcb6f000083ecc375"
        );
    }

    #[test]
    fn nothing_repeats_while_the_clock_stands_still() {
        let settings = StoreSettings {
            clock: Clock::new(|| UNIX_EPOCH + Duration::from_secs(5)),
            ..StoreSettings::default()
        };
        let source = settings.unique();
        let names: BTreeSet<_> = (0..1000).map(|_| source.base_name()).collect();
        assert_eq!(names.len(), 1000);
        let guids: BTreeSet<_> = (0..1000).map(|_| source.guid()).collect();
        assert_eq!(guids.len(), 1000);
        assert_ne!(random_suffix(), random_suffix());
    }

    #[test]
    fn host_names_cannot_break_file_names() {
        assert_eq!(file_safe("a/b:c,d e"), "a_b_c_d_e");
    }
}
