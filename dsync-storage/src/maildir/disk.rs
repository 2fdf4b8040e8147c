//! The text files of one mailbox on disk, and what is known of them.

use std::collections::HashSet;
use std::fs::{self, File, FileTimes, OpenOptions};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use dsync_proto::types::{Guid, MailErrorClass, Uid};

use super::files::Files;
use super::keywords::{self, Keywords};
use super::scan::{Dir, Stamp, path_of};
use super::uidlist::UidList;
use crate::folders::MailboxPaths;
use crate::lock::{Dotlock, DotlockSettings, ReplaceLock};
use crate::unique::UniqueSource;
use crate::{Result, StorageError, StoreSettings, path_io};

/// Biggest UID list that is read: more than ten million messages.
pub(crate) const MAX_UIDLIST: u64 = 1 << 30;
/// Biggest keyword file that is read; 26 short lines are normal.
const MAX_KEYWORDS: u64 = 1 << 20;

/// Where a mailbox lies and how it is written. Never changes.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) paths: MailboxPaths,
    pub(crate) settings: StoreSettings,
    pub(crate) unique: UniqueSource,
}

/// What is known of the files since they were read last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// Records of messages that exist (after a sync; before, of all in the file).
    pub(crate) uidlist: UidList,
    /// The file that [`Known::uidlist`] stands for; `None` before it was read, or if there is
    /// none.
    pub(crate) uidlist_stamp: Option<Stamp>,
    pub(crate) keywords: Keywords,
    keywords_stamp: Option<Stamp>,
    /// Current file names; `None` if the directories were not read since the UID list was.
    pub(crate) files: Option<Files>,
    /// Hashes of base names that are taken. A false hit does no harm.
    bases: Option<HashSet<u64>>,
    /// The same of messages that have gone: their records may still be in the file.
    gone_bases: HashSet<u64>,
    /// When the directories were read for [`Known::files`].
    pub(crate) scanned: Option<SystemTime>,
    /// Records from this position on are not in the file yet.
    pub(crate) first_new: usize,
    /// UIDs and GUIDs of records whose file is gone, by rising UID.
    pub(crate) gone: Vec<(Uid, Guid)>,
    /// Keyword letters that have their names on disk.
    pub(crate) written_letters: u32,
}

fn hash_of(base: &[u8]) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(base)
}

impl Known {
    /// Whether a base name is, or may be, taken.
    pub(crate) fn is_base_taken(&mut self, base: &[u8]) -> bool {
        let uidlist = &self.uidlist;
        let hash = hash_of(base);
        let bases = self
            .bases
            .get_or_insert_with(|| uidlist.iter().map(|entry| hash_of(entry.base)).collect());
        bases.contains(&hash) || self.gone_bases.contains(&hash)
    }

    /// Notes that a base name is taken, also one without record.
    pub(crate) fn take_base(&mut self, base: &[u8]) {
        if let Some(bases) = &mut self.bases {
            bases.insert(hash_of(base));
        }
    }

    /// Drops records of messages that have gone, those for which `keep` is not set. Their names
    /// stay taken: two records with one name are damage to Dovecot (`spec/maildir.md` 20 R8).
    pub(crate) fn retain(&mut self, keep: impl Fn(usize) -> bool) {
        for position in (0..self.uidlist.len()).filter(|position| !keep(*position)) {
            if let Some(entry) = self.uidlist.get(position) {
                self.gone_bases.insert(hash_of(entry.base));
            }
        }
        self.uidlist.retain(&keep);
        if let Some(files) = &mut self.files {
            files.retain(&keep);
        }
    }
}

impl Disk {
    /// Takes `dovecot-uidlist.lock`.
    pub(crate) fn lock_uidlist(&self) -> Result<Dotlock> {
        let control = &self.paths.control_dir;
        if *control != self.paths.box_dir && self.paths.box_dir.is_dir() {
            self.create_dir(control)?;
        }
        let settings = DotlockSettings::uidlist(&self.settings, self.paths.modes);
        Dotlock::acquire(&self.paths.uidlist(), &settings)
    }

    /// Makes sure that a directory of this mailbox exists.
    pub(crate) fn create_dir(&self, path: &Path) -> Result<()> {
        let modes = &self.paths.modes;
        modes
            .create_dir_all(path)
            .map_err(|error| StorageError::io("create", path, &error))
    }

