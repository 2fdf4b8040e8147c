//! Header hash: how messages are recognised where GUIDs cannot be used (`spec/wire.md` 9).
//!
//! It is the MD5 of a few header fields, normalised so that servers which store 8-bit text or
//! blanks differently still agree. It is an identity, not a protection against forgery.

use std::fmt;

use bstr::BString;
use md5::{Digest, Md5};

use crate::limits;
use crate::types::Guid;

/// Version of the normalisation, see [`PeerInfo::hash_version`](crate::wire::PeerInfo).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HashVersion {
    /// The bytes as they are.
    V1,
    /// A run of 8-bit and control characters counts as one `?`.
    V2,
    /// As version 2, and blanks are dropped.
    V3,
}

/// A header hash; its text form is 32 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeaderHash(pub [u8; 16]);

impl HeaderHash {
    /// Hash of a message that has none of the hashed header fields.
    pub const EMPTY: Self = Self([
        0x68, 0xb3, 0x29, 0xda, 0x98, 0x93, 0xe3, 0x40, 0x99, 0xc7, 0xd8, 0xad, 0x5c, 0xb9, 0xc9,
        0x40,
    ]);

    /// Reads exactly 32 hex digits of either case.
    pub fn from_hex(text: &[u8]) -> Option<Self> {
        Guid::from_hex(text).map(|guid| Self(guid.0))
    }
}

impl fmt::Display for HeaderHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Guid(self.0), f)
    }
}

impl fmt::Debug for HeaderHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which header fields are hashed, and how. One for a whole session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashedHeaders {
    version: HashVersion,
    names: Vec<BString>,
    with_empty_name: bool,
}

impl HashedHeaders {
    /// Fields of these names, compared ASCII case-insensitively; empty names are ignored, as a
    /// Dovecot client does.
    pub fn new(version: HashVersion, names: &[BString]) -> Self {
        let names = names.iter().filter(|name| !name.is_empty());
        Self {
            version,
            names: names.cloned().collect(),
            with_empty_name: false,
        }
    }

    /// As [`HashedHeaders::new`]; lines without a colon or without a name are hashed, too, as a
    /// Dovecot server does by mistake (`spec/wire.md` 9.4).
    pub fn as_dovecot_server(version: HashVersion, names: &[BString]) -> Self {
        Self {
            with_empty_name: true,
            ..Self::new(version, names)
        }
    }

    /// A hasher for one message.
    pub fn hasher(&self) -> HeaderHasher<'_> {
        HeaderHasher {
            headers: self,
            at: At::LineStart,
            name: Vec::new(),
            keep_field: false,
            digest: Normalizer::new(self.version),
        }
    }

    fn contains(&self, name: &[u8]) -> bool {
        if name.is_empty() {
            return self.with_empty_name;
        }
        self.names
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name))
    }
}

/// Where in the header the next byte belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    LineStart,
    /// Before a colon; what was read of the line is in [`HeaderHasher::name`].
    Name,
    /// In a line that is hashed.
    Kept,
    /// The same, after a CR that may be part of the line end.
    KeptCr,
    /// In a line that is not hashed.
    Skipped,
    /// Behind the header.
    End,
}

/// Hashes one message from its first bytes on.
#[derive(Debug)]
pub struct HeaderHasher<'a> {
    headers: &'a HashedHeaders,
    at: At,
    name: Vec<u8>,
    /// The current field is hashed; decides about its continuation lines.
    keep_field: bool,
    digest: Normalizer,
}

