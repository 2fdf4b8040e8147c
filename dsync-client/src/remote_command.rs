//! The command that reaches a host (`spec/transports-and-cli.md` 5.3).

use std::path::Path;

use dsync_storage::location::Variables;

use crate::UsageError;

/// What is run on the other host if `dsync_remote_cmd` is not set: our server if it is there, else
/// Dovecot's. The shell there finds out, so it costs no round trip.
const SERVER_SCRIPT: &str = "command -v dsync-server >/dev/null 2>&1 && exec dsync-server \"$@\"; \
                             exec doveadm dsync-server \"$@\"";

/// The same for a user whose name comes with the stream.
const PREFIX_SCRIPT: &str = "command -v dsync-server >/dev/null 2>&1 && \
                             exec dsync-server --remoteprefix; \
                             echo 'remoteprefix: needs dsync-server on this host, or a command of \
                             its own in dsync_remote_cmd' >&2; exit 64";

/// What the variables of `dsync_remote_cmd` stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteNames {
    /// `%u`, `%{user}`
    pub user: String,
    /// `%{login}`
    pub login: String,
    /// `%{host}`
    pub host: String,
}

impl RemoteNames {
    /// The words of the command.
    ///
    /// `template` is split at every single space. A word whose value does not depend on the three
    /// names although it has a `%` is dropped, and so is one like `-l%{login}` for an empty login.
    pub fn command(&self, template: &str) -> Result<Vec<String>, UsageError> {
        let mut words = Vec::new();
        for word in template.split(' ') {
            if !word.contains('%') {
                words.push(word.to_owned());
                continue;
            }
            let value = self.expand(word)?;
            let without = Self::default().expand(word)?;
            if value != without || value.is_empty() {
                words.push(value);
            }
        }
        Ok(words)
    }

    /// Three of the variables are not those of settings; what they stand for is put in first.
    fn expand(&self, word: &str) -> Result<String, UsageError> {
        let literal = |text: &str| text.replace('%', "%%");
        let word = word
            .replace("%{login}", &literal(&self.login))
            .replace("%{host}", &literal(&self.host));
        let variables = Variables {
            user: self.user.clone(),
            service: "doveadm".to_owned(),
            ..Variables::default()
        };
        variables.expand(&word).map_err(|error| UsageError {
            message: format!(
                "Failed to expand dsync_remote_cmd={word}: {}",
                error.message
            ),
            exit_code: 78,
        })
    }

    /// The command for ssh on the other host if `dsync_remote_cmd` is not set, as one word for the
    /// shell there, whichever it is.
    pub fn server_command(&self, prefix: bool) -> String {
        if prefix {
            return format!("exec sh -c {}", quoted(PREFIX_SCRIPT));
        }
        let user = match self.user.as_str() {
            "" => String::new(),
            user => format!(" {}", quoted(&format!("-u{user}"))),
        };
        format!("exec sh -c {} sh{user}", quoted(SERVER_SCRIPT))
    }

    /// The words of the whole command if `dsync_remote_cmd` is not set. A host that is not known
    /// yet is refused: who answers there would get all the mail. `control` is the socket of a
    /// connection that is there already.
    pub fn default_command(&self, prefix: bool, control: Option<&Path>) -> Vec<String> {
        let mut words = vec!["ssh".to_owned(), "-oStrictHostKeyChecking=yes".to_owned()];
        if let Some(control) = control {
            words.push(format!("-S{}", control.display()));
        }
        if !self.login.is_empty() {
            words.push(format!("-l{}", self.login));
        }
        words.extend([
            "--".to_owned(),
            self.host.clone(),
            self.server_command(prefix),
        ]);
        words
    }
}

/// One word for any shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = "W -l%{login} -h %{host} -u%u -x%{user}y -z%{login}%{host} lit";

    fn names(user: &str, login: &str, host: &str) -> RemoteNames {
        RemoteNames {
            user: user.into(),
            login: login.into(),
            host: host.into(),
        }
    }

    /// `spec/transports-and-cli.md` 20
    #[test]
    fn vectors() {
        for (names, expected) in [
            (
                names("u1@example.org", "vmail", "h"),
                "W -lvmail -h h -uu1@example.org -xu1@example.orgy -zvmailh lit",
            ),
            (
                names("u1@example.org", "", "h"),
                "W -h h -uu1@example.org -xu1@example.orgy -zh lit",
            ),
            (names("joe", "", "h"), "W -h h -ujoe -xjoey -zh lit"),
            (names("", "", "h"), "W -h h -zh lit"),
        ] {
            assert_eq!(names.command(TEMPLATE).unwrap().join(" "), expected);
        }
        let words = names("joe", "", "h").command("a %{login} b%%").unwrap();
        assert_eq!(words, ["a", ""]);
        let error = names("joe", "", "h").command("a %{nosuch}").unwrap_err();
        assert_eq!(error.exit_code, 78);
        assert_eq!(
            names("100%u", "%u", "h").command("%{login}%u").unwrap(),
            ["%u100%u"]
        );
    }

    #[test]
    fn the_shell_there_sees_the_user_as_one_word() {
        let names = names("o'neil; rm -rf /@x", "", "h");
        let output = std::process::Command::new("sh")
            .arg("-c")
            .arg(
                names
                    .server_command(false)
                    .replace("command -v dsync-server", "false")
                    .replace("exec doveadm", "printf \"%s|\""),
            )
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "dsync-server|-uo'neil; rm -rf /@x|"
        );
    }
}
