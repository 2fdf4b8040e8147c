//! Bytes of the files `u.N` and `m.N` (`spec/dbox.md` 2, 3).

use std::fmt::Write;

use bstr::{BString, ByteSlice};

/// Size of a message header.
pub(super) const MESSAGE_HEADER_SIZE: usize = 30;
/// What follows a body.
pub(super) const METADATA_MAGIC: &[u8; 4] = b"\n\x01\x03\n";
/// Longest file header that is read.
pub(super) const MAX_FILE_HEADER: usize = 512;
/// Longest metadata of one message that is read.
pub(super) const MAX_METADATA: usize = 1 << 16;

/// The first line of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileHeader {
    /// 2; 1 can be read.
    pub(super) version: u8,
    /// Size of the headers of its messages.
    pub(super) message_header_size: usize,
    /// When it was made, in seconds since the epoch; 0 if unknown.
    pub(super) created: u64,
    /// Length of this line with its LF.
    pub(super) length: usize,
}

impl FileHeader {
    /// Reads the header at the start of a file.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.find_byte(b'\n')?;
        let mut words = bytes.get(..end)?.split(|byte| *byte == b' ');
        let version = match words.next()? {
            b"1" => 1,
            b"2" => 2,
            _ => return None,
        };
        let mut header = Self {
            version,
            message_header_size: 0,
            created: 0,
            length: end + 1,
        };
        for word in words {
            match word.split_first() {
                Some((b'M', size)) => header.message_header_size = hex(size)?.try_into().ok()?,
                Some((b'C', time)) => header.created = hex(time).unwrap_or(0),
                _ => {}
            }
        }
        (MESSAGE_HEADER_SIZE..=MAX_FILE_HEADER)
            .contains(&header.message_header_size)
            .then_some(header)
    }

    /// A header for a new file.
    pub(super) fn new_line(now: i64) -> String {
        format!("2 M{MESSAGE_HEADER_SIZE:x} C{now:x}\n")
    }
}

/// The header of a message whose stored size is this.
pub(super) fn message_header(stored_size: u64) -> [u8; MESSAGE_HEADER_SIZE] {
    let mut header = [b' '; MESSAGE_HEADER_SIZE];
    header[..3].copy_from_slice(b"\x01\x02N");
    header[13..29].copy_from_slice(format!("{stored_size:016X}").as_bytes());
    header[29] = b'\n';
    header
}

/// Where the size stands in a message header.
pub(super) const SIZE_OFFSET: u64 = 13;

/// Stored size of a message from its header of the size that the file header names.
pub(super) fn stored_size(header: &[u8]) -> Option<u64> {
    let valid = header.starts_with(b"\x01\x02") && header.last() == Some(&b'\n');
    hex(header.get(13..29)?).filter(|_| valid)
}

/// What stands behind a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Metadata {
    /// `G`
    pub(super) guid: BString,
    /// `R`: seconds since the epoch.
    pub(super) received: Option<i64>,
    /// `Z`: plain size, if it differs from the stored one.
    pub(super) plain_size: Option<u64>,
    /// `V`: size with CRLF line ends.
    pub(super) virtual_size: Option<u64>,
    /// `P`
    pub(super) pop3_uidl: BString,
    /// `O`
    pub(super) pop3_order: u32,
    /// `X`: parts of the body are in other files.
    pub(super) has_attachments: bool,
}

impl Metadata {
    /// Reads the lines behind the magic; gives also where they end. `None` if they do not end.
    pub(super) fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut metadata = Self::default();
        let mut seen = [false; 256];
        let mut at = 0;
        loop {
            let length = bytes.get(at..)?.find_byte(b'\n')?;
            let line = bytes.get(at..at + length)?;
            at += length + 1;
            let Some((&key, value)) = line.split_first() else {
                return Some((metadata, at));
            };
            if key == b' ' {
                return Some((metadata, at));
            }
            // The first line of a key wins.
            if !std::mem::replace(seen.get_mut(usize::from(key))?, true) {
                metadata.set(key, value);
            }
        }
    }

    fn set(&mut self, key: u8, value: &[u8]) {
        match key {
            b'G' => self.guid = value.into(),
            // Times before the epoch are two's complement.
            b'R' => self.received = hex(value).map(u64::cast_signed),
            b'Z' => self.plain_size = hex(value),
            b'V' => self.virtual_size = hex(value),
            b'P' => self.pop3_uidl = value.into(),
            b'O' => {
                let number = value.to_str().ok().and_then(|text| text.parse().ok());
                self.pop3_order = number.unwrap_or(0);
            }
            b'X' => self.has_attachments = true,
            _ => {}
        }
    }

    /// The magic and all lines. Values with a line end are left out. `mailbox`: where an mdbox
    /// message was saved first.
    pub(super) fn encode(&self, mailbox: Option<&[u8]>) -> Vec<u8> {
        let mut numbers = String::new();
        if let Some(size) = self.plain_size {
            let _ = writeln!(numbers, "Z{size:x}");
        }
        let _ = writeln!(numbers, "R{:x}", self.received.unwrap_or(0));
        if let Some(size) = self.virtual_size {
            let _ = writeln!(numbers, "V{size:x}");
        }
        let mut out = METADATA_MAGIC.to_vec();
        out.extend_from_slice(numbers.as_bytes());
        let mut text = |key: u8, value: &[u8]| {
            if !value.is_empty() && !value.contains(&b'\n') && !value.contains(&b'\r') {
                out.push(key);
                out.extend_from_slice(value);
                out.push(b'\n');
            }
        };
        text(b'P', &self.pop3_uidl);
        if self.pop3_order > 0 {
            text(b'O', self.pop3_order.to_string().as_bytes());
        }
        text(b'G', &self.guid);
        text(b'B', mailbox.unwrap_or_default());
        out.push(b'\n');
        out
    }
}

