//! Names of message files (`spec/maildir.md` 8).
//!
//! `base [":2," letters ["," rest]]`: the base identifies a message for ever, the rest changes
//! with its flags. Everything here is a pure function of bytes.

use std::cmp::Ordering;

use dsync_proto::types::Flags;

/// Longest name that a file may have.
pub(crate) const MAX_NAME: usize = 255;

/// Room that `:2,` with all five flags and 26 keywords takes.
const MAX_INFO: usize = 3 + 5 + 26;

/// Flag letters in ASCII order, which is the order in file names.
const LETTERS: [(u8, Flags); 5] = [
    (b'D', Flags::DRAFT),
    (b'F', Flags::FLAGGED),
    (b'R', Flags::ANSWERED),
    (b'S', Flags::SEEN),
    (b'T', Flags::DELETED),
];

/// Flags and keyword letters of a file name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NameFlags {
    /// User flags.
    pub(crate) flags: Flags,
    /// Bit n is the keyword letter `a` + n.
    pub(crate) letters: u32,
}

/// Sizes that a base name claims; never to be trusted when reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// `S=`: bytes in the file (uncompressed).
    pub(crate) physical: Option<u64>,
    /// `W=`: the same with CRLF line ends.
    pub(crate) virtual_size: Option<u64>,
}

/// The part before the first `:`.
pub(crate) fn base(name: &[u8]) -> &[u8] {
    memchr::memchr(b':', name).map_or(name, |end| &name[..end])
}

/// The letters after the last `:2,`, and what follows them from the second comma on.
fn letters_and_rest(name: &[u8]) -> (&[u8], &[u8]) {
    let Some(info) = memchr::memrchr(b':', name).map(|at| &name[at + 1..]) else {
        return (b"", b"");
    };
    let Some(letters) = info.strip_prefix(b"2,") else {
        return (b"", b"");
    };
    memchr::memchr(b',', letters).map_or((letters, b""), |comma| letters.split_at(comma))
}

fn known_letter(letter: u8) -> Option<NameFlags> {
    if letter.is_ascii_lowercase() {
        return Some(NameFlags {
            flags: Flags::NONE,
            letters: 1 << (letter - b'a'),
        });
    }
    let (_, flags) = LETTERS.iter().find(|(known, _)| *known == letter)?;
    Some(NameFlags {
        flags: *flags,
        letters: 0,
    })
}

/// Flags of a file name; none if there is no `:2,`.
pub(crate) fn flags(name: &[u8]) -> NameFlags {
    let mut found = NameFlags::default();
    for known in letters_and_rest(name)
        .0
        .iter()
        .copied()
        .filter_map(known_letter)
    {
        found.flags |= known.flags;
        found.letters |= known.letters;
    }
    found
}

/// The same file with other flags: unknown letters and the part after the second comma stay.
pub(crate) fn with_flags(name: &[u8], wanted: NameFlags) -> Vec<u8> {
    let (old_letters, rest) = letters_and_rest(name);
    let stem = memchr::memrchr(b':', name).map_or(name, |at| &name[..at]);
    let mut out = Vec::with_capacity(name.len() + MAX_INFO);
    out.extend_from_slice(stem);
    out.extend_from_slice(b":2,");
    let mut known: Vec<u8> = LETTERS
        .iter()
        .filter(|(_, flag)| wanted.flags.contains(*flag))
        .map(|(letter, _)| *letter)
        .collect();
    known.extend((b'a'..=b'z').filter(|letter| wanted.letters >> (letter - b'a') & 1 == 1));
    let mut known = known.into_iter().peekable();
    for kept in old_letters
        .iter()
        .copied()
        .filter(|&letter| known_letter(letter).is_none())
    {
        while let Some(letter) = known.next_if(|letter| *letter < kept) {
            out.push(letter);
        }
        out.push(kept);
    }
    out.extend(known);
    out.extend_from_slice(rest);
    out
}

