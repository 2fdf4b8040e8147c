//! `-r`: a copy of the stream in both directions (`spec/transports-and-cli.md` 16).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use memchr::memchr;

/// Bytes of a line after which it is written as a fragment.
const FRAGMENT: usize = 8192;

/// Which way bytes went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Received.
    In,
    /// Sent.
    Out,
}

/// A file that gets one record per line: time, direction, bytes. Mail is in it.
///
/// It is a help for finding mistakes: when it cannot be written any more, the run goes on.
#[derive(Debug)]
pub struct Rawlog {
    file: File,
    received: Vec<u8>,
    sent: Vec<u8>,
    failed: bool,
}

impl Rawlog {
    /// Opens the file for appending, or creates it for its owner alone.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        Ok(Self {
            file,
            received: Vec::new(),
            sent: Vec::new(),
            failed: false,
        })
    }

    pub(crate) fn record(&mut self, way: Way, bytes: &[u8]) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let stamp = format!("{}.{:06}", now.as_secs(), now.subsec_micros());
        let (pending, letter) = match way {
            Way::In => (&mut self.received, 'I'),
            Way::Out => (&mut self.sent, 'O'),
        };
        let mut records = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = FRAGMENT - pending.len();
            let window = rest.get(..room).unwrap_or(rest);
            let (length, complete) = match memchr(b'\n', window) {
                Some(at) => (at + 1, true),
                None => (window.len(), false),
            };
            let (now, later) = rest.split_at(length);
            pending.extend_from_slice(now);
            rest = later;
            if complete || pending.len() >= FRAGMENT {
                let mark = if complete { ':' } else { '>' };
                records.extend_from_slice(format!("{stamp} {letter}{mark} ").as_bytes());
                records.append(pending);
                if !complete {
                    records.push(b'\n');
                }
            }
        }
        self.write(&records);
    }

    fn write(&mut self, records: &[u8]) {
        if self.failed {
            return;
        }
        if let Err(error) = self.file.write_all(records) {
            self.failed = true;
            tracing::warn!("the raw log cannot be written any more: {error}");
        }
    }
}

impl Drop for Rawlog {
    /// Lines that were never ended.
    fn drop(&mut self) {
        for (letter, pending) in [
            ('I', std::mem::take(&mut self.received)),
            ('O', std::mem::take(&mut self.sent)),
        ] {
            if !pending.is_empty() {
                let mut record = format!("0.000000 {letter}> ").into_bytes();
                record.extend_from_slice(&pending);
                record.push(b'\n');
                self.write(&record);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn records_are_whole_lines_or_fragments() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("raw.log");
        let mut log = Rawlog::open(&path).unwrap();
        log.record(Way::In, b"VERSION\tdsync");
        log.record(Way::Out, b"one\ntwo\n");
        log.record(Way::In, b"\t3\t5\nrest");
        log.record(Way::Out, &[b'x'; FRAGMENT + 1]);
        drop(log);
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text
            .lines()
            .map(|line| line.split_once(' ').unwrap().1)
            .collect();
        let long = format!("O> {}", "x".repeat(FRAGMENT));
        assert_eq!(
            lines,
            [
                "O: one",
                "O: two",
                "I: VERSION\tdsync\t3\t5",
                &long,
                "I> rest",
                "O> x"
            ]
        );
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
