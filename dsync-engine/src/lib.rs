//! The dsync brain: decides what both sides of a sync do, and knows no sockets and no clock.

pub mod brain;
pub mod mailbox;
mod options;
mod outcome;
mod progress;
pub mod tree;

pub use brain::{Brain, Environment, Findings, Inquiry, Peer, Poll, UserLock};
pub use options::{Direction, EXTENSION_KEY, Filters, Mode, SyncOptions};
pub use outcome::{EXIT_RUN_AGAIN, Fault, Outcome, Problem, RunError};
pub use progress::{Counter, Progress};
