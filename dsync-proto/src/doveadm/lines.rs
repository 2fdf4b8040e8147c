//! Bytes to lines, with a limit.

use bytes::{Buf, Bytes, BytesMut};

use super::error::DoveadmError;

/// Splits a byte stream into lines; an LF ends a line, and a CR before it is dropped.
#[derive(Debug)]
pub struct Lines {
    buffer: BytesMut,
    /// How much of the buffer is known to hold no LF.
    searched: usize,
    limit: usize,
}

impl Lines {
    /// Lines of at most this many bytes, without line end.
    pub fn new(limit: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            searched: 0,
            limit,
        }
    }

    /// Changes the limit, for example after the client has proved who it is.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Adds bytes that were read. Take all lines before pushing again.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next line; `None` if more bytes are needed.
    ///
    /// # Errors
    ///
    /// The line is longer than the limit.
    pub fn next_line(&mut self) -> Result<Option<Bytes>, DoveadmError> {
        let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
        let end = memchr::memchr(b'\n', unsearched).map(|at| self.searched + at);
        if end.unwrap_or(self.buffer.len()) > self.limit {
            return Err(DoveadmError::LimitExceeded {
                what: "the length of a line in bytes",
                limit: self.limit,
            });
        }
        let Some(end) = end else {
            self.searched = self.buffer.len();
            return Ok(None);
        };
        let mut line = self.buffer.split_to(end);
        self.buffer.advance(1);
        self.searched = 0;
        if line.ends_with(b"\r") {
            line.truncate(line.len() - 1);
        }
        Ok(Some(line.freeze()))
    }

    /// The first byte that no line has taken yet.
    pub fn first_byte(&self) -> Option<u8> {
        self.buffer.first().copied()
    }

    /// What was pushed after the last line that was taken: what follows belongs to another layer,
    /// such as TLS, packets, or the dsync session.
    pub fn into_rest(self) -> Bytes {
        self.buffer.freeze()
    }
}
