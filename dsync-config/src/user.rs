//! Whose mail it is.

use std::path::{Path, PathBuf};

use dsync_storage::location::Variables;
use nix::unistd::{getgid, getuid};

use crate::userdb::{group_id, user_id};
use crate::{
    ConfigError, MAIL_GID, MAIL_HOME, MAIL_LOCATION, MAIL_REPLICA, MAIL_UID, Origin, Settings,
    UserDb, UserFields,
};

/// What the program found in its environment about the person who runs it.
#[derive(Clone, Debug, Default)]
pub struct Login {
    /// `$USER`
    pub user: Option<String>,
    /// `$HOME`
    pub home: Option<PathBuf>,
}

/// A user whose mail is synced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// Name, often with a domain.
    pub name: String,
    /// Home directory, if there is one.
    pub home: Option<PathBuf>,
    /// Who owns the mail; `None` for whoever runs the program.
    pub uid: Option<u32>,
    /// The group of it.
    pub gid: Option<u32>,
    /// System user whose supplementary groups count.
    pub groups_of: Option<String>,
    /// Location of the mail, if the user has one of its own.
    pub mail: Option<String>,
    /// The destination of `-d`.
    pub mail_replica: Option<String>,
    /// Nothing of this user is replicated.
    pub no_replicate: bool,
    /// It was looked up, and did not just start the program.
    pub looked_up: bool,
}

impl User {
    /// Finds the user: a name given with `-u` is looked up in the userdb; without one it is
    /// whoever runs the program, and nothing is looked up.
    ///
    /// What the userdb does not tell comes from `mail_uid`, `mail_gid` and `mail_home`.
    pub fn find(
        name: Option<&str>,
        login: &Login,
        settings: &Settings,
    ) -> Result<Self, ConfigError> {
        match name {
            Some(name) => Self::look_up(name, settings),
            None => Self::of_login(login, settings),
        }
    }

    fn look_up(name: &str, settings: &Settings) -> Result<Self, ConfigError> {
        check_name(name)?;
        let userdb = UserDb::from_settings(settings);
        let Some(fields) = userdb.lookup(name)? else {
            return Err(ConfigError::UnknownUser {
                name: name.to_owned(),
                userdb,
            });
        };
        check_name(&fields.name)?;
        let mut user = Self {
            name: fields.name.clone(),
            looked_up: true,
            ..Self::default()
        };
        user.take(fields, settings)?;
        let replica = || Some(settings.text(&MAIL_REPLICA)).filter(|text| !text.is_empty());
        user.mail_replica = user.mail_replica.or_else(|| replica().map(str::to_owned));
        Ok(user)
    }

    /// Fields first for the ids, since the others may have variables for them.
    fn take(&mut self, fields: UserFields, settings: &Settings) -> Result<(), ConfigError> {
        let id = |setting, parse: fn(&str) -> Result<u32, String>| match settings.text(setting) {
            "" => Ok(None),
            text => parse(text)
                .map(Some)
                .map_err(|reason| ConfigError::Variable {
                    text: text.to_owned(),
                    reason,
                }),
        };
        self.uid = fields.uid.or(id(&MAIL_UID, user_id)?);
        self.gid = fields.gid.or(id(&MAIL_GID, group_id)?);
        self.groups_of = fields.groups_of;
        self.no_replicate = fields.no_replicate;
        self.mail_replica = fields.mail_replica;
        let home = match &fields.home {
            Some(home) => home.to_string_lossy().into_owned(),
            None => settings.text(&MAIL_HOME).to_owned(),
        };
        self.home = Some(self.expand(&home)?)
            .filter(|home| !home.is_empty())
            .map(PathBuf::from);
        self.mail = fields.mail;
        Ok(())
    }

    /// Whoever runs the program: `$USER` and `$HOME`, else what the system knows.
    fn of_login(login: &Login, settings: &Settings) -> Result<Self, ConfigError> {
        let this_process = || nix::unistd::User::from_uid(getuid()).ok().flatten();
        let replica = settings.text(&MAIL_REPLICA);
        let mut user = Self {
            name: match &login.user {
                Some(user) if !user.is_empty() => user.clone(),
                _ => this_process().ok_or(ConfigError::NoUser)?.name,
            },
            mail_replica: Some(replica.to_owned()).filter(|text| !text.is_empty()),
            ..Self::default()
        };
        user.home = match settings.text(&MAIL_HOME) {
            "" => login
                .home
                .clone()
                .filter(|home| home.is_absolute())
                .or_else(|| this_process().map(|user| user.dir)),
            home => Some(user.expand(home)?.into()),
        };
        Ok(user)
    }

