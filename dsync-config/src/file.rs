//! The configuration file: TOML, with Dovecot's names for the settings.
//!
//! ```toml
//! mail_location = "maildir:~/Maildir"
//! dsync_hashed_headers = ["Date", "Message-ID"]
//!
//! [[namespace]]
//! prefix = "INBOX/"
//! separator = "/"
//! inbox = true
//! special_use = { Sent = '\Sent', Trash = '\Trash' }
//! ```

use std::fs;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::settings::invalid;
use crate::{ConfigError, Origin, Settings};

/// Largest configuration file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;
/// The file that is read if there is one and `-c` names no other.
const DEFAULT_FILE: &str = "/etc/dsync.toml";

impl Settings {
    /// The settings that every program starts from, and then the arguments `name=value` of `-o`.
    ///
    /// They come from the file of `-c`; else from our default file; else from the Dovecot on this
    /// host, if there is one. A file that is called `*.conf` is Dovecot's.
    pub fn load(file: Option<&Path>, options: &[String]) -> Result<Self, ConfigError> {
        let mut settings = Self::default();
        let default = Some(Path::new(DEFAULT_FILE)).filter(|path| path.exists());
        match file.or(default) {
            Some(path) if path.extension().is_some_and(|end| end == "conf") => {
                settings.read_dovecot_file(path)?;
            }
            Some(path) => settings.read_file(path)?,
            None => settings.read_host()?,
        }
        for assignment in options {
            settings.assign(assignment, &Origin::Argument("-o"))?;
        }
        Ok(settings)
    }

    /// Reads a configuration file; its values win over those that are there already.
    pub fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let read = || {
            if fs::metadata(path)?.len() > MAX_FILE {
                return Err(std::io::Error::other("it is larger than 1 MiB"));
            }
            fs::read_to_string(path)
        };
        let text = read().map_err(|error| ConfigError::Read {
            path: path.to_owned(),
            error,
        })?;
        self.read_text(&text, path)
    }

    fn read_text(&mut self, text: &str, path: &Path) -> Result<(), ConfigError> {
        let file = File { text, path };
        let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
            origin: file.origin(error.span().map_or(0, |span| span.start)),
            reason: error.message().to_owned(),
        })?;
        for (key, value) in sorted(table.get_ref()) {
            let origin = file.origin(key.span().start);
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("namespace", DeValue::Array(namespaces)) => {
                    for (number, namespace) in namespaces.iter().enumerate() {
                        self.read_namespace(&file, number, namespace)?;
                    }
                }
                (name, value) => {
                    let value = scalar(name, value, &origin)?;
                    self.set(name, &value, &origin)?;
                }
            }
        }
        Ok(())
    }

    fn read_namespace(
        &mut self,
        file: &File<'_>,
        number: usize,
        namespace: &Spanned<DeValue<'_>>,
    ) -> Result<(), ConfigError> {
        let origin = file.origin(namespace.span().start);
        let DeValue::Table(table) = namespace.get_ref() else {
            let reason = "has to be a table: write [[namespace]]".to_owned();
            return Err(invalid("namespace", "", &origin, reason));
        };
        let section = match table.get("name").map(Spanned::get_ref) {
            Some(DeValue::String(name)) => name.to_string(),
            _ => format!("#{}", number + 1),
        };
        self.namespace_mut(&section);
        for (key, value) in sorted(table) {
            let origin = file.origin(key.span().start);
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("name", DeValue::String(_)) => {}
                ("special_use", DeValue::Table(mailboxes)) => {
                    for (mailbox, uses) in mailboxes {
                        let uses = scalar("special_use", uses.get_ref(), &origin)?;
                        self.set_special_use(&section, mailbox.get_ref(), &uses);
                    }
                }
                (name, value) => {
                    let value = scalar(name, value, &origin)?;
                    self.set_in_namespace(&section, name, &value, &origin)?;
                }
            }
        }
        Ok(())
    }
}

/// The file that is read, to turn positions into lines.
struct File<'a> {
    text: &'a str,
    path: &'a Path,
}

