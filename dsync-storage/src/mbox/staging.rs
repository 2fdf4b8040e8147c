//! New messages, on their way into the file.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use dsync_proto::types::MailErrorClass;
use md5::{Digest, Md5};

use super::guids::Fingerprint;
use super::headers;
use crate::{Result, SaveMessage, StorageError};

/// Longest header block of a message.
const MAX_HEADERS: usize = 32 << 20;

/// A message that was received completely.
#[derive(Clone, Debug)]
pub(super) struct Staged {
    pub(super) message: SaveMessage,
    /// What readers will see, without the empty line.
    pub(super) headers: Vec<u8>,
    /// Of the body in the staging file.
    pub(super) from: u64,
    pub(super) len: u64,
}

impl Staged {
    /// What will tell it from others.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        (
            Md5::digest(headers::visible(&self.headers)).into(),
            self.len,
        )
    }
}

/// The messages of a transaction. Bodies wait in a file without a name.
#[derive(Debug, Default)]
pub(super) struct Staging {
    out: Option<BufWriter<File>>,
    size: u64,
    open: Option<Open>,
    pub(super) done: Vec<Staged>,
}

/// The message that is being received.
#[derive(Debug)]
struct Open {
    message: SaveMessage,
    headers: Vec<u8>,
    in_body: bool,
    /// A CR that may belong to a CRLF.
    held_cr: bool,
    from: u64,
}

impl Staging {
    pub(super) fn begin(&mut self, message: SaveMessage, dir: &Path) -> Result<()> {
        if self.out.is_none() {
            let file =
                unnamed(dir).map_err(|error| StorageError::io("create a file in", dir, &error))?;
            self.out = Some(BufWriter::with_capacity(64 << 10, file));
        }
        self.open = Some(Open {
            message,
            headers: Vec::new(),
            in_body: false,
            held_cr: false,
            from: self.size,
        });
        Ok(())
    }

    /// More of the message; CRLF becomes LF.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(mut open) = self.open.take() else {
            return Err(no_message());
        };
        let result = self.add_lines(&mut open, bytes);
        self.open = Some(open);
        result
    }

    fn add_lines(&mut self, open: &mut Open, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        if std::mem::take(&mut open.held_cr) && !bytes.starts_with(b"\n") {
            self.add(open, b"\r")?;
        }
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if let Some(text) = line.strip_suffix(b"\r\n") {
                self.add(open, text)?;
                self.add(open, b"\n")?;
            } else if let Some(text) = line.strip_suffix(b"\r") {
                // Only the last line has no LF.
                self.add(open, text)?;
                open.held_cr = true;
            } else {
                self.add(open, line)?;
            }
        }
        Ok(())
    }

    /// Adds a part of a line.
    fn add(&mut self, open: &mut Open, bytes: &[u8]) -> Result<()> {
        if open.in_body {
            return self.add_body(bytes);
        }
        if is_empty_line(bytes) {
            // Readers take CRs for a part of the line end in headers, so they go.
            while open.headers.ends_with(b"\r") {
                open.headers.pop();
            }
        }
        let at_line_start = open.headers.is_empty() || open.headers.ends_with(b"\n");
        if at_line_start && is_empty_line(bytes) {
            open.in_body = true;
            return Ok(());
        }
        if open.headers.len() + bytes.len() > MAX_HEADERS {
            return Err(StorageError::new(
                MailErrorClass::Limit,
                format!(
                    "a message has more than {} MiB of headers",
                    MAX_HEADERS >> 20
                ),
            ));
        }
        open.headers.extend_from_slice(bytes);
        Ok(())
    }

    fn add_body(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(out) = &mut self.out else {
            return Err(no_message());
        };
        out.write_all(bytes).map_err(|error| failed(&error))?;
        self.size += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn finish(&mut self) -> Result<()> {
        let Some(mut open) = self.open.take() else {
            return Err(no_message());
        };
        if std::mem::take(&mut open.held_cr) {
            self.add(&mut open, b"\r")?;
        }
        while open.headers.ends_with(b"\r") {
            open.headers.pop();
        }
        self.done.push(Staged {
            message: open.message,
            headers: headers::storable(&open.headers),
            from: open.from,
            len: self.size - open.from,
        });
        Ok(())
    }

    pub(super) fn abort(&mut self) {
        // What was written of it stays in the file and is nobody's.
        self.open = None;
    }

    /// The last message once more.
    pub(super) fn another(&mut self, message: SaveMessage) -> Result<()> {
        let mut again = self.done.last().cloned().ok_or_else(no_message)?;
        again.message = message;
        self.done.push(again);
        Ok(())
    }

    /// The file with all bodies.
    pub(super) fn file(&mut self) -> Result<Option<&File>> {
        match &mut self.out {
            Some(out) => {
                out.flush().map_err(|error| failed(&error))?;
                Ok(Some(out.get_ref()))
            }
            None => Ok(None),
        }
    }
}

/// Whether a line holds nothing but its end.
fn is_empty_line(line: &[u8]) -> bool {
    line.ends_with(b"\n") && line.iter().all(|byte| matches!(byte, b'\r' | b'\n'))
}

/// A file that goes with its descriptor.
pub(super) fn unnamed(dir: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = dir.join(format!(
        "dsync-staging.{}{}",
        std::process::id(),
        crate::unique::random_suffix()
    ));
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    // Killed before this: an empty file stays.
    std::fs::remove_file(&path)?;
    Ok(file)
}

fn no_message() -> StorageError {
    StorageError::new(MailErrorClass::Params, "no message is being saved")
}

fn failed(error: &io::Error) -> StorageError {
    StorageError::io("write", Path::new("a new message"), error)
}
