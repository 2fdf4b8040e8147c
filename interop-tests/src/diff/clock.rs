//! Times in Dovecot's change log of the tree, made the same in every repetition.
//!
//! Which of two renames wins depends on seconds, and edits of a script are done in fewer.

use std::fs;

use anyhow::Result;
use dsync_testkit::random::Random;

use crate::Side;

const RECORD: usize = 24;
const TIME: usize = 20;

/// Gives each record from `first` on a time that begins with `start` and grows by 0 to 2 seconds.
/// Returns the number of records.
pub(super) fn set_times(side: &Side<'_>, first: usize, start: u32, seed: u64) -> Result<usize> {
    let path = side.outside_mail_root().join("dovecot.mailbox.log");
    if !path.exists() {
        return Ok(0);
    }
    let mut content = fs::read(&path)?;
    let mut random = Random::new(seed);
    let mut time = start;
    for record in content.chunks_exact_mut(RECORD).skip(first) {
        time += random.below(3) as u32;
        record[TIME..].copy_from_slice(&time.to_be_bytes());
    }
    fs::write(&path, &content)?;
    Ok(content.len() / RECORD)
}
