//! Changes to an index, collected as a value.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use bstr::BString;
use dsync_proto::items::AttributeKind;
use dsync_proto::types::{Flags, Guid, ModSeq, Uid};

use super::extension::ExtensionSpec;
use super::header::HeaderField;
use super::ranges::RangeMap;

/// What stands in the type of a record about its origin (`spec/dovecot-index.md` 4.2, 6, 7.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The change is a fact already (EXTERNAL). If not, the storage must still carry it out.
    pub external: bool,
    /// Written by a synchroniser (SYNC): other dsync runs do not see it as a local change.
    pub sync: bool,
}

impl Origin {
    /// A fact, e.g. found in a Maildir.
    pub const FACT: Self = Self {
        external: true,
        sync: false,
    };
    /// A request; the storage must still carry it out.
    pub const REQUEST: Self = Self {
        external: false,
        sync: false,
    };
    /// A fact, applied by dsync.
    pub const DSYNC_FACT: Self = Self {
        external: true,
        sync: true,
    };
    /// A request by dsync.
    pub const DSYNC_REQUEST: Self = Self {
        external: false,
        sync: true,
    };
}

/// Flags to add and remove; `add` wins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FlagChange {
    pub(crate) add: u8,
    pub(crate) remove: u8,
    pub(crate) modseq_inc: bool,
}

impl FlagChange {
    /// This change and then another.
    pub(crate) fn then(self, next: Self) -> Self {
        let add = (self.add & !next.remove) | next.add;
        Self {
            add,
            remove: (self.remove | next.remove) & !add,
            modseq_inc: self.modseq_inc || next.modseq_inc,
        }
    }
}

/// Changes of one keyword, under the spelling that came first.
#[derive(Clone, Debug)]
pub(crate) struct KeywordChanges {
    pub(crate) name: BString,
    /// Add (`true`) or remove.
    pub(crate) ranges: RangeMap<bool>,
}

/// Changes of one extension.
#[derive(Clone, Debug)]
pub(crate) struct ExtensionChanges {
    pub(crate) name: BString,
    pub(crate) header_size: u32,
    pub(crate) record_size: u16,
    pub(crate) record_align: u16,
    /// New reset id, and whether the data stays.
    pub(crate) reset: Option<(u32, bool)>,
    pub(crate) headers: Vec<(u32, Vec<u8>)>,
    pub(crate) record_uids: Vec<Uid>,
    /// `record_size` bytes for each UID.
    pub(crate) record_bytes: Vec<u8>,
}

/// A changed attribute (`spec/dovecot-index.md` 16).
#[derive(Clone, Debug)]
pub(crate) struct AttributeChange {
    pub(crate) kind: AttributeKind,
    pub(crate) key: BString,
    /// `None`: deleted.
    pub(crate) value_size: Option<u32>,
    pub(crate) timestamp: u32,
}

/// Changes of one origin.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    pub(crate) undeleted: bool,
    pub(crate) extensions: Vec<ExtensionChanges>,
    pub(crate) header_first: Vec<(u16, Vec<u8>)>,
    pub(crate) attributes: Vec<AttributeChange>,
    pub(crate) flags: RangeMap<FlagChange>,
    pub(crate) keyword_resets: RangeMap<()>,
    pub(crate) keywords: BTreeMap<Vec<u8>, KeywordChanges>,
    pub(crate) modseqs: Vec<(Uid, ModSeq)>,
    pub(crate) expunges: Vec<(Uid, Guid)>,
    pub(crate) header_last: Vec<(u16, Vec<u8>)>,
    pub(crate) deleted: bool,
}

/// Changes that become visible in one write ([`super::LockedIndex::append`]).
///
/// The order of calls does not matter between kinds of changes: appends come first, then flags,
/// extension data, keywords, modseqs, expunges and header fields (`spec/dovecot-index.md` 4.3).
/// Changes of the same message are combined: the later one wins. Each call takes the current
/// [`Origin`], see [`Transaction::set_origin`].
#[derive(Clone, Debug)]
pub struct Transaction {
    pub(crate) origin: Origin,
    pub(crate) appends: Vec<(Uid, u8, Origin)>,
    pub(crate) groups: BTreeMap<Origin, Group>,
    pub(crate) enable_modseqs: bool,
    pub(crate) synced: bool,
}

