//! From settings to the stores of a user.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use dsync_proto::types::MailErrorClass;
use dsync_storage::location::{LayoutKind, Location};
use dsync_storage::settings::{Fsync, LockMethod, LogRotation};
use dsync_storage::{Account, Namespace, StorageError, Store, StoreSettings, open_store};

use crate::{
    ConfigError, DOTLOCK_USE_EXCL, HOSTNAME, LOCK_METHOD, MAIL_ATTRIBUTE_DICT, MAIL_FSYNC,
    MAIL_INDEX_LOG_ROTATE_MAX_SIZE, MAIL_INDEX_LOG_ROTATE_MIN_AGE, MAIL_INDEX_LOG_ROTATE_MIN_SIZE,
    MAIL_LOCATION, MAIL_MAX_KEYWORD_LENGTH, MAIL_MAX_LOCK_TIMEOUT, MAILBOX_LIST_INDEX,
    MDBOX_ROTATE_SIZE, NamespaceSettings, Settings, User,
};

/// What has to be known besides the settings to open the stores of a user.
#[derive(Clone, Copy, Debug)]
pub struct AccountOptions<'a> {
    /// All settings; their `mail_location` is the account's.
    pub settings: &'a Settings,
    /// Whose account it is.
    pub user: &'a User,
    /// Host name with domain ([`crate::host_domain`]).
    pub host_domain: &'a str,
    /// Create the mail root if it is missing. Without it a missing root is an error: right for
    /// the source of a copy, where a wrong path must not look like an empty account.
    pub create: bool,
    /// Separator of namespaces that are configured without one; `None` for the one that the
    /// format of their location uses. Two accounts that are synced in one process need the same.
    pub separator: Option<char>,
}

/// The stores of a user.
pub struct OpenAccount {
    /// The stores.
    pub account: Account,
    /// Mail roots, in no particular order.
    pub roots: Vec<PathBuf>,
    /// Prefixes of the namespaces whose mail root does not exist yet, with the root.
    pub missing_roots: Vec<(String, PathBuf)>,
    /// Separator of the namespaces.
    pub separator: char,
}