    /// Path of a message file.
    pub(crate) fn message(&self, dir: Dir, base: &[u8], info: &[u8]) -> PathBuf {
        path_of(&self.paths.box_dir, dir, &[base, info].concat())
    }

    /// Reads the UID list, unless it is the one known already.
    pub(crate) fn read_uidlist(&self, known: &mut Known) -> Result<()> {
        let path = self.paths.uidlist();
        if known.uidlist_stamp.is_some() && Stamp::of(&path)? == known.uidlist_stamp {
            return Ok(());
        }
        let read = read_limited(&path, MAX_UIDLIST)?;
        let (stamp, bytes) = read.map_or((None, Vec::new()), |(stamp, bytes)| (Some(stamp), bytes));
        known.uidlist = UidList::parse(&bytes);
        for problem in &known.uidlist.damage {
            tracing::warn!("{} is damaged: {problem}", path.display());
        }
        known.uidlist_stamp = stamp;
        known.files = None;
        known.bases = None;
        known.gone_bases.clear();
        Ok(())
    }

    /// Reads the keyword names, unless they are those known already.
    pub(crate) fn read_keywords(&self, known: &mut Known) -> Result<()> {
        let path = self.paths.control_dir.join(keywords::FILE);
        let stamp = Stamp::of(&path)?;
        if stamp == known.keywords_stamp {
            return Ok(());
        }
        let read = read_limited(&path, MAX_KEYWORDS)?;
        let (stamp, bytes) = read.map_or((None, Vec::new()), |(stamp, bytes)| (Some(stamp), bytes));
        known.keywords = Keywords::parse(&bytes);
        known.written_letters = known.keywords.known();
        known.keywords_stamp = stamp;
        Ok(())
    }

    /// Writes the keyword names; the UID list must be locked.
    ///
    /// Killed before the rename: the old names stand, the letters were not used yet.
    pub(crate) fn write_keywords(&self, known: &mut Known) -> Result<()> {
        let path = self.paths.control_dir.join(keywords::FILE);
        let settings = DotlockSettings::keywords(&self.settings, self.paths.modes);
        // Only holders of the UID list lock take this one: one that exists was left behind.
        let _ = fs::remove_file(self.paths.control_dir.join("dovecot-keywords.lock"));
        let lock = ReplaceLock::acquire(&path, &settings)?;
        lock.replace(&known.keywords.encode(), self.settings.syncs())?;
        // Readers compare whole seconds only.
        let mut stamp = Stamp::of(&path)?;
        if let (Some(old), Some(new)) = (known.keywords_stamp, stamp)
            && new.seconds <= old.seconds
        {
            set_modified(&path, super::scan::time(old.seconds + 1))?;
            stamp = Stamp::of(&path)?;
        }
        known.keywords_stamp = stamp;
        known.written_letters = known.keywords.known();
        Ok(())
    }

    /// Brings the UID list to disk. Records from `first_new` on are not in the file yet; `next`
    /// is UIDNEXT. The lock must be held.
    ///
    /// Killed before the append is complete: a torn line, which nobody reads and the next writer
    /// removes. Killed before the rename: the old list stands.
    pub(crate) fn write_uidlist(
        &self,
        known: &mut Known,
        lock: &Dotlock,
        first_new: usize,
        next: u32,
    ) -> Result<()> {
        let new = known.uidlist.len().saturating_sub(first_new);
        let lines = known.uidlist.lines + new;
        // Dovecot writes it anew as soon as a quarter of the lines is dead.
        let mostly_alive = lines - lines / 4 < known.uidlist.len() + 8;
        let appends = known.uidlist_stamp.is_some() && !known.uidlist.rewrite && mostly_alive;
        if appends && new == 0 {
            return Ok(());
        }
        lock.verify()?;
        let path = self.paths.uidlist();
        let stamp = if appends {
            let mut text = Vec::new();
            known.uidlist.encode_records(first_new, &mut text);
            let old_size = known.uidlist_stamp.map_or(0, |stamp| stamp.size);
            self.append(&path, old_size, &text)?
        } else {
            known.uidlist.stored_next = next.max(known.uidlist.next_uid());
            let stamp = self.rewrite(&path, &known.uidlist.encode())?;
            known.uidlist.rewrite = false;
            known.uidlist.damage.clear();
            stamp
        };
        known.uidlist.lines = if appends { lines } else { known.uidlist.len() };
        known.uidlist_stamp = Some(stamp);
        Ok(())
    }

