//! The line before the protocol that names the user (`spec/transports-and-cli.md` 7.4).

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

/// Longest user name, in bytes.
const LONGEST_NAME: usize = 512;

/// Why no user name could be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrefixError {
    /// The client's first line is the protocol's.
    #[error(
        "the client sent no user name before the protocol; its destination has to be \
         remoteprefix:..., or this side has to be started without --remoteprefix"
    )]
    Missing,
    /// The line is empty, or has bytes in it that no name has.
    #[error("the client sent an empty user name, or one with control characters in it")]
    Invalid,
    /// No line end within the limit.
    #[error("the client sent a user name of more than {LONGEST_NAME} bytes")]
    TooLong,
    /// The client closed the connection.
    #[error("the client closed the connection before it had sent a user name")]
    Closed,
    /// Nothing came.
    #[error("the client sent no user name for {0} seconds")]
    Silent(u64),
    /// Standard input cannot be read.
    #[error("cannot read the user name: {0}")]
    Read(#[from] std::io::Error),
}

impl PrefixError {
    /// The exit code: wrong usage, or try again.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Missing | Self::Invalid | Self::TooLong => 64,
            Self::Closed | Self::Silent(_) | Self::Read(_) => 75,
        }
    }
}

/// Reads the name of the user, and not one byte more than its line.
pub async fn read_user_prefix(
    stream: &mut (impl AsyncRead + Unpin),
    patience: Duration,
) -> Result<String, PrefixError> {
    match timeout(patience, read_line(stream)).await {
        Ok(line) => user_name(line?),
        Err(_) => Err(PrefixError::Silent(patience.as_secs())),
    }
}

async fn read_line(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, PrefixError> {
    let mut line = Vec::new();
    loop {
        let mut byte = [0];
        if stream.read(&mut byte).await? == 0 {
            return Err(PrefixError::Closed);
        }
        match byte {
            [b'\n'] => return Ok(line),
            _ if line.len() == LONGEST_NAME => return Err(PrefixError::TooLong),
            [byte] => line.push(byte),
        }
    }
}

fn user_name(line: Vec<u8>) -> Result<String, PrefixError> {
    if line.starts_with(b"VERSION\t") {
        return Err(PrefixError::Missing);
    }
    match String::from_utf8(line) {
        Ok(name) if !name.is_empty() && !name.contains(char::is_control) => Ok(name),
        _ => Err(PrefixError::Invalid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(mut bytes: &[u8]) -> (Result<String, PrefixError>, &[u8]) {
        let name = read_user_prefix(&mut bytes, Duration::from_secs(60)).await;
        (name, bytes)
    }

    #[tokio::test]
    async fn the_protocol_stays_unread() {
        let (name, rest) = read(b"u1@example.org\nVERSION\tdsync\t3\t5\n").await;
        assert_eq!(name.unwrap(), "u1@example.org");
        assert_eq!(rest, b"VERSION\tdsync\t3\t5\n");
    }

    #[tokio::test]
    async fn wrong_names() {
        let long = [b'x'; LONGEST_NAME + 1];
        for (bytes, code) in [
            (&b"VERSION\tdsync\t3\t5\n"[..], 64),
            (b"\n", 64),
            (b"joe\r\n", 64),
            (b"j\0e\n", 64),
            (b"\xff\n", 64),
            (&long, 64),
            (b"joe", 75),
            (b"", 75),
        ] {
            assert_eq!(read(bytes).await.0.unwrap_err().exit_code(), code);
        }
        let longest = [&long[1..], b"\n"].concat();
        assert!(read(&longest).await.0.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_not_waited_for_for_ever() {
        let (mut stream, _other) = tokio::io::duplex(1);
        let result = read_user_prefix(&mut stream, Duration::from_secs(5)).await;
        assert!(matches!(result, Err(PrefixError::Silent(5))));
    }
}
