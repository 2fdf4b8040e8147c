//! Tests of the index as a whole.

mod big;
mod crash;
mod damage;
mod random;
mod scan;
mod vectors;

use std::time::Duration;

use super::*;

/// Longer than any lock is held in these tests.
const WAIT: Duration = Duration::from_secs(20);

fn open(dir: &tempfile::TempDir) -> Index {
    Index::open(dir.path(), "dovecot.index", IndexSettings::default()).unwrap()
}

fn append(index: &mut Index, transaction: &Transaction) {
    index.lock(WAIT).unwrap().append(transaction).unwrap();
}

fn file(dir: &tempfile::TempDir, suffix: &str) -> std::path::PathBuf {
    dir.path().join(format!("dovecot.index{suffix}"))
}
