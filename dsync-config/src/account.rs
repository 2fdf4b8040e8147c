//! From settings to the stores of a user.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use dsync_storage::settings::{Fsync, LockMethod};
use dsync_storage::{Account, Namespace, StorageError, Store, StoreSettings};

use crate::{
    ConfigError, DOTLOCK_USE_EXCL, HOSTNAME, LOCK_METHOD, MAIL_ATTRIBUTE_DICT, MAIL_FSYNC,
    MAIL_LOCATION, MAIL_MAX_KEYWORD_LENGTH, MAIL_MAX_LOCK_TIMEOUT, MAILBOX_LIST_INDEX,
    NamespaceSettings, Settings, User, expand,
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
    /// Separator of the namespaces.
    pub separator: char,
}

impl AccountOptions<'_> {
    /// Opens all stores.
    ///
    /// # Errors
    ///
    /// A location is missing or wrong, its root is missing and shall not be created, or the
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
        for settings in namespaces {
            let own = Some(&settings.location).filter(|own| !own.is_empty());
            let text = own.unwrap_or(&location);
            let opened = self
                .open_store(settings, text)
                .map_err(|error| ConfigError::Store {
                    location: text.clone(),
                    error,
                })?;
            roots.push(opened.root);
            stores.push(opened.store);
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
            separator,
        })
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
            max_lock_timeout: match settings.number(&MAIL_MAX_LOCK_TIMEOUT) {
                0 => None,
                seconds => Some(Duration::from_secs(seconds.into())),
            },
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
            ..StoreSettings::default()
        })
    }

    fn attribute_dict(&self) -> Result<Option<PathBuf>, ConfigError> {
        let text = expand(self.settings.text(&MAIL_ATTRIBUTE_DICT), self.user)?;
        match text.strip_prefix("file:") {
            None if text.is_empty() => Ok(None),
            Some(path) if !path.is_empty() => Ok(Some(PathBuf::from(path))),
            _ => Err(ConfigError::Variable {
                text,
                reason: "only mail_attribute_dict = file:PATH is supported".to_owned(),
            }),
        }
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

/// The namespace of a section.
fn namespace(settings: &NamespaceSettings, separator: char) -> Namespace {
    Namespace {
        prefix: settings.prefix.clone(),
        separator,
        inbox: settings.inbox,
        hidden: settings.hidden,
        list: !settings.unlisted,
        own_location: !settings.location.is_empty(),
        alias: settings.alias_for.is_some(),
        escape_char: None,
    }
}

/// Special uses by full name.
fn special_use(settings: &NamespaceSettings) -> BTreeMap<String, Vec<String>> {
    settings
        .special_use
        .iter()
        .map(|(name, uses)| (format!("{}{name}", settings.prefix), uses.clone()))
        .collect()
}

struct OpenStore {
    store: Box<dyn Store>,
    root: PathBuf,
}

impl AccountOptions<'_> {
    fn open_store(
        &self,
        settings: &NamespaceSettings,
        location: &str,
    ) -> Result<OpenStore, StorageError> {
        let _ = (
            namespace(settings, self.separator.unwrap_or('/')),
            special_use(settings),
            location,
        );
        Err(StorageError::new(
            dsync_proto::types::MailErrorClass::NotPossible,
            "this format is not supported yet",
        ))
    }
}
