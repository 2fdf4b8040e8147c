//! `dovecot-uidlist`: UIDs, GUIDs and identity of a Maildir (`spec/maildir.md` 10).
//!
//! Only the format: reading never fails. A damaged file keeps every record that still makes
//! sense, and says what is wrong, so that the caller rewrites it under the lock. (Dovecot would
//! delete it, and all messages would get new UIDs.)

use dsync_proto::types::{Guid, MAX_UID, MailGuid, Uid};

/// Longest line that is kept; a base name has at most 255 bytes, a GUID not many more.
const MAX_LINE: usize = 16 * 1024;

/// The parsed file. About 16 bytes per message beside the text of its record.
#[derive(Clone, Debug, Default)]
pub(crate) struct UidList {
    /// UIDVALIDITY, 0 if unknown.
    pub(crate) uid_validity: u32,
    /// `N` as stored: a lower bound of UIDNEXT; 0 if unknown.
    pub(crate) stored_next: Uid,
    /// Mailbox GUID, zero if unknown.
    pub(crate) guid: Guid,
    /// Other header keys, each with a space before it.
    extra_header: Vec<u8>,
    text: Vec<u8>,
    records: Vec<Record>,
    /// The file must be written anew before anything is appended.
    pub(crate) rewrite: bool,
    /// What was wrong with it, for the log; at most a few lines.
    pub(crate) damage: Vec<String>,
    /// Records in the file, also those that were removed from memory.
    pub(crate) lines: usize,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    start: u32,
    uid: Uid,
    extensions: u16,
    base: u16,
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    /// UID.
    pub(crate) uid: Uid,
    /// Extensions as in the file: `KEYvalue` and a space, each.
    pub(crate) extensions: &'a [u8],
    /// Base name of the file.
    pub(crate) base: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Value of an extension.
    pub(crate) fn extension(&self, key: u8) -> Option<&'a [u8]> {
        self.extensions
            .split(|byte| *byte == b' ')
            .find_map(|part| part.strip_prefix(&[key]))
    }

    /// The GUID: extension `G`, else the base name.
    pub(crate) fn guid(&self) -> &'a [u8] {
        self.extension(b'G')
            .filter(|guid| !guid.is_empty())
            .unwrap_or(self.base)
    }

    /// The GUID in 128 bits.
    pub(crate) fn short_guid(&self) -> Guid {
        MailGuid::short_of(self.guid())
    }
}

