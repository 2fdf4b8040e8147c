//! Banner minor and header lines of one sender (`spec/wire.md` 3).

use bstr::BString;
use bytes::{BufMut, BytesMut};

use super::codec::ALL_SPECS;
use super::escape::escape_into;
use super::spec::{ItemSpec, Layout, Layouts};

/// The minor version that Dovecot 2.3 and 2.4 announce, and we too.
pub const MINOR: u32 = 5;

/// One header line: the keys of an item type in the sender's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderLine {
    /// Letter of the item type, `c` for the records inside `B.cache_fields`.
    pub letter: u8,
    /// The keys; the values of an item come in this order.
    pub keys: Vec<BString>,
}

/// How a sender announces itself: minor version and header lines, in order.
///
/// The default is, byte for byte, that of Dovecot 2.3.19.1. A peer's own is in
/// [`PeerInfo`](super::PeerInfo).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// Minor version of the banner.
    pub minor: u32,
    /// Header lines in order. Values of keys that are not listed are not sent.
    pub headers: Vec<HeaderLine>,
}

impl Default for Dialect {
    fn default() -> Self {
        let header = |spec: &&ItemSpec| HeaderLine {
            letter: spec.letter,
            keys: spec
                .keys
                .iter()
                .filter(|key| !key.extension)
                .map(|key| key.name.into())
                .collect(),
        };
        Self {
            minor: MINOR,
            headers: ALL_SPECS.iter().map(header).collect(),
        }
    }
}

impl Dialect {
    /// The keys announced for this item type, empty if there is no header line.
    pub fn keys(&self, letter: u8) -> &[BString] {
        self.headers
            .iter()
            .find(|header| header.letter == letter)
            .map_or(&[], |header| &header.keys)
    }

    /// Whether this key is announced for this item type.
    pub fn has_key(&self, letter: u8, key: &[u8]) -> bool {
        self.keys(letter).iter().any(|known| known == key)
    }

    /// Announces one more key, if it is not there yet.
    pub fn announce(&mut self, letter: u8, key: &[u8]) {
        if self.has_key(letter, key) {
            return;
        }
        let keys = vec![key.into()];
        match self.headers.iter_mut().find(|h| h.letter == letter) {
            Some(header) => header.keys.extend(keys),
            None => self.headers.push(HeaderLine { letter, keys }),
        }
    }

    /// Announces the keys that only our own peers know.
    pub(crate) fn announce_extensions(&mut self) {
        for spec in ALL_SPECS {
            for key in spec.keys.iter().filter(|key| key.extension) {
                self.announce(spec.letter, key.name.as_bytes());
            }
        }
    }

    /// Adds a header line; an earlier one for the same item type is replaced.
    pub(crate) fn set_header(&mut self, header: HeaderLine) {
        self.headers.retain(|known| known.letter != header.letter);
        self.headers.push(header);
    }

    pub(crate) fn layout(&self, spec: &ItemSpec) -> Layout {
        Layout::new(spec, self.keys(spec.letter))
    }

    /// The layouts of the item types that are announced and known.
    pub(crate) fn layouts(&self) -> Layouts {
        let mut layouts = Layouts::default();
        for spec in ALL_SPECS {
            if self.headers.iter().any(|h| h.letter == spec.letter) {
                layouts.insert(spec.letter, self.layout(spec));
            }
        }
        layouts
    }

    /// Appends banner, header lines and the final `.` line.
    pub(crate) fn write(&self, out: &mut BytesMut) {
        out.put_slice(format!("VERSION\tdsync\t3\t{}\n", self.minor).as_bytes());
        for header in &self.headers {
            out.put_u8(header.letter);
            for (index, key) in header.keys.iter().enumerate() {
                if index > 0 {
                    out.put_u8(b'\t');
                }
                escape_into(key, out);
            }
            out.put_u8(b'\n');
        }
        out.put_slice(b".\n");
    }
}