impl HeaderHasher<'_> {
    /// Takes the next bytes of the message, in any cut. Returns whether the header is complete:
    /// then nothing more needs to be read.
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        while let Some(first) = rest.first().copied() {
            let used = match self.at {
                At::End => return true,
                At::LineStart => {
                    self.line_start(first);
                    0
                }
                At::Name => self.name(rest),
                At::Skipped => match memchr::memchr(b'\n', rest) {
                    Some(end) => self.end_of_line(end),
                    None => rest.len(),
                },
                At::Kept => self.kept(rest),
                At::KeptCr => {
                    if first != b'\n' {
                        self.digest.update(b"\r");
                    }
                    self.at = At::Kept;
                    0
                }
            };
            rest = rest.get(used..).unwrap_or_default();
        }
        self.is_complete()
    }

    /// Whether the empty line after the header was seen.
    pub fn is_complete(&self) -> bool {
        self.at == At::End
    }

    /// The hash, at the end of the header or of the message.
    pub fn finish(mut self) -> HeaderHash {
        match self.at {
            At::Name if self.headers.with_empty_name => {
                self.digest.update(&self.name);
                self.digest.update(b"\n");
            }
            At::Kept => self.digest.update(b"\n"),
            At::KeptCr => self.digest.update(b"\r\n"),
            At::Name | At::LineStart | At::Skipped | At::End => {}
        }
        self.digest.update(b"\n");
        self.digest.finish()
    }

    /// Decides what kind of line begins here.
    fn line_start(&mut self, first: u8) {
        self.at = match first {
            b' ' | b'\t' if self.keep_field => At::Kept,
            b' ' | b'\t' => At::Skipped,
            _ => At::Name,
        };
        self.name.clear();
    }

    /// Reads up to the colon or the end of the line. Returns how much was used.
    fn name(&mut self, rest: &[u8]) -> usize {
        let end = memchr::memchr2(b':', b'\n', rest);
        let part = rest.get(..end.unwrap_or(rest.len())).unwrap_or(rest);
        if self.name.len() + part.len() > limits::HEADER_NAME {
            self.keep_field = false;
            self.at = At::Skipped;
            return 0;
        }
        self.name.extend_from_slice(part);
        let Some(end) = end else {
            return rest.len();
        };
        if rest.get(end) == Some(&b':') {
            self.colon();
            return end; // the colon itself belongs to the rest of the line
        }
        let line = self.name.strip_suffix(b"\r").unwrap_or(&self.name);
        if line.is_empty() {
            self.at = At::End;
            return end + 1;
        }
        self.keep_field = self.headers.contains(b"");
        if self.keep_field {
            self.digest.update(line);
            self.digest.update(b"\n");
        }
        self.end_of_line(end)
    }

    fn colon(&mut self) {
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let length = self.name.iter().rposition(|byte| !blank(byte));
        let name = self.name.get(..length.map_or(0, |last| last + 1));
        self.keep_field = self.headers.contains(name.unwrap_or_default());
        self.at = if self.keep_field {
            self.digest.update(&self.name);
            At::Kept
        } else {
            At::Skipped
        };
    }

    /// Hashes up to the end of the line. Returns how much was used.
    fn kept(&mut self, rest: &[u8]) -> usize {
        let end = memchr::memchr(b'\n', rest);
        let part = rest.get(..end.unwrap_or(rest.len())).unwrap_or(rest);
        let text = part.strip_suffix(b"\r").unwrap_or(part);
        self.digest.update(text);
        match end {
            Some(end) => {
                self.digest.update(b"\n");
                self.end_of_line(end)
            }
            None => {
                if text.len() < part.len() {
                    self.at = At::KeptCr;
                }
                rest.len()
            }
        }
    }

    fn end_of_line(&mut self, line_feed: usize) -> usize {
        self.at = At::LineStart;
        line_feed + 1
    }
}

/// Feeds MD5 with what the version of the hash keeps of the input.
#[derive(Debug)]
struct Normalizer {
    version: HashVersion,
    digest: Md5,
    /// The last byte was one that stands for `?`.
    in_run: bool,
    normalized: Vec<u8>,
}

impl Normalizer {
    fn new(version: HashVersion) -> Self {
        Self {
            version,
            digest: Md5::new(),
            in_run: false,
            normalized: Vec::new(),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        if self.version == HashVersion::V1 {
            self.digest.update(bytes);
            return;
        }
        self.normalized.clear();
        for byte in bytes {
            let is_special = is_special(*byte);
            match *byte {
                _ if is_special && self.in_run => {}
                _ if is_special => self.normalized.push(b'?'),
                b' ' if self.version == HashVersion::V3 => {}
                plain => self.normalized.push(plain),
            }
            self.in_run = is_special;
        }
        self.digest.update(&self.normalized);
    }

    fn finish(self) -> HeaderHash {
        HeaderHash(self.digest.finalize().into())
    }
}

/// Bytes that servers are known to replace by `?`.
fn is_special(byte: u8) -> bool {
    match byte {
        b'\t' | b'\n' => false,
        b'?' => true,
        _ => !(0x20..0x7f).contains(&byte),
    }
}
