//! Test support: what every mail store must promise, generated mail and accounts, stores that
//! fail on purpose, and whole runs of two brains in one thread.
//!
//! Nothing shipped depends on this crate. Its functions are meant for tests and panic on
//! failure.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "these are tests"
)]

pub mod certificates;
pub mod conformance;
pub mod fault;
pub mod mail;
pub mod random;
pub mod simulator;
pub mod vectors;
pub mod workload;