fn size_field(base: &[u8], key: u8) -> Option<u64> {
    let pattern = [b',', key, b'='];
    let start = memchr::memmem::find(base, &pattern)? + pattern.len();
    let digits = &base[start..];
    let end = digits
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(digits.len());
    if end == 0 || !matches!(digits.get(end), None | Some(b',' | b':')) {
        return None;
    }
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

/// The sizes that a base name claims.
pub(crate) fn sizes(base: &[u8]) -> Sizes {
    Sizes {
        physical: size_field(base, b'S'),
        virtual_size: size_field(base, b'W'),
    }
}

/// Whether a GUID can be the base name of a message with these sizes: a safe name that claims
/// nothing wrong (`spec/maildir.md` 8.4).
///
/// Dovecot wants both sizes in it. Here a GUID without sizes will do, too: then the GUID survives
/// a crash before the record is written, which is worth more than a size that others compute.
pub(crate) fn is_usable_base(guid: &[u8], physical: u64, virtual_size: u64) -> bool {
    let claimed = sizes(guid);
    !guid.is_empty()
        && guid[0] != b'.'
        && guid.len() + MAX_INFO <= MAX_NAME
        && guid
            .iter()
            .all(|&byte| byte > b' ' && byte != 0x7f && byte != b'/' && byte != b':')
        && claimed.physical.is_none_or(|size| size == physical)
        && claimed.virtual_size.is_none_or(|size| size == virtual_size)
}

/// Order in which files without UID get theirs: the time in the name, then the rest
/// (`spec/maildir.md` 8.2). Names without microseconds come after those with some, so that this
/// is a total order; Dovecot compares such pairs bytewise.
pub(crate) fn arrival_order(a: &[u8], b: &[u8]) -> Ordering {
    let (a_seconds, a_rest) = leading_number(a);
    let (b_seconds, b_rest) = leading_number(b);
    a_seconds
        .cmp(&b_seconds)
        .then_with(|| {
            let (a, b) = (microseconds(a_rest), microseconds(b_rest));
            a.is_none().cmp(&b.is_none()).then(a.cmp(&b))
        })
        .then_with(|| a_rest.cmp(b_rest))
        .then_with(|| a.cmp(b))
}

fn leading_number(text: &[u8]) -> (u64, &[u8]) {
    let end = text
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    let value = text[..end].iter().fold(0_u64, |value, digit| {
        value
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    });
    (value, &text[end..])
}

/// The number after the first `M` of the part between the first two dots.
fn microseconds(after_seconds: &[u8]) -> Option<u64> {
    let part = after_seconds.strip_prefix(b".")?;
    let part = memchr::memchr(b'.', part).map_or(part, |dot| &part[..dot]);
    let digits = &part[memchr::memchr(b'M', part)? + 1..];
    digits.first().filter(|byte| byte.is_ascii_digit())?;
    Some(leading_number(digits).0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(flags: Flags, letters: u32) -> NameFlags {
        NameFlags { flags, letters }
    }

    #[test]
    fn flags_are_read_from_names() {
        for (name, expected) in [
            ("1.M2.host", set(Flags::NONE, 0)),
            ("1.M2.host:2,", set(Flags::NONE, 0)),
            ("1.M2.host:1,S", set(Flags::NONE, 0)),
            ("1.M2.host:2,S:3,", set(Flags::NONE, 0)),
            (
                "8.a.example,X=1,S=37:2,RS,xyz",
                set(Flags::ANSWERED | Flags::SEEN, 0),
            ),
            ("x:2,SPQabA", set(Flags::SEEN, 0b11)),
            ("x:2,DFRSTz", set(Flags::USER, 1 << 25)),
        ] {
            assert_eq!(flags(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn unknown_letters_and_the_rest_stay() {
        for (old, wanted, expected) in [
            ("x", set(Flags::SEEN, 0), "x:2,S"),
            ("x:1,S", set(Flags::NONE, 0), "x:2,"),
            (
                "x:2,SPQabA",
                set(Flags::FLAGGED | Flags::DELETED, 0b1),
                "x:2,FPQATa",
            ),
            ("x:2,RS,xyz,2", set(Flags::SEEN, 0b101), "x:2,Sac,xyz,2"),
        ] {
            let new = with_flags(old.as_bytes(), wanted);
            assert_eq!(String::from_utf8(new).unwrap(), expected);
        }
    }

    #[test]
    fn sizes_need_an_end() {
        let both = Sizes {
            physical: Some(44),
            virtual_size: Some(48),
        };
        assert_eq!(sizes(b"1.M2.vm,S=44,W=48"), both);
        assert_eq!(sizes(b"1.M2.vm,S=44x,W="), Sizes::default());
        assert_eq!(sizes(b"1.M2.vm,S=99999999999999999999"), Sizes::default());
    }

    #[test]
    fn guids_that_can_be_base_names() {
        for good in [
            "1795447313.M1P2.vm,S=44,W=48",
            "1.vm,S=44",
            "00112233445566778899aabbccddeeff",
        ] {
            assert!(is_usable_base(good.as_bytes(), 44, 48), "{good}");
        }
        for bad in [
            "1.vm,S=45,W=48",
            "",
            ".1,S=44,W=48",
            "a/b,S=44,W=48",
            "a:b,S=44,W=48",
            "a b,S=44,W=48",
        ] {
            assert!(!is_usable_base(bad.as_bytes(), 44, 48), "{bad}");
        }
        let long = format!("{},S=44,W=48", "x".repeat(240));
        assert!(!is_usable_base(long.as_bytes(), 44, 48));
    }

    #[test]
    fn files_are_ordered_by_time() {
        let mut names = ["20.a", "3.M20P1.h", "3.M3P1.h", "3.z", "abc", "3.M3P1.g"];
        names.sort_by(|a, b| arrival_order(a.as_bytes(), b.as_bytes()));
        assert_eq!(
            names,
            ["abc", "3.M3P1.g", "3.M3P1.h", "3.M20P1.h", "3.z", "20.a"]
        );
    }

    proptest! {
        #[test]
        fn written_flags_are_read_back(name in "[ -~]{1,40}", flags_bits in 0_u8..32, letters in 0_u32..1 << 26) {
            let wanted = set(Flags(flags_bits), letters);
            let new = with_flags(name.as_bytes(), wanted);
            prop_assert_eq!(flags(&new), wanted);
            prop_assert_eq!(with_flags(&new, wanted), new.clone());
            if memchr::memchr_iter(b':', name.as_bytes()).count() < 2 {
                prop_assert_eq!(base(&new), base(name.as_bytes()));
            }
        }

        #[test]
        fn nothing_panics(name in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = (flags(&name), sizes(&name), is_usable_base(&name, 1, 1));
            let _ = (arrival_order(&name, b"1.M2"), with_flags(&name, NameFlags::default()));
        }

        #[test]
        fn arrival_order_is_total(mut names in prop::collection::vec("[12]?[.][aMz]{0,2}[0-9]{0,2}[.a]?", 0..60)) {
            names.sort_by(|a, b| arrival_order(a.as_bytes(), b.as_bytes()));
            for (at, a) in names.iter().enumerate() {
                for b in &names[at..] {
                    prop_assert_ne!(arrival_order(a.as_bytes(), b.as_bytes()), Ordering::Greater);
                }
            }
        }
    }
}