impl UidList {
    /// Reads the file's bytes. An empty file counts as none.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let mut list = Self::default();
        if bytes.is_empty() {
            list.rewrite = true;
            return list;
        }
        list.text.reserve(bytes.len());
        let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
        let header = lines.next().unwrap_or_default();
        let version = list.parse_header(header.strip_suffix(b"\n").unwrap_or(header));
        for (number, line) in (2..).zip(lines) {
            // Without a line feed it is still being written, or was torn: never read it.
            let Some(line) = line.strip_suffix(b"\n") else {
                list.damaged(number, "incomplete last line");
                break;
            };
            list.lines += 1;
            if let Err(problem) = list.parse_record(line, version) {
                list.damaged(number, problem);
            }
        }
        if !bytes.ends_with(b"\n") {
            list.rewrite = true;
        }
        list
    }

    fn damaged(&mut self, line: usize, problem: &str) {
        self.rewrite = true;
        if self.damage.len() < 8 {
            self.damage.push(format!("line {line}: {problem}"));
        }
    }

    /// Returns the version that decides how records look.
    fn parse_header(&mut self, line: &[u8]) -> u8 {
        let mut tokens = line.split(|byte| *byte == b' ');
        match tokens.next() {
            Some(b"3") => {}
            Some(b"1") => {
                self.rewrite = true;
                self.uid_validity = tokens.next().and_then(number).unwrap_or(0);
                self.stored_next = tokens.next().and_then(number).unwrap_or(0);
                return 1;
            }
            _ => {
                self.damaged(1, "unknown version");
                return 3;
            }
        }
        for token in tokens {
            match token.split_first() {
                Some((b'V', value)) => self.uid_validity = number(value).unwrap_or(0),
                Some((b'N', value)) => self.stored_next = number(value).unwrap_or(0),
                Some((b'G', value)) => self.guid = Guid::from_hex(value).unwrap_or_default(),
                Some(_) => {
                    self.extra_header.push(b' ');
                    self.extra_header.extend_from_slice(token);
                }
                None => {}
            }
        }
        if self.uid_validity == 0 || self.stored_next == 0 {
            self.damaged(1, "no UIDVALIDITY or next UID");
        }
        if self.guid.is_zero() {
            self.rewrite = true;
        }
        3
    }

    fn parse_record(&mut self, line: &[u8], version: u8) -> Result<(), &'static str> {
        if line.len() > MAX_LINE {
            return Err("line too long");
        }
        let space = memchr::memchr(b' ', line).ok_or("no UID")?;
        let uid = number(&line[..space]).ok_or("bad UID")?;
        let mut rest = &line[space + 1..];
        let extensions_start = rest;
        let mut extensions_len = 0;
        if version > 1 {
            while !rest.starts_with(b":") {
                let end = memchr::memchr(b' ', rest).ok_or("no file name")?;
                let token = &rest[..end];
                if !token.is_empty() && !token[0].is_ascii_uppercase() {
                    return Err("invalid extension");
                }
                extensions_len += end + 1;
                rest = &rest[end + 1..];
            }
            rest = &rest[1..];
        }
        let base = rest;
        if base.is_empty() || base.iter().any(|byte| matches!(byte, b'/' | b':' | 0)) {
            return Err("invalid file name");
        }
        if self.last_uid() >= uid {
            return Err("UIDs not in order");
        }
        self.push(uid, &extensions_start[..extensions_len], base)
            .then_some(())
            .ok_or("file too big or UID too high")
    }

    /// Adds a record at the end; `false` if its UID is not the highest, or it does not fit.
    #[must_use]
    pub(crate) fn push(&mut self, uid: Uid, extensions: &[u8], base: &[u8]) -> bool {
        let (Ok(start), Ok(extensions_len), Ok(base_len)) = (
            u32::try_from(self.text.len()),
            u16::try_from(extensions.len()),
            u16::try_from(base.len()),
        ) else {
            return false;
        };
        if uid <= self.last_uid() || uid > MAX_UID {
            return false;
        }
        self.text.extend_from_slice(extensions);
        self.text.extend_from_slice(base);
        self.records.push(Record {
            start,
            uid,
            extensions: extensions_len,
            base: base_len,
        });
        true
    }

    /// Number of records.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// The record at this position, in UID order.
    pub(crate) fn get(&self, position: usize) -> Option<Entry<'_>> {
        let record = self.records.get(position)?;
        let start = record.start as usize;
        let middle = start + usize::from(record.extensions);
        Some(Entry {
            uid: record.uid,
            extensions: self.text.get(start..middle)?,
            base: self.text.get(middle..middle + usize::from(record.base))?,
        })
    }

    /// All records by rising UID.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        (0..self.len()).filter_map(|position| self.get(position))
    }

    /// Position of a UID.
    pub(crate) fn position(&self, uid: Uid) -> Option<usize> {
        self.records
            .binary_search_by_key(&uid, |record| record.uid)
            .ok()
    }

    /// UID of the last record, 0 if there is none.
    pub(crate) fn last_uid(&self) -> Uid {
        self.records.last().map_or(0, |record| record.uid)
    }

    /// The next free UID as far as this file knows.
    pub(crate) fn next_uid(&self) -> Uid {
        self.stored_next.max(self.last_uid().saturating_add(1))
    }

    /// Keeps only the records at positions where `keep` is set. The next UID stays.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(usize) -> bool) {
        self.stored_next = self.next_uid();
        let mut position = 0;
        self.records.retain(|_| {
            let kept = keep(position);
            position += 1;
            kept
        });
    }

    /// Positions of all records, ordered by base name, then UID.
    pub(crate) fn by_base(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.len() as u32).collect();
        let key = |&position: &u32| {
            self.get(position as usize)
                .map(|entry| (entry.base, entry.uid))
        };
        order.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
        order
    }

    /// The whole file, with `N` as `stored_next` says.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.text.len() + 16 * self.records.len() + 100);
        out.extend_from_slice(
            format!(
                "3 V{} N{} G{}",
                self.uid_validity, self.stored_next, self.guid
            )
            .as_bytes(),
        );
        out.extend_from_slice(&self.extra_header);
        out.push(b'\n');
        self.encode_records(0, &mut out);
        out
    }

    /// The lines of the records from this position on.
    pub(crate) fn encode_records(&self, from: usize, out: &mut Vec<u8>) {
        for entry in (from..self.len()).filter_map(|position| self.get(position)) {
            out.extend_from_slice(entry.uid.to_string().as_bytes());
            out.push(b' ');
            out.extend_from_slice(entry.extensions);
            out.push(b':');
            out.extend_from_slice(entry.base);
            out.push(b'\n');
        }
    }
}

/// The text of an extension.
pub(crate) fn extension(key: u8, value: &[u8]) -> Vec<u8> {
    [&[key], value, b" "].concat()
}

