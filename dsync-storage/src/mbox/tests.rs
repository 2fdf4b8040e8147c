//! Changes in place that were killed at every step, and what others do meanwhile.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use proptest::prelude::*;
use tempfile::TempDir;

use super::journal::JOURNAL;
use super::rewrite::{Piece, Place};
use crate::permissions::CreateModes;

/// A file with contents, and a directory for the journal.
struct World {
    folder: TempDir,
    path: PathBuf,
    modes: CreateModes,
}

impl World {
    fn new(contents: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("box");
        fs::create_dir(folder.path().join("index")).unwrap();
        fs::write(&path, contents).unwrap();
        Self {
            folder,
            path,
            modes: CreateModes::default(),
        }
    }

    fn index(&self) -> PathBuf {
        self.folder.path().join("index")
    }

    fn file(&self) -> File {
        let mut options = OpenOptions::new();
        options.read(true).write(true).open(&self.path).unwrap()
    }

    /// Does something with the place of the file.
    fn at<T>(&self, work: impl FnOnce(&Place<'_>, &File) -> T) -> T {
        let index = self.index();
        let place = Place {
            path: &self.path,
            index_dir: &index,
            modes: &self.modes,
            sync: false,
        };
        work(&place, &self.file())
    }

    /// What the next run does first.
    fn recover(&self) {
        let index = self.index();
        let place = Place {
            path: &self.path,
            index_dir: &index,
            modes: &self.modes,
            sync: false,
        };
        place.recover(&self.file()).unwrap();
    }

    fn contents(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap()
    }
}

/// What pieces of a file make.
fn joined(old: &[u8], pieces: &[Piece]) -> Vec<u8> {
    let mut new = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Old { from, len } => {
                new.extend_from_slice(&old[*from as usize..(*from + *len) as usize]);
            }
            Piece::New(bytes) => new.extend_from_slice(bytes),
            Piece::Staged { .. } => unreachable!(),
        }
    }
    new
}

fn pieces(size: usize) -> impl Strategy<Value = Vec<Piece>> {
    let old = (0..size, 0..size).prop_map(|(one, other)| Piece::Old {
        from: one.min(other) as u64,
        len: one.abs_diff(other) as u64,
    });
    let new = proptest::collection::vec(any::<u8>(), 0..6).prop_map(Piece::New);
    let start = (0..size).prop_map(|len| Piece::Old {
        from: 0,
        len: len as u64,
    });
    (
        start,
        proptest::collection::vec(prop_oneof![old, new], 0..6),
    )
        .prop_map(|(start, mut more)| {
            more.insert(0, start);
            more
        })
}

const OLD: &[u8] = b"From: the beginning of a file that others wait for, to its very end\n";

proptest! {
    #[test]
    fn pieces_become_contents(pieces in pieces(OLD.len())) {
        let world = World::new(OLD);
        world.at(|place, file| place.rewrite(file, &pieces, None)).unwrap();
        prop_assert_eq!(world.contents(), joined(OLD, &pieces));
        prop_assert!(!world.index().join(JOURNAL).exists());
    }

    /// Killed after any number of writes: the old contents come back, with what others appended
    /// since; or, if the journal was done, the new ones stay.
    #[test]
    fn a_kill_loses_nothing(pieces in pieces(OLD.len()), steps in 0..12_usize, foreign in any::<bool>()) {
        let new = joined(OLD, &pieces);
        let world = World::new(OLD);
        let state = world.at(|place, file| place.rewrite_until(file, &pieces, steps)).unwrap();
        if foreign {
            let mut file = OpenOptions::new().append(true).open(&world.path).unwrap();
            file.write_all(b"From: another program").unwrap();
        }
        world.recover();
        let mut expected = if state { new } else { OLD.to_vec() };
        if foreign {
            expected.extend_from_slice(b"From: another program");
        }
        prop_assert_eq!(world.contents(), expected);
        prop_assert!(!world.index().join(JOURNAL).exists());
        // A second look changes nothing.
        world.recover();
    }

    #[test]
    fn a_torn_journal_is_dropped(cut in 1..200_usize) {
        let world = World::new(OLD);
        let pieces = [Piece::New(b"x".to_vec())];
        world.at(|place, file| place.rewrite_until(file, &pieces, 0)).unwrap();
        let journal = world.index().join(JOURNAL);
        let bytes = fs::read(&journal).unwrap();
        fs::write(&journal, &bytes[..bytes.len().saturating_sub(cut)]).unwrap();
        world.recover();
        prop_assert_eq!(world.contents(), OLD);
    }
}

#[test]
fn another_file_of_that_name_is_left_alone() {
    let world = World::new(OLD);
    let pieces = [Piece::New(b"x".to_vec())];
    world
        .at(|place, file| place.rewrite_until(file, &pieces, 2))
        .unwrap();
    fs::rename(&world.path, world.folder.path().join("away")).unwrap();
    fs::write(&world.path, "new").unwrap();
    world.recover();
    assert_eq!(world.contents(), b"new");
}
