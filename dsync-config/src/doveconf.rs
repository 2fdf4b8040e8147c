//! The settings of a Dovecot on this host, as `doveconf` prints them: 2.3 and 2.4.

mod output;

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use self::output::Block;
use crate::{
    ConfigError, MAIL_ATTRIBUTE_DICT, MAIL_LOCATION, MAIL_REPLICA, Origin, Setting, Settings,
    USERDB,
};

/// The program; it is searched in `PATH`.
const PROGRAM: &str = "doveconf";

/// Dovecot's own file.
const DEFAULT_FILE: &str = "/etc/dovecot/dovecot.conf";

impl Settings {
    /// Takes the settings of this host's Dovecot, if it has one.
    pub(crate) fn read_host(&mut self) -> Result<(), ConfigError> {
        if !Path::new(DEFAULT_FILE).exists() {
            return Ok(());
        }
        match run(None) {
            Ok(text) => self.take_doveconf(&text),
            // The file of a package that was removed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed(Path::new(DEFAULT_FILE), error)),
        }
    }

    /// Takes the settings of a `dovecot.conf`.
    pub(crate) fn read_dovecot_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = run(Some(path)).map_err(|error| failed(path, error))?;
        self.take_doveconf(&text)
    }

    /// Everything in the output that means something here; the rest is for other programs.
    fn take_doveconf(&mut self, text: &str) -> Result<(), ConfigError> {
        let origin = Origin::Doveconf;
        let top = Block::parse(text);
        // Where there is a Dovecot, it knows the users.
        self.set(USERDB.name, "auth", &origin)?;
        for (name, value) in top.flat_settings() {
            if Setting::find(&name).is_some() && name != USERDB.name {
                self.set(&name, &new_variables(&value), &origin)?;
            }
        }
        if let Some(location) = location_of(&top) {
            self.set(MAIL_LOCATION.name, &location, &origin)?;
        }
        if let Some(replica) = top
            .block("plugin")
            .and_then(|block| block.value("mail_replica"))
        {
            self.set(MAIL_REPLICA.name, replica, &origin)?;
        }
        let attribute = top.block("mail_attribute");
        let file = attribute.and_then(|block| block.block("dict file"));
        if let Some(path) = file.and_then(|block| block.value("path")) {
            let value = format!("file:{}", new_variables(path));
            self.set(MAIL_ATTRIBUTE_DICT.name, &value, &origin)?;
        }
        let namespaces = top.blocks.iter().filter_map(|block| {
            let rest = block.name.strip_prefix("namespace")?;
            Some((rest.trim(), block))
        });
        for (index, (name, block)) in namespaces.enumerate() {
            let section = match name {
                "" => format!("#{}", index + 1),
                name => name.to_owned(),
            };
            self.take_namespace(&section, block)?;
        }
        Ok(())
    }

    fn take_namespace(&mut self, section: &str, block: &Block) -> Result<(), ConfigError> {
        // Those of other users, and those that are switched off.
        let is = |name, expected| block.value(name) == Some(expected);
        if is("type", "shared") || is("disabled", "yes") {
            return Ok(());
        }
        self.namespace_mut(section);
        let origin = Origin::Doveconf;
        for name in [
            "alias_for",
            "hidden",
            "inbox",
            "list",
            "location",
            "prefix",
            "separator",
        ] {
            if let Some(value) = block.value(name).filter(|value| !value.is_empty()) {
                let value = new_variables(value);
                self.set_in_namespace(section, name, &value, &origin)?;
            }
        }
        if let Some(location) = location_of(block) {
            self.set_in_namespace(section, "location", &location, &origin)?;
        }
        for mailbox in &block.blocks {
            let name = mailbox.name.strip_prefix("mailbox ").map(output::unquoted);
            if let (Some(name), Some(uses)) = (name, mailbox.value("special_use")) {
                self.set_special_use(section, &name, uses);
            }
        }
        Ok(())
    }
}

/// Runs the program.
fn run(file: Option<&Path>) -> io::Result<String> {
    let mut command = Command::new(PROGRAM);
    command.args(["-n", "-P"]);
    if let Some(file) = file {
        command.arg("-c").arg(file);
    }
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().last().unwrap_or("it failed without a word");
    Err(io::Error::other(
        line.trim_start_matches("doveconf: ").to_owned(),
    ))
}

fn failed(path: &Path, error: io::Error) -> ConfigError {
    ConfigError::Doveconf {
        path: PathBuf::from(path),
        error,
    }
}

/// Dovecot 2.4 has settings instead of a location.
fn location_of(block: &Block) -> Option<String> {
    let driver = block.value("mail_driver")?;
    let path = block.value("mail_path").unwrap_or_default();
    let mut location = format!("{driver}:{}", part(path));
    for (name, key) in [
        ("mail_inbox_path", "INBOX"),
        ("mail_index_path", "INDEX"),
        ("mail_index_private_path", "INDEXPVT"),
        ("mail_cache_path", "INDEXCACHE"),
        ("mail_control_path", "CONTROL"),
        ("mail_alt_path", "ALT"),
        ("mail_volatile_path", "VOLATILEDIR"),
        ("mailbox_list_layout", "LAYOUT"),
    ] {
        if let Some(value) = block.value(name).filter(|value| !value.is_empty()) {
            location.push_str(&format!(":{key}={}", part(value)));
        }
    }
    Some(location)
}

/// Inside a location a colon stands for itself if it is there twice.
fn part(text: &str) -> String {
    new_variables(text).replace(':', "::")
}

/// Dovecot 2.4 filters variables where 2.3 has other ones.
fn new_variables(text: &str) -> String {
    let mut text = text.to_owned();
    for (new, old) in [
        ("%{user | username | lower}", "%Ln"),
        ("%{user | domain | lower}", "%Ld"),
        ("%{user | username}", "%n"),
        ("%{user | domain}", "%d"),
        ("%{user | lower}", "%Lu"),
        ("%{user|username}", "%n"),
        ("%{user|domain}", "%d"),
        ("%{user|lower}", "%Lu"),
    ] {
        text = text.replace(new, old);
    }
    text
}

#[cfg(test)]
mod tests;
