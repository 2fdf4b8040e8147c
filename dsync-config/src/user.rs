//! Whose mail it is.

use std::path::{Path, PathBuf};

use dsync_storage::location::Variables;

use crate::{ConfigError, MAIL_HOME, Settings};

/// What the program found in its environment about the person who runs it.
#[derive(Clone, Debug, Default)]
pub struct Login {
    /// `$USER`
    pub user: Option<String>,
    /// `$HOME`
    pub home: Option<PathBuf>,
}

/// A user whose mail is synced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Name, often with a domain.
    pub name: String,
    /// Home directory, if there is one.
    pub home: Option<PathBuf>,
}

impl User {
    /// Finds the user: `-u`, else `$USER`, else the login of this process.
    ///
    /// The home directory is the setting `mail_home`; else, for a name given with `-u`, the
    /// system's; else `$HOME`, else the system's.
    pub fn find(
        name: Option<&str>,
        login: &Login,
        settings: &Settings,
    ) -> Result<Self, ConfigError> {
        let this_process = || {
            nix::unistd::User::from_uid(nix::unistd::getuid())
                .ok()
                .flatten()
        };
        let mut user = Self {
            name: match (name, &login.user) {
                (Some(name), _) => name.to_owned(),
                (None, Some(user)) if !user.is_empty() => user.clone(),
                (None, _) => this_process().ok_or(ConfigError::NoUser)?.name,
            },
            home: None,
        };
        let mail_home = settings.text(&MAIL_HOME);
        user.home = if !mail_home.is_empty() {
            Some(PathBuf::from(user.expand(mail_home)?))
        } else if name.is_some() && name != login.user.as_deref() {
            Some(home_of(&user.name).ok_or_else(|| ConfigError::UnknownUser(user.name.clone()))?)
        } else {
            login
                .home
                .clone()
                .filter(|home| home.is_absolute())
                .or_else(|| this_process().map(|user| user.dir))
        };
        Ok(user)
    }

    /// What `%` variables in settings stand for.
    pub fn variables(&self) -> Variables {
        Variables {
            user: self.name.clone(),
            home: self.home.clone(),
            service: "doveadm".to_owned(),
            uid: Some(nix::unistd::getuid().as_raw()),
            gid: Some(nix::unistd::getgid().as_raw()),
            hostname: crate::host_name(),
        }
    }

    /// Fills in the `%` variables of a setting.
    pub(crate) fn expand(&self, text: &str) -> Result<String, ConfigError> {
        self.variables()
            .expand(text)
            .map_err(|error| ConfigError::Variable {
                text: text.to_owned(),
                reason: error.message,
            })
    }

    /// The home directory, as far as it is known.
    pub fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }
}

/// The system's home directory for a user.
fn home_of(name: &str) -> Option<PathBuf> {
    let user = nix::unistd::User::from_name(name).ok().flatten()?;
    Some(user.dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Origin;

    fn login() -> Login {
        Login {
            user: Some("joe".into()),
            home: Some("/home/joe".into()),
        }
    }

    #[test]
    fn the_environment_names_the_user() {
        let user = User::find(None, &login(), &Settings::default()).unwrap();
        assert_eq!(user.name, "joe");
        assert_eq!(user.home, Some("/home/joe".into()));
    }

    #[test]
    fn mail_home_wins_and_knows_the_user() {
        let mut settings = Settings::default();
        settings
            .assign("mail_home=/srv/%d/%n", &Origin::Argument("-o"))
            .unwrap();
        let user = User::find(Some("ann@example.org"), &login(), &settings).unwrap();
        assert_eq!(user.home, Some("/srv/example.org/ann".into()));
    }

    #[test]
    fn unknown_users_are_refused() {
        let error = User::find(Some("no-such-user-here"), &login(), &Settings::default());
        assert_eq!(error.unwrap_err().exit_code(), 67);
        let root = User::find(Some("root"), &login(), &Settings::default()).unwrap();
        assert_eq!(root.home, Some("/root".into()));
    }
}
