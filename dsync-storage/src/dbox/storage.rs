//! The files that all mailboxes of an mdbox share, and their index, the map (`spec/dbox.md` 5).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dsync_proto::types::{Flags, Guid, MailErrorClass, Uid};

use super::identity::{INDEX_LOCK_TIMEOUT, index_settings};
use super::message::{MessageFile, StoredMessage};
use super::unfinished::Unfinished;
use crate::body_file::TmpFile;
use crate::folders::{Layout, create_dirs, list};
use crate::index::{ExtensionSpec, Index, IndexState, LockedIndex, Origin, Transaction};
use crate::permissions::CreateModes;
use crate::unique::UniqueSource;
use crate::{Result, StorageError, StoreSettings, path_io};

/// Names of the map's files begin so.
const MAP_PREFIX: &str = "dovecot.map.index";
/// Most files that are kept open for reading.
const MAX_OPEN: usize = 32;
/// Dovecot refuses more references.
pub(super) const MAX_REFERENCES: u16 = 32767;

/// Where a stored message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MapRecord {
    pub(super) file_id: u32,
    /// Of its header.
    pub(super) offset: u32,
    /// Header, body and metadata.
    pub(super) size: u32,
    /// How many messages of mailboxes it stands for.
    pub(super) references: u16,
}

impl MapRecord {
    /// The record with this map UID.
    pub(super) fn find(state: &IndexState, map_uid: Uid) -> Option<Self> {
        let message = state.message(map_uid)?;
        let place = message.extension(ExtensionSpec::MAP.name)?;
        let number = |at: usize| {
            let bytes = place.get(at..)?.first_chunk::<4>()?;
            Some(u32::from_le_bytes(*bytes))
        };
        let references = message.extension(ExtensionSpec::REF.name);
        let references = references.and_then(|bytes| bytes.first_chunk::<2>().copied());
        Some(Self {
            file_id: number(0)?,
            offset: number(4)?,
            size: number(8)?,
            references: references.map_or(0, u16::from_le_bytes),
        })
    }

    /// Writes where the message is.
    pub(super) fn write_place(&self, transaction: &mut Transaction, map_uid: Uid) {
        let numbers = [self.file_id, self.offset, self.size];
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        transaction.set_extension_record(ExtensionSpec::MAP, map_uid, &bytes);
    }
}

/// Writes the number of references; the map must be locked.
pub(super) fn write_references(transaction: &mut Transaction, map_uid: Uid, references: u16) {
    let bytes = references.to_le_bytes();
    transaction.set_extension_record(ExtensionSpec::REF, map_uid, &bytes);
}

/// Adds a record.
pub(super) fn append(transaction: &mut Transaction, map_uid: Uid, record: MapRecord) {
    transaction.append(map_uid, Flags::NONE);
    record.write_place(transaction, map_uid);
    write_references(transaction, map_uid, record.references);
}

/// Directories and settings of a storage. Never changes.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) layout: Layout,
    pub(super) settings: StoreSettings,
    pub(super) unique: UniqueSource,
    dir: PathBuf,
    alt: Option<PathBuf>,
    map_dir: PathBuf,
}

impl Place {
    pub(super) fn modes(&self) -> CreateModes {
        CreateModes::from_first([self.dir.as_path(), self.layout.root()])
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A file of messages: its usual place and the alternative one.
    pub(super) fn paths(&self, file_id: u32) -> impl Iterator<Item = PathBuf> + '_ {
        let dirs = [Some(&self.dir), self.alt.as_ref()];
        dirs.into_iter()
            .flatten()
            .map(move |dir| dir.join(format!("m.{file_id}")))
    }

    /// The highest number of a file that is there.
    fn highest_file(&self) -> Result<u32> {
        let mut highest = 0;
        for dir in [Some(&self.dir), self.alt.as_ref()].into_iter().flatten() {
            for name in list::entries(dir)? {
                let id = name.to_str().and_then(|name| name.strip_prefix("m."));
                highest = highest.max(id.and_then(|id| id.parse().ok()).unwrap_or(0));
            }
        }
        Ok(highest)
    }

    /// The next number that no file has or had.
    pub(super) fn next_file_id(&self, map: &IndexState) -> Result<u32> {
        let header = map.extension(ExtensionSpec::MAP.name);
        let known = header.and_then(|known| known.header.first_chunk::<4>().copied());
        let mut id = known.map_or(0, u32::from_le_bytes).saturating_add(1);
        if self.paths(id).any(|path| path.symlink_metadata().is_ok()) {
            // What a killed writer left; nobody knows what is in it, so it stays.
            id = self.highest_file()?.saturating_add(1);
        }
        Ok(id)
    }

    /// The journal of commits.
    pub(super) fn unfinished(&self) -> Unfinished {
        Unfinished::new(&self.dir)
    }

    /// Makes the names in the directory durable.
    pub(super) fn sync_dir(&self) -> Result<()> {
        match self.settings.syncs() {
            true => path_io::sync(&self.dir),
            false => Ok(()),
        }
    }

    /// Gives new files their names, from this number on.
    ///
    /// Killed behind it: the journal, which the caller has written, names them.
    pub(super) fn place(&self, files: &mut [TmpFile], first_id: u32) -> Result<()> {
        for (file, id) in files.iter_mut().zip(first_id..) {
            let path = self.dir.join(format!("m.{id}"));
            std::fs::rename(file.path(), &path)
                .map_err(|error| StorageError::io("rename messages to", &path, &error))?;
            file.keep();
        }
        self.sync_dir()
    }

