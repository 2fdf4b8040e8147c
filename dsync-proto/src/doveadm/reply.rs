//! Replies: what a command printed, and its status (`spec/transports-and-cli.md` 9.7).

use bstr::BString;
use bytes::{Buf, BufMut, Bytes};

use super::error::DoveadmError;
use super::status::Status;
use crate::limits;
use crate::wire::{escape_into, unescape};

/// Answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// What the command printed, row by row; the caller knows the number of columns.
    pub fields: Vec<BString>,
    /// How it ended.
    pub status: Status,
}

impl Reply {
    /// An answer without printed fields.
    pub fn new(status: Status) -> Self {
        Self {
            fields: Vec::new(),
            status,
        }
    }

    /// For a server: appends the answer.
    pub fn write(&self, out: &mut impl BufMut) {
        for field in &self.fields {
            escape_into(field, out);
            out.put_u8(b'\t');
        }
        out.put_u8(b'\n');
        self.status.write(out);
    }
}

/// For a client: reads one answer from the main channel, in any cut.
#[derive(Debug, Default)]
pub struct ReplyDecoder {
    fields: Vec<BString>,
    partial: Vec<u8>,
    /// All bytes so far, for the limit.
    size: usize,
    in_status: bool,
}

impl ReplyDecoder {
    /// Takes bytes from the front of `input`, up to the end of the answer and no further.
    ///
    /// # Errors
    ///
    /// The answer is not well formed, or too long.
    pub fn decode(&mut self, input: &mut Bytes) -> Result<Option<Reply>, DoveadmError> {
        while let Some(end) = memchr::memchr2(b'\t', b'\n', input) {
            let mut part = std::mem::take(&mut self.partial);
            part.extend_from_slice(input.get(..end).unwrap_or_default());
            let is_line_end = input.get(end) == Some(&b'\n');
            input.advance(end + 1);
            self.count(end + 1)?;
            match (self.in_status, is_line_end) {
                (false, false) => self.field(&part)?,
                (false, true) => self.in_status = true,
                (true, false) => {
                    part.push(b'\t'); // a text for a person may hold anything
                    self.partial = part;
                }
                (true, true) => {
                    let line = part.strip_suffix(b"\r").unwrap_or(&part);
                    let status = Status::parse(line)?;
                    let fields = std::mem::take(&mut self.fields);
                    *self = Self::default();
                    return Ok(Some(Reply { fields, status }));
                }
            }
        }
        self.count(input.len())?;
        self.partial.extend_from_slice(input);
        input.clear();
        Ok(None)
    }

    fn field(&mut self, part: &[u8]) -> Result<(), DoveadmError> {
        if self.fields.len() == limits::LIST {
            return Err(DoveadmError::LimitExceeded {
                what: "the number of printed fields",
                limit: limits::LIST,
            });
        }
        self.fields.push(unescape(part).into_owned().into());
        Ok(())
    }

    fn count(&mut self, bytes: usize) -> Result<(), DoveadmError> {
        self.size += bytes;
        if self.size > limits::DOVEADM_REPLY {
            return Err(DoveadmError::LimitExceeded {
                what: "the size of an answer in bytes",
                limit: limits::DOVEADM_REPLY,
            });
        }
        Ok(())
    }
}
