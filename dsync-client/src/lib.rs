//! The `dsync` command line: what can be typed, and what it means.
//!
//! The program itself is `main.rs`. This library holds what other tools need too: the definition
//! of the command ([`command`]), from which manual pages and completions are made, and the pure
//! steps from what was typed to what shall be done.

mod cli;
mod destination;
mod options;
mod remote_command;
mod server_arguments;
mod usage;
pub mod values;

pub use cli::{
    Action, CheckArguments, Cli, ConfigArguments, GlobalArguments, IndexAction, IndexCommand,
    SyncArguments, command,
};
pub use destination::{Destination, HostUser, parse as parse_destination, parse_location};
pub use options::{OutputOptions, RunOptions};
pub use remote_command::RemoteNames;
pub use server_arguments::server_arguments;
pub use usage::UsageError;
