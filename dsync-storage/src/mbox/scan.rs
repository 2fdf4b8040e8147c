//! Where the messages of a file are (`spec/mbox.md` 2).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;

use dsync_proto::types::MailErrorClass;
use jiff::tz::TimeZone;
use md5::{Digest, Md5};

use super::from_line::{self, FROM, MAX_FROM_LINE};
use super::headers::{self, Meta};
use crate::{Result, StorageError};

/// Longest header block of a message.
const MAX_HEADERS: usize = 64 << 20;

/// A message in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Of the separator line.
    pub(super) start: u64,
    pub(super) headers: u64,
    pub(super) body: u64,
    pub(super) body_len: u64,
    /// Of the next separator line, or the end of the file.
    pub(super) end: u64,
    pub(super) received: i64,
    pub(super) meta: Meta,
    /// Tells this message from others: MD5 of the headers that readers see.
    pub(super) fingerprint: [u8; 16],
}

/// All messages of a file, the pseudo message too.
pub(super) fn scan(file: &File, path: &Path) -> Result<Vec<Entry>> {
    let local = TimeZone::system();
    let failed = |error| StorageError::io("read", path, &error);
    let size = file.metadata().map_err(failed)?.len();
    let mut scanner = Scanner {
        input: BufReader::with_capacity(128 << 10, file),
        at: 0,
        size,
        line: Vec::new(),
    };
    scanner.seek(0).map_err(failed)?;
    let mut entries: Vec<Entry> = Vec::new();
    if size == 0 {
        return Ok(entries);
    }
    scanner.next_line().map_err(failed)?;
    let Some(mut received) = from_line::parse(&scanner.line, &local) else {
        return Err(StorageError::new(
            MailErrorClass::NotPossible,
            format!("Mailbox isn't a valid mbox file: {}", path.display()),
        ));
    };
    let mut start = 0;
    loop {
        let found = scanner.message(start, received, entries.is_empty(), &local);
        let (entry, next) = found.map_err(|error| match error {
            ScanError::Io(error) => failed(error),
            ScanError::HeadersTooLong => StorageError::new(
                MailErrorClass::InvalidData,
                format!(
                    "the message at byte {start} of {} has more than {} MiB of headers",
                    path.display(),
                    MAX_HEADERS >> 20
                ),
            ),
        })?;
        start = entry.end;
        entries.push(entry);
        match next {
            Some(date) => received = date,
            None => return Ok(entries),
        }
    }
}

enum ScanError {
    Io(io::Error),
    HeadersTooLong,
}

impl From<io::Error> for ScanError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

struct Scanner<'a> {
    input: BufReader<&'a File>,
    at: u64,
    size: u64,
    /// The beginning of the last line, with its LF.
    line: Vec<u8>,
}

