//! Status of a command and exit codes (`spec/transports-and-cli.md` 9.7).

use bstr::{BStr, BString, ByteSlice};
use bytes::BufMut;
use nom::branch::alt;
use nom::bytes::complete::take_till;
use nom::character::complete::char;
use nom::combinator::{opt, rest};
use nom::sequence::preceded;
use nom::{IResult, Parser};

use super::error::DoveadmError;
use crate::wire::{excerpt, parse_u32};

/// Exit code for "try again later", and for everything that has no code of its own.
const TEMPFAIL: i32 = 75;

/// Names that Dovecot knows, and what they mean.
const NAMES: [(StatusName, &str, i32); 12] = [
    (StatusName::TempFail, "TEMPFAIL", TEMPFAIL),
    (StatusName::Usage, "USAGE", 64),
    (StatusName::NoUser, "NOUSER", 67),
    (StatusName::NoPerm, "NOPERM", 77),
    (StatusName::Protocol, "PROTOCOL", 76),
    (StatusName::DataErr, "DATAERR", 65),
    (StatusName::NotFound, "NOTFOUND", 68),
    (StatusName::Unknown, "UNKNOWN", -1),
    (StatusName::NoReplicate, "NOREPLICATE", 1001),
    (StatusName::Changed, "CHANGED", 2),
    (StatusName::Referral, "REFERRAL", 1002),
    (StatusName::Expired, "EXPIRED", 1003),
];

/// Name of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StatusName {
    /// Exit code 75.
    TempFail,
    /// 64
    Usage,
    /// 67
    NoUser,
    /// 77
    NoPerm,
    /// 76
    Protocol,
    /// 65
    DataErr,
    /// 68
    NotFound,
    /// A code without a name.
    Unknown,
    /// The user is not to be replicated; only 2.3 knows it, and its clients crash on it.
    NoReplicate,
    /// 2; only 2.4 knows it.
    Changed,
    /// Only 2.4 knows it.
    Referral,
    /// Only 2.4 knows it.
    Expired,
    /// Something else.
    Other(BString),
}

impl StatusName {
    /// The name on the wire.
    pub fn as_bytes(&self) -> &BStr {
        match self {
            Self::Other(name) => name.as_bstr(),
            known => NAMES
                .iter()
                .find(|(name, ..)| name == known)
                .map_or("", |(_, text, _)| *text)
                .into(),
        }
    }

    /// The name for these bytes.
    pub fn from_bytes(text: &[u8]) -> Self {
        NAMES
            .iter()
            .find(|(_, known, _)| known.as_bytes() == text)
            .map_or_else(|| Self::Other(excerpt(text)), |(name, ..)| name.clone())
    }

    /// The code that Dovecot gives this name. A name that is not known may be a number, with or
    /// without a minus sign; else it counts as "try again later".
    pub fn code(&self) -> i32 {
        if let Self::Other(text) = self {
            let digits = text.strip_prefix(b"-").unwrap_or(text);
            let number = parse_u32(digits).and_then(|number| i32::try_from(number).ok());
            return number.unwrap_or(TEMPFAIL);
        }
        NAMES
            .iter()
            .find(|(name, ..)| name == self)
            .map_or(TEMPFAIL, |(.., code)| *code)
    }

    /// The exit code of a process that got this answer: [`StatusName::code`] if that can be one.
    pub fn exit_code(&self) -> u8 {
        match u8::try_from(self.code()) {
            Ok(code) if code != 0 => code,
            _ => TEMPFAIL as u8,
        }
    }

    /// The name for the exit code of a command, among those that every Dovecot knows.
    pub fn from_exit_code(code: u8) -> Self {
        NAMES
            .iter()
            .take(7)
            .find(|(.., known)| *known == i32::from(code))
            .map_or(Self::Unknown, |(name, ..)| name.clone())
    }
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// `+`, with whatever follows it.
    Success(BString),
    /// `-`
    Failure {
        /// What kind of failure; `None` for a command that the server does not know.
        name: Option<StatusName>,
        /// Text for a person.
        text: Option<BString>,
    },
}

impl Status {
    /// Success.
    pub fn success() -> Self {
        Self::Success(BString::default())
    }

    /// Failure of this kind, without a text.
    pub fn failure(name: StatusName) -> Self {
        Self::Failure {
            name: Some(name),
            text: None,
        }
    }

    /// Reads a status line.
    ///
    /// # Errors
    ///
    /// It begins with neither `+` nor `-`.
    pub fn parse(line: &[u8]) -> Result<Self, DoveadmError> {
        match status(line) {
            Ok((_, status)) => Ok(status),
            Err(_) => Err(DoveadmError::InvalidStatus(excerpt(line))),
        }
    }

    /// Appends the status line.
    pub fn write(&self, out: &mut impl BufMut) {
        match self {
            Self::Success(text) => {
                out.put_u8(b'+');
                out.put_slice(text);
            }
            Self::Failure { name, text } => {
                out.put_u8(b'-');
                if let Some(name) = name {
                    out.put_slice(name.as_bytes());
                }
                if let Some(text) = text {
                    out.put_u8(b' ');
                    out.put_slice(text);
                }
            }
        }
        out.put_u8(b'\n');
    }
}

fn status(line: &[u8]) -> IResult<&[u8], Status> {
    alt((success, failure)).parse(line)
}

fn success(line: &[u8]) -> IResult<&[u8], Status> {
    preceded(char('+'), rest)
        .map(|text: &[u8]| Status::Success(text.into()))
        .parse(line)
}

fn failure(line: &[u8]) -> IResult<&[u8], Status> {
    let name = take_till(|byte| byte == b' ');
    let text = opt(preceded(char(' '), rest));
    preceded(char('-'), (name, text))
        .map(|(name, text): (&[u8], Option<&[u8]>)| Status::Failure {
            name: (!name.is_empty()).then(|| StatusName::from_bytes(name)),
            text: text.map(Into::into),
        })
        .parse(line)
}
