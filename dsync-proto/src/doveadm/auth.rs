//! `STARTTLS` and `PLAIN` (`spec/transports-and-cli.md` 9.3, 9.4).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::BufMut;

use super::error::DoveadmError;

/// User name and password. Never shown by [`fmt::Debug`].
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User name; servers take only [`super::USERNAME`].
    pub username: Vec<u8>,
    /// Password, as it is. Compare it in constant time.
    pub password: Vec<u8>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(hidden)")
    }
}

/// What a client sends after `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthLine {
    /// `STARTTLS`: a TLS handshake follows at once, without an answer before or after it.
    StartTls,
    /// `PLAIN`: user name and password.
    Plain(Credentials),
}

impl AuthLine {
    /// For a server: reads the line. On any error answer `-` and close.
    ///
    /// # Errors
    ///
    /// It is neither of the two, or is not well formed.
    pub fn parse(line: &[u8]) -> Result<Self, DoveadmError> {
        if line == b"STARTTLS" {
            return Ok(Self::StartTls);
        }
        let data = line
            .strip_prefix(b"PLAIN\t")
            .ok_or(DoveadmError::NotPlain)?;
        let data = STANDARD
            .decode(data)
            .map_err(|_| DoveadmError::InvalidPlain)?;
        let mut parts = data.splitn(3, |byte| *byte == 0);
        let (Some(authzid), Some(username), Some(password)) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err(DoveadmError::InvalidPlain);
        };
        if !authzid.is_empty() {
            return Err(DoveadmError::NotDoveadm);
        }
        Ok(Self::Plain(Credentials {
            username: username.to_vec(),
            password: password.to_vec(),
        }))
    }

    /// For a client: appends the line.
    pub fn write(&self, out: &mut impl BufMut) {
        match self {
            Self::StartTls => out.put_slice(b"STARTTLS\n"),
            Self::Plain(credentials) => {
                let data = [
                    b"\0",
                    credentials.username.as_slice(),
                    b"\0",
                    credentials.password.as_slice(),
                ];
                out.put_slice(b"PLAIN\t");
                out.put_slice(STANDARD.encode(data.concat()).as_bytes());
                out.put_u8(b'\n');
            }
        }
    }
}
