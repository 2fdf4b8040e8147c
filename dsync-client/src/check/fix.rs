//! The one thing to do about each failure. Pure: from what is known to a sentence.

use std::io::ErrorKind;

use dsync_config::ConfigError;
use dsync_proto::doveadm::StatusName;
use dsync_transport::doveadm::ConnectError;
use dsync_transport::net::TlsFault;

use super::steps::Step;

/// A port that does not answer.
pub(super) fn port(kind: ErrorKind, host: &str, port: u16, starts: &str) -> String {
    match kind {
        ErrorKind::ConnectionRefused => {
            format!("start {starts} on {host}, or give the port on which it listens")
        }
        _ => format!("let connections to port {port} of {host} through, if a firewall is between"),
    }
}

/// A UNIX socket that does not answer.
pub(super) fn socket(kind: ErrorKind) -> String {
    match kind {
        ErrorKind::PermissionDenied => "run this as the owner of the socket, mostly root",
        ErrorKind::NotFound => "give the path of the socket of a running server",
        _ => "start the server that listens on this socket",
    }
    .to_owned()
}

/// TLS that did not come about.
pub(super) fn tls(fault: TlsFault) -> &'static str {
    match fault {
        TlsFault::UnknownIssuer => {
            "set ssl_client_ca_file to a PEM file with the authority of the server's certificate"
        }
        TlsFault::WrongName => {
            "give the host by a name that its certificate has, or make a certificate with this name"
        }
        TlsFault::WrongTime => "renew the server's certificate, or set the clock",
        TlsFault::Certificate => "give the server a certificate that can be used",
        _ => "use tcp: if the port has no TLS, or give the port that has",
    }
}

/// A server that does not let us in.
pub(super) fn login(error: &ConnectError) -> &'static str {
    match error {
        ConnectError::NoPassword { .. } => "set doveadm_password to that of the server",
        ConnectError::WrongPassword { .. } => "set doveadm_password to the same on both sides",
        ConnectError::Protocol { .. } | ConnectError::Closed { .. } => {
            "give a doveadm port, and use tcps: if it speaks TLS; if it is right, the server's log \
             says why it ends the connection"
        }
        ConnectError::Timeout { .. } => "look at the server: it takes connections and is silent",
        _ => "look at the network between both hosts, and run this again",
    }
}

/// A server that answers a command with anything but yes; `None` for one that it does not know.
pub(super) fn refusal(name: Option<&StatusName>, user: &str) -> String {
    match name {
        None => "permit the command dsync-server there (doveadm_allowed_commands)".to_owned(),
        Some(StatusName::NoUser) => {
            format!("create {user} there, or give the name that the user has there with -u")
        }
        Some(StatusName::NoPerm) => format!("permit the mail of {user} there"),
        Some(StatusName::Usage) => {
            "update the older of both sides: they do not understand each other".to_owned()
        }
        Some(_) => "look into the log of the server: it says why".to_owned(),
    }
}

/// A command that ended before it said anything: which step that is, and what to do. `heard` is
/// the last line of its stderr.
pub(super) fn command(
    code: Option<i32>,
    by_ssh: Option<&str>,
    user: &str,
    heard: &str,
) -> (Step, String) {
    if heard.contains("Host key verification failed") {
        let host = by_ssh.unwrap_or("the host");
        let text = format!(
            "log in once by hand (ssh {host}) and compare the key that it shows with the host's"
        );
        return (Step::Command, text);
    }
    if heard.contains("Permission denied (") {
        let host = by_ssh.unwrap_or("the host");
        let text = format!(
            "put this account's public key into authorized_keys there (ssh-copy-id {host})"
        );
        return (Step::Command, text);
    }
    match (code, by_ssh) {
        (Some(67), _) => (Step::UserThere, refusal(Some(&StatusName::NoUser), user)),
        (Some(77), _) => (Step::UserThere, refusal(Some(&StatusName::NoPerm), user)),
        (Some(255), Some(host)) => (
            Step::Command,
            format!("make this work first: ssh {host} true"),
        ),
        (Some(126 | 127), Some(_)) => (
            Step::Command,
            "install dsync-server on that host, or Dovecot".to_owned(),
        ),
        (Some(126 | 127), None) => (
            Step::Command,
            "correct the name of the program that the command runs".to_owned(),
        ),
        (Some(78), _) => (Step::UserThere, "correct the settings there".to_owned()),
        _ => (
            Step::Command,
            "run the command by hand: it has to wait, and to say VERSION first".to_owned(),
        ),
    }
}

/// The own user or mail.
pub(super) fn own(error: &ConfigError) -> &'static str {
    match error {
        ConfigError::UnknownUser { .. } | ConfigError::InvalidName(_) => {
            "give a user that this host knows with -u"
        }
        ConfigError::Userdb { .. } => "correct the setting userdb, or start the Dovecot it asks",
        ConfigError::NotPermitted { .. } | ConfigError::RootInUserStore { .. } => {
            "run this as root with -u USER, or as the owner of the mail"
        }
        ConfigError::NoLocation(_) => "set mail_location",
        ConfigError::NoUser => "give -u USER",
        ConfigError::Store(_) => "set mail_location to a place with mail, or make it accessible",
        _ => "correct the setting that is named",
    }
}

/// A run with the other side that failed: which step that is, and what to do. `greeted`: it has
/// said who it is; `text` is everything that was said about it.
pub(super) fn session(greeted: bool, text: &str) -> (Step, &'static str) {
    if !greeted {
        let fix = if text.contains("printed:") {
            "let the shell there print nothing when it runs a command"
        } else {
            "look into the log of the other side: it says why"
        };
        return (Step::Version, fix);
    }
    if text.contains("Couldn't lock") || text.contains(".dovecot-sync.lock") {
        return (
            Step::LockThere,
            "wait until the other run for this user has ended",
        );
    }
    (
        Step::MailThere,
        "look into the log of the other side: it cannot list its mailboxes",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        for (code, by_ssh, heard, step, start) in [
            (Some(67), None, "", Step::UserThere, "create joe there"),
            (Some(77), Some("h"), "", Step::UserThere, "permit the mail"),
            (
                Some(255),
                Some("h"),
                "ssh: connect to host",
                Step::Command,
                "make this work first: ssh h true",
            ),
            (
                Some(255),
                Some("h"),
                "Host key verification failed.",
                Step::Command,
                "log in once by hand (ssh h)",
            ),
            (
                Some(255),
                None,
                "root@h: Permission denied (publickey).",
                Step::Command,
                "put this account's public key",
            ),
            (
                Some(127),
                Some("h"),
                "",
                Step::Command,
                "install dsync-server",
            ),
            (Some(127), None, "", Step::Command, "correct the name"),
            (Some(0), None, "", Step::Command, "run the command by hand"),
            (None, None, "", Step::Command, "run the command by hand"),
        ] {
            let (at, fix) = command(code, by_ssh, "joe", heard);
            assert_eq!(at, step, "{fix}");
            assert!(fix.starts_with(start), "{fix}");
        }
    }

    #[test]
    fn sessions() {
        for (greeted, text, step) in [
            (false, "the remote side printed: \"hello\"", Step::Version),
            (false, "closed", Step::Version),
            (
                true,
                "Couldn't lock /home/joe/.dovecot-sync.lock",
                Step::LockThere,
            ),
            (true, "closed", Step::MailThere),
        ] {
            assert_eq!(session(greeted, text).0, step, "{text}");
        }
    }
}
