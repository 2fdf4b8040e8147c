//! Keeping Dovecot's `dovecot.list.index` honest (`spec/maildir.md` 17, `spec/dovecot-index.md` 18).
//!
//! For layouts with directories this index is only a cache, but one that is believed: Dovecot
//! takes the GUID of a mailbox from it without a look at the mailbox, and sessions that have
//! listed once do not look at the directories again. So whoever changes names or GUIDs must say
//! so here: the refresh flag makes sessions list anew, and GUIDs are corrected in their records.
//!
//! It is never created here, and no failure is more than a warning: the mailboxes themselves are
//! right already.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dsync_proto::types::{Guid, Uid};

use crate::index::{ExtensionSpec, Index, IndexSettings, IndexState, Origin, Transaction};
use crate::{Result, StoreSettings};

const LIST: &str = "list";
/// Bytes of a record: name id, parent, GUID, UIDVALIDITY.
const RECORD_SIZE: usize = 28;
/// Not worth a longer wait.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// What a record shall say of a mailbox: zero for "look at the mailbox".
pub(crate) type Identity = (Guid, u32);

/// The list index of one store.
#[derive(Debug)]
pub(crate) struct ListIndex {
    dir: PathBuf,
    prefix: String,
    settings: IndexSettings,
    timeout: Duration,
    index: Option<Index>,
}

impl ListIndex {
    /// The list index with this path, which has no extension.
    pub(crate) fn new(path: &Path, settings: &StoreSettings) -> Option<Self> {
        Some(Self {
            dir: path.parent()?.to_owned(),
            prefix: path.file_name()?.to_str()?.to_owned(),
            settings: settings.into(),
            timeout: settings.lock_timeout(LOCK_TIMEOUT),
            index: None,
        })
    }

    /// Says that the list has changed, and who the mailboxes with these storage names are now.
    pub(crate) fn changed(&mut self, separator: char, mailboxes: &[(&[u8], Identity)]) {
        if let Err(error) = self.update(separator, mailboxes) {
            tracing::warn!(
                "cannot update {}: {error}; Dovecot may show old names or GUIDs for a while",
                self.dir.join(&self.prefix).display()
            );
        }
    }

    fn update(&mut self, separator: char, mailboxes: &[(&[u8], Identity)]) -> Result<()> {
        let index = match &mut self.index {
            Some(index) => {
                index.refresh()?;
                index
            }
            None => self
                .index
                .insert(Index::open(&self.dir, &self.prefix, self.settings.clone())?),
        };
        if !index.exists() || index.state().extension(LIST).is_none() {
            // Whoever makes it will look at the directories.
            return Ok(());
        }
        let mut locked = index.lock(self.timeout)?;
        let transaction = corrections(locked.state(), separator, mailboxes);
        locked.append(&transaction)?;
        locked.finish()
    }
}

/// The records to write. Pure, so that it can be tested without files.
fn corrections(
    state: &IndexState,
    separator: char,
    mailboxes: &[(&[u8], Identity)],
) -> Transaction {
    let mut transaction = Transaction::new(Origin::FACT);
    let Some(list) = state.extension(LIST) else {
        return transaction;
    };
    let spec = ExtensionSpec {
        name: LIST,
        header_size: u32::try_from(list.header.len()).unwrap_or(0),
        record_size: list.record_size,
        record_align: list.record_align,
    };
    if usize::from(spec.record_size) == RECORD_SIZE {
        for (storage, identity) in mailboxes {
            if let Some((uid, record)) = find(state, &list.header, storage, separator)
                && let Some(corrected) = correct(record, identity)
            {
                transaction.set_extension_record(spec, uid, &corrected);
            }
        }
    }
    if list.header.first() == Some(&0) {
        transaction.set_extension_header(spec, 0, &[1]);
    }
    transaction
}

/// The record with another identity; `None` if it has that already.
fn correct(record: &[u8], (guid, uid_validity): &Identity) -> Option<Vec<u8>> {
    let mut corrected = record.get(..8)?.to_vec();
    corrected.extend_from_slice(&guid.0);
    corrected.extend_from_slice(&uid_validity.to_ne_bytes());
    (corrected != record).then_some(corrected)
}

/// Finds the node of a storage name.
fn find<'a>(
    state: &'a IndexState,
    header: &[u8],
    storage: &[u8],
    separator: char,
) -> Option<(Uid, &'a [u8])> {
    let names = name_table(header);
    let mut parent = 0;
    let mut found = None;
    for part in crate::names::split(storage, separator) {
        let node = state.messages().find_map(|message| {
            let record = message.extension(LIST)?;
            let is_child = u32_at(record, 4)? == parent;
            let id = u32_at(record, 0)?;
            let is_named = || {
                names
                    .iter()
                    .any(|(name_id, name)| *name_id == id && *name == part)
            };
            (is_child && is_named()).then(|| (message.uid(), record))
        })?;
        parent = node.0;
        found = Some(node);
    }
    found
}

