//! The headers of a message in the file: those that keep what a mailbox knows about it, and what
//! is left for readers (`spec/mbox.md` 3, 5, 7).

use dsync_proto::types::{Flags, Guid, Uid};
use md5::{Digest, Md5};

/// Spaces behind values, so that later ones fit in place.
const PADDING: usize = 50;

/// The seven headers that are hidden from readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Own {
    ContentLength,
    Status,
    XImap,
    XImapBase,
    XKeywords,
    XStatus,
    XUid,
}

impl Own {
    fn of(name: &[u8]) -> Option<Self> {
        const NAMES: [(&str, Own); 7] = [
            ("Content-Length", Own::ContentLength),
            ("Status", Own::Status),
            ("X-IMAP", Own::XImap),
            ("X-IMAPbase", Own::XImapBase),
            ("X-Keywords", Own::XKeywords),
            ("X-Status", Own::XStatus),
            ("X-UID", Own::XUid),
        ];
        NAMES
            .iter()
            .find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()))
            .map(|(_, own)| *own)
    }
}

/// One header with its continuation lines and line ends.
#[derive(Clone, Copy, Debug)]
struct Field<'a> {
    own: Option<Own>,
    name: &'a [u8],
    /// Behind the colon.
    value: &'a [u8],
    raw: &'a [u8],
}

/// The headers of a block, which may end with the empty line.
fn fields(block: &[u8]) -> impl Iterator<Item = Field<'_>> {
    let mut rest = block;
    std::iter::from_fn(move || {
        if rest.is_empty() || rest.starts_with(b"\n") || rest.starts_with(b"\r\n") {
            return None;
        }
        let mut end = line_end(rest);
        while matches!(rest.get(end), Some(b' ' | b'\t')) {
            end += line_end(&rest[end..]);
        }
        let (raw, behind) = rest.split_at(end);
        rest = behind;
        let first = &raw[..line_end(raw)];
        let colon = memchr::memchr(b':', first);
        let name = colon.map_or(&first[..0], |at| first[..at].trim_ascii_end());
        let value = colon.map_or(&raw[..0], |at| &raw[at + 1..]);
        Some(Field {
            own: Own::of(name),
            name,
            value,
            raw,
        })
    })
}

fn line_end(bytes: &[u8]) -> usize {
    memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1)
}

/// UIDVALIDITY, the last UID and the keywords, from `X-IMAPbase` or `X-IMAP`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Base {
    pub(super) uid_validity: u32,
    pub(super) last_uid: Uid,
    pub(super) keywords: Vec<Vec<u8>>,
}

impl Base {
    fn parse(value: &[u8]) -> Option<Self> {
        let words = words(value);
        let mut words = words.into_iter();
        let uid_validity = number(words.next()?).filter(|value| *value != 0)?;
        // Without anything behind it the number may have been cut.
        let last_uid = number(words.next()?)?;
        Some(Self {
            uid_validity,
            last_uid,
            keywords: words.map(<[u8]>::to_vec).collect(),
        })
    }

    fn text(&self) -> Vec<u8> {
        let mut text = format!(" {} {:010}", self.uid_validity, self.last_uid).into_bytes();
        for keyword in &self.keywords {
            text.push(b' ');
            text.extend_from_slice(keyword);
        }
        text
    }
}

fn words(value: &[u8]) -> Vec<&[u8]> {
    value
        .split(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
        .filter(|word| !word.is_empty())
        .collect()
}

fn number(digits: &[u8]) -> Option<u32> {
    std::str::from_utf8(digits)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?
        .parse()
        .ok()
}

/// The one number of a value.
fn only_number(value: &[u8]) -> Option<u32> {
    match words(value)[..] {
        [word] => number(word),
        _ => None,
    }
}

/// What the headers of a message say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Meta {
    /// `X-IMAPbase`, or `X-IMAP` of the pseudo message.
    pub(super) base: Option<Base>,
    /// There is an `X-IMAP` that counts.
    pub(super) is_pseudo: bool,
    pub(super) uid: Option<Uid>,
    /// User flags.
    pub(super) flags: Flags,
    /// `O`: not recent.
    pub(super) old: bool,
    pub(super) keywords: Vec<Vec<u8>>,
    pub(super) content_length: Option<u64>,
    /// MD5 of `mbox_md5=apop3d`, which is the GUID of the message for Dovecot.
    pub(super) md5: [u8; 16],
    /// The block has a line between headers and body.
    pub(super) has_end: bool,
}