impl Transaction {
    /// No changes yet.
    pub fn new(origin: Origin) -> Self {
        Self {
            origin,
            appends: Vec::new(),
            groups: BTreeMap::new(),
            enable_modseqs: false,
            synced: false,
        }
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.appends.is_empty() && self.groups.is_empty() && !self.enable_modseqs && !self.synced
    }

    /// Origin of the changes that follow.
    pub fn set_origin(&mut self, origin: Origin) {
        self.origin = origin;
    }

    fn group(&mut self) -> &mut Group {
        self.groups.entry(self.origin).or_default()
    }

    /// A new message. Its UID must be at least UIDNEXT and unique here. `flags`: the user flags;
    /// keywords follow with [`Self::add_keyword`].
    pub fn append(&mut self, uid: Uid, flags: Flags) {
        self.append_raw(uid, (flags & Flags::USER).0);
    }

    /// The same with storage flags (0x40, 0x80).
    pub fn append_raw(&mut self, uid: Uid, flags: u8) {
        self.appends.push((uid, flags, self.origin));
    }

    /// Adds and removes user flags; a flag in both is added.
    pub fn update_flags(&mut self, uids: RangeInclusive<Uid>, add: Flags, remove: Flags) {
        let (add, remove) = ((add & Flags::USER).0, (remove & Flags::USER).0);
        self.update_raw_flags(uids, add, remove);
    }

    /// The same with storage flags (0x40, 0x80).
    pub fn update_raw_flags(&mut self, uids: RangeInclusive<Uid>, add: u8, remove: u8) {
        self.change_flags(
            uids,
            FlagChange {
                add,
                remove: remove & !add,
                modseq_inc: false,
            },
        );
    }

    /// Gives messages a new modseq without another change.
    pub fn bump_modseq(&mut self, uids: RangeInclusive<Uid>) {
        self.change_flags(
            uids,
            FlagChange {
                modseq_inc: true,
                ..FlagChange::default()
            },
        );
    }

    fn change_flags(&mut self, uids: RangeInclusive<Uid>, change: FlagChange) {
        self.group().flags.update(uids, change, FlagChange::then);
    }

    /// Adds a keyword. Names are compared without ASCII case; the index keeps the first spelling.
    pub fn add_keyword(&mut self, name: &[u8], uids: RangeInclusive<Uid>) {
        self.update_keyword(name, uids, true);
    }

    /// Removes a keyword.
    pub fn remove_keyword(&mut self, name: &[u8], uids: RangeInclusive<Uid>) {
        self.update_keyword(name, uids, false);
    }

    fn update_keyword(&mut self, name: &[u8], uids: RangeInclusive<Uid>, add: bool) {
        self.group()
            .keywords
            .entry(name.to_ascii_lowercase())
            .or_insert_with(|| KeywordChanges {
                name: name.into(),
                ranges: RangeMap::default(),
            })
            .ranges
            .update(uids, add, |_, new| new);
    }

    /// Removes all keywords, before those of [`Self::add_keyword`] are added.
    pub fn reset_keywords(&mut self, uids: RangeInclusive<Uid>) {
        self.group().keyword_resets.update(uids, (), |(), ()| ());
    }

    /// Gives messages modseqs of their own, if they do not have them yet
    /// (`spec/dovecot-index.md` 7.3).
    pub fn enable_modseqs(&mut self) {
        self.enable_modseqs = true;
    }

    /// Raises the modseq of a message to at least this; enables modseqs.
    pub fn min_modseq(&mut self, uid: Uid, modseq: ModSeq) {
        if uid != 0 && modseq != 0 {
            self.enable_modseqs = true;
            self.group().modseqs.push((uid, modseq));
        }
    }

    /// Raises HIGHESTMODSEQ to at least this; enables modseqs.
    pub fn min_highest_modseq(&mut self, modseq: ModSeq) {
        self.enable_modseqs = true;
        self.group().modseqs.push((0, modseq));
    }

    /// Expunges a message, or asks for it, depending on the origin. Always give the 128-bit GUID
    /// ([`dsync_proto::types::MailGuid::short`]): without it the expunge cannot be told to
    /// others; [`Guid::ZERO`] if it is really unknown.
    pub fn expunge(&mut self, uid: Uid, guid: Guid) {
        self.group().expunges.push((uid, guid));
    }

