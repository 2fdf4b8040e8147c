//! The doveadm protocol on a connection (`spec/transports-and-cli.md` 9, 11, 12).

mod channel;
mod client;
mod error;
mod server;

pub use channel::{LogSink, MainChannel};
pub use client::{Connection, Login, Road, connect, log_in};
pub use error::ConnectError;
pub use server::{Gate, GateError, Guest, Sender, admit};
