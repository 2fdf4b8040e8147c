//! `dovecot-keywords`: names of the keyword letters `a` to `z` (`spec/maildir.md` 14).

use bstr::{BStr, BString, ByteSlice};

/// Name of the file in the control directory.
pub(crate) const FILE: &str = "dovecot-keywords";

/// Number of letters.
pub(crate) const LETTERS: usize = 26;

/// Names by letter. A name never leaves its letter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keywords {
    names: [Option<BString>; LETTERS],
}

impl Keywords {
    /// Reads the file's bytes; lines that make no sense are skipped.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let mut keywords = Self::default();
        for line in bytes.lines() {
            let Some((index, name)) = line.split_once_str(" ") else {
                continue;
            };
            let index = std::str::from_utf8(index)
                .ok()
                .and_then(|text| text.parse::<usize>().ok());
            let Some(slot) = index.filter(|index| *index < LETTERS) else {
                continue;
            };
            if !name.is_empty() && keywords.names[slot].is_none() && keywords.find(name).is_none() {
                keywords.names[slot] = Some(name.into());
            }
        }
        keywords
    }

    /// The file's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (index, name) in self.names.iter().enumerate() {
            if let Some(name) = name {
                out.extend_from_slice(format!("{index} ").as_bytes());
                out.extend_from_slice(name);
                out.push(b'\n');
            }
        }
        out
    }

    /// The letter (0 to 25) of a name, in any case.
    pub(crate) fn find(&self, name: &[u8]) -> Option<u8> {
        self.names
            .iter()
            .position(|known| {
                known
                    .as_ref()
                    .is_some_and(|known| known.eq_ignore_ascii_case(name))
            })
            .map(|index| index as u8)
    }

    /// The letter of a name, a new one if needed; `None` if all are taken.
    pub(crate) fn find_or_add(&mut self, name: &[u8]) -> Option<u8> {
        self.find(name).or_else(|| {
            let free = self.names.iter().position(Option::is_none)?;
            self.names[free] = Some(name.into());
            Some(free as u8)
        })
    }

    /// The name of a letter.
    pub(crate) fn name(&self, letter: u8) -> Option<&BStr> {
        Some(self.names.get(usize::from(letter))?.as_ref()?.as_bstr())
    }

    /// Gives names to letters (a bit mask) that are used but have none, as Dovecot does.
    pub(crate) fn name_unknown(&mut self, letters: u32) {
        for letter in (0..LETTERS).filter(|letter| letters >> letter & 1 == 1) {
            if self.names[letter].is_none() {
                let mut name = format!("unknown-{letter}");
                while self.find(name.as_bytes()).is_some() {
                    name.push('?');
                }
                self.names[letter] = Some(name.into());
            }
        }
    }

    /// The letters that have names, as a bit mask.
    pub(crate) fn known(&self) -> u32 {
        (0..LETTERS)
            .filter(|letter| self.names[*letter].is_some())
            .fold(0, |mask, letter| mask | 1 << letter)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_makes_sense() {
        let keywords =
            Keywords::parse(b"0 $Label1\n1 Junk\n\n7\n26 no\n2 junk\n1 again\n3 \n25 z z\nx y\n");
        assert_eq!(keywords.encode(), b"0 $Label1\n1 Junk\n25 z z\n");
        assert_eq!(keywords.find(b"JUNK"), Some(1));
        assert_eq!(keywords.known(), 1 << 25 | 0b11);
    }

    #[test]
    fn new_names_take_the_first_hole() {
        let mut keywords = Keywords::parse(b"0 a\n2 c\n");
        assert_eq!(keywords.find_or_add(b"b"), Some(1));
        assert_eq!(keywords.find_or_add(b"B"), Some(1));
        for index in 3..26 {
            assert_eq!(
                keywords.find_or_add(format!("k{index}").as_bytes()),
                Some(index)
            );
        }
        assert_eq!(keywords.find_or_add(b"one too many"), None);
    }

    #[test]
    fn letters_without_a_name_get_one() {
        let mut keywords = Keywords::parse(b"0 Unknown-2\n");
        keywords.name_unknown(0b101);
        assert_eq!(keywords.encode(), b"0 Unknown-2\n2 unknown-2?\n");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_and_then_stable(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let keywords = Keywords::parse(&bytes);
            prop_assert_eq!(Keywords::parse(&keywords.encode()), keywords);
        }
    }
}
