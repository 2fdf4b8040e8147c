//! Where users are known, and how one is found there.

mod auth;
mod fields;
mod mask;
mod passwd;

use std::fmt;
use std::path::PathBuf;

use self::auth::AuthSocket;
pub use self::fields::UserFields;
pub(crate) use self::fields::{group_id, user_id};
pub use self::mask::matches_mask;
use crate::{BASE_DIR, ConfigError, FIRST_VALID_UID, LAST_VALID_UID, MAIL_HOME, Settings, USERDB};

/// Name of Dovecot's socket in its base directory.
const AUTH_SOCKET: &str = "auth-userdb";

/// A source of users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserDb {
    /// Dovecot's `auth-userdb` socket (`spec/auth-master.md`).
    Auth(PathBuf),
    /// The system's users.
    Passwd,
    /// A file with lines like those of `/etc/passwd`, as Dovecot's passwd-file.
    PasswdFile(PathBuf),
    /// Everybody exists; the text has fields as `uid=5000 home=/srv/%d/%n`.
    Static(String),
}

impl UserDb {
    /// The one that the setting `userdb` names. Without it: Dovecot's socket if it is there, else
    /// the template `mail_home` if it is set, else the system's users.
    pub fn from_settings(settings: &Settings) -> Self {
        let socket = || PathBuf::from(settings.text(&BASE_DIR)).join(AUTH_SOCKET);
        match Kind::parse(settings.text(&USERDB)) {
            Some(Kind::Auth("")) => Self::Auth(socket()),
            Some(Kind::Auth(path)) => Self::Auth(path.into()),
            Some(Kind::Passwd) => Self::Passwd,
            Some(Kind::PasswdFile(path)) => Self::PasswdFile(path.into()),
            Some(Kind::Static(fields)) => Self::Static(fields.to_owned()),
            None if socket().exists() => Self::Auth(socket()),
            None if !settings.text(&MAIL_HOME).is_empty() => Self::Static(String::new()),
            None => Self::Passwd,
        }
    }

    /// Whether the text is a value of the setting.
    pub(crate) fn is_valid(text: &str) -> bool {
        text.is_empty() || Kind::parse(text).is_some()
    }

    /// Looks a user up; `None` if there is no such user. Values are as they stand in the source:
    /// the fields of a template still have their variables.
    pub fn lookup(&self, name: &str) -> Result<Option<UserFields>, ConfigError> {
        match self {
            Self::Auth(path) => AuthSocket::connect(path)?.lookup(name),
            Self::Passwd => passwd::system_user(name),
            Self::PasswdFile(path) => passwd::file_user(path, name),
            Self::Static(fields) => UserFields::parse(name, fields.split_whitespace())
                .map(Some)
                .map_err(|reason| self.failed(reason)),
        }
    }

    /// The names of all users, in the order of the source.
    pub fn list(&self, settings: &Settings) -> Result<Vec<String>, ConfigError> {
        match self {
            Self::Auth(path) => AuthSocket::connect(path)?.list(),
            Self::Passwd => {
                let (first, last) = (
                    settings.number(&FIRST_VALID_UID),
                    settings.number(&LAST_VALID_UID),
                );
                passwd::system_users(|uid| uid != 0 && uid >= first && (last == 0 || uid <= last))
            }
            Self::PasswdFile(path) => passwd::file_users(path),
            Self::Static(_) => {
                Err(self.failed("cannot list its users; give their names with -F FILE".to_owned()))
            }
        }
    }

    fn failed(&self, reason: String) -> ConfigError {
        ConfigError::Userdb {
            userdb: self.to_string(),
            reason,
        }
    }
}

/// A value of the setting `userdb`.
enum Kind<'a> {
    Auth(&'a str),
    Passwd,
    PasswdFile(&'a str),
    Static(&'a str),
}

impl<'a> Kind<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        match text.split_once(':').unwrap_or((text, "")) {
            ("auth", path) => Some(Self::Auth(path)),
            ("passwd", "") => Some(Self::Passwd),
            ("passwd-file", path) if !path.is_empty() => Some(Self::PasswdFile(path)),
            ("static", fields) => Some(Self::Static(fields)),
            _ => None,
        }
    }
}

impl fmt::Display for UserDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auth(path) => write!(f, "auth:{}", path.display()),
            Self::Passwd => f.write_str("passwd"),
            Self::PasswdFile(path) => write!(f, "passwd-file:{}", path.display()),
            Self::Static(_) => f.write_str("static"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Origin;

    fn chosen(assignments: &[&str]) -> UserDb {
        let mut settings = Settings::default();
        for assignment in assignments {
            settings
                .assign(assignment, &Origin::Argument("-o"))
                .unwrap();
        }
        UserDb::from_settings(&settings)
    }

    #[test]
    fn which_one_is_asked() {
        let base = tempfile::tempdir().unwrap();
        let dir = format!("base_dir={}", base.path().display());
        assert_eq!(chosen(&[&dir]), UserDb::Passwd);
        assert_eq!(
            chosen(&[&dir, "mail_home=/srv/%u"]),
            UserDb::Static(String::new())
        );
        let socket = base.path().join("auth-userdb");
        std::fs::write(&socket, "").unwrap();
        assert_eq!(
            chosen(&[&dir, "mail_home=/srv/%u"]),
            UserDb::Auth(socket.clone())
        );
        assert_eq!(chosen(&[&dir, "userdb=auth"]), UserDb::Auth(socket));
        assert_eq!(chosen(&[&dir, "userdb=passwd"]), UserDb::Passwd);
        assert_eq!(
            chosen(&["userdb=passwd-file:/x"]),
            UserDb::PasswdFile("/x".into())
        );
        assert!(!UserDb::is_valid("ldap:x") && !UserDb::is_valid("passwd-file:"));
    }
}
