//! DESTINATION: a mail location, a command line, or a remote host
//! (`spec/transports-and-cli.md` 5.1).

use crate::UsageError;

/// The word that Dovecot appends to a remote command.
pub(crate) const SERVER_WORD: &str = "dsync-server";

/// Where the other side of a run is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A mail location on this host, such as `maildir:~/Backup`.
    Location(String),
    /// A program with its arguments that speaks dsync on its stdin and stdout.
    Command(Vec<String>),
    /// A doveadm server: `HOST[:PORT]` or the path of a UNIX socket.
    Doveadm {
        /// What stands after the prefix.
        target: String,
        /// `tcps:`
        tls: bool,
    },
    /// A kind that this version cannot reach yet; the text says which.
    Unsupported(&'static str),
}

/// What the arguments after the options mean.
pub fn parse(arguments: &[String]) -> Result<Destination, UsageError> {
    let [argument] = arguments else {
        return match arguments.first() {
            Some(program) if !program.is_empty() => Ok(command(arguments.to_vec())),
            _ => Err(missing()),
        };
    };
    if argument.is_empty() {
        return Err(missing());
    }
    let is_scheme = |scheme: &str| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if let Some((scheme, rest)) = argument
        .split_once(':')
        .filter(|(scheme, _)| is_scheme(scheme))
    {
        let target = rest.to_owned();
        return Ok(match scheme {
            "tcp" => Destination::Doveadm { target, tls: false },
            "tcps" => Destination::Doveadm { target, tls: true },
            "remote" => Destination::Unsupported("remote:"),
            "remoteprefix" => Destination::Unsupported("remoteprefix:"),
            _ => Destination::Location(argument.clone()),
        });
    }
    if argument.contains([' ', '/']) {
        let words: Vec<String> = argument.split(' ').map(str::to_owned).collect();
        if words.first().is_some_and(String::is_empty) {
            return Err(UsageError::new(format!(
                "the destination {argument:?} begins with a space; the name of a program is needed first"
            )));
        }
        return Ok(command(words));
    }
    Ok(Destination::Unsupported("[user@]host"))
}

/// A command with the server's word appended, unless it is there.
fn command(mut words: Vec<String>) -> Destination {
    if words.last().is_none_or(|word| word != SERVER_WORD) {
        words.push(SERVER_WORD.to_owned());
    }
    Destination::Command(words)
}

fn missing() -> UsageError {
    UsageError::new(
        "no destination: give a mail location such as maildir:/srv/backup/joe, \
         or a command such as ssh host dsync-server (see dsync sync --help)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Destination {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        parse(&arguments).unwrap()
    }

    fn words(words: &[&str]) -> Destination {
        Destination::Command(words.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn locations() {
        for location in ["maildir:~/Backup", "mdbox:/a b/c", "TCP:host", ":x"] {
            assert_eq!(parsed(&[location]), Destination::Location(location.into()));
        }
    }

    #[test]
    fn commands() {
        let server = "dsync-server";
        assert_eq!(
            parsed(&["/usr/local/bin/wrap"]),
            words(&["/usr/local/bin/wrap", server])
        );
        assert_eq!(
            parsed(&["/x/wrap foo  bar"]),
            words(&["/x/wrap", "foo", "", "bar", server])
        );
        assert_eq!(
            parsed(&["ssh", "host", "doveadm"]),
            words(&["ssh", "host", "doveadm", server])
        );
        assert_eq!(
            parsed(&["ssh", "host", "doveadm", server]),
            words(&["ssh", "host", "doveadm", server])
        );
        assert_eq!(
            parsed(&["doveadm", "-c", "/x", server, "-u", "joe"]),
            words(&["doveadm", "-c", "/x", server, "-u", "joe", server])
        );
        assert_eq!(
            parsed(&["maildir:/x", "extra"]),
            words(&["maildir:/x", "extra", server])
        );
        assert_eq!(
            parsed(&["sh -c /bin/true:x"]),
            words(&["sh", "-c", "/bin/true:x", server])
        );
    }

    #[test]
    fn doveadm_servers() {
        for (argument, target, tls) in [
            ("tcp:h:1", "h:1", false),
            ("tcps:[::1]:12", "[::1]:12", true),
            ("tcp:/run/doveadm", "/run/doveadm", false),
        ] {
            let target = target.to_owned();
            assert_eq!(parsed(&[argument]), Destination::Doveadm { target, tls });
        }
    }

    #[test]
    fn hosts_come_later() {
        for (argument, kind) in [
            ("backup.example.org", "[user@]host"),
            ("joe@x@h", "[user@]host"),
            ("remote:vmail@h", "remote:"),
            ("remoteprefix:h", "remoteprefix:"),
        ] {
            assert_eq!(parsed(&[argument]), Destination::Unsupported(kind));
        }
    }

    #[test]
    fn nothing_is_a_mistake() {
        for arguments in [&[][..], &[""], &["", "x"], &[" x"]] {
            let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
            assert_eq!(parse(&arguments).unwrap_err().exit_code, 64);
        }
    }
}
