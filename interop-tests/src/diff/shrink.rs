//! Makes a failing script small.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::script::Script;
use super::{Failure, Options, play_script};

const PATIENCE: Duration = Duration::from_secs(180);

/// Drops edits, many at a time and then one by one, as long as something still fails.
pub(super) fn shrink(failure: &Failure, options: &Options) -> Result<(Script, Failure)> {
    let mut script = Script::generate(failure.seed);
    script.rounds.truncate(failure.round + 1);
    let mut failure = failure.clone();
    let start = Instant::now();
    let mut size = 8;
    while size > 0 {
        let mut dropped = false;
        for list in 0..script.lists().len() {
            let mut end = script.lists()[list].len();
            while end > 0 && start.elapsed() < PATIENCE {
                let from = end.saturating_sub(size);
                let mut smaller = script.clone();
                smaller.lists()[list].drain(from..end);
                end = from;
                if let Some(found) = play_script(&smaller, options)?.failures.pop()
                    && found.what() == failure.what()
                {
                    (script, failure, dropped) = (smaller, found, true);
                }
            }
        }
        if !(dropped && size == 1) {
            size /= 2;
        }
    }
    Ok((script, failure))
}
