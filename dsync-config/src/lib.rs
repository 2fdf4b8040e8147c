//! Settings, users and namespaces, and the account that is built from them.
//!
//! Settings come from one TOML file, or from the Dovecot on this host (`doveconf`), and from
//! `-o name=value`, under Dovecot's names. Nothing here
//! reads the environment: the programs hand in what they found there.
//!
//! * [`Settings`]: all settings with their origin; [`SETTINGS`] is the table of what exists.
//! * [`User`]: whose mail it is, and the variables (`%u`, `%h`) that depend on it.
//! * [`UserDb`]: where users are known; [`Identity`]: what a process has to become for one.
//! * [`HomeLock`]: the lock of whole runs.

mod account;
mod doveconf;
mod error;
mod file;
mod host;
mod identity;
mod lock;
mod nearest;
mod setting;
mod settings;
mod show;
mod units;
mod user;
mod userdb;

pub use account::{AccountOptions, OpenAccount};
pub use error::{ConfigError, Origin};
pub use host::{host_domain, host_name};
pub use identity::Identity;
pub use lock::HomeLock;
pub use setting::*;
pub use settings::{NamespaceSettings, Settings};
pub use user::{Login, User};
pub use userdb::{UserDb, UserFields, matches_mask};