impl Meta {
    /// Reads the headers of a message; the first one of a file has more of them.
    pub(super) fn parse(block: &[u8], is_first: bool) -> Self {
        let mut meta = Self::default();
        let mut md5 = Md5Headers::default();
        let (mut seen_uid, mut seen_keywords, mut consumed) = (false, false, 0);
        for field in fields(block) {
            consumed += field.raw.len();
            md5.add(&field);
            let value = field.value;
            match field.own {
                Some(Own::XImapBase) if is_first && meta.base.is_none() => {
                    meta.base = Base::parse(value);
                }
                Some(Own::XImap) if is_first && !meta.is_pseudo => {
                    if let Some(base) = Base::parse(value) {
                        meta.base = Some(base);
                        meta.is_pseudo = true;
                    }
                }
                Some(Own::XUid) if !seen_uid => {
                    seen_uid = true;
                    // In front of the base it counts for nothing.
                    let counts = !is_first || meta.base.is_some();
                    meta.uid = only_number(value).filter(|uid| *uid > 0 && counts);
                }
                Some(Own::Status) => {
                    meta.old |= value.contains(&b'O');
                    if value.contains(&b'R') {
                        meta.flags |= Flags::SEEN;
                    }
                }
                Some(Own::XStatus) => meta.flags |= letters(value),
                Some(Own::XKeywords) if !seen_keywords => {
                    seen_keywords = true;
                    meta.keywords = words(value).into_iter().map(<[u8]>::to_vec).collect();
                }
                Some(Own::ContentLength) if meta.content_length.is_none() => {
                    meta.content_length = only_number(value).map(u64::from);
                }
                _ => {}
            }
        }
        meta.has_end = consumed < block.len();
        meta.md5 = md5.finish();
        meta
    }
}

const STATUS_LETTERS: [(u8, Flags); 4] = [
    (b'A', Flags::ANSWERED),
    (b'F', Flags::FLAGGED),
    (b'T', Flags::DRAFT),
    (b'D', Flags::DELETED),
];

fn letters(value: &[u8]) -> Flags {
    let mut flags = Flags::NONE;
    for (letter, flag) in STATUS_LETTERS {
        if value.contains(&letter) {
            flags |= flag;
        }
    }
    flags
}

/// Collects what the MD5 is made of (`spec/mbox.md` 5).
#[derive(Default)]
struct Md5Headers {
    digest: Md5,
    received: bool,
}

impl Md5Headers {
    fn add(&mut self, field: &Field<'_>) {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name.as_bytes());
        let counts = if is("Received") {
            !std::mem::replace(&mut self.received, true)
        } else if is("Date") || is("Message-ID") {
            !self.received
        } else {
            is("Delivered-To") || is("X-Delivery-ID")
        };
        if !counts {
            return;
        }
        let value = field.value;
        let start = value
            .iter()
            .position(|byte| !matches!(byte, b' ' | b'\t'))
            .unwrap_or(value.len());
        for byte in value[start..].split(|byte| *byte == b'\n') {
            self.digest.update(byte.strip_suffix(b"\r").unwrap_or(byte));
        }
    }

    fn finish(self) -> [u8; 16] {
        self.digest.finalize().into()
    }
}

/// The GUID that Dovecot gives such a message.
pub(super) fn md5_guid(md5: [u8; 16]) -> String {
    Guid(md5).to_string()
}

/// The block as readers see it: without the seven, without CR at line ends, with an empty line
/// behind it.
pub(super) fn visible(block: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(block.len() + 1);
    for field in fields(block).filter(|field| field.own.is_none()) {
        for line in field.raw.split_inclusive(|byte| *byte == b'\n') {
            match line.strip_suffix(b"\r\n") {
                Some(text) => {
                    out.extend_from_slice(text);
                    out.push(b'\n');
                }
                None => out.extend_from_slice(line),
            }
        }
    }
    out.push(b'\n');
    out
}

