//! Which users a command is for (`spec/transports-and-cli.md` 14).

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use dsync_client::SyncArguments;
use dsync_config::{Settings, UserDb, matches_mask};

use crate::console::Console;
use crate::ended::{Ended, worst};
use crate::failure::Failure;

/// Largest file of user names that is read, in bytes.
const LARGEST_FILE: u64 = 256 * 1024 * 1024;

/// Users that a summary names one by one.
const MAX_NAMED: usize = 1000;

/// The users of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Selection {
    /// The user of `-u`, or whoever runs the program.
    One(Option<String>),
    /// Each of these.
    Many(Vec<String>),
}

impl Selection {
    /// From `-u`, `-A` and `-F`.
    pub(crate) fn new(arguments: &SyncArguments, settings: &Settings) -> Result<Self, Failure> {
        if let Some(file) = &arguments.user_file {
            return Ok(Self::Many(names(&read(file)?)?));
        }
        let mask = match &arguments.user {
            _ if arguments.all_users => "*",
            Some(user) if user.contains(['*', '?']) => user,
            user => return Ok(Self::One(user.clone())),
        };
        let userdb = UserDb::from_settings(settings);
        let mut users = userdb.list(settings)?;
        users.retain(|user| matches_mask(mask, user));
        if users.is_empty() {
            let message = format!("no user of userdb {userdb} fits {mask}");
            return Err(Failure::new(67, message));
        }
        Ok(Self::Many(users))
    }
}

fn read(file: &Path) -> Result<String, Failure> {
    let read = || -> io::Result<String> {
        let mut text = String::new();
        let mut source: Box<dyn Read> = match file.to_str() {
            Some("-") => Box::new(io::stdin().lock()),
            _ => Box::new(fs::File::open(file)?),
        };
        source
            .by_ref()
            .take(LARGEST_FILE)
            .read_to_string(&mut text)?;
        match text.len() as u64 {
            LARGEST_FILE => Err(io::Error::other("it is larger than 256 MiB")),
            _ => Ok(text),
        }
    };
    read().map_err(|error| {
        let message = format!("-F {}: cannot read the users: {error}", file.display());
        Failure::new(64, message)
    })
}

/// One name per line. An empty line is no user, whatever Dovecot thinks.
fn names(text: &str) -> Result<Vec<String>, Failure> {
    let mut seen = HashSet::new();
    let names = text
        .lines()
        .filter(|line| !line.is_empty() && seen.insert(*line));
    let names: Vec<String> = names.map(str::to_owned).collect();
    if names.is_empty() {
        return Err(Failure::new(64, "-F: there is no user in the file"));
    }
    Ok(names)
}

/// What happened to many users.
#[derive(Default)]
pub(crate) struct Summary {
    ended: Vec<(String, u8, Option<String>)>,
    /// Those whose turn never came.
    left: usize,
}

impl Summary {
    pub(crate) fn add(&mut self, user: &str, ended: &Ended) {
        let error = ended.error.clone().filter(|_| ended.exit_code != 0);
        self.ended.push((user.to_owned(), ended.exit_code, error));
    }

    /// The command was stopped before these many.
    pub(crate) fn leave(&mut self, users: usize) {
        self.left = users;
    }

    pub(crate) fn exit_code(&self) -> u8 {
        let stopped = (self.left > 0).then_some(75);
        worst(self.ended.iter().map(|(_, code, _)| *code).chain(stopped))
    }

    /// Names each user that failed, and why.
    pub(crate) fn print(&self, console: &Console) {
        let bad: Vec<_> = self
            .ended
            .iter()
            .filter(|(_, code, _)| *code != 0)
            .collect();
        console.line(&format!(
            "{} users: {} in sync, {} not{}",
            self.ended.len() + self.left,
            self.ended.len() - bad.len(),
            bad.len(),
            match self.left {
                0 => String::new(),
                left => format!(", {left} not tried"),
            }
        ));
        for (user, code, error) in bad.iter().take(MAX_NAMED) {
            let reason = error.as_deref().unwrap_or("see above");
            console.error(&format!("{user} ({code}): {reason}"));
        }
        if let Some(more) = bad.len().checked_sub(MAX_NAMED + 1) {
            console.error(&format!("and {} more users", more + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_file() {
        assert_eq!(names("b\n\na\nb\n").unwrap(), ["b", "a"]);
        assert_eq!(names("\n").unwrap_err().exit_code, 64);
    }

    #[test]
    fn a_stopped_command_has_failed() {
        let mut summary = Summary::default();
        assert_eq!(summary.exit_code(), 0);
        summary.leave(1);
        assert_eq!(summary.exit_code(), 75);
    }
}
