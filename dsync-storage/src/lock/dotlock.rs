//! Dotlocks: a lock is the existence of the file `X.lock` (`spec/maildir.md` 11).

use std::collections::BTreeSet;
use std::fs::{File, FileTimes, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dsync_proto::types::MailErrorClass;
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::wait::Wait;
use crate::permissions::CreateModes;
use crate::unique::random_suffix;
use crate::{Result, StorageError, StoreSettings};

/// The owner written into a lock is not looked at while the lock is younger.
const MIN_AGE_FOR_OWNER_CHECK: Duration = Duration::from_secs(2);
/// A lock that is held for long is touched this often.
const TOUCH_INTERVAL: Duration = Duration::from_secs(10);
/// Nothing that names an owner is longer.
const MAX_OWNER_LENGTH: u64 = 512;

/// Device and inode of all dotlocks that this process holds. A lock with our own pid that is not
/// in here was left behind by an earlier process with the same pid; one that is in here belongs
/// to another session of this process.
static HELD: Mutex<BTreeSet<FileId>> = Mutex::new(BTreeSet::new());

type FileId = (u64, u64);

/// How a dotlock is taken.
#[derive(Clone, Debug)]
pub struct DotlockSettings {
    /// Longest wait.
    pub timeout: Duration,
    /// A lock of unknown or remote owner is overridden after this time without any change.
    pub stale: Duration,
    /// Create with `O_EXCL`; if not, through a temporary file and `link()`.
    pub use_excl: bool,
    /// Start of the names of temporary files.
    pub temp_prefix: &'static str,
    /// Our host name.
    pub hostname: String,
    /// Mode and group of the lock file. It must be readable for the mail user.
    pub modes: CreateModes,
}

impl DotlockSettings {
    /// `dovecot-uidlist.lock`, by way of a link: with `O_EXCL` a process that is killed before it
    /// has written who it is would keep everybody out until the lock is stale.
    pub fn uidlist(settings: &StoreSettings, modes: CreateModes) -> Self {
        Self {
            use_excl: false,
            ..Self::new(settings, modes, 122, 120)
        }
    }

    /// `dovecot-keywords.lock`.
    pub fn keywords(settings: &StoreSettings, modes: CreateModes) -> Self {
        Self::new(settings, modes, 122, 120)
    }

    /// `subscriptions.lock`.
    pub fn subscriptions(settings: &StoreSettings, modes: CreateModes) -> Self {
        Self::new(settings, modes, 120, 30)
    }

    /// Lock of a file dict, which never uses `O_EXCL`.
    pub fn dict(settings: &StoreSettings, modes: CreateModes) -> Self {
        Self {
            use_excl: false,
            ..Self::new(settings, modes, 120, 60)
        }
    }

    /// A lock with these limits in seconds; the wait is capped by the settings.
    pub fn new(settings: &StoreSettings, modes: CreateModes, timeout: u64, stale: u64) -> Self {
        Self {
            timeout: settings.lock_timeout(Duration::from_secs(timeout)),
            stale: Duration::from_secs(stale),
            use_excl: settings.dotlock_use_excl,
            temp_prefix: ".temp.",
            hostname: settings.hostname.clone(),
            modes,
        }
    }
}

/// A held dotlock. Dropping it removes the lock file, if it is still ours.
#[derive(Debug)]
pub struct Dotlock {
    path: PathBuf,
    id: FileId,
    touched: Instant,
    /// The lock file is no longer there to be removed.
    renamed: bool,
}

impl Dotlock {
    /// Takes the lock that protects `protected`; it is named like it with `.lock` behind.
    ///
    /// # Errors
    ///
    /// `Temporary` if somebody else holds it all the time; `NotFound` if the directory is missing.
    pub fn acquire(protected: &Path, settings: &DotlockSettings) -> Result<Self> {
        let owner = format!("{}:{}", std::process::id(), settings.hostname);
        Self::create(protected, settings, owner.as_bytes()).map(|(lock, _)| lock)
    }

    fn create(
        protected: &Path,
        settings: &DotlockSettings,
        content: &[u8],
    ) -> Result<(Self, File)> {
        let path = lock_path(protected);
        let mut wait = Wait::new(settings.timeout);
        let mut watch = Watch::new(protected);
        loop {
            if let Some(file) = try_create(&path, settings, content)? {
                let lock = Self::register(path, &file)?;
                return Ok((lock, file));
            }
            if watch.is_stale(&path, settings)? {
                // Killed right after the unlink: nobody holds the lock, the next one takes it.
                tracing::warn!("overriding the stale lock {}", path.display());
                match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(StorageError::io("remove the stale lock", &path, &error));
                    }
                    _ => continue,
                }
            }
            if !wait.pause() {
                return Err(StorageError::new(
                    MailErrorClass::Temporary,
                    format!(
                        "timeout while waiting for lock {}: held for more than {} seconds{}",
                        path.display(),
                        settings.timeout.as_secs(),
                        owner_text(&path)
                    ),
                ));
            }
        }
    }

    fn register(path: PathBuf, file: &File) -> Result<Self> {
        let id = file
            .metadata()
            .map(|metadata| file_id(&metadata))
            .map_err(|error| StorageError::io("stat", &path, &error))?;
        with_held(|held| held.insert(id));
        Ok(Self {
            path,
            id,
            touched: Instant::now(),
            renamed: false,
        })
    }

    /// Path of the lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Shows other hosts that we are alive. To be called now and then while the lock is held; it
    /// does something every ten seconds only.
    ///
    /// # Errors
    ///
    /// `Temporary` if the lock is no longer ours: nothing more may be written under it.
    pub fn keep_alive(&mut self) -> Result<()> {
        if self.touched.elapsed() < TOUCH_INTERVAL {
            return Ok(());
        }
        self.verify()?;
        let touch = || -> io::Result<()> {
            File::options()
                .write(true)
                .open(&self.path)?
                .set_times(FileTimes::new().set_modified(SystemTime::now()))
        };
        touch().map_err(|error| StorageError::io("touch", &self.path, &error))?;
        self.touched = Instant::now();
        Ok(())
    }

    /// Makes sure that nobody has overridden the lock.
    pub fn verify(&self) -> Result<()> {
        if self.is_ours() {
            return Ok(());
        }
        Err(StorageError::new(
            MailErrorClass::Temporary,
            format!(
                "our dotlock file {} was overridden: another program took it for stale. \
                 Nothing more is written; run again, and check the clocks if this is NFS",
                self.path.display()
            ),
        ))
    }

    /// Gives the lock up after its directory was moved elsewhere: there is no file to remove.
    pub(crate) fn moved_away(mut self) {
        self.renamed = true;
    }

    fn is_ours(&self) -> bool {
        std::fs::symlink_metadata(&self.path).is_ok_and(|metadata| file_id(&metadata) == self.id)
    }
}