    /// Removes files of messages. What fails here stays as rubbish.
    pub(super) fn remove_files(&self, ids: impl IntoIterator<Item = u32>) {
        for path in ids.into_iter().flat_map(|id| self.paths(id)) {
            if let Err(error) = path_io::remove(&path) {
                tracing::warn!("{error}");
            }
        }
    }
}

/// The journal needs somebody to belong to: the map.
pub(super) fn owner(map: &IndexState) -> Guid {
    let mut guid = [0; 16];
    guid[..4].copy_from_slice(&map.header().uid_validity().to_be_bytes());
    Guid(guid)
}

/// Files and map of an mdbox.
pub(super) struct Storage {
    pub(super) place: Place,
    pub(super) map: Index,
    open: BTreeMap<u32, MessageFile>,
}

/// A storage that all open mailboxes of a store share.
#[derive(Clone)]
pub(super) struct SharedStorage(Arc<Mutex<Storage>>);

impl SharedStorage {
    /// The storage of this layout. Nothing is created yet.
    pub(super) fn new(layout: &Layout, settings: &StoreSettings) -> Result<Self> {
        let (dir, alt) = layout.storage();
        let map_dir = layout.map_index();
        let storage = Storage {
            map: Index::open(&map_dir, MAP_PREFIX, index_settings(settings))?,
            place: Place {
                layout: layout.clone(),
                settings: settings.clone(),
                unique: settings.unique(),
                dir,
                alt,
                map_dir,
            },
            open: BTreeMap::new(),
        };
        Ok(Self(Arc::new(Mutex::new(storage))))
    }

    /// The storage for oneself; no lock of files.
    pub(super) fn get(&self) -> MutexGuard<'_, Storage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage {
    /// UIDVALIDITY of the map, which is made if it is missing.
    pub(super) fn ensure(&mut self) -> Result<u32> {
        self.map.refresh()?;
        if self.map.state().header().uid_validity() == 0 {
            self.create()?;
        }
        check(&self.map, &self.place)?;
        Ok(self.map.state().header().uid_validity())
    }

    fn create(&mut self) -> Result<()> {
        let Place { dir, map_dir, .. } = &self.place;
        if self.place.highest_file()? > 0 {
            return Err(StorageError::new(
                MailErrorClass::InvalidData,
                format!(
                    "{} has messages but no index {MAP_PREFIX}: run `doveadm force-resync` on \
                     this account",
                    dir.display()
                ),
            ));
        }
        let modes = self.place.modes();
        create_dirs(dir, &modes)?;
        create_dirs(map_dir, &modes)?;
        let now = self.place.settings.clock.seconds() as u32;
        let mut first = Transaction::new(Origin::FACT);
        first.set_uid_validity(now.max(1));
        first.mark_synced();
        if self.map.exists() {
            let mut locked = self.map.lock(INDEX_LOCK_TIMEOUT)?;
            if locked.state().header().uid_validity() == 0 {
                locked.append(&first)?;
            }
            return locked.finish();
        }
        match self.map.create(&first) {
            // Somebody else was faster.
            Err(error) if error.class == MailErrorClass::Exists => self.map.refresh().map(drop),
            created => created,
        }
    }

    /// Opens a stored message; `None` if the map or its file does not have it.
    pub(super) fn read(&mut self, map_uid: Uid) -> Result<Option<StoredMessage>> {
        let before = MapRecord::find(self.map.state(), map_uid);
        let read = before.map_or(Ok(None), |record| self.read_at(record));
        if let Ok(Some(_)) = read {
            return read;
        }
        // A purge may have moved it meanwhile.
        self.map.refresh()?;
        match MapRecord::find(self.map.state(), map_uid) {
            Some(now) if before != Some(now) => self.read_at(now),
            _ => read,
        }
    }

    fn read_at(&mut self, record: MapRecord) -> Result<Option<StoredMessage>> {
        if !self.open.contains_key(&record.file_id) {
            let mut found = None;
            for path in self.place.paths(record.file_id) {
                found = MessageFile::open(&path)?;
                if found.is_some() {
                    break;
                }
            }
            let Some(file) = found else { return Ok(None) };
            if self.open.len() >= MAX_OPEN {
                self.open.clear();
            }
            self.open.insert(record.file_id, file);
        }
        match self.open.get(&record.file_id) {
            Some(file) => file.message_at(record.offset.into()).map(Some),
            None => Ok(None),
        }
    }

    /// Whether a writer died, or is at work right now.
    pub(super) fn needs_repair(&mut self) -> Result<bool> {
        self.map.refresh()?;
        Ok(self.map.exists() && (!self.map.is_synced() || self.place.unfinished().exists()))
    }

    /// Locks the map and ends what others began.
    pub(super) fn lock(&mut self) -> Result<(LockedIndex<'_>, &Place)> {
        self.ensure()?;
        let mut locked = self.map.lock(INDEX_LOCK_TIMEOUT)?;
        check(locked.index(), &self.place)?;
        super::references::repair(&mut locked, &self.place)?;
        Ok((locked, &self.place))
    }
}

/// Refuses a map that does not tell where messages are.
fn check(map: &Index, place: &Place) -> Result<()> {
    if !map.needs_rebuild() && !super::identity::is_fsckd(map.state()) {
        return Ok(());
    }
    Err(StorageError::new(
        MailErrorClass::InvalidData,
        format!(
            "the index {MAP_PREFIX} of {} is damaged: run `doveadm force-resync` on this account",
            place.dir.display()
        ),
    ))
}
