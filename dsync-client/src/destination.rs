//! DESTINATION: a mail location, a command line, or a remote host
//! (`spec/transports-and-cli.md` 5.1).

use crate::UsageError;

/// The word that Dovecot appends to a remote command.
pub(crate) const SERVER_WORD: &str = "dsync-server";

/// Where the other side of a run is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// `-d`: the user's `mail_replica`.
    OfUser,
    /// A mail location on this host, such as `maildir:~/Backup`.
    Location(String),
    /// A program with its arguments that speaks dsync on its stdin and stdout.
    Command(Vec<String>),
    /// Another host, by `dsync_remote_cmd`.
    Host {
        /// The host.
        host: String,
        /// Who logs in there; empty for what ssh decides.
        login: String,
        /// Whose mail it is there.
        user: HostUser,
        /// The user's name is the first line that is sent.
        prefix: bool,
    },
    /// A doveadm server: `HOST[:PORT]` or the path of a UNIX socket.
    Doveadm {
        /// What stands after the prefix.
        target: String,
        /// `tcps:`
        tls: bool,
    },
}

/// Whose mail is meant on another host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostUser {
    /// This user's.
    Named(String),
    /// The same user's as here, if one was given with `-u`; else whoever logs in.
    AsGiven,
    /// The same user's as here.
    Same,
}

/// What the arguments after the options mean; `of_user` is `-d`.
pub fn parse(arguments: &[String], of_user: bool) -> Result<Destination, UsageError> {
    if of_user {
        return match arguments {
            [] => Ok(Destination::OfUser),
            _ => Err(UsageError::new(
                "-d takes the destination from the user's mail_replica: give none beside it",
            )),
        };
    }
    let [argument] = arguments else {
        return match arguments.first() {
            Some(program) if !program.is_empty() => Ok(command(arguments.to_vec())),
            _ => Err(missing()),
        };
    };
    if argument.is_empty() {
        return Err(missing());
    }
    if let Some((scheme, _)) = argument.split_once(':')
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
    {
        return Ok(parse_location(argument));
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
    let (user, host) = match argument.split_once('@') {
        Some((user, host)) => (HostUser::Named(user.to_owned()), host),
        None => (HostUser::AsGiven, argument.as_str()),
    };
    Ok(Destination::Host {
        host: host_name(host)?,
        login: String::new(),
        user,
        prefix: false,
    })
}

/// What a location means, which may also stand in a user's `mail_replica`.
pub fn parse_location(text: &str) -> Destination {
    let host = |text: &str, prefix| {
        let (login, host) = text.rsplit_once('@').unwrap_or(("", text));
        Destination::Host {
            host: host.to_owned(),
            login: login.to_owned(),
            user: HostUser::Same,
            prefix,
        }
    };
    let (scheme, rest) = text.split_once(':').unwrap_or(("", text));
    let target = rest.to_owned();
    match scheme {
        "tcp" => Destination::Doveadm { target, tls: false },
        "tcps" => Destination::Doveadm { target, tls: true },
        "remote" => host(rest, false),
        "remoteprefix" => host(rest, true),
        _ => Destination::Location(text.to_owned()),
    }
}

/// A host that ssh would take for an option is none.
fn host_name(host: &str) -> Result<String, UsageError> {
    if host.is_empty() || host.starts_with('-') {
        return Err(UsageError::new(format!(
            "{host:?} is not the name of a host"
        )));
    }
    Ok(host.to_owned())
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
         a host, or a command such as ssh host dsync-server (see dsync sync --help)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Destination {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        parse(&arguments, false).unwrap()
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
    fn hosts() {
        for (argument, host, login, user, prefix) in [
            (
                "b.example.org",
                "b.example.org",
                "",
                HostUser::AsGiven,
                false,
            ),
            ("joe@h", "h", "", HostUser::Named("joe".into()), false),
            ("joe@x@h", "x@h", "", HostUser::Named("joe".into()), false),
            ("remote:vmail@h", "h", "vmail", HostUser::Same, false),
            ("remote:a@b@h:22", "h:22", "a@b", HostUser::Same, false),
            ("remote:h", "h", "", HostUser::Same, false),
            ("remoteprefix:vmail@h", "h", "vmail", HostUser::Same, true),
        ] {
            let expected = Destination::Host {
                host: host.into(),
                login: login.into(),
                user,
                prefix,
            };
            assert_eq!(parsed(&[argument]), expected);
        }
    }

    #[test]
    fn replicas_of_users() {
        assert_eq!(parse(&[], true).unwrap(), Destination::OfUser);
        assert_eq!(parse(&["x:y".into()], true).unwrap_err().exit_code, 64);
        assert_eq!(parse_location("host"), Destination::Location("host".into()));
    }

    #[test]
    fn nothing_is_a_mistake() {
        for arguments in [
            &[][..],
            &[""],
            &["", "x"],
            &[" x"],
            &["@"],
            &["-oProxy"],
            &["joe@-x"],
        ] {
            let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
            assert_eq!(parse(&arguments, false).unwrap_err().exit_code, 64);
        }
    }
}
