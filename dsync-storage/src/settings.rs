//! Settings that all mail stores share.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::unique::UniqueSource;

/// When files are forced to disk (`mail_fsync`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fsync {
    /// Never: a power cut can lose what was reported as done.
    Never,
    /// Wherever mail could get lost.
    #[default]
    Optimized,
    /// After every write.
    Always,
}

/// How the files of `spec/maildir.md` 1 that are marked "fcntl" are locked (`lock_method`).
///
/// It has to be what the Dovecot on this host uses, or the two do not exclude each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LockMethod {
    /// `fcntl`: open-file-description locks, which exclude classic POSIX locks.
    #[default]
    Fcntl,
    /// `flock`.
    Flock,
}

/// Where the present time comes from, so that tests can fix it.
///
/// Ages of lock files are always judged by the real time, which is what their timestamps carry.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self(Arc::new(SystemTime::now))
    }

    /// A clock of one's own.
    pub fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The present time.
    pub fn now(&self) -> SystemTime {
        (self.0)()
    }

    /// The present time since the epoch; zero for a clock that stands before it.
    pub fn since_epoch(&self) -> Duration {
        self.now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    /// Whole seconds since the epoch.
    pub fn seconds(&self) -> i64 {
        i64::try_from(self.since_epoch().as_secs()).unwrap_or(i64::MAX)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({:?})", self.now())
    }
}

/// When an index log is rotated (`mail_index_log_rotate_*`, `spec/dovecot-index.md` 11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRotation {
    /// Logs below this size, in bytes, are not rotated.
    pub min_size: u32,
    /// Logs younger than this are not rotated, unless they are larger than the maximum.
    pub min_age: Duration,
    /// Logs above this size are rotated.
    pub max_size: u32,
}

impl Default for LogRotation {
    fn default() -> Self {
        Self {
            min_size: 32 << 10,
            min_age: Duration::from_secs(5 * 60),
            max_size: 1 << 20,
        }
    }
}

/// Settings of the mail stores of one user; the defaults are Dovecot's.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// Home directory, for `~/`.
    pub home: Option<PathBuf>,
    /// Create the mail root directory if it is missing. If not set, a missing root is an error:
    /// right for the source of a copy, where a wrong path must not look like an empty account.
    pub create: bool,
    /// When to force files to disk.
    pub fsync: Fsync,
    /// File of `mail_attribute_dict = file:PATH`; `None`: the store keeps no attributes.
    pub attribute_dict: Option<PathBuf>,
    /// Longest wait for any lock (`mail_max_lock_timeout`); `None` for each lock's own limit.
    pub max_lock_timeout: Option<Duration>,
    /// Create dotlocks with `O_EXCL` (`dotlock_use_excl`); not for old NFS servers.
    pub dotlock_use_excl: bool,
    /// Method for the other locks.
    pub lock_method: LockMethod,
    /// Host name as Dovecot writes it into dotlocks and file names.
    pub hostname: String,
    /// Host name with domain, which mailbox GUIDs are made from (`DOVECOT_HOSTDOMAIN`).
    pub host_domain: String,
    /// The present time.
    pub clock: Clock,
    /// Longest keyword name in bytes (`mail_max_keyword_length`).
    pub max_keyword_length: usize,
    /// Keep `dovecot.list.index` honest (`mailbox_list_index`).
    pub list_index: bool,
    /// When index logs are rotated.
    pub log_rotation: LogRotation,
    /// Files of an mdbox that have reached this size get no more messages (`mdbox_rotate_size`).
    pub mdbox_rotate_size: u32,
    /// Escape character of the `listescape` plugin, if it is used.
    pub list_escape: Option<char>,
    /// Special uses such as `\Sent` by full mailbox name.
    pub special_use: BTreeMap<String, Vec<String>>,
}

impl Default for StoreSettings {
    fn default() -> Self {
        let hostname = nix::unistd::gethostname()
            .ok()
            .and_then(|name| name.into_string().ok())
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "localhost".to_owned());
        Self {
            home: None,
            create: true,
            fsync: Fsync::default(),
            attribute_dict: None,
            max_lock_timeout: None,
            dotlock_use_excl: true,
            lock_method: LockMethod::default(),
            host_domain: hostname.clone(),
            hostname,
            clock: Clock::system(),
            max_keyword_length: 50,
            list_index: true,
            log_rotation: LogRotation::default(),
            mdbox_rotate_size: 10 << 20,
            list_escape: None,
            special_use: BTreeMap::new(),
        }
    }
}

impl StoreSettings {
    /// A lock's own time limit, shortened to [`StoreSettings::max_lock_timeout`].
    pub fn lock_timeout(&self, own: Duration) -> Duration {
        self.max_lock_timeout.map_or(own, |max| own.min(max))
    }

    /// Maker of unique names and GUIDs.
    pub fn unique(&self) -> UniqueSource {
        UniqueSource::new(self)
    }

    /// Whether data is forced to disk before it is reported as stored.
    pub fn syncs(&self) -> bool {
        self.fsync != Fsync::Never
    }

    /// `~` and `~/x` with the home directory put in; `None` without a home directory.
    pub fn expand_home(&self, path: &Path) -> Option<PathBuf> {
        match path.strip_prefix(OsStr::new("~")) {
            Ok(rest) => self.home.as_ref().map(|home| home.join(rest)),
            Err(_) => Some(path.to_owned()),
        }
    }
}