impl File<'_> {
    fn origin(&self, offset: usize) -> Origin {
        let before = self.text.as_bytes().iter().take(offset);
        Origin::File {
            path: self.path.to_owned(),
            line: before.filter(|byte| **byte == b'\n').count() + 1,
        }
    }
}

/// The entries in the order of the file, so that the first mistake is the one reported.
fn sorted<'a, 'i>(
    table: &'a DeTable<'i>,
) -> Vec<(
    &'a Spanned<std::borrow::Cow<'i, str>>,
    &'a Spanned<DeValue<'i>>,
)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// A single value, or a list of words, as the text that `-o` would take.
fn scalar(name: &str, value: &DeValue<'_>, origin: &Origin) -> Result<String, ConfigError> {
    Ok(match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.as_str().to_owned(),
        DeValue::Boolean(truth) => if *truth { "yes" } else { "no" }.to_owned(),
        DeValue::Array(words) => {
            let words: Result<Vec<_>, _> = words
                .iter()
                .map(|word| scalar(name, word.get_ref(), origin))
                .collect();
            words?.join(" ")
        }
        DeValue::Table(_) | DeValue::Float(_) | DeValue::Datetime(_) => {
            let reason = format!("cannot be a {}", value.type_str());
            return Err(invalid(name, "", origin, reason));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DSYNC_COMMIT_MSGS_INTERVAL, DSYNC_HASHED_HEADERS, MAIL_LOCATION};

    fn read(text: &str) -> Result<Settings, ConfigError> {
        let mut settings = Settings::default();
        settings.read_text(text, Path::new("dsync.toml"))?;
        Ok(settings)
    }

    #[test]
    fn a_whole_file() {
        let settings = read(
            r#"
            mail_location = "maildir:~/Maildir"
            dsync_hashed_headers = ["Message-ID", "Date"]
            dsync_commit_msgs_interval = 500

            [[namespace]]
            name = "inbox"
            prefix = "INBOX/"
            separator = "/"
            inbox = true
            special_use = { Sent = '\Sent', "Old Trash" = '\Trash' }

            [[namespace]]
            prefix = "archive/"
            location = "mdbox:~/archive"
            list = false
            "#,
        )
        .unwrap();
        assert_eq!(settings.text(&MAIL_LOCATION), "maildir:~/Maildir");
        assert_eq!(settings.text(&DSYNC_HASHED_HEADERS), "Message-ID Date");
        assert_eq!(settings.number(&DSYNC_COMMIT_MSGS_INTERVAL), 500);
        let [inbox, archive] = settings.namespaces() else {
            panic!("{:?}", settings.namespaces());
        };
        assert_eq!(
            (inbox.name.as_str(), inbox.prefix.as_str()),
            ("inbox", "INBOX/")
        );
        assert_eq!(inbox.special_use["Old Trash"], ["\\Trash"]);
        assert_eq!(archive.location, "mdbox:~/archive");
        assert!(archive.unlisted && !archive.inbox);
    }

    #[test]
    fn mistakes_name_the_line() {
        for (text, expected) in [
            (
                "\n\nmail_locaton = \"x\"\n",
                "dsync.toml:3: unknown setting mail_locaton; did you mean mail_location?",
            ),
            (
                "dsync_commit_msgs_interval = 0",
                "dsync.toml:1: dsync_commit_msgs_interval = \"0\" is not a whole number of at least 1",
            ),
            (
                "[[namespace]]\nprefix = 'a/'\nseperator = '/'\n",
                "dsync.toml:3: unknown setting seperator; did you mean separator?",
            ),
            (
                "mail_location = 1.5",
                "dsync.toml:1: mail_location = \"\" cannot be a float",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.to_string(), expected);
            assert_eq!(error.exit_code(), 78);
        }
    }

    #[test]
    fn a_dovecot_configuration_is_recognised_as_the_wrong_kind() {
        let error = read("mail_location = maildir:~/Maildir\n").unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("dsync.toml:1: "), "{text}");
        assert!(text.contains("not a dovecot.conf"), "{text}");
    }
}
