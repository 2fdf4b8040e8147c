//! All settings as a configuration file that means the same.

use std::fmt::Write;

use crate::settings::unknown;
use crate::{ConfigError, Kind, NamespaceSettings, Origin, SETTINGS, Setting, Settings};

impl Settings {
    /// TOML with every setting and where it comes from; passwords only if `secrets` is set.
    pub fn to_toml(&self, secrets: bool) -> String {
        let mut text = String::new();
        for setting in SETTINGS {
            self.write_setting(setting, secrets, &mut text);
        }
        for namespace in self.namespaces() {
            write_namespace(namespace, &mut text);
        }
        text
    }

    /// The value of the setting of this name.
    ///
    /// # Errors
    ///
    /// There is no such setting.
    pub fn value(&self, name: &str, secrets: bool) -> Result<String, ConfigError> {
        let Some(setting) = Setting::find(name) else {
            let known = SETTINGS.iter().map(|setting| setting.name);
            return Err(unknown(name, &Origin::Argument("NAME"), known));
        };
        Ok(match setting.kind {
            Kind::Secret if !secrets => "(not shown)".to_owned(),
            _ => self.text(setting).to_owned(),
        })
    }

    fn write_setting(&self, setting: &Setting, secrets: bool, out: &mut String) {
        let value = self.text(setting);
        let value = match setting.kind {
            Kind::Secret if !secrets && !value.is_empty() => {
                // Writing to a text cannot fail.
                let _ = writeln!(out, "# {} is not shown", setting.name);
                return;
            }
            Kind::Number(_) => value.to_owned(),
            Kind::Boolean => self.is_on(setting).to_string(),
            _ => quoted(value),
        };
        let origin = match self.origin(setting) {
            Some(origin) => origin.to_string(),
            None => "default".to_owned(),
        };
        let _ = writeln!(out, "{} = {value} # {origin}", setting.name);
    }
}

fn write_namespace(namespace: &NamespaceSettings, out: &mut String) {
    let separator = namespace.separator.map(String::from);
    let _ = writeln!(out, "\n[[namespace]]");
    for (name, value) in [
        ("name", Some(&namespace.name)),
        ("prefix", Some(&namespace.prefix)),
        ("separator", separator.as_ref()),
        ("location", Some(&namespace.location)),
        ("alias_for", namespace.alias_for.as_ref()),
    ] {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            let _ = writeln!(out, "{name} = {}", quoted(value));
        }
    }
    for (name, value) in [
        ("inbox", namespace.inbox),
        ("hidden", namespace.hidden),
        ("list", !namespace.unlisted),
    ] {
        let _ = writeln!(out, "{name} = {value}");
    }
    for (mailbox, uses) in &namespace.special_use {
        let uses = quoted(&uses.join(" "));
        let _ = writeln!(out, "special_use.{} = {uses}", quoted(mailbox));
    }
}

/// A text that TOML reads as it is.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_means_the_same() {
        let mut settings = Settings::default();
        for argument in [
            "mail_location=maildir:~/M \"x\" 'y' \\z",
            "doveadm_password=secret",
            "dsync_commit_msgs_interval=7",
            "mailbox_list_index=no",
            "namespace/in box/prefix=a/",
            "namespace/in box/separator=/",
            "namespace/in box/inbox=yes",
        ] {
            settings.assign(argument, &Origin::Argument("-o")).unwrap();
        }
        settings.set_special_use("in box", "Old \"Trash\"", "\\Trash \\Junk");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dsync.toml");
        std::fs::write(&path, settings.to_toml(true)).unwrap();
        let mut again = Settings::default();
        again.read_file(&path).unwrap();
        for setting in SETTINGS
            .iter()
            .filter(|setting| setting.kind != Kind::Boolean)
        {
            assert_eq!(
                again.text(setting),
                settings.text(setting),
                "{}",
                setting.name
            );
        }
        for setting in SETTINGS {
            assert_eq!(
                again.is_on(setting),
                settings.is_on(setting),
                "{}",
                setting.name
            );
        }
        assert_eq!(again.namespaces(), settings.namespaces());

        let shown = settings.to_toml(false);
        assert!(!shown.contains("secret"), "{shown}");
        assert!(
            shown.contains("dsync_commit_msgs_interval = 7 # -o\n"),
            "{shown}"
        );
        assert!(
            shown.contains("lock_method = \"fcntl\" # default\n"),
            "{shown}"
        );
    }
}