/// Whether a text can be a value: values end at a space, lines at a line feed.
pub(crate) fn is_value(text: &[u8]) -> bool {
    text.len() <= MAX_LINE / 8 && text.iter().all(|&byte| byte > b' ' && byte != 0x7f)
}

/// A positive decimal number below 2^32.
fn number(text: &[u8]) -> Option<u32> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text)
        .ok()?
        .parse()
        .ok()
        .filter(|value| *value != 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SAMPLE: &str = "3 V1795447313 N41 Gdf52340f115a046b5c6b000083ecc375\n\
        1 :1795447313.M251103P27484.vm,S=44,W=48\n\
        20 Gaaaabbbbccccddddeeeeffff00001111 :1795447313.M602815P27510Q1.vm,S=49,W=53\n\
        40 Kx G1795447313.M345742P27495.vm,S=44,W=48 P :1795447313.M614688P27510Q2.vm,S=44,W=48\n";

    #[test]
    fn sample_round_trips() {
        let list = UidList::parse(SAMPLE.as_bytes());
        assert!(!list.rewrite, "{:?}", list.damage);
        assert_eq!(
            (list.uid_validity, list.next_uid(), list.len()),
            (1_795_447_313, 41, 3)
        );
        assert_eq!(list.encode(), SAMPLE.as_bytes());
        let guids: Vec<_> = list.iter().map(|entry| entry.guid().to_vec()).collect();
        assert_eq!(guids[0], b"1795447313.M251103P27484.vm,S=44,W=48");
        assert_eq!(guids[1], b"aaaabbbbccccddddeeeeffff00001111");
        assert_eq!(guids[2], b"1795447313.M345742P27495.vm,S=44,W=48");
        assert_eq!(list.get(2).unwrap().extension(b'P'), Some(&b""[..]));
    }

    #[test]
    fn unknown_header_keys_stay() {
        let text = "3 V5 N10 G00112233445566778899aabbccddeeff Pabc Xy\n";
        assert_eq!(UidList::parse(text.as_bytes()).encode(), text.as_bytes());
    }

    #[test]
    fn version_1_is_upgraded() {
        let list = UidList::parse(b"1 77 9\n3 a.b\n8 c d\n");
        assert!(list.rewrite);
        assert_eq!((list.uid_validity, list.next_uid()), (77, 9));
        assert_eq!(list.get(1).unwrap().base, b"c d");
    }

    #[test]
    fn damage_costs_only_the_bad_lines() {
        let guid = "G00112233445566778899aabbccddeeff";
        for (body, uids) in [
            ("1 :a\n5 Gtorn :17954", vec![1]),
            ("1 :a\n5 Gtorn :1795448012 :179.M9\n6 :c\n", vec![1, 6]),
            ("4 :a\n4 :b\n3 :c\n0 :d\n9 :e\n", vec![4, 9]),
            ("x\n\n1 noname\n2 :a/b\n3 :\n7 :a\n", vec![7]),
            ("4294967295 :a\n", vec![]),
        ] {
            let list = UidList::parse(format!("3 V5 N10 {guid}\n{body}").as_bytes());
            assert!(list.rewrite && !list.damage.is_empty(), "{body}");
            assert_eq!(
                list.iter().map(|entry| entry.uid).collect::<Vec<_>>(),
                uids,
                "{body}"
            );
        }
    }

    #[test]
    fn header_damage_keeps_records() {
        for header in ["3 V0 N4 Gx", "2 V1 N4", "", "3 N4", "junk"] {
            let list = UidList::parse(format!("{header}\n7 :a\n").as_bytes());
            assert!(list.rewrite);
            assert_eq!((list.len(), list.next_uid()), (1, 8));
        }
    }

    #[test]
    fn missing_guid_is_no_damage() {
        let list = UidList::parse(b"3 V5 N10\n1 :a\n");
        assert!(list.rewrite && list.damage.is_empty() && list.guid.is_zero());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_and_then_stable(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut list = UidList::parse(&bytes);
            (list.uid_validity, list.stored_next, list.guid) = (1, list.next_uid(), Guid([7; 16]));
            prop_assert_eq!(UidList::parse(&list.encode()).encode(), list.encode());
        }

        #[test]
        fn mutated_files_keep_the_order(cut in 0..SAMPLE.len(), at in 0..SAMPLE.len(), byte: u8) {
            let mut bytes = SAMPLE.as_bytes()[..cut.max(at + 1)].to_vec();
            bytes[at] = byte;
            let list = UidList::parse(&bytes);
            let uids: Vec<_> = list.iter().map(|entry| entry.uid).collect();
            prop_assert!(uids.is_sorted_by(|a, b| a < b));
            prop_assert!(list.next_uid() > uids.last().copied().unwrap_or(0));
        }
    }
}
