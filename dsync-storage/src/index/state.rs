//! The state of a mailbox as its index tells it.

use bstr::{BStr, BString};
use dsync_proto::types::{Flags, ModSeq, Uid};

use super::extension::{Extension, ExtensionSpec, layout};
use super::format::{u32_at, u64_at};
use super::header::{HeaderField, IndexHeader};
use super::keywords::KeywordTable;
use super::records::RecordTable;

/// Header fields, extensions, keywords and all messages of an index at one position of its log.
///
/// A message takes as many bytes as in the snapshot file: 8, with modseqs and keywords 24.
#[derive(Clone, Debug)]
pub struct IndexState {
    pub(crate) header: IndexHeader,
    pub(crate) extensions: Vec<Extension>,
    pub(crate) keywords: KeywordTable,
    pub(crate) records: RecordTable,
    pub(crate) highest_modseq: ModSeq,
    pub(crate) current: CurrentExtension,
    pub(crate) deleted: bool,
    /// Where the modseq is in a record; follows from `extensions`.
    pub(crate) modseq_offset: Option<usize>,
}

/// Which extension the EXT_* records that follow belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CurrentExtension {
    /// No intro so far.
    None,
    /// The intro had an old reset id: only a reset counts.
    Ignored(usize),
    /// The extension, and the record size of the intro.
    Active(usize, u16),
}

impl IndexState {
    /// An index in which nothing has happened yet.
    pub(crate) fn new() -> Self {
        Self {
            header: IndexHeader::new(),
            extensions: Vec::new(),
            keywords: KeywordTable::default(),
            records: RecordTable::new(8),
            highest_modseq: 1,
            current: CurrentExtension::None,
            deleted: false,
            modseq_offset: None,
        }
    }

    /// The base header.
    pub fn header(&self) -> &IndexHeader {
        &self.header
    }

    /// HIGHESTMODSEQ; at least 1.
    pub fn highest_modseq(&self) -> ModSeq {
        self.highest_modseq
    }

    /// Whether messages have modseqs of their own; if not, each has [`Self::highest_modseq`].
    pub fn has_modseqs(&self) -> bool {
        self.modseq_offset.is_some()
    }

    /// Whether the mailbox is marked as deleted, or shall be: treat it as nonexistent
    /// (`spec/dovecot-index.md` 13).
    pub fn is_deleted(&self) -> bool {
        self.deleted
    }

    /// Number of messages.
    pub fn len(&self) -> usize {
        self.records.count()
    }

    /// Whether there are no messages.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The message at this position (0-based), in UID order.
    pub fn get(&self, position: usize) -> Option<Message<'_>> {
        let record = self.records.get(position)?;
        Some(Message {
            state: self,
            record,
        })
    }

    /// The message with this UID.
    pub fn message(&self, uid: Uid) -> Option<Message<'_>> {
        self.get(self.records.position(uid)?)
    }

    /// All messages by rising UID.
    pub fn messages(&self) -> impl ExactSizeIterator<Item = Message<'_>> {
        self.records
            .as_bytes()
            .chunks_exact(self.records.record_size())
            .map(|record| Message {
                state: self,
                record,
            })
    }

    /// Keyword names by their bit number; also ones that no message has.
    pub fn keyword_names(&self) -> &[BString] {
        self.keywords.names()
    }

    /// All extensions by their id.
    pub fn extensions(&self) -> &[Extension] {
        &self.extensions
    }

    /// The extension with this name.
    pub fn extension(&self, name: &str) -> Option<&Extension> {
        self.extensions.iter().find(|extension| extension.is(name))
    }

    pub(crate) fn extension_id(&self, name: &[u8]) -> Option<usize> {
        self.extensions
            .iter()
            .position(|extension| extension.name == name)
    }

    pub(crate) fn keywords_id(&self) -> Option<usize> {
        self.extension_id(b"keywords")
    }

    /// To be called when the layout of the records changed.
    pub(crate) fn find_modseqs(&mut self) {
        self.modseq_offset = self
            .extension(ExtensionSpec::MODSEQ.name)
            .filter(|extension| extension.record_size == 8)
            .map(|extension| extension.record_offset);
    }

    /// Gives an extension new sizes; its data and that of the others keeps its value. `false`
    /// if records would become too large; then nothing changed.
    #[must_use]
    pub(crate) fn resize_extension(
        &mut self,
        id: usize,
        header_size: usize,
        record_size: u16,
        record_align: u16,
    ) -> bool {
        let before: Vec<(usize, usize)> = self
            .extensions
            .iter()
            .map(|extension| (extension.record_offset, extension.record_size.into()))
            .collect();
        let mut shapes: Vec<(u16, u16)> = self
            .extensions
            .iter()
            .map(|extension| (extension.record_size, extension.record_align))
            .collect();
        let changed = shapes[id] != (record_size, record_align);
        if changed {
            shapes[id] = (record_size, record_align);
            if !self.move_records(&before, &shapes) {
                return false;
            }
        }
        let extension = &mut self.extensions[id];
        extension.record_size = record_size;
        extension.record_align = record_align;
        extension.header.resize(header_size, 0);
        self.find_modseqs();
        true
    }

    fn move_records(&mut self, before: &[(usize, usize)], shapes: &[(u16, u16)]) -> bool {
        let Some((offsets, record_size)) = layout(shapes) else {
            return false;
        };
        let moves: Vec<(usize, usize, usize)> = before
            .iter()
            .zip(&offsets)
            .zip(shapes)
            .map(|((old, to), (size, _))| (old.0, *to, old.1.min(usize::from(*size))))
            .filter(|(_, _, length)| *length > 0)
            .collect();
        if !self.records.relayout(record_size, &moves) {
            return false;
        }
        for (extension, offset) in self.extensions.iter_mut().zip(offsets) {
            extension.record_offset = offset;
        }
        true
    }

    /// Adds an extension without data and gives its id.
    pub(crate) fn add_extension(&mut self, name: &[u8], reset_id: u32) -> usize {
        self.extensions.push(Extension {
            name: name.into(),
            reset_id,
            header: Vec::new(),
            record_offset: 0,
            record_size: 0,
            record_align: 0,
        });
        self.extensions.len() - 1
    }

    pub(crate) fn set_index_id(&mut self, index_id: u32) {
        self.header.set(HeaderField::IndexId, index_id);
    }
}

