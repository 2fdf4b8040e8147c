//! The dsync wire protocol, version 3.5, as Dovecot 2.3 and 2.4 speak it.
//!
//! This crate turns bytes into typed values and back, and does nothing else: no files, no
//! sockets, no clock, no randomness. The normative text is `spec/wire.md`.
//!
//! * [`types`]: identifiers and flags that every layer shares.
//! * [`items`]: one struct per line of the protocol.
//! * [`wire`]: bytes of a session to items and back.
//! * [`state_string`]: what a client remembers between runs.
//! * [`header_hash`]: how messages without GUIDs are recognised.
//! * [`doveadm`]: what is said before a session over TCP.
//! * [`limits`]: what a peer may make us hold in memory.

mod describe;
pub mod doveadm;
pub mod header_hash;
pub mod items;
pub mod limits;
pub mod state_string;
pub mod types;
pub mod wire;