impl Scanner<'_> {
    fn seek(&mut self, to: u64) -> io::Result<()> {
        match i64::try_from(i128::from(to) - i128::from(self.at)) {
            Ok(distance) if self.at > 0 => self.input.seek_relative(distance)?,
            _ => {
                self.input.seek(SeekFrom::Start(to))?;
            }
        }
        self.at = to;
        Ok(())
    }

    /// Reads a line, and gives its length; 0 at the end of the file.
    fn next_line(&mut self) -> io::Result<u64> {
        self.line.clear();
        let mut length = 0;
        loop {
            let bytes = match self.input.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            let end = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
            let done = end == 0 || bytes[..end].ends_with(b"\n");
            let room = MAX_FROM_LINE.saturating_sub(self.line.len()).min(end);
            self.line.extend_from_slice(&bytes[..room]);
            if done && room < end {
                self.line.push(b'\n');
            }
            self.input.consume(end);
            length += end as u64;
            self.at += end as u64;
            if done {
                return Ok(length);
            }
        }
    }

    /// The date of the line that was read last, if it is a separator.
    fn separator(&self, local: &TimeZone) -> Option<i64> {
        match self.line.starts_with(FROM) {
            true => from_line::parse(&self.line, local),
            false => None,
        }
    }

    /// Reads a message behind its separator; the date of the next one, if there is one, whose
    /// separator has been read.
    fn message(
        &mut self,
        start: u64,
        received: i64,
        is_first: bool,
        local: &TimeZone,
    ) -> Result<(Entry, Option<i64>), ScanError> {
        let headers = self.at;
        let (block, mut next) = self.headers(local)?;
        let meta = Meta::parse(&block, is_first);
        let body = headers + block.len() as u64;
        let (body_len, end);
        if next.is_some() {
            (body_len, end) = (0, body);
        } else if let Some(found) = self.by_length(body, meta.content_length, local)? {
            (body_len, end, next) = found;
        } else {
            (body_len, end, next) = self.by_lines(body, local)?;
        }
        let entry = Entry {
            start,
            headers,
            body,
            body_len,
            end,
            received,
            fingerprint: Md5::digest(headers::visible(&block)).into(),
            meta,
        };
        Ok((entry, next))
    }

    /// Header lines up to and with the empty one; ended by a separator if a date is given.
    fn headers(&mut self, local: &TimeZone) -> Result<(Vec<u8>, Option<i64>), ScanError> {
        let mut block = Vec::new();
        loop {
            let start = self.at;
            let mut line = Vec::new();
            let mut limited = io::Read::take(&mut self.input, (MAX_HEADERS + 1) as u64);
            limited.read_until(b'\n', &mut line)?;
            self.at += line.len() as u64;
            if line.is_empty() {
                return Ok((block, None));
            }
            // What follows a separator directly is a header, whatever it looks like.
            if !block.is_empty() && line.starts_with(FROM) && line.len() <= MAX_FROM_LINE {
                self.line.clone_from(&line);
                if let Some(date) = self.separator(local) {
                    debug_assert!(start < self.at);
                    return Ok((block, Some(date)));
                }
            }
            if block.len() + line.len() > MAX_HEADERS {
                return Err(ScanError::HeadersTooLong);
            }
            let is_last = line == b"\n" || line == b"\r\n";
            block.append(&mut line);
            if is_last {
                return Ok((block, None));
            }
        }
    }

    /// The body by its `Content-Length`, if a separator or the end of the file is there.
    fn by_length(
        &mut self,
        body: u64,
        length: Option<u64>,
        local: &TimeZone,
    ) -> io::Result<Option<(u64, u64, Option<i64>)>> {
        let Some(length) = length else {
            return Ok(None);
        };
        let Some(behind) = body.checked_add(length).filter(|at| *at < self.size) else {
            return Ok(None);
        };
        self.seek(behind)?;
        self.next_line()?;
        let is_empty = self.line == b"\n" || self.line == b"\r\n";
        let end = self.at;
        if is_empty && end == self.size {
            return Ok(Some((length, end, None)));
        }
        if is_empty {
            self.next_line()?;
            if let Some(date) = self.separator(local) {
                return Ok(Some((length, end, Some(date))));
            }
        }
        self.seek(body)?;
        Ok(None)
    }

    /// The body up to the next separator or the end of the file.
    fn by_lines(&mut self, body: u64, local: &TimeZone) -> io::Result<(u64, u64, Option<i64>)> {
        let mut ended_with_cr = false;
        let mut last = body;
        loop {
            let start = self.at;
            let length = self.next_line()?;
            let date = self.separator(local);
            if length > 0 && date.is_none() {
                ended_with_cr = self.line.ends_with(b"\r\n");
                last = start;
                let has_end = self.line.ends_with(b"\n");
                if has_end || self.at < self.size {
                    continue;
                }
            }
            // The line end in front belongs to the separator.
            let text_end = match length {
                0 => start,
                _ if date.is_some() => start,
                _ => return Ok((self.size - body, self.size, None)),
            };
            let line_end = match text_end > body {
                false => 0,
                true if ended_with_cr && text_end - last >= 2 => 2,
                true => 1,
            };
            return Ok((text_end - body - line_end, text_end, date));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn bodies(text: &[u8]) -> Vec<String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text).unwrap();
        let entries = scan(&file, Path::new("box")).unwrap();
        let mut at = 0;
        for entry in &entries {
            assert_eq!(entry.start, at);
            at = entry.end;
        }
        assert_eq!(at, text.len() as u64);
        entries
            .iter()
            .map(|entry| {
                let range = entry.body as usize..(entry.body + entry.body_len) as usize;
                String::from_utf8_lossy(&text[range]).into_owned()
            })
            .collect()
    }

    const NEXT: &str = "From x Mon Jan  1 10:00:00 2024\n";

    #[test]
    fn bodies_of_the_specification() {
        for (rest, expected) in [
            ("A: 1\n\nb\nN", &["b", ""][..]),
            ("A: 1\n\nb\n\nN", &["b\n", ""]),
            ("A: 1\n\nb\n\n\nN", &["b\n\n", ""]),
            ("A: 1\n\nb", &["b"]),
            ("A: 1\n\nb\n", &["b"]),
            ("A: 1\n\nb\n\n", &["b\n"]),
            ("A: 1\n\nb\r\n", &["b"]),
            ("A: 1\n\nb\r\nN", &["b", ""]),
            ("A: 1\n\nN", &["", ""]),
            ("A: 1\nN", &["", ""]),
            ("NA: 1\n\nb\n", &["b"]),
            ("", &[""]),
            ("A: 1", &[""]),
            ("A: 1\n", &[""]),
            ("A: 1\n\n", &[""]),
            ("A: 1\n\n\n", &[""]),
            ("\nb\n", &["b"]),
            // N counts the body without the line end of the separator.
            ("Content-Length: 35\n\nx\nNy\nN", &["x\nNy", ""]),
            ("Content-Length: 36\n\nx\nNy\n", &["x", ""]),
            ("Content-Length: 32\n\nN\n", &["N"]),
            ("Content-Length: 1\n\nb\n", &["b"]),
            ("Content-Length: 0\n\n\nN", &["", ""]),
            ("Content-Length: 99999999999\n\nb\n", &["b"]),
            ("Content-Length: 2\n\nb\n", &["b"]),
        ] {
            let text = format!("{NEXT}{}", rest.replace('N', NEXT));
            let expected: Vec<String> = expected.iter().map(|b| b.replace('N', NEXT)).collect();
            assert_eq!(bodies(text.as_bytes()), expected, "{rest:?}");
        }
    }

    #[test]
    fn what_is_no_mbox() {
        for text in ["\n", "\r\n", "garbage\n", "From x Mon Jan  1 10:00:00 2024"] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            let error = scan(&file, Path::new("box")).unwrap_err();
            assert_eq!(error.class, MailErrorClass::NotPossible);
        }
    }

    #[test]
    fn long_lines() {
        let long = "x".repeat(300_000);
        let text = format!("{NEXT}A: {long}\n\n{long}\n{long}\n{NEXT}\n{long}");
        let expected = [format!("{long}\n{long}"), long];
        assert_eq!(bodies(text.as_bytes()), expected);
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(parts in proptest::collection::vec(0..9_usize, 0..12)) {
            let parts: Vec<&str> = parts
                .iter()
                .map(|part| {
                    let all = [NEXT, "\n", "\r\n", "A: 1\n", "x", "Content-Length: 3\n",
                        "X-IMAP: 1 0000000002\n", "X-UID: 4\n", "\0\u{e9}"];
                    all[*part]
                })
                .collect();
            bodies(format!("{NEXT}{}", parts.concat()).as_bytes());
        }
    }
}