/// Ids and names from the header: behind the flag byte, each id with its name up to a NUL; id 0
/// ends it.
fn name_table(header: &[u8]) -> Vec<(u32, &[u8])> {
    let mut names = Vec::new();
    let mut rest = header.get(1..).unwrap_or_default();
    while let Some(id) = u32_at(rest, 0).filter(|id| *id != 0) {
        let text = &rest[4..];
        let Some(end) = memchr::memchr(0, text) else {
            break;
        };
        names.push((id, &text[..end]));
        rest = &text[end + 1..];
    }
    names
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..)?.first_chunk::<4>()?;
    Some(u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use dsync_proto::types::Flags;
    use proptest::prelude::*;

    use super::*;

    /// A list index with the nodes `INBOX`, `A` and `A/B`.
    fn sample(dir: &Path) -> ListIndex {
        let mut header = vec![0];
        for (id, name) in [(1_u32, "INBOX"), (2, "A"), (3, "B")] {
            header.extend_from_slice(&id.to_ne_bytes());
            header.extend_from_slice(name.as_bytes());
            header.push(0);
        }
        header.extend_from_slice(&[0; 13]);
        let spec = ExtensionSpec {
            name: LIST,
            header_size: u32::try_from(header.len()).unwrap(),
            record_size: 28,
            record_align: 4,
        };
        let mut index = Index::open(dir, "dovecot.list.index", IndexSettings::default()).unwrap();
        let mut transaction = Transaction::new(Origin::FACT);
        transaction.set_uid_validity(1);
        transaction.set_extension_header(spec, 0, &header);
        for (uid, name, parent) in [(1, 1_u32, 0_u32), (2, 2, 0), (3, 3, 2)] {
            transaction.append(uid, Flags::NONE);
            let record = [name.to_ne_bytes(), parent.to_ne_bytes()].concat();
            transaction.set_extension_record(spec, uid, &record);
        }
        let mut locked = index.lock(LOCK_TIMEOUT).unwrap();
        locked.append(&transaction).unwrap();
        locked.finish().unwrap();
        ListIndex::new(&dir.join("dovecot.list.index"), &StoreSettings::default()).unwrap()
    }

    fn read(dir: &Path) -> (u8, Vec<(Guid, u32)>) {
        let index = Index::open(dir, "dovecot.list.index", IndexSettings::default()).unwrap();
        let identity = |record: &[u8]| {
            let mut guid = [0; 16];
            guid.copy_from_slice(&record[8..24]);
            (Guid(guid), u32_at(record, 24).unwrap())
        };
        let state = index.state();
        let records = state
            .messages()
            .map(|message| identity(message.extension(LIST).unwrap()));
        (state.extension(LIST).unwrap().header[0], records.collect())
    }

    #[test]
    fn corrects_the_record_of_a_name_and_asks_for_a_refresh() {
        let dir = tempfile::tempdir().unwrap();
        let mut list = sample(dir.path());
        let none = (Guid::ZERO, 0);
        assert_eq!(read(dir.path()), (0, vec![none; 3]));
        let new = (Guid([7; 16]), 5);
        list.changed('.', &[(b"A.B", new), (b"A.nosuch", new), (b"B", new)]);
        assert_eq!(read(dir.path()), (1, vec![none, none, new]));
        // Again: nothing to write.
        let size = dir
            .path()
            .join("dovecot.list.index.log")
            .metadata()
            .unwrap()
            .len();
        list.changed('.', &[(b"A.B", new)]);
        assert_eq!(
            dir.path()
                .join("dovecot.list.index.log")
                .metadata()
                .unwrap()
                .len(),
            size
        );
        list.changed('.', &[(b"INBOX", new), (b"A.B", none)]);
        assert_eq!(read(dir.path()), (1, vec![new, none, none]));
    }

    #[test]
    fn what_is_not_there_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dovecot.list.index");
        let mut list = ListIndex::new(&path, &StoreSettings::default()).unwrap();
        list.changed('/', &[(b"A", (Guid([1; 16]), 1))]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    proptest! {
        #[test]
        fn any_name_table_is_read(header: Vec<u8>) {
            for (id, _) in name_table(&header) {
                prop_assert_ne!(id, 0);
            }
        }
    }
}
