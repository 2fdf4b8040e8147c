//! Versions and the first status line (`spec/transports-and-cli.md` 9.2).

use bytes::BufMut;
use nom::bytes::complete::{tag, take_while1};
use nom::combinator::{all_consuming, map_opt, value};
use nom::sequence::preceded;
use nom::{IResult, Parser, branch::alt};

use super::error::DoveadmError;
use crate::wire::{excerpt, parse_u32};

/// A line of the server before the first command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// `VERSION`: the server's minor version; comes before or after the first status line. A
    /// server that does not send it has minor version 0.
    Version(u32),
    /// `-`: a password is needed; the second time: it was wrong.
    AuthRequired,
    /// `+`: commands may come.
    Ready,
}

impl Greeting {
    /// For a client: reads a line of the server.
    ///
    /// # Errors
    ///
    /// It is none of the three.
    pub fn parse(line: &[u8]) -> Result<Self, DoveadmError> {
        match greeting(line) {
            Ok((_, greeting)) => Ok(greeting),
            Err(_) => Err(DoveadmError::ServerHandshake(excerpt(line))),
        }
    }

    /// For a server: appends the line.
    pub fn write(self, out: &mut impl BufMut) {
        match self {
            Self::Version(minor) => {
                out.put_slice(format!("VERSION\tdoveadm-client\t1\t{minor}\n").as_bytes());
            }
            Self::AuthRequired => out.put_slice(b"-\n"),
            Self::Ready => out.put_slice(b"+\n"),
        }
    }
}

fn greeting(line: &[u8]) -> IResult<&[u8], Greeting> {
    let version = preceded(tag(&b"VERSION\tdoveadm-client\t1\t"[..]), number);
    all_consuming(alt((
        version.map(Greeting::Version),
        value(Greeting::AuthRequired, tag(&b"-"[..])),
        value(Greeting::Ready, tag(&b"+"[..])),
    )))
    .parse(line)
}

/// For a client: appends its first line.
pub fn client_version(minor: u32, out: &mut impl BufMut) {
    out.put_slice(format!("VERSION\tdoveadm-server\t1\t{minor}\n").as_bytes());
}

/// For a server: the minor version in the client's first line. The service names are swapped on
/// purpose: the client names what it wants.
///
/// # Errors
///
/// It is not the first line of a doveadm client of version 1: close without an answer.
pub fn parse_client_version(line: &[u8]) -> Result<u32, DoveadmError> {
    let version = preceded(tag(&b"VERSION\tdoveadm-server\t1\t"[..]), number);
    match all_consuming(version).parse(line) {
        Ok((_, minor)) => Ok(minor),
        Err(_) => Err(DoveadmError::ClientHandshake(excerpt(line))),
    }
}

fn number(input: &[u8]) -> IResult<&[u8], u32> {
    map_opt(take_while1(|byte: u8| byte.is_ascii_digit()), parse_u32).parse(input)
}