impl Drop for Dotlock {
    fn drop(&mut self) {
        if self.renamed {
            // A lock that somebody took since then is not ours.
        } else if self.is_ours() {
            let _ = std::fs::remove_file(&self.path);
        } else {
            tracing::warn!("our dotlock file {} was overridden", self.path.display());
        }
        with_held(|held| held.remove(&self.id));
    }
}

/// A dotlock whose file becomes the new content of the protected file.
#[derive(Debug)]
pub struct ReplaceLock {
    lock: Dotlock,
    protected: PathBuf,
    file: File,
}

impl ReplaceLock {
    /// Takes the lock. Read the protected file only after this.
    pub fn acquire(protected: &Path, settings: &DotlockSettings) -> Result<Self> {
        // Content must not be parsed as an owner: the file stays empty until it is filled.
        let (lock, file) = Dotlock::create(protected, settings, b"")?;
        Ok(Self {
            lock,
            protected: protected.to_owned(),
            file,
        })
    }

    /// The file that becomes the protected one when it is replaced.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Writes the whole new content, then [`ReplaceLock::commit`].
    pub fn replace(mut self, content: &[u8], sync: bool) -> Result<()> {
        self.file
            .write_all(content)
            .map_err(|error| StorageError::io("write", &self.lock.path, &error))?;
        self.commit(sync)
    }

    /// Puts what was written to [`ReplaceLock::file`] in place of the protected file. On an error
    /// that is as it was. `sync` forces the content to disk before it gets its name.
    pub fn commit(mut self, sync: bool) -> Result<()> {
        let path = &self.lock.path;
        // Killed before the rename: the lock file is stale and the old content stands.
        if sync {
            self.file
                .sync_all()
                .map_err(|error| StorageError::io("sync", path, &error))?;
        }
        self.lock.verify()?;
        std::fs::rename(path, &self.protected)
            .map_err(|error| StorageError::io("replace", &self.protected, &error))?;
        self.lock.renamed = true;
        Ok(())
    }
}

/// What was seen of a foreign lock so far.
struct Watch<'a> {
    protected: &'a Path,
    seen: Option<[Option<Stamp>; 2]>,
    last_change: SystemTime,
}

/// What changes when a file is touched, written or replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    id: FileId,
    size: u64,
    modified: Duration,
    changed: Duration,
}

