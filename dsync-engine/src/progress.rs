//! Counters of a run that another thread may watch.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// One counter.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Sets it.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The present value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one side of a run has done so far. Counts of messages are of this side's store.
#[derive(Debug, Default)]
pub struct Progress {
    /// Mailboxes that this run looks at; 0 until the trees are merged.
    pub mailboxes_total: Counter,
    /// Mailboxes finished, skipped ones included.
    pub mailboxes_done: Counter,
    /// Mailboxes whose messages were exchanged.
    pub mailboxes_synced: Counter,
    /// Operations on the mailbox tree carried out here.
    pub tree_changes: Counter,
    /// Messages in the current mailbox that the peer asked for, sent so far.
    pub messages_sent: Counter,
    /// Octets of message bodies sent.
    pub bytes_sent: Counter,
    /// Messages received from the peer.
    pub messages_received: Counter,
    /// Octets of message bodies received.
    pub bytes_received: Counter,
    /// Messages that the peer still has to send for the current mailbox, plus those received.
    pub messages_wanted: Counter,
    /// Messages copied from others in the store instead of being transferred.
    pub messages_copied: Counter,
    /// Messages whose flags or keywords were changed here.
    pub flags_changed: Counter,
    /// Messages expunged here.
    pub messages_expunged: Counter,
    /// Attributes set or removed here.
    pub attributes_changed: Counter,
    current: Mutex<String>,
}

impl Progress {
    /// Name of the mailbox that is being synced; empty if none is.
    pub fn current_mailbox(&self) -> String {
        self.current
            .lock()
            .map(|name| name.clone())
            .unwrap_or_default()
    }

    /// Names the mailbox that is being synced.
    pub fn set_current_mailbox(&self, name: &str) {
        if let Ok(mut current) = self.current.lock() {
            name.clone_into(&mut current);
        }
    }
}