impl AccountOptions<'_> {
    /// Opens all stores.
    ///
    /// # Errors
    ///
    /// A location is missing or wrong, the main root is missing and shall not be created, or the
    /// namespaces do not fit together.
    pub fn open(&self) -> Result<OpenAccount, ConfigError> {
        let location = self.mail_location()?;
        let default = [NamespaceSettings {
            name: "inbox".to_owned(),
            inbox: true,
            ..NamespaceSettings::default()
        }];
        let namespaces = match self.settings.namespaces() {
            [] => &default,
            namespaces => namespaces,
        };
        let mut stores: Vec<Box<dyn Store>> = Vec::new();
        let mut roots = Vec::new();
        let mut missing_roots = Vec::new();
        for settings in namespaces {
            let own = Some(&settings.location).filter(|own| !own.is_empty());
            let text = own.unwrap_or(&location);
            let opened = self.open_store(settings, text);
            let (store, root) = match own {
                Some(_) => opened?,
                None => opened.map_err(|error| self.with_origin(error))?,
            };
            if !root.is_dir() {
                missing_roots.push((settings.prefix.clone(), root.clone()));
            }
            roots.push(root);
            stores.push(store);
        }
        let separator = same_separator(&stores)?;
        let inboxes = stores.iter().filter(|store| store.namespace().inbox);
        if inboxes.count() > 1 {
            return Err(ConfigError::Namespace {
                name: "inbox".to_owned(),
                reason: "more than one namespace has inbox = yes".to_owned(),
            });
        }
        Ok(OpenAccount {
            account: Account::new(stores),
            roots,
            missing_roots,
            separator,
        })
    }

    fn open_store(
        &self,
        settings: &NamespaceSettings,
        text: &str,
    ) -> Result<(Box<dyn Store>, PathBuf), ConfigError> {
        let location = Location::parse(text, &self.user.variables()).map_err(ConfigError::Store)?;
        refuse_root(&location.root)?;
        let separator = settings.separator.or(self.separator);
        let namespace = Namespace {
            prefix: settings.prefix.clone(),
            separator: separator.unwrap_or(match location.layout_kind() {
                LayoutKind::MaildirPlusPlus | LayoutKind::ImapDir => '.',
                LayoutKind::Fs | LayoutKind::Index | LayoutKind::None => '/',
            }),
            inbox: settings.inbox,
            hidden: settings.hidden,
            list: !settings.unlisted,
            own_location: !settings.location.is_empty(),
            alias: settings.alias_for.is_some(),
            escape_char: None,
        };
        let special_use = settings.special_use.iter();
        let store_settings = StoreSettings {
            special_use: special_use
                .map(|(name, uses)| (format!("{}{name}", settings.prefix), uses.clone()))
                .collect(),
            // Further namespaces are made when they are used first, as Dovecot does.
            create: self.create || !settings.location.is_empty(),
            ..self.store_settings()?
        };
        let store =
            open_store(&location, namespace, &store_settings).map_err(ConfigError::Store)?;
        Ok((store, location.root))
    }

    /// Says where a mail location that is not there was given: it may not be the one that the
    /// person at the terminal has in mind.
    fn with_origin(&self, error: ConfigError) -> ConfigError {
        let origin = self.settings.origin(&MAIL_LOCATION);
        match (error, origin) {
            (ConfigError::Store(error), Some(origin))
                if error.class == MailErrorClass::NotFound =>
            {
                let location = self.settings.text(&MAIL_LOCATION);
                let message = format!(
                    "{} (mail_location = {location}, from {origin}; -o mail_location=LOCATION \
                     names another place)",
                    error.message
                );
                ConfigError::Store(StorageError::new(error.class, message))
            }
            (error, _) => error,
        }
    }

    /// The account's own location: the setting, else `~/Maildir` if it exists.
    fn mail_location(&self) -> Result<String, ConfigError> {
        let text = self.settings.text(&MAIL_LOCATION);
        if !text.is_empty() {
            return Ok(text.to_owned());
        }
        let Some(home) = self.user.home() else {
            return Err(ConfigError::NoLocation(format!(
                "{} has no home directory",
                self.user.name
            )));
        };
        let maildir = home.join("Maildir");
        if maildir.is_dir() {
            return Ok("maildir:~/Maildir".to_owned());
        }
        Err(ConfigError::NoLocation(format!(
            "{} does not exist",
            maildir.display()
        )))
    }

    /// Settings for the stores.
    pub fn store_settings(&self) -> Result<StoreSettings, ConfigError> {
        let settings = self.settings;
        let hostname = match settings.text(&HOSTNAME) {
            "" => crate::host_name(),
            name => name.to_owned(),
        };
        Ok(StoreSettings {
            home: self.user.home.clone(),
            create: self.create,
            fsync: match settings.text(&MAIL_FSYNC) {
                "never" => Fsync::Never,
                "always" => Fsync::Always,
                _ => Fsync::Optimized,
            },
            attribute_dict: self.attribute_dict()?,
            max_lock_timeout: Some(settings.time(&MAIL_MAX_LOCK_TIMEOUT))
                .filter(|time| !time.is_zero()),
            dotlock_use_excl: settings.is_on(&DOTLOCK_USE_EXCL),
            lock_method: match settings.text(&LOCK_METHOD) {
                "flock" => LockMethod::Flock,
                _ => LockMethod::Fcntl,
            },
            hostname,
            host_domain: self.host_domain.to_owned(),
            max_keyword_length: usize::try_from(settings.number(&MAIL_MAX_KEYWORD_LENGTH))
                .unwrap_or(usize::MAX),
            list_index: settings.is_on(&MAILBOX_LIST_INDEX),
            log_rotation: LogRotation {
                min_size: settings.size(&MAIL_INDEX_LOG_ROTATE_MIN_SIZE),
                min_age: settings.time(&MAIL_INDEX_LOG_ROTATE_MIN_AGE),
                max_size: settings.size(&MAIL_INDEX_LOG_ROTATE_MAX_SIZE),
            },
            mdbox_rotate_size: settings.size(&MDBOX_ROTATE_SIZE),
            ..StoreSettings::default()
        })
    }

    fn attribute_dict(&self) -> Result<Option<PathBuf>, ConfigError> {
        let text = self.user.expand(self.settings.text(&MAIL_ATTRIBUTE_DICT))?;
        match text.strip_prefix("file:") {
            None if text.is_empty() => Ok(None),
            Some(path) if !path.is_empty() => {
                let relative = path.strip_prefix("~/");
                let in_home = relative
                    .zip(self.user.home())
                    .map(|(path, home)| home.join(path));
                Ok(Some(in_home.unwrap_or_else(|| PathBuf::from(path))))
            }
            _ => Err(ConfigError::Variable {
                text,
                reason: "only mail_attribute_dict = file:PATH is supported".to_owned(),
            }),
        }
    }
}