    /// Sets UIDVALIDITY.
    pub fn set_uid_validity(&mut self, uid_validity: u32) {
        let bytes = uid_validity.to_le_bytes().to_vec();
        self.group()
            .header_first
            .push((HeaderField::UidValidity as u16, bytes));
    }

    /// Raises UIDNEXT to at least this, after the appends.
    pub fn min_next_uid(&mut self, next_uid: Uid) {
        self.set_header(HeaderField::NextUid, next_uid);
    }

    /// Messages below this UID are not `\Recent`.
    pub fn set_first_recent_uid(&mut self, uid: Uid) {
        self.set_header(HeaderField::FirstRecentUid, uid);
    }

    /// Sets a header field, after everything else. Fields that belong to the file itself (index
    /// id, counts, positions) are ignored by the state.
    pub fn set_header(&mut self, field: HeaderField, value: u32) {
        let bytes = value.to_le_bytes().to_vec();
        self.group().header_last.push((field as u16, bytes));
    }

    /// Sets `day_stamp` and the first UIDs of the last days (`spec/dovecot-index.md` 9.2).
    pub fn set_days(&mut self, day_stamp: u32, first_uids: [Uid; 8]) {
        let mut bytes = day_stamp.to_le_bytes().to_vec();
        bytes.extend(first_uids.iter().flat_map(|uid| uid.to_le_bytes()));
        self.group()
            .header_last
            .push((HeaderField::DayStamp as u16, bytes));
    }

    /// Makes sure that an extension exists and has at least these sizes.
    pub fn extension(&mut self, spec: ExtensionSpec<'_>) {
        self.extension_changes(spec);
    }

    fn extension_changes(&mut self, spec: ExtensionSpec<'_>) -> &mut ExtensionChanges {
        let extensions = &mut self.group().extensions;
        let known = extensions
            .iter()
            .position(|changes| changes.name == spec.name);
        let id = known.unwrap_or_else(|| {
            extensions.push(ExtensionChanges {
                name: spec.name.into(),
                header_size: spec.header_size,
                record_size: spec.record_size,
                record_align: spec.record_align,
                reset: None,
                headers: Vec::new(),
                record_uids: Vec::new(),
                record_bytes: Vec::new(),
            });
            extensions.len() - 1
        });
        &mut extensions[id]
    }

    /// Gives the data of an extension a new version; it becomes zero unless `preserve`.
    pub fn reset_extension(&mut self, spec: ExtensionSpec<'_>, reset_id: u32, preserve: bool) {
        self.extension_changes(spec).reset = Some((reset_id, preserve));
    }

    /// Writes header data of an extension.
    pub fn set_extension_header(&mut self, spec: ExtensionSpec<'_>, offset: u32, data: &[u8]) {
        self.extension_changes(spec)
            .headers
            .push((offset, data.to_vec()));
    }

    /// Writes the bytes of a message in an extension: exactly the record size that was given
    /// for this extension first; shorter data is filled with zeros, longer cut.
    pub fn set_extension_record(&mut self, spec: ExtensionSpec<'_>, uid: Uid, data: &[u8]) {
        let changes = self.extension_changes(spec);
        let size = usize::from(changes.record_size);
        let end = changes.record_bytes.len() + size;
        changes.record_uids.push(uid);
        changes
            .record_bytes
            .extend_from_slice(data.get(..size).unwrap_or(data));
        changes.record_bytes.resize(end, 0);
    }

    /// Notes that an attribute was set (with a value of that many bytes) or deleted (`None`).
    /// `key` is without `/private/` or `/shared/`, `timestamp` in seconds since the epoch.
    pub fn attribute(
        &mut self,
        kind: AttributeKind,
        key: &[u8],
        value_size: Option<u32>,
        timestamp: u32,
    ) {
        self.group().attributes.push(AttributeChange {
            kind,
            key: key.into(),
            value_size,
            timestamp,
        });
    }

    /// Marks the index as deleted (with EXTERNAL) or asks for it.
    pub fn mark_deleted(&mut self) {
        self.group().deleted = true;
    }

    /// Takes the mark back.
    pub fn mark_undeleted(&mut self) {
        self.group().undeleted = true;
    }

    /// Says that everything that was pending in the log, and everything in this transaction, has
    /// been carried out in the storage: the tail moves to the end (`spec/dovecot-index.md` 6).
    pub fn mark_synced(&mut self) {
        self.synced = true;
    }
}
