//! The table of keyword names (`spec/dovecot-index.md` 3.4).

use std::collections::HashMap;

use bstr::{BStr, BString};

use super::format::{pad4, u32_at};

/// Zero bytes that are left for more names when the table must grow.
const SLACK: usize = 128;

/// Names by their bit in the mask. Never shrinks; compared without ASCII case.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeywordTable {
    names: Vec<BString>,
    ids: HashMap<Vec<u8>, usize>,
}

impl KeywordTable {
    pub(crate) fn names(&self) -> &[BString] {
        &self.names
    }

    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    pub(crate) fn find(&self, name: &[u8]) -> Option<usize> {
        self.ids.get(&name.to_ascii_lowercase()).copied()
    }

    /// Bit of a new name, which must not exist.
    pub(crate) fn add(&mut self, name: &[u8]) -> usize {
        let id = self.names.len();
        self.names.push(name.into());
        self.ids.insert(name.to_ascii_lowercase(), id);
        id
    }

    /// Reads the header data of the extension. Broken names become `unknown-N`, and `false` says
    /// that there were some.
    pub(crate) fn decode(header: &[u8], record_size: usize) -> (Self, bool) {
        let mut table = Self::default();
        let Some(wanted) = u32_at(header, 0) else {
            return (table, header.is_empty());
        };
        let wanted = wanted as usize;
        let count = wanted.min(header.len() / 8).min(record_size * 8);
        let mut intact = count == wanted;
        let names = header.get(4 + 8 * count..).unwrap_or(&[]);
        for id in 0..count {
            let name = u32_at(header, 4 + 8 * id + 4)
                .and_then(|offset| names.get(offset as usize..))
                .and_then(|rest| rest.get(..memchr::memchr(0, rest)?))
                .filter(|name| !name.is_empty() && table.find(name).is_none());
            if let Some(name) = name {
                table.add(name);
            } else {
                intact = false;
                table.add_unknown(id);
            }
        }
        (table, intact)
    }

    fn add_unknown(&mut self, id: usize) {
        let mut name = format!("unknown-{id}");
        while self.find(name.as_bytes()).is_some() {
            name.push('?');
        }
        self.add(name.as_bytes());
    }

    /// The header data: the table, with its size kept if it fits, else with new slack.
    pub(crate) fn encode(&self, header_size: usize) -> Vec<u8> {
        let mut table = Vec::with_capacity(header_size);
        table.extend_from_slice(&(self.names.len() as u32).to_le_bytes());
        let mut offset = 0_u32;
        for name in &self.names {
            table.extend_from_slice(&[0; 4]);
            table.extend_from_slice(&offset.to_le_bytes());
            offset += name.len() as u32 + 1;
        }
        for name in &self.names {
            table.extend_from_slice(name);
            table.push(0);
        }
        let size = pad4(table.len());
        if size <= header_size {
            table.resize(header_size, 0);
        } else {
            table.resize(size + SLACK, 0);
        }
        table
    }

    /// Bytes of a mask for that many keywords.
    pub(crate) fn mask_size(count: usize) -> usize {
        let size = count.div_ceil(8);
        if size.is_multiple_of(4) {
            size
        } else {
            size + 1
        }
    }

    /// Names of the bits that are set.
    pub(crate) fn of_mask<'a>(&'a self, mask: &'a [u8]) -> impl Iterator<Item = &'a BStr> {
        mask.iter()
            .enumerate()
            .filter(|(_, bits)| **bits != 0)
            .flat_map(|(index, bits)| {
                (0..8).filter_map(move |bit| (bits >> bit & 1 == 1).then_some(index * 8 + bit))
            })
            .filter_map(|id| self.names.get(id).map(BStr::new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_of_the_annotated_snapshot() {
        let mut table = KeywordTable::default();
        table.add(b"$Label1");
        let first = table.encode(0);
        assert_eq!(first.len(), 148);
        table.add(b"Work");
        let header = table.encode(first.len());
        assert_eq!(header.len(), 148);
        assert_eq!(
            header[..20],
            [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0]
        );
        assert_eq!(&header[20..33], b"$Label1\0Work\0");
        let (read, intact) = KeywordTable::decode(&header, 2);
        assert!(intact);
        assert_eq!(read.names(), ["$Label1", "Work"]);
        assert_eq!(read.find(b"WORK"), Some(1));
        assert_eq!(KeywordTable::mask_size(1), 2);
        assert_eq!(KeywordTable::mask_size(25), 4);
    }

    #[test]
    fn broken_names_are_kept_apart() {
        let mut table = KeywordTable::default();
        table.add(b"a");
        table.add(b"b");
        let mut header = table.encode(0);
        header[16] = 200;
        let (read, intact) = KeywordTable::decode(&header, 2);
        assert!(!intact);
        assert_eq!(read.names(), ["a", "unknown-1"]);
        assert!(!KeywordTable::decode(&[255; 40], 2).1);
    }
}