/// Root has no business in somebody's mail.
fn refuse_root(root: &Path) -> Result<(), ConfigError> {
    // What is not there yet is nobody's, and what cannot be looked at fails later.
    let owner = fs::metadata(root).ok().map(|metadata| metadata.uid());
    match owner {
        Some(uid) if uid != 0 && nix::unistd::geteuid().is_root() => {
            let path = root.to_owned();
            Err(ConfigError::RootInUserStore { path, uid })
        }
        _ => Ok(()),
    }
}

/// All namespaces must have the same separator (`spec/brain-and-tree.md` 3.1).
fn same_separator(stores: &[Box<dyn Store>]) -> Result<char, ConfigError> {
    let mut separators = stores.iter().map(|store| store.namespace().separator);
    let first = separators.next().unwrap_or('/');
    match separators.find(|separator| *separator != first) {
        None => Ok(first),
        Some(other) => Err(ConfigError::Namespace {
            name: "separators".to_owned(),
            reason: format!(
                "namespaces have conflicting separators ({first} and {other}); set the same \
                 separator for all of them"
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Origin;

    /// Opens the account of a home directory with these settings.
    fn open(home: &std::path::Path, assignments: &[&str]) -> Result<OpenAccount, ConfigError> {
        let mut settings = Settings::default();
        for assignment in assignments {
            settings.assign(assignment, &Origin::Argument("-o"))?;
        }
        let user = User {
            name: "joe@example.org".into(),
            home: Some(home.to_owned()),
            ..User::default()
        };
        let options = AccountOptions {
            settings: &settings,
            user: &user,
            host_domain: "host.example.org",
            create: false,
            separator: None,
        };
        options.open()
    }

    fn home() -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        for name in ["cur", "new", "tmp"] {
            fs::create_dir_all(home.path().join("Maildir").join(name)).unwrap();
        }
        home
    }

    #[test]
    fn the_default_is_a_maildir_in_the_home() {
        let home = home();
        let opened = open(home.path(), &[]).unwrap();
        assert_eq!(opened.roots, [home.path().join("Maildir")]);
        assert_eq!(opened.separator, '.');
        let opened = open(home.path(), &["mail_location=maildir:%h/Maildir:LAYOUT=fs"]).unwrap();
        assert_eq!(opened.separator, '/');
    }

    #[test]
    fn nothing_there_is_an_error() {
        let home = tempfile::tempdir().unwrap();
        let code = |assignments: &[&str]| open(home.path(), assignments).err().unwrap().exit_code();
        assert_eq!(code(&[]), 64);
        assert_eq!(code(&["mail_location=maildir:~/none"]), 68);
        assert_eq!(code(&["mail_location=maildri:~/none"]), 64);
        assert_eq!(code(&["mail_location=maildir:/%{unknown}"]), 64);
    }

    #[test]
    fn namespaces() {
        let home = home();
        let inbox = [
            "namespace/a/inbox=yes",
            "namespace/a/separator=/",
            "namespace/b/prefix=b/",
        ];
        let location = "namespace/b/location=maildir:~/Maildir/b:LAYOUT=fs";
        fs::create_dir(home.path().join("Maildir/b")).unwrap();
        let open_with =
            |more: &[&str]| open(home.path(), &[&inbox[..], &[location], more].concat());
        let opened = open_with(&[]).unwrap();
        let own: Vec<bool> = opened
            .account
            .stores()
            .map(|store| store.namespace().own_location)
            .collect();
        assert_eq!(own, [false, true]);
        for (setting, reason) in [
            ("namespace/b/separator=.", "conflicting separators"),
            (
                "namespace/b/inbox=yes",
                "more than one namespace has inbox = yes",
            ),
        ] {
            let error = open_with(&[setting]).err().unwrap();
            assert!(error.to_string().contains(reason), "{error}");
        }
    }
}
