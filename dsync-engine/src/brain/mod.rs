//! One side of a run as a value: items in, items out.
//!
//! The caller moves items between two brains, or between a brain and a codec. It must accept
//! input at all times, also while output is waiting: both sides send at once, and a side that
//! only writes would wait for ever for one that does the same.

use std::sync::Arc;
use std::time::Duration;

use bstr::BString;
use dsync_proto::items::Item;
use dsync_storage::{Account, StorageError};

use crate::{Outcome, Progress, RunError, SyncOptions};

/// What the brain wants next.
#[derive(Debug)]
pub enum Poll {
    /// Send this to the peer.
    Transmit(Item),
    /// Nothing to do before the peer says something.
    NeedInput,
    /// The run is over; send what is queued and close.
    Finished(Box<Outcome>),
}

/// Facts about the peer that only the codec knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Minor version of its banner.
    pub minor: u32,
    /// Its handshake has the key `import_commit_msgs_interval`: Dovecot 2.3, not 2.4.
    pub has_commit_interval: bool,
}

impl Default for Peer {
    /// A peer in the same process.
    fn default() -> Self {
        Self {
            minor: 5,
            has_commit_interval: true,
        }
    }
}

/// The lock of a user against a second run (`spec/brain-and-tree.md` 4.1).
pub trait UserLock: Send {
    /// Takes the lock; it is given up when this value is dropped.
    fn lock(&mut self, timeout: Duration) -> Result<(), StorageError>;
}

/// What a brain needs besides its store.
pub struct Environment {
    /// Fully qualified name of this host.
    pub hostname: BString,
    /// Takes the user lock; without it a run that asks for the lock fails.
    pub user_lock: Option<Box<dyn UserLock>>,
    /// Counters to update.
    pub progress: Arc<Progress>,
    /// Server only: replaces what a mailbox name cannot hold, unless the client sends its own.
    pub alt_char: u8,
}

impl Default for Environment {
    fn default() -> Self {
        Self {
            hostname: "localhost".into(),
            user_lock: None,
            progress: Arc::default(),
            alt_char: b'_',
        }
    }
}

/// One side of a run.
pub struct Brain {
    account: Account,
    environment: Environment,
}

impl Brain {
    /// The side that was started by a person and decides what is done.
    pub fn client(options: SyncOptions, account: Account, environment: Environment) -> Self {
        drop(options);
        Self {
            account,
            environment,
        }
    }

    /// The side that answers.
    pub fn server(account: Account, environment: Environment) -> Self {
        Self {
            account,
            environment,
        }
    }

    /// Tells what the codec learned from the peer's banner; call it before the first item.
    pub fn set_peer(&mut self, peer: Peer) {
        let _ = (peer, &self.account, &self.environment);
    }

    /// Takes one item from the peer. Errors end the run; [`Brain::poll`] reports them.
    pub fn handle(&mut self, item: Item) {
        drop(item);
    }

    /// The peer closed its side, or broke the protocol: the run fails unless it was over.
    pub fn fail(&mut self, error: RunError) {
        drop(error);
    }

    /// The next thing to do. After [`Poll::Finished`] nothing more comes.
    pub fn poll(&mut self) -> Poll {
        Poll::NeedInput
    }

    /// Name of the present state, for the message about a stalled run
    /// (`spec/brain-and-tree.md` 5.3).
    pub fn state_name(&self) -> String {
        String::new()
    }

    /// The peer's host name once it is known.
    pub fn peer_name(&self) -> Option<&BString> {
        None
    }
}
