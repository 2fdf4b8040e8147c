//! A home directory of its own, and the program in it.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, reason = "test helpers")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A folder that looks like a user's home.
pub(crate) struct Home {
    folder: TempDir,
}

/// How a run of the program ended.
pub(crate) struct Run {
    /// Exit code.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Run {
    /// The only line on stderr, without the name of the program.
    pub(crate) fn only_line(&self) -> &str {
        let mut lines = self.stderr.lines();
        let (Some(line), None) = (lines.next(), lines.next()) else {
            panic!("not exactly one line: {:?}", self.stderr);
        };
        line.strip_prefix("dsync: ")
            .unwrap_or_else(|| panic!("no prefix: {line}"))
    }

    /// The only line on stderr is an error that begins like this, with this exit code, and stdout
    /// is empty.
    pub(crate) fn fails_with(&self, code: i32, start: &str) -> &str {
        let line = self.only_line();
        let text = line.strip_prefix("error: ").unwrap_or(line);
        assert!(
            text.starts_with(start),
            "{text:?} does not start with {start:?}"
        );
        assert_eq!(self.code, code, "{text}");
        assert_eq!(self.stdout, "");
        text
    }
}

impl Home {
    /// An empty home.
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// A home with a `Maildir` that holds two messages in INBOX and one in Work.
    pub(crate) fn with_mail() -> Self {
        let home = Self::new();
        home.maildir("Maildir");
        for name in ["one", "two"] {
            home.message("Maildir", name);
        }
        home.maildir("Maildir/.Work");
        home.message("Maildir/.Work", "three");
        home
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Creates the three directories of a mailbox.
    pub(crate) fn maildir(&self, name: &str) {
        for folder in ["cur", "new", "tmp"] {
            fs::create_dir_all(self.path(name).join(folder)).unwrap();
        }
    }

    /// Delivers a message.
    pub(crate) fn message(&self, maildir: &str, name: &str) {
        let text = format!(
            "From: anna@example.org\nDate: Mon, 02 Nov 2026 10:00:00 +0000\n\
             Message-ID: <{name}@example.org>\nSubject: {name}\n\n.{name}\n"
        );
        let path = self
            .path(maildir)
            .join("cur")
            .join(format!("1.{name}.host:2,S"));
        fs::write(path, text).unwrap();
    }

    /// The message files of a mailbox: base names without what a program may add to them.
    pub(crate) fn messages(&self, maildir: &str) -> Vec<String> {
        let mut bodies = Vec::new();
        for folder in ["cur", "new"] {
            for entry in fs::read_dir(self.path(maildir).join(folder)).unwrap() {
                let text = fs::read_to_string(entry.unwrap().path()).unwrap();
                let subject = text.lines().find_map(|line| line.strip_prefix("Subject: "));
                bodies.push(subject.unwrap_or("none").to_owned());
            }
        }
        bodies.sort();
        bodies
    }

    /// The program with this home, a clean environment, and nothing on stdin.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dsync"));
        command
            .env_clear()
            .env("HOME", self.folder.path())
            .env("USER", "joe")
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .current_dir(self.folder.path())
            .stdin(std::process::Stdio::null())
            // Nothing from a Dovecot on this host.
            .args(["-c", "/dev/null"]);
        command
    }

    /// Runs it.
    pub(crate) fn dsync(&self, arguments: &[&str]) -> Run {
        self.command().args(arguments).output().unwrap().into()
    }

    /// Runs it with a shell script as the other side.
    pub(crate) fn dsync_with_peer(&self, options: &[&str], script: &str) -> Run {
        let mut arguments = vec!["sync"];
        arguments.extend(options);
        arguments.extend(["sh", "-c", script]);
        self.dsync(&arguments)
    }

    /// The home itself.
    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }
}
