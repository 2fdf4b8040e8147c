//! What stands behind `tcp:` (`spec/transports-and-cli.md` 5.2).

use std::fmt;
use std::path::PathBuf;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A host and a TCP port.
    Tcp {
        /// Name or address, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// A UNIX socket.
    Unix(PathBuf),
}

/// Text that names no server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// There is nothing before the port.
    #[error("{0:?} names no host; write HOST:PORT")]
    NoHost(String),
    /// The port is not a number from 1 to 65535.
    #[error("{0:?} has an invalid port; write HOST:PORT, with a port from 1 to 65535")]
    InvalidPort(String),
    /// There is no port, and no setting for it.
    #[error("Port not known for {0}; write {0}:PORT, or set doveadm_port")]
    NoPort(String),
    /// A bracket without its pair.
    #[error("{0:?} is no address; write an IPv6 address as [ADDRESS]:PORT")]
    InvalidAddress(String),
}

impl Target {
    /// `HOST`, `HOST:PORT`, `[IPV6]`, `[IPV6]:PORT`, a bare IPv6 address, or the path of a UNIX
    /// socket. `default_port` is the setting `doveadm_port`; 0 for none.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, TargetError> {
        if text.contains('/') {
            return Ok(Self::Unix(text.into()));
        }
        let (host, port) = split(text)?;
        if host.is_empty() {
            return Err(TargetError::NoHost(text.to_owned()));
        }
        let port = match port {
            Some(port) => port
                .parse()
                .map_err(|_| TargetError::InvalidPort(text.to_owned()))?,
            None if default_port == 0 => return Err(TargetError::NoPort(text.to_owned())),
            None => default_port,
        };
        if port == 0 {
            return Err(TargetError::InvalidPort(text.to_owned()));
        }
        let host = host.to_owned();
        Ok(Self::Tcp { host, port })
    }

    /// The name that a certificate has to have; empty for a UNIX socket.
    pub fn host(&self) -> &str {
        match self {
            Self::Tcp { host, .. } => host,
            Self::Unix(_) => "",
        }
    }
}

fn split(text: &str) -> Result<(&str, Option<&str>), TargetError> {
    if let Some(rest) = text.strip_prefix('[') {
        let invalid = || TargetError::InvalidAddress(text.to_owned());
        let (host, rest) = rest.split_once(']').ok_or_else(invalid)?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(invalid()),
        };
    }
    match text.split_once(':') {
        // A bare IPv6 address.
        Some((_, rest)) if rest.contains(':') => Ok((text, None)),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((text, None)),
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Target {
        let host = host.to_owned();
        Target::Tcp { host, port }
    }

    #[test]
    fn targets() {
        for (text, expected, shown) in [
            ("h", tcp("h", 4711), "h:4711"),
            ("h:12", tcp("h", 12), "h:12"),
            ("10.0.0.1:12", tcp("10.0.0.1", 12), "10.0.0.1:12"),
            ("[::1]", tcp("::1", 4711), "[::1]:4711"),
            ("[::1]:12", tcp("::1", 12), "[::1]:12"),
            (
                "fe80::1%eth0",
                tcp("fe80::1%eth0", 4711),
                "[fe80::1%eth0]:4711",
            ),
            ("::1", tcp("::1", 4711), "[::1]:4711"),
            ("/run/x", Target::Unix("/run/x".into()), "/run/x"),
        ] {
            let target = Target::parse(text, 4711).unwrap();
            assert_eq!(target, expected, "{text}");
            assert_eq!(target.to_string(), shown);
        }
    }

    #[test]
    fn mistakes() {
        for (text, start) in [
            ("", "\"\" names no host"),
            (":12", "\":12\" names no host"),
            ("h:", "\"h:\" has an invalid port"),
            ("h:0", "\"h:0\" has an invalid port"),
            ("h:70000", "\"h:70000\" has an invalid port"),
            ("h:x", "\"h:x\" has an invalid port"),
            ("[::1", "\"[::1\" is no address"),
            ("[::1]12", "\"[::1]12\" is no address"),
            ("h", "Port not known for h; write h:PORT"),
        ] {
            let error = Target::parse(text, 0).unwrap_err().to_string();
            assert!(error.starts_with(start), "{error}");
        }
    }
}
