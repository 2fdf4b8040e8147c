//! Forms of mailbox names: levels on the wire, hashes in `D`, names on disk.

use std::collections::HashMap;

use bstr::{BString, ByteSlice};
use dsync_proto::types::Guid;

use super::node::{NodeId, Tree};

/// Undoes the visible escapes (`%2e`) of a level, if escaping is configured.
pub(super) fn unescape(level: &str, escape: Option<char>) -> BString {
    let Some(escape) = escape.and_then(|escape| u8::try_from(escape).ok()) else {
        return level.into();
    };
    let mut out = BString::default();
    let mut rest = level.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match (*first == escape, tail) {
            (true, [high, low, tail @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                out.push(hex_digit(*high) << 4 | hex_digit(*low));
                rest = tail;
            }
            _ => out.push(*first),
        }
    }
    out
}

/// Levels of a full name as the wire has them: without visible escapes.
pub(super) fn plain_levels(tree: &Tree, id: NodeId) -> Vec<BString> {
    let escape_char = tree.namespace_of(id).and_then(|ns| ns.escape_char);
    tree.levels(id)
        .into_iter()
        .map(|level| unescape(level, escape_char))
        .collect()
}

fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => 0,
    }
}

/// Writes the escape character and the separator in a level as escapes.
pub(super) fn escape(level: &[u8], escape: u8, separator: u8) -> BString {
    let mut out = BString::default();
    for byte in level {
        if *byte == escape || *byte == separator {
            out.push(escape);
            out.extend_from_slice(format!("{byte:02x}").as_bytes());
        } else {
            out.push(*byte);
        }
    }
    out
}

/// A separator as its one byte on the wire; a separator that is no single byte cannot be in use.
pub(super) fn separator_byte(separator: char) -> u8 {
    u8::try_from(separator).unwrap_or(b'/')
}

/// How the peer writes full names before it hashes them (`spec/brain-and-tree.md` 10).
#[derive(Clone, Copy, Debug)]
pub(super) struct PeerNames {
    pub(super) separator: u8,
    pub(super) escape_char: Option<u8>,
    pub(super) alt_char: u8,
}

/// Nodes by the hashes of their full names.
pub(super) struct NameIndex {
    by_name: HashMap<Guid, NodeId>,
    /// The name on disk of layout fs, which Dovecot hashes when a directory is removed.
    by_storage_name: HashMap<Guid, NodeId>,
}

impl NameIndex {
    /// Hashes the full names of a tree. With `peer` they are written in the peer's way first; a
    /// Dovecot hashes names with its escape character in both forms, so both are entered.
    pub(super) fn new(tree: &Tree, peer: Option<PeerNames>) -> Self {
        let mut out = Self {
            by_name: HashMap::with_capacity(tree.len()),
            by_storage_name: HashMap::new(),
        };
        let separator = separator_byte(tree.separator());
        for (id, path) in tree.paths() {
            let peer = peer.filter(|peer| peer.separator != separator);
            if let Some(peer) = peer {
                let levels = plain_levels(tree, id);
                out.enter(id, &joined(&levels, peer, true));
                out.enter(id, &joined(&levels, peer, false));
            } else {
                out.enter(id, path.as_bytes());
            }
            out.enter_storage_name(tree, id, &path);
        }
        out
    }

    fn enter(&mut self, id: NodeId, name: &[u8]) {
        let hash = Guid::of_mailbox_name(name);
        self.by_name.entry(hash).or_insert(id);
    }

    fn enter_storage_name(&mut self, tree: &Tree, id: NodeId, path: &str) {
        let Some(namespace) = tree.namespace_of(id) else {
            return;
        };
        let Some(name) = path.strip_prefix(namespace.prefix.as_str()) else {
            return;
        };
        let name = name.replace(namespace.separator, "/");
        let name = mutf7(&name);
        if name != path {
            let hash = Guid::of_mailbox_name(name.as_bytes());
            self.by_storage_name.entry(hash).or_insert(id);
        }
    }

    /// The node whose full name has this hash.
    pub(super) fn name(&self, hash: Guid) -> Option<NodeId> {
        self.by_name.get(&hash).copied()
    }

    /// The same for a deleted directory, whose hash may be of the name on disk.
    pub(super) fn directory(&self, hash: Guid) -> Option<NodeId> {
        self.name(hash)
            .or_else(|| self.by_storage_name.get(&hash).copied())
    }
}

/// Full name in the peer's way; `escaped` as Dovecot's dsync hashes it, else as its other
/// commands do.
pub(super) fn joined(levels: &[BString], peer: PeerNames, escaped: bool) -> BString {
    let levels: Vec<BString> = levels
        .iter()
        .map(|level| match peer.escape_char {
            Some(escape_char) if escaped => escape(level, escape_char, peer.separator),
            Some(_) => level.clone(),
            None => level.replace([peer.separator], [peer.alt_char]).into(),
        })
        .collect();
    bstr::join([peer.separator], levels).into()
}

/// Modified UTF-7 of RFC 3501 5.1.3, as names are kept on disk.
fn mutf7(name: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";
    let plain = |c: char| (' '..='~').contains(&c);
    let mut out = String::new();
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        if plain(first) {
            out.push_str(if first == '&' { "&-" } else { &rest[..1] });
            rest = &rest[1..];
            continue;
        }
        let end = rest.find(plain).unwrap_or(rest.len());
        let (run, tail) = rest.split_at(end);
        rest = tail;
        out.push('&');
        let (mut bits, mut held) = (0_u32, 0);
        for unit in run.encode_utf16() {
            bits = bits << 16 | u32::from(unit);
            held += 16;
            while held >= 6 {
                held -= 6;
                out.push(char::from(ALPHABET[(bits >> held) as usize & 63]));
            }
            bits &= (1 << held) - 1;
        }
        if held > 0 {
            out.push(char::from(ALPHABET[(bits << (6 - held)) as usize & 63]));
        }
        out.push('-');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modified_utf7() {
        for (name, encoded) in [
            ("Æ", "&AMY-"),
            ("a&b", "a&-b"),
            ("Grüße/x", "Gr&APwA3w-e/x"),
            ("日本語", "&ZeVnLIqe-"),
            ("\u{1f600}", "&2D3eAA-"),
            ("plain", "plain"),
        ] {
            assert_eq!(mutf7(name), encoded);
        }
    }

    #[test]
    fn escapes() {
        assert_eq!(unescape("a%2eb%zz%", Some('%')), "a.b%zz%");
        assert_eq!(unescape("a%2eb", None), "a%2eb");
        assert_eq!(escape(b"a.b%", b'%', b'.'), "a%2eb%25");
    }
}