fn hex(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(digits.to_str().ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_annotated_sdbox_file() {
        let header = FileHeader::parse(b"2 M1e C6553f100\n\x01\x02N").unwrap();
        assert_eq!((header.version, header.length), (2, 16));
        assert_eq!(header.message_header_size, 30);
        assert_eq!(header.created, 1_700_000_000);
        assert_eq!(FileHeader::new_line(1_700_000_000), "2 M1e C6553f100\n");
        assert_eq!(stored_size(&message_header(35)), Some(35));
        assert_eq!(
            message_header(0x2a).as_slice(),
            b"\x01\x02N          000000000000002A\n".as_slice()
        );
        let lines = b"R59682f00\nV27\nG00112233445566778899aabbccddee01\n\n";
        let (metadata, length) = Metadata::parse(lines).unwrap();
        assert_eq!(length, lines.len());
        assert_eq!(metadata.received, Some(1_500_000_000));
        assert_eq!(metadata.virtual_size, Some(39));
        assert_eq!(metadata.guid, "00112233445566778899aabbccddee01");
        let encoded = metadata.encode(None);
        assert_eq!(encoded, [METADATA_MAGIC.as_slice(), lines].concat());
    }

    #[test]
    fn odd_headers_are_refused_or_read() {
        assert!(FileHeader::parse(b"2 M1e").is_none());
        assert!(FileHeader::parse(b"3 M1e C1\n").is_none());
        assert!(FileHeader::parse(b"2 C1\n").is_none());
        assert!(FileHeader::parse(b"2 Mffffffffffffffff\n").is_none());
        assert_eq!(FileHeader::parse(b"1 M20 A5 Q\n").unwrap().version, 1);
        let mut damaged = message_header(3);
        damaged[0] = b'x';
        assert_eq!(stored_size(&damaged), None);
        assert_eq!(stored_size(b"\x01\x02N"), None);
    }

    #[test]
    fn odd_metadata() {
        let (metadata, _) =
            Metadata::parse(b"Gone\nGtwo\nO7\nPx y\nX1 2 - p\nRffffffffffffffff\n\n").unwrap();
        assert_eq!(
            (metadata.guid.as_slice(), metadata.pop3_order),
            (&b"one"[..], 7)
        );
        assert!(metadata.has_attachments);
        assert_eq!(metadata.received, Some(-1));
        assert_eq!(Metadata::parse(b"Gx\n   \nrest").unwrap().1, 7);
        assert!(Metadata::parse(b"Gx\n").is_none());
        let broken = Metadata {
            guid: "a\nb".into(),
            ..Metadata::default()
        };
        assert_eq!(broken.encode(Some(b"a\rb")), b"\n\x01\x03\nR0\n\n");
    }

    proptest! {
        #[test]
        fn hostile_bytes_do_no_harm(bytes: Vec<u8>) {
            FileHeader::parse(&bytes);
            stored_size(&bytes);
            if let Some((_, end)) = Metadata::parse(&bytes) {
                prop_assert!(end <= bytes.len());
            }
        }

        #[test]
        fn metadata_comes_back(
            guid in "[ -~]{1,40}", received: i64, virtual_size: u64,
            plain_size: Option<u64>, pop3_uidl in "[!-~]{0,10}", pop3_order: u32,
        ) {
            let metadata = Metadata {
                guid: guid.into(),
                received: Some(received),
                plain_size,
                virtual_size: Some(virtual_size),
                pop3_uidl: pop3_uidl.into(),
                pop3_order,
                has_attachments: false,
            };
            let bytes = metadata.encode(Some(b"INBOX"));
            let (back, end) = Metadata::parse(&bytes[METADATA_MAGIC.len()..]).unwrap();
            prop_assert_eq!(back, metadata);
            prop_assert_eq!(end, bytes.len() - METADATA_MAGIC.len());
        }
    }
}