impl Stamp {
    fn new(metadata: &Metadata) -> Self {
        let time = |seconds: i64, nanos: i64| {
            Duration::new(
                u64::try_from(seconds).unwrap_or(0),
                u32::try_from(nanos).unwrap_or(0),
            )
        };
        Self {
            id: file_id(metadata),
            size: metadata.len(),
            modified: time(metadata.mtime(), metadata.mtime_nsec()),
            changed: time(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// When the file was changed last. A time in the future (a skewed file server) is no time.
    fn last_change(&self, now: SystemTime) -> SystemTime {
        let latest = [self.modified, self.changed]
            .into_iter()
            .map(|time| UNIX_EPOCH + time)
            .filter(|time| *time <= now)
            .max();
        latest.unwrap_or(now)
    }
}

impl<'a> Watch<'a> {
    fn new(protected: &'a Path) -> Self {
        Self {
            protected,
            seen: None,
            last_change: UNIX_EPOCH,
        }
    }

    /// Whether the lock may be overridden.
    fn is_stale(&mut self, path: &Path, settings: &DotlockSettings) -> Result<bool> {
        let Some(lock) = stat(path)? else {
            return Ok(false);
        };
        let now = SystemTime::now();
        self.note_changes([Some(lock), stat(self.protected)?], now);
        if now
            .duration_since(UNIX_EPOCH + lock.modified)
            .is_ok_and(|age| age > MIN_AGE_FOR_OWNER_CHECK)
        {
            match owner_of(path, &settings.hostname) {
                Owner::Alive => return Ok(false),
                // Looked at again, because the lock may have changed hands while we read it.
                Owner::Dead => return Ok(stat(path)? == Some(lock)),
                Owner::Unknown => {}
            }
        }
        let held_here = with_held(|held| held.contains(&lock.id));
        let expired = now
            .duration_since(self.last_change)
            .is_ok_and(|age| age > settings.stale);
        Ok(expired && !held_here && stat(path)? == Some(lock))
    }

    fn note_changes(&mut self, stamps: [Option<Stamp>; 2], now: SystemTime) {
        match self.seen {
            Some(seen) if seen == stamps => return,
            // Seen to change: our own clock is the better witness.
            Some(_) => self.last_change = now,
            None => {
                let latest = stamps
                    .iter()
                    .flatten()
                    .map(|stamp| stamp.last_change(now))
                    .max();
                self.last_change = latest.unwrap_or(now);
            }
        }
        self.seen = Some(stamps);
    }
}

enum Owner {
    Alive,
    Dead,
    Unknown,
}

/// Who holds the lock, if it was made on this host.
fn owner_of(path: &Path, hostname: &str) -> Owner {
    let Some((pid, host)) = read_owner(path) else {
        return Owner::Unknown;
    };
    if host != hostname {
        return Owner::Unknown;
    }
    if i64::from(pid.as_raw()) == i64::from(std::process::id()) {
        let held = std::fs::symlink_metadata(path)
            .is_ok_and(|metadata| with_held(|held| held.contains(&file_id(&metadata))));
        return if held { Owner::Alive } else { Owner::Dead };
    }
    match kill(pid, None) {
        Err(Errno::ESRCH) => Owner::Dead,
        _ => Owner::Alive,
    }
}

/// `pid:host` of a lock file; `None` for everything else.
fn read_owner(path: &Path) -> Option<(Pid, String)> {
    let mut text = String::new();
    File::open(path)
        .ok()?
        .take(MAX_OWNER_LENGTH)
        .read_to_string(&mut text)
        .ok()?;
    let (pid, host) = text.split_once(':')?;
    let pid = pid.parse().ok().filter(|pid| *pid > 0)?;
    Some((Pid::from_raw(pid), host.to_owned()))
}

fn owner_text(path: &Path) -> String {
    read_owner(path).map_or_else(String::new, |(pid, host)| {
        format!(" by process {pid} on host {host}")
    })
}

/// Creates the lock file; `None` if it exists.
fn try_create(path: &Path, settings: &DotlockSettings, content: &[u8]) -> Result<Option<File>> {
    let created = if settings.use_excl {
        create_excl(path, settings, content)
    } else {
        create_by_link(path, settings, content).or_else(|error| match error.kind() {
            // A file system without hard links.
            io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied => {
                create_excl(path, settings, content)
            }
            _ => Err(error),
        })
    };
    match created {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(StorageError::io("create lock file", path, &error)),
    }
}

fn create_excl(path: &Path, settings: &DotlockSettings, content: &[u8]) -> io::Result<File> {
    let mut file = settings.modes.create_new(path)?;
    // Killed here: an empty lock file, which ages until it is stale.
    file.write_all(content).inspect_err(|_| {
        let _ = std::fs::remove_file(path);
    })?;
    Ok(file)
}

fn create_by_link(path: &Path, settings: &DotlockSettings, content: &[u8]) -> io::Result<File> {
    if path.symlink_metadata().is_ok() {
        return Err(io::Error::from(io::ErrorKind::AlreadyExists));
    }
    let name = format!(
        "{}{}.{}.{}",
        settings.temp_prefix,
        settings.hostname.replace('/', "_"),
        std::process::id(),
        random_suffix()
    );
    let temp = path.with_file_name(name);
    let mut file = settings.modes.create_new(&temp)?;
    // Killed before the unlink: a temporary file with a name that nobody reads stays behind.
    let linked = file
        .write_all(content)
        .and_then(|()| std::fs::hard_link(&temp, path));
    let _ = std::fs::remove_file(&temp);
    linked.map(|()| file)
}

fn stat(path: &Path) -> Result<Option<Stamp>> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(Stamp::new(&metadata))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StorageError::io("stat", path, &error)),
    }
}

fn lock_path(protected: &Path) -> PathBuf {
    let mut path = protected.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

fn file_id(metadata: &Metadata) -> FileId {
    (metadata.dev(), metadata.ino())
}

fn with_held<T>(act: impl FnOnce(&mut BTreeSet<FileId>) -> T) -> T {
    // The set is valid whatever a thread did that died while it held the mutex.
    act(&mut HELD
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner))
}

#[cfg(test)]
mod tests;
