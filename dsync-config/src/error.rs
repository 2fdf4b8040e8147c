//! What can be wrong with settings and users, in words for the person who wrote them.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::UserDb;

/// Where a setting was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An argument such as `-o` on the command line; the text names the option.
    Argument(&'static str),
    /// A line of a configuration file, counted from 1.
    File {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
    },
    /// A Dovecot on this host.
    Doveconf,
    /// The userdb, for one user.
    Userdb,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument(option) => f.write_str(option),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Doveconf => f.write_str("doveconf"),
            Self::Userdb => f.write_str("userdb"),
        }
    }
}

/// Why settings, a user or the account could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No setting has this name.
    #[error("{origin}: unknown setting {name}{}", hint(.nearest.as_deref()))]
    UnknownSetting {
        /// The name as written.
        name: String,
        /// Where.
        origin: Origin,
        /// The closest existing name.
        nearest: Option<String>,
    },
    /// The value does not fit the setting.
    #[error("{origin}: {name} = {value:?} {reason}")]
    InvalidValue {
        /// The setting.
        name: String,
        /// The value as written.
        value: String,
        /// Where.
        origin: Origin,
        /// What is wrong, to be read after the value.
        reason: String,
    },
    /// `-o` without `=`.
    #[error("{origin} {argument}: write it as {origin} name=value")]
    NotAnAssignment {
        /// The option.
        origin: Origin,
        /// What was given.
        argument: String,
    },
    /// The file is not TOML.
    #[error(
        "{origin}: {reason} (this file has to be TOML, such as mail_location = \"maildir:~/Maildir\"; it is not a dovecot.conf)"
    )]
    Syntax {
        /// Where.
        origin: Origin,
        /// The parser's words.
        reason: String,
    },
    /// The file cannot be read.
    #[error("cannot read configuration file {}: {error}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// `doveconf` does not tell the settings of a Dovecot.
    #[error(
        "cannot read {} with doveconf: {error} (give -c FILE with settings of your own; -c /dev/null has none)", .path.display()
    )]
    Doveconf {
        /// Dovecot's file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// There is no such user.
    #[error("user {name} is unknown to {}", place(.userdb))]
    UnknownUser {
        /// The name.
        name: String,
        /// Where it was looked up.
        userdb: UserDb,
    },
    /// Text that must not be taken for a user's name: it would lead to somebody else's files.
    #[error(
        "{0:?} is no name of a user: it is empty, or has a slash, a step up or a control character"
    )]
    InvalidName(String),
    /// A source of users cannot be asked.
    #[error("userdb {userdb} {reason}")]
    Userdb {
        /// The source.
        userdb: String,
        /// What is wrong, to be read after it.
        reason: String,
    },
    /// Root would write into somebody's mail, and leave files behind that its owner cannot use.
    #[error("{} belongs to uid {uid}: run this as that user, or give -u USER", .path.display())]
    RootInUserStore {
        /// Root of the mail.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// The mail of this user must not, or cannot, be touched.
    #[error("user {name}: {reason}")]
    NotPermitted {
        /// The user.
        name: String,
        /// Why.
        reason: String,
    },
    /// Neither an option nor the environment nor the system names a user.
    #[error("cannot tell whose mail to sync: give -u USER")]
    NoUser,
    /// A variable in a setting cannot be filled in.
    #[error("cannot expand {text:?}: {reason}")]
    Variable {
        /// The whole text.
        text: String,
        /// What is wrong.
        reason: String,
    },
    /// No mail location was given and there is no default.
    #[error(
        "no mail to sync: give -o mail_location=maildir:PATH or --source LOCATION (without them ~/Maildir is used, but {0})"
    )]
    NoLocation(String),
    /// Two namespaces cannot live together, or one cannot be opened.
    #[error("namespace {name}: {reason}")]
    Namespace {
        /// Name or prefix.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The store cannot be opened.
    #[error("{0}")]
    Store(dsync_storage::StorageError),
}

fn place(userdb: &UserDb) -> String {
    match userdb {
        UserDb::Passwd => "this system; give -o mail_home=DIR and -o mail_location=... \
             to sync without a system user"
            .to_owned(),
        userdb => userdb.to_string(),
    }
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(
        || "; see the SETTINGS section of the manual page".to_owned(),
        |name| format!("; did you mean {name}?"),
    )
}

impl ConfigError {
    /// The exit code (`spec/transports-and-cli.md` 18).
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::UnknownSetting { origin, .. }
            | Self::InvalidValue { origin, .. }
            | Self::Syntax { origin, .. } => match origin {
                Origin::Argument(_) => 64,
                Origin::File { .. } | Origin::Doveconf | Origin::Userdb => 78,
            },
            Self::NotAnAssignment { .. } | Self::NoUser | Self::NoLocation(_) => 64,
            Self::Read { .. }
            | Self::Doveconf { .. }
            | Self::Variable { .. }
            | Self::Namespace { .. } => 78,
            Self::UnknownUser { .. } | Self::InvalidName(_) => 67,
            Self::Userdb { .. } => 75,
            Self::NotPermitted { .. } | Self::RootInUserStore { .. } => 77,
            Self::Store(error) => error.class.exit_code(),
        }
    }
}
