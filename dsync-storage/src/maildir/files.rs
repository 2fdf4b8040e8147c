//! Where the file of each message is now: 8 bytes per message.

use std::collections::HashMap;

use super::filename::{self, NameFlags};
use super::scan::{Dir, Scan};
use super::uidlist::UidList;

/// Current names of message files, by the position of their record in the UID list.
///
/// A name is its base and what follows; there are few different ones of the latter, so they are
/// kept only once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files {
    places: Vec<Option<Place>>,
    infos: Vec<Vec<u8>>,
    ids: HashMap<Vec<u8>, u32>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    dir: Dir,
    info: u32,
}

/// Current directory of a message file, and its name behind the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileRef<'a> {
    /// Directory.
    pub(crate) dir: Dir,
    /// `:2,` and so on, or nothing.
    pub(crate) info: &'a [u8],
}

impl FileRef<'_> {
    /// Flags in the name.
    pub(crate) fn flags(&self) -> NameFlags {
        filename::flags(self.info)
    }
}

/// Result of matching files with the UID list.
#[derive(Debug)]
pub(crate) struct Matched {
    /// Places of the records.
    pub(crate) files: Files,
    /// Positions in the scan of files without record.
    pub(crate) unknown: Vec<usize>,
    /// Positions in the scan of further files with a base name that was there already.
    pub(crate) duplicates: Vec<usize>,
}

/// Finds the file of each record. Of several records with one base name the highest UID gets it.
pub(crate) fn match_files(uidlist: &UidList, scan: &Scan) -> Matched {
    let order = uidlist.by_base();
    let mut matched = Matched {
        files: Files {
            places: vec![None; uidlist.len()],
            ..Files::default()
        },
        unknown: Vec::new(),
        duplicates: Vec::new(),
    };
    let base_at = |at: usize| {
        let position = *order.get(at)? as usize;
        uidlist.get(position).map(|entry| (position, entry.base))
    };
    let mut at = 0;
    let mut last_base: Option<&[u8]> = None;
    for found in 0..scan.len() {
        let Some((dir, name)) = scan.get(found) else {
            continue;
        };
        let base = filename::base(name);
        if last_base == Some(base) {
            matched.duplicates.push(found);
            continue;
        }
        last_base = Some(base);
        let mut owner = None;
        while let Some((position, known)) = base_at(at).filter(|(_, known)| *known <= base) {
            if known == base {
                owner = Some(position); // ordered by UID: the last one wins
            }
            at += 1;
        }
        match owner {
            Some(position) => matched.files.set(position, dir, &name[base.len()..]),
            None => matched.unknown.push(found),
        }
    }
    matched
}

impl Files {
    fn intern(&mut self, info: &[u8]) -> u32 {
        if let Some(id) = self.ids.get(info) {
            return *id;
        }
        let id = self.infos.len() as u32;
        self.infos.push(info.to_vec());
        self.ids.insert(info.to_vec(), id);
        id
    }

    /// The file of the record at this position; `None` if there is none.
    pub(crate) fn get(&self, position: usize) -> Option<FileRef<'_>> {
        let place = (*self.places.get(position)?)?;
        Some(FileRef {
            dir: place.dir,
            info: self.infos.get(place.info as usize)?,
        })
    }

    /// The file is here now.
    pub(crate) fn set(&mut self, position: usize, dir: Dir, info: &[u8]) {
        let info = self.intern(info);
        if position >= self.places.len() {
            self.places.resize(position + 1, None);
        }
        self.places[position] = Some(Place { dir, info });
    }

    /// The file is gone.
    pub(crate) fn remove(&mut self, position: usize) {
        if let Some(place) = self.places.get_mut(position) {
            *place = None;
        }
    }

    /// Takes the files that only an earlier look at the directories has found.
    pub(crate) fn fill_from(&mut self, earlier: &Self) {
        for position in 0..self.places.len() {
            if self.get(position).is_none()
                && let Some(file) = earlier.get(position)
            {
                self.set(position, file.dir, file.info);
            }
        }
    }

    /// Drops the positions for which `keep` is not set.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(usize) -> bool) {
        let mut position = 0;
        self.places.retain(|_| {
            position += 1;
            keep(position - 1)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_find_their_records() {
        let root = tempfile::tempdir().unwrap();
        for dir in ["new", "cur"] {
            std::fs::create_dir(root.path().join(dir)).unwrap();
        }
        for name in [
            "cur/b:2,S",
            "new/d",
            "cur/a:2,",
            "cur/x",
            "new/a",
            "cur/twice:2,T",
        ] {
            std::fs::write(root.path().join(name), "").unwrap();
        }
        let list = UidList::parse(
            b"3 V1 N9 G00112233445566778899aabbccddeeff\n1 :d\n2 :twice\n3 :b\n4 :gone\n5 :a\n6 :twice\n",
        );
        let scan = Scan::read(root.path(), || Ok(())).unwrap();
        let matched = match_files(&list, &scan);
        let dirs: Vec<_> = (0..list.len())
            .map(|at| matched.files.get(at).map(|file| (file.dir, file.info)))
            .collect();
        assert_eq!(
            dirs,
            [
                Some((Dir::New, &b""[..])),
                None,
                Some((Dir::Cur, b":2,S")),
                None,
                Some((Dir::New, b"")),
                Some((Dir::Cur, b":2,T"))
            ]
        );
        let names =
            |found: &[usize]| -> Vec<_> { found.iter().map(|at| scan.get(*at).unwrap()).collect() };
        assert_eq!(names(&matched.unknown), [(Dir::Cur, &b"x"[..])]);
        assert_eq!(names(&matched.duplicates), [(Dir::Cur, &b"a:2,"[..])]);
    }
}
