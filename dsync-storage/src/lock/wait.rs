//! Waiting with a time limit.

use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Pauses that grow until a time limit is reached.
pub(super) struct Wait {
    deadline: Option<Instant>,
    pause: Duration,
}

impl Wait {
    /// Waits `timeout` from now on in all.
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            deadline: Instant::now().checked_add(timeout),
            pause: FIRST_PAUSE,
        }
    }

    /// Sleeps for a while; `false`, without sleeping, if the time is over.
    pub(super) fn pause(&mut self) -> bool {
        let left = self.deadline.map_or(LONGEST_PAUSE, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        });
        if left.is_zero() {
            return false;
        }
        std::thread::sleep(self.pause.min(left));
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        true
    }
}