/// The headers of a message that shall be saved, with LF line ends and without the empty line:
/// what would be taken for our own, or for the beginning of another message, is left out.
pub(super) fn storable(block: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(block.len() + 1);
    for field in fields(block) {
        if field.own.is_none() && !field.raw.starts_with(super::from_line::FROM) {
            out.extend_from_slice(field.raw);
        }
    }
    if !out.is_empty() && !out.ends_with(b"\n") {
        out.push(b'\n');
    }
    out
}

/// What shall stand in the headers of a message.
#[derive(Clone, Debug)]
pub(super) struct Wanted<'a> {
    /// For the first message.
    pub(super) base: Option<&'a Base>,
    /// It is the pseudo message.
    pub(super) is_pseudo: bool,
    pub(super) uid: Uid,
    pub(super) flags: Flags,
    pub(super) old: bool,
    pub(super) keywords: &'a [Vec<u8>],
    pub(super) content_length: u64,
}

/// The headers that a new message gets, up to and with the empty line.
pub(super) fn own_headers(wanted: &Wanted<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    push_own(&mut out, wanted, PADDING);
    out.push(b'\n');
    out
}

fn push_own(out: &mut Vec<u8>, wanted: &Wanted<'_>, padding: usize) {
    if let Some(base) = wanted.base {
        let name: &[u8] = if wanted.is_pseudo {
            b"X-IMAP:"
        } else {
            b"X-IMAPbase:"
        };
        push(out, name, &base.text());
    }
    if !wanted.is_pseudo {
        push(out, b"X-UID:", format!(" {}", wanted.uid).as_bytes());
    }
    let mut status = vec![b' '];
    if wanted.flags.contains(Flags::SEEN) {
        status.push(b'R');
    }
    if wanted.old {
        status.push(b'O');
    }
    push(out, b"Status:", &status);
    let letters = STATUS_LETTERS.iter();
    let letters: Vec<u8> = letters
        .filter(|(_, flag)| wanted.flags.contains(*flag))
        .map(|(letter, _)| *letter)
        .collect();
    if !letters.is_empty() {
        push(out, b"X-Status:", &[b" ", &letters[..]].concat());
    }
    if !wanted.is_pseudo {
        let mut keywords = Vec::new();
        for keyword in wanted.keywords {
            keywords.push(b' ');
            keywords.extend_from_slice(keyword);
        }
        keywords.resize(keywords.len() + padding, b' ');
        push(out, b"X-Keywords:", &keywords);
        let length = format!(" {}", wanted.content_length);
        push(out, b"Content-Length:", length.as_bytes());
    }
}

