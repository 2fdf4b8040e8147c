//! The dsync wire protocol, version 3.5, as Dovecot 2.3 and 2.4 speak it.
//!
//! This crate turns bytes into typed values and back, and does nothing else: no files, no
//! sockets, no clock, no randomness. The normative text is `spec/wire.md`.
//!
//! * [`types`]: identifiers and flags that every layer shares.
//! * [`items`]: one struct per line of the protocol.

pub mod items;
pub mod types;
