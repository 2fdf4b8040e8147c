//! The UIDVALIDITY counter of a control root (`spec/maildir.md` 13.4).
//!
//! The counter is the name of the empty file `dovecot-uidvalidity.<8 hex>`; `rename` makes the
//! step from one value to the next atomic without a lock. `dovecot-uidvalidity` only remembers
//! the last value, to find the file without a directory scan.

use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::permissions::CreateModes;
use crate::settings::Clock;
use crate::{Result, StorageError};

const FILE: &str = "dovecot-uidvalidity";
const ATTEMPTS: usize = 10;

/// The next UIDVALIDITY, never 0 and never one that was handed out before. Missing directories
/// are created.
pub(crate) fn next_uid_validity(root: &Path, modes: &CreateModes, clock: &Clock) -> Result<u32> {
    modes
        .create_dir_all(root)
        .map_err(|error| StorageError::io("create directory", root, &error))?;
    let last = read_last(root);
    if let Some(last) = last
        && let Some(next) = step(root, last)?
    {
        return finish(root, modes, next);
    }
    let values = scan(root)?;
    if let Some((&highest, lower)) = values.split_last() {
        for value in lower {
            let _ = std::fs::remove_file(counter(root, *value));
        }
        if let Some(next) = step(root, highest)? {
            return finish(root, modes, next);
        }
    }
    let now = u32::try_from(clock.seconds()).unwrap_or(1);
    let floor = values.last().copied().max(last).unwrap_or(0);
    let mut value = now.max(after(floor));
    for _ in 0..ATTEMPTS {
        match create(root, value) {
            Ok(()) => break,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => value = after(value),
            Err(error) => {
                return Err(StorageError::io("create", &counter(root, value), &error));
            }
        }
    }
    finish(root, modes, value)
}

/// Moves the counter from `value`, or from one that others moved it to meanwhile, to the next.
fn step(root: &Path, mut value: u32) -> Result<Option<u32>> {
    for _ in 0..ATTEMPTS {
        let next = after(value);
        // Killed right after the rename: the value is used up, the next run takes the one behind.
        match std::fs::rename(counter(root, value), counter(root, next)) {
            Ok(()) => return Ok(Some(next)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => value = next,
            Err(error) => return Err(StorageError::io("rename", &counter(root, value), &error)),
        }
    }
    Ok(None)
}

/// Remembers the value. This file is only a hint, so that a failure is no more than a warning.
fn finish(root: &Path, modes: &CreateModes, value: u32) -> Result<u32> {
    let path = root.join(FILE);
    let write = || -> io::Result<()> {
        let file = match modes.create_new(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                std::fs::OpenOptions::new().write(true).open(&path)?
            }
            other => other?,
        };
        file.write_all_at(format!("{value:08x}").as_bytes(), 0)
    };
    if let Err(error) = write() {
        tracing::warn!("cannot write {}: {error}", path.display());
    }
    Ok(value)
}

fn create(root: &Path, value: u32) -> io::Result<()> {
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o444)
        .open(counter(root, value))
        .map(drop)
}

fn read_last(root: &Path) -> Option<u32> {
    let mut text = [0; 8];
    std::fs::File::open(root.join(FILE))
        .ok()?
        .read_exact(&mut text)
        .ok()?;
    parse(&text)
}

/// All counter values in the directory, rising.
fn scan(root: &Path) -> Result<Vec<u32>> {
    let entries = std::fs::read_dir(root)
        .map_err(|error| StorageError::io("read directory", root, &error))?;
    let mut values = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| StorageError::io("read directory", root, &error))?;
        let name = entry.file_name();
        let suffix = name.as_encoded_bytes().strip_prefix(FILE.as_bytes());
        if let Some(value) = suffix.and_then(|rest| parse(rest.strip_prefix(b".")?)) {
            values.push(value);
        }
    }
    values.sort_unstable();
    Ok(values)
}

fn parse(hex: &[u8]) -> Option<u32> {
    if hex.len() != 8 || !hex.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let value = u32::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?;
    (value != 0).then_some(value)
}

fn counter(root: &Path, value: u32) -> PathBuf {
    root.join(format!("{FILE}.{value:08x}"))
}

fn after(value: u32) -> u32 {
    value.wrapping_add(1).max(1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Mutex;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn next(root: &Path) -> u32 {
        let clock = Clock::new(|| UNIX_EPOCH + Duration::from_secs(0x6b04_5903));
        next_uid_validity(root, &CreateModes::default(), &clock).unwrap()
    }

    fn files(root: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(root)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn starts_at_the_present_time_and_counts() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(next(root.path()), 0x6b04_5903);
        assert_eq!(next(root.path()), 0x6b04_5904);
        assert_eq!(next(root.path()), 0x6b04_5905);
        assert_eq!(files(root.path()), [FILE, "dovecot-uidvalidity.6b045905"]);
        assert_eq!(std::fs::read(root.path().join(FILE)).unwrap(), b"6b045905");
    }

    #[test]
    fn survives_every_kind_of_damage_without_going_back() {
        for last in [
            None,
            Some(""),
            Some("zzzzzzzz"),
            Some("00000000"),
            Some("6b0"),
        ] {
            let root = tempfile::tempdir().unwrap();
            for value in [0x7000_0001, 0x7000_0002] {
                create(root.path(), value).unwrap();
            }
            std::fs::write(root.path().join("dovecot-uidvalidity.x"), "").unwrap();
            if let Some(last) = last {
                std::fs::write(root.path().join(FILE), last).unwrap();
            }
            assert_eq!(next(root.path()), 0x7000_0003, "{last:?}");
            assert!(!counter(root.path(), 0x7000_0001).exists());
        }
        // The counter file is gone, the memory of it is not.
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join(FILE), "70000000").unwrap();
        assert_eq!(next(root.path()), 0x7000_0001);
    }

    #[test]
    fn wraps_past_zero() {
        let root = tempfile::tempdir().unwrap();
        create(root.path(), u32::MAX).unwrap();
        assert_eq!(next(root.path()), 1);
    }

    #[test]
    fn parallel_callers_get_different_values() {
        let root = tempfile::tempdir().unwrap();
        next(root.path());
        let seen = Mutex::new(BTreeSet::new());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let value = next(root.path());
                        assert!(seen.lock().unwrap().insert(value), "{value:x} twice");
                    }
                });
            }
        });
    }
}
