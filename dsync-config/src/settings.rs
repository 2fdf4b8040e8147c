//! The settings of a run.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::nearest::nearest;
use crate::setting::{SETTINGS, boolean, words};
use crate::{ConfigError, Kind, Origin, Setting, units};

/// All settings: what was given, and the defaults for the rest. A later value wins.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    values: BTreeMap<&'static str, (String, Origin)>,
    namespaces: Vec<NamespaceSettings>,
}

/// Settings of one namespace, as in Dovecot's `namespace { ... }`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceSettings {
    /// Name of the section; only to refer to it.
    pub name: String,
    /// Prefix of all names in it.
    pub prefix: String,
    /// Hierarchy separator; `None` for the one that the format of the location uses.
    pub separator: Option<char>,
    /// Serves INBOX.
    pub inbox: bool,
    /// Not shown to users.
    pub hidden: bool,
    /// Not listed.
    pub unlisted: bool,
    /// Location of its own; empty for `mail_location`.
    pub location: String,
    /// Is an alias of the namespace with this prefix.
    pub alias_for: Option<String>,
    /// Special uses such as `\Sent`, by name without the prefix.
    pub special_use: BTreeMap<String, Vec<String>>,
}

/// Names of the settings of a namespace.
const NAMESPACE_SETTINGS: [&str; 7] = [
    "alias_for",
    "hidden",
    "inbox",
    "list",
    "location",
    "prefix",
    "separator",
];

impl Settings {
    /// Sets one setting; a name like `namespace/inbox/prefix` sets one of a namespace.
    pub fn set(&mut self, name: &str, value: &str, origin: &Origin) -> Result<(), ConfigError> {
        if let Some((section, key)) = name
            .strip_prefix("namespace/")
            .and_then(|rest| rest.split_once('/'))
        {
            return self.set_in_namespace(section, key, value, origin);
        }
        let Some(setting) = Setting::find(name) else {
            return Err(unknown(
                name,
                origin,
                SETTINGS.iter().map(|setting| setting.name),
            ));
        };
        let is_content = setting.name.starts_with("ssl_") && setting.name != name;
        let value = match value.strip_prefix('<') {
            // Dovecot 2.3 puts the content of a file there.
            Some(path) if is_content => path,
            None if is_content && !value.is_empty() => {
                let reason = "has to be the name of a file, after a <".to_owned();
                return Err(invalid(name, "...", origin, reason));
            }
            _ => value,
        };
        setting
            .check(value)
            .map_err(|reason| invalid(name, value, origin, reason))?;
        self.values
            .insert(setting.name, (value.to_owned(), origin.clone()));
        Ok(())
    }

    /// Sets one setting from an argument `name=value`.
    pub fn assign(&mut self, argument: &str, origin: &Origin) -> Result<(), ConfigError> {
        let (name, value) =
            argument
                .split_once('=')
                .ok_or_else(|| ConfigError::NotAnAssignment {
                    origin: origin.clone(),
                    argument: argument.to_owned(),
                })?;
        self.set(name.trim(), value, origin)
    }

    pub(crate) fn set_in_namespace(
        &mut self,
        section: &str,
        key: &str,
        value: &str,
        origin: &Origin,
    ) -> Result<(), ConfigError> {
        let namespace = self.namespace_mut(section);
        let truth = || {
            boolean(value)
                .ok_or_else(|| invalid(key, value, origin, "is neither yes nor no".to_owned()))
        };
        match key {
            "alias_for" => namespace.alias_for = Some(value.to_owned()),
            "hidden" => namespace.hidden = truth()?,
            "inbox" => namespace.inbox = truth()?,
            "list" => namespace.unlisted = value != "children" && !truth()?,
            "location" => value.clone_into(&mut namespace.location),
            "prefix" => value.clone_into(&mut namespace.prefix),
            "separator" => {
                let mut chars = value.chars();
                namespace.separator = match (chars.next(), chars.next()) {
                    (None, _) => None,
                    (Some(separator), None) if separator.is_ascii() => Some(separator),
                    _ => {
                        let reason = "is not exactly one ASCII character".to_owned();
                        return Err(invalid(key, value, origin, reason));
                    }
                }
            }
            _ => return Err(unknown(key, origin, NAMESPACE_SETTINGS.into_iter())),
        }
        Ok(())
    }

    /// Special uses of a mailbox of a namespace.
    pub(crate) fn set_special_use(&mut self, section: &str, mailbox: &str, uses: &str) {
        let uses = words(uses).map(str::to_owned).collect();
        let namespace = self.namespace_mut(section);
        namespace.special_use.insert(mailbox.to_owned(), uses);
    }

    /// The namespace of this section name, made if it is not there yet.
    pub(crate) fn namespace_mut(&mut self, section: &str) -> &mut NamespaceSettings {
        let index = self
            .namespaces
            .iter()
            .position(|namespace| namespace.name == section)
            .unwrap_or_else(|| {
                self.namespaces.push(NamespaceSettings {
                    name: section.to_owned(),
                    ..NamespaceSettings::default()
                });
                self.namespaces.len() - 1
            });
        &mut self.namespaces[index]
    }

