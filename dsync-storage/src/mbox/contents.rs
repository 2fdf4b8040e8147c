//! What a file shall hold, and what has to be written to get there.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use dsync_proto::types::{Flags, Uid};
use md5::{Digest, Md5};

use super::from_line;
use super::headers::{self, Base, Meta, Wanted};
use super::resolve::Resolved;
use super::rewrite::Piece;
use super::scan::Entry;
use super::staging::Staged;
use crate::index::IndexState;

/// Index flag of a message: flags and keywords of the index are newer than those of the file.
pub(super) const DIRTY: u8 = 0x80;

/// A message of the mailbox, as it is or shall be.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) uid: Uid,
    /// User flags.
    pub(super) flags: Flags,
    /// Not recent.
    pub(super) old: bool,
    pub(super) keywords: Vec<Vec<u8>>,
    pub(super) source: Source,
}

/// Where its bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Number of the entry in the file.
    File(usize),
    /// Number of the new message.
    Staged(usize),
}

/// The messages of a file with the UIDs that were found, and flags from the index where those are
/// newer. `is_newer` tells so beside the index's own mark.
pub(super) fn items(
    entries: &[Entry],
    resolved: &Resolved,
    state: &IndexState,
    mut is_newer: impl FnMut(Uid) -> bool,
) -> Vec<Item> {
    let real = entries.iter().enumerate();
    let real = real.filter(|(_, entry)| !entry.meta.is_pseudo);
    let known = &resolved.base.keywords;
    let is_known = |name: &Vec<u8>| known.iter().any(|have| have.eq_ignore_ascii_case(name));
    real.zip(&resolved.uids)
        .map(|((place, entry), uid)| {
            let mut item = Item {
                uid: *uid,
                flags: entry.meta.flags,
                old: entry.meta.old,
                keywords: Vec::new(),
                source: Source::File(place),
            };
            let index = (!resolved.index_is_foreign)
                .then(|| state.message(*uid))
                .flatten();
            match index {
                Some(message) if message.raw_flags() & DIRTY != 0 || is_newer(*uid) => {
                    item.flags = message.flags() & Flags::USER;
                    item.keywords = message.keywords().map(|name| name.to_vec()).collect();
                }
                // An unknown name spoils them all.
                _ if entry.meta.keywords.iter().all(is_known) => {
                    item.keywords.clone_from(&entry.meta.keywords);
                }
                _ => {}
            }
            item
        })
        .collect()
}

/// New contents of a file.
#[derive(Debug, Default)]
pub(super) struct Composed {
    pub(super) pieces: Vec<Piece>,
    /// What a scan would find then.
    pub(super) entries: Vec<Entry>,
    at: u64,
}

/// Everything that new contents are made of.
pub(super) struct Composer<'a> {
    pub(super) file: &'a File,
    pub(super) entries: &'a [Entry],
    pub(super) staged: &'a [Staged],
    pub(super) base: &'a Base,
    /// The present time and the name of this host, for a pseudo message.
    pub(super) now: i64,
    pub(super) host: &'a str,
}

impl Composer<'_> {
    /// The file with these messages in this order. `empty`: it stays empty without messages.
    pub(super) fn compose(&self, items: &[Item], empty: bool) -> io::Result<Composed> {
        let mut out = Composed::default();
        let mut needs_base = true;
        if let Some(pseudo) = self.entries.first().filter(|entry| entry.meta.is_pseudo) {
            self.pseudo(&mut out, pseudo, !items.is_empty())?;
            needs_base = false;
        } else if items.is_empty() && !empty {
            let bytes = headers::pseudo_message(self.base, self.now, self.host);
            out.new_message(bytes, 0, self.now, true);
        }
        for (place, item) in items.iter().enumerate() {
            let is_last = place + 1 == items.len();
            let wanted = Wanted {
                base: needs_base.then_some(self.base),
                is_pseudo: false,
                uid: item.uid,
                flags: item.flags,
                old: item.old,
                keywords: &item.keywords,
                content_length: 0,
            };
            needs_base = false;
            match item.source {
                Source::File(number) => {
                    if let Some(entry) = self.entries.get(number) {
                        self.keep(&mut out, entry, wanted, is_last)?;
                    }
                }
                Source::Staged(number) => {
                    if let Some(staged) = self.staged.get(number) {
                        out.add_staged(staged, wanted);
                    }
                }
            }
        }
        Ok(out)
    }

    fn block(&self, entry: &Entry) -> io::Result<Vec<u8>> {
        let len = usize::try_from(entry.body - entry.headers).map_err(io::Error::other)?;
        let mut block = vec![0; len];
        self.file.read_exact_at(&mut block, entry.headers)?;
        Ok(block)
    }

    fn pseudo(&self, out: &mut Composed, entry: &Entry, more: bool) -> io::Result<()> {
        if entry.meta.base.as_ref() == Some(self.base) {
            out.keep_entry(entry, !more || !self.lacks_line_end(entry)?);
            return Ok(());
        }
        let wanted = Wanted {
            base: Some(self.base),
            is_pseudo: true,
            uid: 0,
            flags: Flags::SEEN,
            old: true,
            keywords: &[],
            content_length: 0,
        };
        let block = headers::rewritten(&self.block(entry)?, &wanted);
        out.change_entry(entry, block);
        Ok(())
    }

    /// A message of the file, with its headers changed if need be.
    fn keep(
        &self,
        out: &mut Composed,
        entry: &Entry,
        mut wanted: Wanted<'_>,
        is_last: bool,
    ) -> io::Result<()> {
        let meta = &entry.meta;
        let same = meta.uid == Some(wanted.uid)
            && meta.flags == wanted.flags
            && meta.old == wanted.old
            && same_names(&meta.keywords, wanted.keywords)
            && wanted
                .base
                .is_none_or(|base| meta.base.as_ref() == Some(base));
        if same {
            out.keep_entry(entry, is_last || !self.lacks_line_end(entry)?);
            return Ok(());
        }
        wanted.content_length = entry.body_len;
        let block = headers::rewritten(&self.block(entry)?, &wanted);
        out.change_entry(entry, block);
        Ok(())
    }

    /// Whether a separator cannot follow directly.
    fn lacks_line_end(&self, entry: &Entry) -> io::Result<bool> {
        let mut last = [0];
        if entry.end > entry.start {
            self.file.read_exact_at(&mut last, entry.end - 1)?;
        }
        Ok(&last != b"\n")
    }
}