    /// The settings with those that the userdb has for this user. What was given on the command
    /// line stays.
    pub fn settings(&self, settings: &Settings) -> Result<Settings, ConfigError> {
        let mut own = settings.clone();
        let given = matches!(settings.origin(&MAIL_LOCATION), Some(Origin::Argument(_)));
        if let Some(mail) = self.mail.as_ref().filter(|_| !given) {
            own.set(MAIL_LOCATION.name, mail, &Origin::Userdb)?;
        }
        Ok(own)
    }

    /// What `%` variables in settings stand for.
    pub fn variables(&self) -> Variables {
        Variables {
            user: self.name.clone(),
            home: self.home.clone(),
            service: "doveadm".to_owned(),
            uid: Some(self.uid.unwrap_or_else(|| getuid().as_raw())),
            gid: Some(self.gid.unwrap_or_else(|| getgid().as_raw())),
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

/// Names become parts of paths (`%u`, `%n`, `%d`) and may come from another host: none may lead out
/// of the place that a template means.
fn check_name(name: &str) -> Result<(), ConfigError> {
    let is_step = |part: &str| matches!(part, "." | "..");
    let leads_away = name.contains('/') || name.split('@').any(is_step) || is_step(name);
    if name.is_empty() || leads_away || name.contains(char::is_control) {
        return Err(ConfigError::InvalidName(name.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login() -> Login {
        Login {
            user: Some("joe".into()),
            home: Some("/home/joe".into()),
        }
    }

    fn settings(assignments: &[&str]) -> Settings {
        let mut settings = Settings::default();
        for assignment in assignments {
            settings
                .assign(assignment, &Origin::Argument("-o"))
                .unwrap();
        }
        settings
    }

    #[test]
    fn the_environment_names_the_user() {
        let user = User::find(None, &login(), &settings(&[])).unwrap();
        assert_eq!(user.name, "joe");
        assert_eq!(user.home, Some("/home/joe".into()));
        assert!(!user.looked_up);
        let home = settings(&["mail_home=/srv/%u"]);
        let user = User::find(None, &login(), &home).unwrap();
        assert_eq!(user.home, Some("/srv/joe".into()));
    }

    #[test]
    fn templates_know_the_user() {
        let settings = settings(&[
            "userdb=static:uid=5000 home=/srv/%d/%n mail=maildir:~/%i mail_replica=tcp:h:%u",
            "mail_uid=1",
            "mail_gid=6000",
        ]);
        let user = User::find(Some("ann@example.org"), &login(), &settings).unwrap();
        assert_eq!(user.home, Some("/srv/example.org/ann".into()));
        assert_eq!((user.uid, user.gid), (Some(5000), Some(6000)));
        // Like Dovecot's, whose settings are not expanded there.
        assert_eq!(user.mail_replica.as_deref(), Some("tcp:h:%u"));
        let own = user.settings(&settings).unwrap();
        assert_eq!(own.text(&MAIL_LOCATION), "maildir:~/%i");
        assert_eq!(user.expand("%i").unwrap(), "5000");
    }

    #[test]
    fn names_that_would_be_paths_are_refused() {
        let settings = settings(&["userdb=static:uid=5000 gid=5000 home=/srv/%d/%n"]);
        for name in [
            "", "..", "../joe", "joe/..", "/etc", "..@..", "joe@..", "a\nb", "a\0b",
        ] {
            let error = User::find(Some(name), &login(), &settings).unwrap_err();
            assert_eq!(error.exit_code(), 67, "{name:?}: {error}");
            assert!(error.to_string().contains("no name of a user"), "{error}");
        }
        for name in ["joe", "joe@example.org", "a..b", ".joe", "j@x@y"] {
            User::find(Some(name), &login(), &settings).unwrap();
        }
    }

    #[test]
    fn unknown_users_are_refused() {
        let passwd = settings(&["userdb=passwd"]);
        let error = User::find(Some("no-such-user-here"), &login(), &passwd);
        assert_eq!(error.unwrap_err().exit_code(), 67);
        let root = User::find(Some("root"), &login(), &passwd).unwrap();
        assert_eq!((root.home, root.uid), (Some("/root".into()), Some(0)));
    }
}