    fn append(&self, path: &Path, old_size: u64, text: &[u8]) -> Result<Stamp> {
        let mut file = OpenOptions::new()
            .append(true)
            .open(path)
            .map_err(|error| StorageError::io("open", path, &error))?;
        let mut write = || -> io::Result<Stamp> {
            file.write_all(text)?;
            if self.settings.syncs() {
                file.sync_data()?;
            }
            Ok(Stamp::from_metadata(&file.metadata()?))
        };
        let written = write();
        let size = old_size + text.len() as u64;
        match written {
            Ok(stamp) if stamp.size == size => Ok(stamp),
            Ok(_) => Err(StorageError::new(
                MailErrorClass::Temporary,
                format!(
                    "{}: file size changed unexpectedly: another program writes it without lock",
                    path.display()
                ),
            )),
            Err(error) => {
                // Whole lines could have been seen by others, but nobody used these UIDs yet.
                let _ = file.set_len(old_size);
                Err(StorageError::io("write", path, &error))
            }
        }
    }

    fn rewrite(&self, path: &Path, text: &[u8]) -> Result<Stamp> {
        let tmp = path.with_file_name("dovecot-uidlist.tmp");
        let write = || -> io::Result<Stamp> {
            let mut file = self.paths.modes.create_truncated(&tmp)?;
            file.write_all(text)?;
            if self.settings.syncs() {
                file.sync_data()?;
            }
            let stamp = Stamp::from_metadata(&file.metadata()?);
            fs::rename(&tmp, path)?;
            Ok(stamp)
        };
        let stamp = write().map_err(|error| StorageError::io("write", path, &error))?;
        if self.settings.syncs() {
            path_io::sync(&self.paths.control_dir)?;
        }
        Ok(stamp)
    }

    /// Makes renames and new names in a message directory durable.
    pub(crate) fn sync_dir(&self, dir: Dir) -> Result<()> {
        if self.settings.syncs() {
            path_io::sync(&self.paths.box_dir.join(dir.name()))?;
        }
        Ok(())
    }

    /// Gives `cur/` a new modification time, so that others look at the mailbox again.
    pub(crate) fn touch_cur(&self) -> Result<()> {
        let path = self.paths.box_dir.join(Dir::Cur.name());
        File::open(&path)
            .and_then(|directory| {
                let now = self.settings.clock.now();
                directory.set_times(FileTimes::new().set_modified(now))
            })
            .map_err(|error| StorageError::io("set the time of", &path, &error))
    }

    /// Stamps of `new/` and `cur/`; a missing directory is made if the mailbox exists.
    pub(crate) fn dir_stamps(&self) -> Result<[Stamp; 2]> {
        let stamp = |dir: Dir| {
            let path = self.paths.box_dir.join(dir.name());
            if let Some(stamp) = Stamp::of(&path)? {
                return Ok(stamp);
            }
            if !self.paths.box_dir.is_dir() {
                return Err(StorageError::new(
                    MailErrorClass::NotFound,
                    format!(
                        "mailbox {} does not exist: {} is missing",
                        self.paths.name,
                        self.paths.box_dir.display()
                    ),
                ));
            }
            self.create_dir(&path)?;
            Ok(Stamp::of(&path)?.unwrap_or_default())
        };
        Ok([stamp(Dir::New)?, stamp(Dir::Cur)?])
    }
}

/// The whole file with its stamp; `None` if there is none.
pub(crate) fn read_limited(path: &Path, limit: u64) -> Result<Option<(Stamp, Vec<u8>)>> {
    let Some(file) = path_io::open(path)? else {
        return Ok(None);
    };
    let metadata = file
        .metadata()
        .map_err(|error| StorageError::io("stat", path, &error))?;
    let mut stamp = Stamp::from_metadata(&metadata);
    let bytes = path_io::read_open(&file, path, limit)?;
    // It can have grown while it was read.
    stamp.size = bytes.len() as u64;
    Ok(Some((stamp, bytes)))
}

fn set_modified(path: &Path, time: SystemTime) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|file| file.set_times(FileTimes::new().set_modified(time)))
        .map_err(|error| StorageError::io("set the time of", path, &error))
}

/// Longest wait for the lock of an index log.
pub(crate) const INDEX_LOCK_TIMEOUT: Duration = Duration::from_secs(180);