/// Whether two lists hold the same keywords.
fn same_names(one: &[Vec<u8>], other: &[Vec<u8>]) -> bool {
    one.len() == other.len()
        && one
            .iter()
            .all(|name| other.iter().any(|have| have.eq_ignore_ascii_case(name)))
}

impl Composed {
    fn push(&mut self, piece: Piece, len: u64) {
        self.pieces.push(piece);
        self.at += len;
    }

    fn old(&mut self, from: u64, len: u64) {
        if len > 0 {
            self.push(Piece::Old { from, len }, len);
        }
    }

    fn add(&mut self, bytes: Vec<u8>) {
        let len = bytes.len() as u64;
        self.push(Piece::New(bytes), len);
    }

    fn keep_entry(&mut self, entry: &Entry, ends_well: bool) {
        let mut moved = entry.clone();
        let shift = |at: u64| at - entry.start + self.at;
        moved.headers = shift(entry.headers);
        moved.body = shift(entry.body);
        moved.end = shift(entry.end);
        moved.start = self.at;
        self.old(entry.start, entry.end - entry.start);
        if !ends_well {
            self.add(b"\n".to_vec());
            moved.end += 1;
        }
        self.entries.push(moved);
    }

    fn change_entry(&mut self, entry: &Entry, block: Vec<u8>) {
        let start = self.at;
        self.old(entry.start, entry.headers - entry.start);
        let changed = self.entry(start, &block, entry.body_len, entry.received);
        self.add(block);
        if entry.end - entry.body > entry.body_len {
            self.old(entry.body, entry.end - entry.body);
        } else {
            self.old(entry.body, entry.body_len);
            self.add(b"\n".to_vec());
        }
        self.entries.push(Entry {
            end: self.at,
            ..changed
        });
    }

    /// An entry whose separator stands at `start` and whose headers begin here.
    fn entry(&self, start: u64, block: &[u8], body_len: u64, received: i64) -> Entry {
        Entry {
            start,
            headers: self.at,
            body: self.at + block.len() as u64,
            body_len,
            end: 0,
            received,
            meta: Meta::parse(block, self.entries.is_empty()),
            fingerprint: Md5::digest(headers::visible(block)).into(),
        }
    }

    fn add_staged(&mut self, staged: &Staged, mut wanted: Wanted<'_>) {
        wanted.content_length = staged.len;
        let start = self.at;
        self.add(from_line::format(staged.message.received_date));
        let block = [&staged.headers[..], &headers::own_headers(&wanted)].concat();
        let entry = self.entry(start, &block, staged.len, staged.message.received_date);
        self.add(block);
        let (from, len) = (staged.from, staged.len);
        if len > 0 {
            self.push(Piece::Staged { from, len }, len);
        }
        self.add(b"\n".to_vec());
        self.entries.push(Entry {
            end: self.at,
            ..entry
        });
    }

    /// The pseudo message.
    fn new_message(&mut self, bytes: Vec<u8>, start: u64, received: i64, is_first: bool) {
        let line = memchr::memchr(b'\n', &bytes).map_or(0, |at| at + 1);
        let end = bytes.len() as u64;
        let headers_len = memchr::memmem::find(&bytes, b"\n\n").map_or(bytes.len(), |at| at + 2);
        let block = &bytes[line..headers_len];
        self.entries.push(Entry {
            start,
            headers: start + line as u64,
            body: start + headers_len as u64,
            body_len: (end - headers_len as u64).saturating_sub(1),
            end: start + end,
            received,
            meta: Meta::parse(block, is_first),
            fingerprint: Md5::digest(headers::visible(block)).into(),
        });
        self.add(bytes);
    }
}