fn push(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// The block of a message with other values: of the same length if there is room, else longer,
/// with new padding.
pub(super) fn rewritten(block: &[u8], wanted: &Wanted<'_>) -> Vec<u8> {
    let mut others = Vec::with_capacity(block.len() + 200);
    for field in fields(block).filter(|field| field.own.is_none()) {
        others.extend_from_slice(field.raw);
        if !field.raw.ends_with(b"\n") {
            others.push(b'\n');
        }
    }
    let mut fixed = Vec::new();
    push_own(&mut fixed, wanted, 0);
    let room = block.len().checked_sub(others.len() + fixed.len() + 1);
    let mut own = Vec::new();
    match (room, wanted.is_pseudo) {
        (Some(0), _) | (None, true) => own = fixed,
        (Some(room), true) => {
            // The pseudo message has no keywords: its base takes the padding.
            let end = line_end(&fixed) - 1;
            own.extend_from_slice(&fixed[..end]);
            own.resize(end + room, b' ');
            own.extend_from_slice(&fixed[end..]);
        }
        (Some(room), false) => push_own(&mut own, wanted, room),
        (None, false) => push_own(&mut own, wanted, PADDING),
    }
    others.extend_from_slice(&own);
    others.push(b'\n');
    others
}

/// The message that keeps the base while there is no other (`spec/mbox.md` 4).
pub(super) fn pseudo_message(base: &Base, now: i64, host: &str) -> Vec<u8> {
    let mut out = super::from_line::format(now);
    let date = jiff::Timestamp::from_second(now).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let date = date.strftime("%a, %d %b %Y %H:%M:%S +0000");
    out.extend_from_slice(
        format!(
            "Date: {date}\nFrom: Mail System Internal Data <MAILER-DAEMON@{host}>\n\
             Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\n\
             Message-ID: <{now}@{host}>\n"
        )
        .as_bytes(),
    );
    push(&mut out, b"X-IMAP:", &base.text());
    out.extend_from_slice(
        b"Status: RO\n\nThis text is part of the internal format of your mail folder, and is not\n\
          a real message.  It is created automatically by the mail system software.\n\
          If deleted, important folder data will be lost, and it will be re-created\n\
          with the data reset to initial values.\n\n",
    );
    out
}

#[cfg(test)]
mod tests {
    use bstr::ByteSlice;

    use super::*;

    #[test]
    fn md5_as_dovecot_computes_it() {
        for (block, expected) in [
            (
                &b"X-Delivery-ID: fwCPNPS5cTcbVD5GcrLpcw==\nReceived: from a\n\tby b; x\n\
                  Received: z\nDelivered-To: u@example.org\nDate: x\nMessage-ID: <y>\n\n"[..],
                "b66a13220dd92f7c2af6408d44a678eb",
            ),
            (
                b"Message-ID: <1@example.org>\r\nDate: Mon, 1 Jan 2024 10:00:00 +0000\r\n\r\n",
                "143f33396c8321d36771791a7659810c",
            ),
            (b"Subject: x\n\n", "d41d8cd98f00b204e9800998ecf8427e"),
        ] {
            assert_eq!(md5_guid(Meta::parse(block, false).md5), expected);
        }
    }

    #[test]
    fn values_that_count() {
        let first = b"X-UID: 9\nX-IMAPbase: 12 0000000003 a b\nX-UID: 1\nStatus: RZO\n\n";
        let meta = Meta::parse(first, true);
        let base = meta.base.unwrap();
        assert_eq!((base.uid_validity, base.last_uid), (12, 3));
        assert_eq!(base.keywords, [b"a", b"b"]);
        // In front of the base, and then it is the second one.
        assert_eq!(meta.uid, None);
        assert!(meta.old && meta.flags == Flags::SEEN && meta.has_end);
        let later = Meta::parse(first, false);
        assert_eq!((later.base, later.uid), (None, Some(9)));
        for bad in ["0 1", "12ab 1", "12", "12 x"] {
            let block = format!("X-IMAPbase: {bad}\n\n");
            assert_eq!(Meta::parse(block.as_bytes(), true).base, None, "{bad}");
        }
        let other = Meta::parse(b"X-UID: 3x\nX-Status: AFTD\nStatus:\n", false);
        assert_eq!((other.uid, other.has_end), (None, false));
        assert_eq!(other.flags, Flags::USER & !Flags::SEEN);
    }

    #[test]
    fn headers_for_readers_and_for_the_file() {
        let block = b"A: 1\r\n b\r\nstatus: R\n RO\nnot a header\nX-Uid: 1\n\n";
        assert_eq!(visible(block).as_bstr(), "A: 1\n b\nnot a header\n\n");
        assert_eq!(visible(b"A: 1").as_bstr(), "A: 1\n");
        let block = b"From x Mon Jan  1 10:00:00 2024\nX-IMAP: 1 2\nA: 1";
        assert_eq!(storable(block).as_bstr(), "A: 1\n");
    }

    #[test]
    fn new_values_fit_into_padding() {
        let keywords = [b"kw1".to_vec()];
        let mut wanted = Wanted {
            base: None,
            is_pseudo: false,
            uid: 7,
            flags: Flags::NONE,
            old: false,
            keywords: &[],
            content_length: 3,
        };
        let block = [b"Subject: x\n".to_vec(), own_headers(&wanted)].concat();
        wanted.flags = Flags::SEEN | Flags::FLAGGED;
        wanted.keywords = &keywords;
        let next = rewritten(&block, &wanted);
        assert_eq!(next.len(), block.len());
        let meta = Meta::parse(&next, false);
        assert_eq!((meta.uid, meta.flags), (Some(7), wanted.flags));
        assert_eq!(meta.keywords, keywords);
        assert_eq!(meta.content_length, Some(3));
        assert_eq!(visible(&next).as_bstr(), "Subject: x\n\n");
        assert_eq!(rewritten(&next, &wanted), next);
        let many = [vec![b'k'; 60]];
        wanted.keywords = &many;
        assert!(rewritten(&next, &wanted).len() > block.len());
    }
}
