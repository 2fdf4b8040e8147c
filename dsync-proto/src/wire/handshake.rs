//! Reading a peer's banner and header lines (`spec/wire.md` 3).

use nom::bytes::complete::{tag, take_till, take_while1};
use nom::character::complete::{anychar, char};
use nom::combinator::{all_consuming, map, map_opt};
use nom::multi::separated_list0;
use nom::sequence::{preceded, separated_pair};
use nom::{IResult, Parser};

use super::codec::ALL_SPECS;
use super::dialect::{Dialect, HeaderLine};
use super::error::DecodeError;
use super::escape::unescape;
use super::number::parse_u32;
use crate::limits;

const MAJOR: u32 = 3;

/// The minor version of a banner line.
pub(crate) fn parse_banner(line: &[u8]) -> Result<u32, DecodeError> {
    match banner(line) {
        Ok((_, (MAJOR, minor))) => Ok(minor),
        _ => Err(DecodeError::incompatible(line)),
    }
}

fn banner(line: &[u8]) -> IResult<&[u8], (u32, u32)> {
    let versions = separated_pair(number, char('\t'), number);
    all_consuming(preceded(tag(&b"VERSION\tdsync\t"[..]), versions)).parse(line)
}

fn number(input: &[u8]) -> IResult<&[u8], u32> {
    map_opt(take_while1(|byte: u8| byte.is_ascii_digit()), parse_u32).parse(input)
}

fn header_line(line: &[u8]) -> IResult<&[u8], (char, Vec<&[u8]>)> {
    let key = take_till(|byte| byte == b'\t');
    let keys = separated_list0(char('\t'), key);
    all_consuming((map(anychar, |letter| letter), keys)).parse(line)
}

/// Collects header lines until the `.` line.
#[derive(Debug)]
pub(crate) struct HeaderBlock {
    dialect: Dialect,
    lines: usize,
}

impl HeaderBlock {
    pub(crate) fn new(minor: u32) -> Self {
        Self {
            dialect: Dialect {
                minor,
                headers: Vec::new(),
            },
            lines: 0,
        }
    }

    /// Takes one line other than the final `.`.
    pub(crate) fn line(&mut self, line: &[u8]) -> Result<(), DecodeError> {
        self.lines += 1;
        check_limit(
            "the number of header lines",
            self.lines,
            limits::HEADER_LINES,
        )?;
        let Ok((_, (letter, keys))) = header_line(line) else {
            return Ok(()); // empty line
        };
        check_limit(
            "the number of keys in a header line",
            keys.len(),
            limits::HEADER_KEYS,
        )?;
        self.dialect.set_header(HeaderLine {
            letter: letter as u8,
            keys: keys
                .into_iter()
                .map(|key| unescape(key).into_owned().into())
                .collect(),
        });
        Ok(())
    }

    /// The `.` line: everything that this minor version needs must have been announced.
    pub(crate) fn finish(self) -> Result<Dialect, DecodeError> {
        for spec in ALL_SPECS {
            let announced = self.dialect.headers.iter().any(|h| h.letter == spec.letter);
            if !announced {
                if spec.min_minor <= self.dialect.minor {
                    return Err(DecodeError::HeaderMissing { item: spec.name });
                }
            } else if let Some(key) = self.dialect.layout(spec).missing_required(spec) {
                return Err(DecodeError::HeaderMissingKey {
                    item: spec.name,
                    key,
                });
            }
        }
        Ok(self.dialect)
    }
}

fn check_limit(what: &'static str, count: usize, limit: usize) -> Result<(), DecodeError> {
    if count > limit {
        return Err(DecodeError::LimitExceeded { what, limit });
    }
    Ok(())
}
