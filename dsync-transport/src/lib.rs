//! The asynchronous edge: moves bytes or items between a brain and its peer.
//!
//! * [`drive`]: one brain, a codec and a byte stream.
//! * [`drive_local`]: two brains in one process, no codec.
//! * [`RemoteCommand`]: a peer that is a command on this host, such as `ssh`.
//! * [`SshMaster`]: one ssh connection for the commands of many users.
//! * [`doveadm`]: a peer behind a doveadm port, with or without TLS ([`net`]).
//! * [`Rawlog`]: a copy of everything that is sent and received.
//!
//! Nothing here knows mail, prints, or reads the environment.

mod command;
pub mod doveadm;
mod fault;
mod inquiry;
mod link;
mod local;
pub mod net;
mod rawlog;
mod session;
mod signals;
mod ssh;

pub use command::{CommandEnd, RemoteCommand, SSH_FAILED, SpawnError, own_program};
pub use fault::{Ending, Role, first_line};
pub use inquiry::{Asker, Question};
pub use local::{LocalOutcome, drive_local};
pub use rawlog::Rawlog;
pub use session::{PeerInfo, Session, SessionOptions, drive, drive_inquiring, inquire};
pub use signals::{Hangup, stop_signal};
pub use ssh::{SshError, SshMaster};