/// Equal contents; positions in log files do not count.
impl PartialEq for IndexState {
    fn eq(&self, other: &Self) -> bool {
        let plain = |state: &Self| {
            let mut header = state.header;
            for position in [
                HeaderField::LogFileSeq,
                HeaderField::LogTailOffset,
                HeaderField::LogHeadOffset,
                HeaderField::Log2RotateTime,
            ] {
                header.set(position, 0);
            }
            header.set_layout(0, 0);
            header
        };
        let extensions = |state: &Self| {
            let mut extensions = state.extensions.clone();
            for extension in &mut extensions {
                if extension.is(ExtensionSpec::MODSEQ.name) {
                    extension.header.clear(); // value and position of the last snapshot
                }
            }
            extensions
        };
        plain(self) == plain(other)
            && self.highest_modseq == other.highest_modseq
            && self.deleted == other.deleted
            && self.records.record_size() == other.records.record_size()
            && self.records.as_bytes() == other.records.as_bytes()
            && self.keyword_names() == other.keyword_names()
            && extensions(self) == extensions(other)
    }
}

/// A message of an [`IndexState`].
#[derive(Clone, Copy)]
pub struct Message<'a> {
    state: &'a IndexState,
    record: &'a [u8],
}

impl<'a> Message<'a> {
    /// UID.
    pub fn uid(&self) -> Uid {
        u32_at(self.record, 0).unwrap_or(0)
    }

    /// The five user flags, and `\Recent` from the first recent UID on.
    pub fn flags(&self) -> Flags {
        let recent = self.uid() >= self.state.header.first_recent_uid();
        let user = Flags(self.raw_flags()) & Flags::USER;
        user | if recent { Flags::RECENT } else { Flags::NONE }
    }

    /// The flag byte as stored: 0x40 belongs to the storage, 0x80 is "newer than the file".
    pub fn raw_flags(&self) -> u8 {
        self.record[4]
    }

    /// Modseq.
    pub fn modseq(&self) -> ModSeq {
        let Some(offset) = self.state.modseq_offset else {
            return self.state.highest_modseq;
        };
        match u64_at(self.record, offset) {
            Some(0) | None => self
                .state
                .extension(ExtensionSpec::MODSEQ.name)
                .and_then(|extension| u64_at(&extension.header, 0))
                .unwrap_or(0)
                .max(1),
            Some(modseq) => modseq,
        }
    }

    /// Bit mask of keywords: bit n of byte m is keyword 8m + n of
    /// [`IndexState::keyword_names`].
    pub fn keyword_mask(&self) -> &'a [u8] {
        self.extension("keywords").unwrap_or(&[])
    }

    /// Names of its keywords.
    pub fn keywords(&self) -> impl Iterator<Item = &'a BStr> + 'a {
        self.state.keywords.of_mask(self.keyword_mask())
    }

    /// Its bytes of an extension; `None` if the index does not have that one.
    pub fn extension(&self, name: &str) -> Option<&'a [u8]> {
        self.record.get(self.state.extension(name)?.slot())
    }
}
