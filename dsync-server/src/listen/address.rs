//! Where to listen: `tcp:HOST:PORT`, `tcps:HOST:PORT`, `unix:PATH`.

use std::fmt;
use std::path::PathBuf;

/// How a listener treats who comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// Password; TLS if the client asks for it.
    Plain,
    /// TLS from the first byte, and the password.
    Tls,
    /// A socket that only its owner can open: nothing is asked.
    Trusted,
}

/// A place to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// Host (`*` for all) with port.
    Tcp { host: String, port: u16, door: Door },
    /// A UNIX socket with these permissions.
    Unix { path: PathBuf, mode: u32 },
}

/// Permissions of a UNIX socket whose clients are trusted, as in Dovecot.
pub(crate) const TRUSTED_MODE: u32 = 0o600;

impl Address {
    /// Reads it. `default_port` is the setting `doveadm_port`, 0 for none; port 0 is any that is
    /// free.
    pub(crate) fn parse(text: &str, default_port: u32) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("tcp", rest)) => tcp(rest, default_port, Door::Plain),
            Some(("tcps", rest)) => tcp(rest, default_port, Door::Tls),
            Some(("unix", rest)) => unix(rest),
            _ => Err("write it as tcp:HOST:PORT, tcps:HOST:PORT or unix:PATH".to_owned()),
        }
    }
}

fn tcp(text: &str, default_port: u32, door: Door) -> Result<Address, String> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            let number = port
                .parse()
                .map_err(|_| format!("{port:?} is not a port"))?;
            (host, number)
        }
        _ => {
            let port = u16::try_from(default_port).unwrap_or_default();
            if port == 0 {
                return Err("a port is missing; write HOST:PORT, or set doveadm_port".to_owned());
            }
            (text, port)
        }
    };
    let inside = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host = match inside {
        Some(host) => host,
        None if host.contains(':') => {
            return Err("write an IPv6 address as [ADDRESS]:PORT".to_owned());
        }
        None => host,
    };
    if host.is_empty() {
        return Err("a host is missing; write HOST:PORT, with * for all addresses".to_owned());
    }
    let host = host.to_owned();
    Ok(Address::Tcp { host, port, door })
}

fn unix(text: &str) -> Result<Address, String> {
    let (path, mode) = match text.rsplit_once(':') {
        None => (text, TRUSTED_MODE),
        Some((path, mode)) => {
            let mode = u32::from_str_radix(mode, 8)
                .ok()
                .filter(|mode| *mode <= 0o777);
            (
                path,
                mode.ok_or("write it as unix:PATH, or unix:PATH:0660")?,
            )
        }
    };
    if path.is_empty() {
        return Err("a path is missing; write unix:PATH".to_owned());
    }
    Ok(Address::Unix {
        path: path.into(),
        mode,
    })
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, door } => {
                let scheme = if *door == Door::Tls { "tcps" } else { "tcp" };
                match host.contains(':') {
                    true => write!(f, "{scheme}:[{host}]:{port}"),
                    false => write!(f, "{scheme}:{host}:{port}"),
                }
            }
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for text in [
            "tcp:127.0.0.1:4711",
            "tcps:[::1]:0",
            "tcp:*:1",
            "tcps:mail.example:9",
            "unix:/run/x",
        ] {
            assert_eq!(Address::parse(text, 0).unwrap().to_string(), text);
        }
        let shown = Address::parse("tcp:[::1]", 12).unwrap().to_string();
        assert_eq!(shown, "tcp:[::1]:12");
        let socket = Address::parse("unix:/run/x:0660", 0).unwrap();
        assert_eq!(
            socket,
            Address::Unix {
                path: "/run/x".into(),
                mode: 0o660
            }
        );
    }

    #[test]
    fn mistakes() {
        for text in [
            "",
            "4711",
            "tcp:4711",
            "tcp::1:2",
            "tcp::2",
            "tcp:h:x",
            "unix:",
            "unix:/x:rw",
            "udp:h:1",
        ] {
            assert!(Address::parse(text, 0).is_err(), "{text}");
        }
    }
}