    /// The namespaces that were configured; none means the one default namespace.
    pub fn namespaces(&self) -> &[NamespaceSettings] {
        &self.namespaces
    }

    /// The text of a setting.
    pub fn text(&self, setting: &Setting) -> &str {
        self.values
            .get(setting.name)
            .map_or(setting.default, |(value, _)| value)
    }

    /// Drops passwords: a process that reads what a peer sends does not need them.
    pub fn forget_secrets(&mut self) {
        let secrets = SETTINGS
            .iter()
            .filter(|setting| setting.kind == Kind::Secret);
        for setting in secrets {
            self.values.remove(setting.name);
        }
    }

    /// Where the value of a setting was given; `None` for its default.
    pub fn origin(&self, setting: &Setting) -> Option<&Origin> {
        self.values.get(setting.name).map(|(_, origin)| origin)
    }

    /// Whether a boolean setting is on.
    pub fn is_on(&self, setting: &Setting) -> bool {
        boolean(self.text(setting)).unwrap_or_default()
    }

    /// The number of a setting.
    pub fn number(&self, setting: &Setting) -> u32 {
        self.text(setting).parse().unwrap_or_default()
    }

    /// The bytes of a size.
    pub fn size(&self, setting: &Setting) -> u32 {
        units::bytes(self.text(setting)).unwrap_or_default()
    }

    /// A length of time.
    pub fn time(&self, setting: &Setting) -> Duration {
        let seconds = units::seconds(self.text(setting)).unwrap_or_default();
        Duration::from_secs(seconds.into())
    }

    /// The words of a setting.
    pub fn words(&self, setting: &Setting) -> impl Iterator<Item = &str> {
        words(self.text(setting))
    }
}

pub(crate) fn unknown<'a>(
    name: &str,
    origin: &Origin,
    known: impl Iterator<Item = &'a str>,
) -> ConfigError {
    ConfigError::UnknownSetting {
        name: name.to_owned(),
        origin: origin.clone(),
        nearest: nearest(name, known).map(str::to_owned),
    }
}

pub(crate) fn invalid(name: &str, value: &str, origin: &Origin, reason: String) -> ConfigError {
    ConfigError::InvalidValue {
        name: name.to_owned(),
        value: value.to_owned(),
        origin: origin.clone(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DSYNC_HASHED_HEADERS, MAIL_LOCATION};

    const ARGUMENT: Origin = Origin::Argument("-o");

    #[test]
    fn a_later_value_wins() {
        let mut settings = Settings::default();
        settings
            .assign("mail_location=maildir:/a", &ARGUMENT)
            .unwrap();
        settings
            .assign("mail_location=maildir:/b:INDEX=/c", &ARGUMENT)
            .unwrap();
        assert_eq!(settings.text(&MAIL_LOCATION), "maildir:/b:INDEX=/c");
        let headers: Vec<_> = settings.words(&DSYNC_HASHED_HEADERS).collect();
        assert_eq!(headers, ["Date", "Message-ID"]);
    }

    #[test]
    fn secrets_can_be_forgotten() {
        let mut settings = Settings::default();
        for argument in ["doveadm_password=x", "mail_location=maildir:/a"] {
            settings.assign(argument, &ARGUMENT).unwrap();
        }
        settings.forget_secrets();
        assert_eq!(settings.text(&crate::DOVEADM_PASSWORD), "");
        assert_eq!(settings.text(&MAIL_LOCATION), "maildir:/a");
    }

    #[test]
    fn wrong_arguments_are_explained() {
        for (argument, expected) in [
            (
                "mail_locaton=x",
                "-o: unknown setting mail_locaton; did you mean mail_location?",
            ),
            (
                "quota=x",
                "-o: unknown setting quota; see the SETTINGS section of the manual page",
            ),
            (
                "mail_location",
                "-o mail_location: write it as -o name=value",
            ),
            (
                "mail_fsync=often",
                "-o: mail_fsync = \"often\" is none of: optimized, always, never",
            ),
            (
                "namespace/inbox/prefx=x",
                "-o: unknown setting prefx; did you mean prefix?",
            ),
            (
                "namespace/inbox/inbox=perhaps",
                "-o: inbox = \"perhaps\" is neither yes nor no",
            ),
        ] {
            let error = Settings::default().assign(argument, &ARGUMENT).unwrap_err();
            assert_eq!(error.to_string(), expected);
            assert_eq!(error.exit_code(), 64);
        }
    }

    #[test]
    fn namespaces_by_argument() {
        let mut settings = Settings::default();
        for argument in [
            "namespace/inbox/prefix=INBOX/",
            "namespace/inbox/separator=/",
            "namespace/inbox/inbox=yes",
            "namespace/old/list=children",
        ] {
            settings.assign(argument, &ARGUMENT).unwrap();
        }
        let [inbox, old] = settings.namespaces() else {
            panic!("{:?}", settings.namespaces());
        };
        assert_eq!(
            (inbox.prefix.as_str(), inbox.separator),
            ("INBOX/", Some('/'))
        );
        assert!(inbox.inbox && !old.unlisted);
    }
}
