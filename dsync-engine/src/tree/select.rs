//! Which mailboxes take part in a run (`spec/brain-and-tree.md` 3.2).

use bstr::BString;
use dsync_proto::types::Guid;

/// The `-m`, `-g` and `-x` options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// LIST pattern (`*` anything, `%` anything within a level), or a special use such as
    /// `\Trash`; `None` for all mailboxes.
    pub sync_box: Option<BString>,
    /// Only the mailbox with this GUID.
    pub sync_box_guid: Option<Guid>,
    /// Masks of what to leave out: `*` anything, `?` one byte; or a special use.
    pub exclude: Vec<BString>,
}

impl Selection {
    /// Whether every mailbox takes part.
    pub fn is_everything(&self) -> bool {
        self.sync_box.is_none() && self.sync_box_guid.is_none() && self.exclude.is_empty()
    }

    /// Whether the mailbox of this name takes part, its GUID aside.
    pub fn accepts(&self, name: &str, separator: char, special_use: &[String]) -> bool {
        let wanted = match &self.sync_box {
            Some(special) if special.starts_with(b"\\") => has_use(special_use, special),
            _ => self.accepts_subscription(name, separator),
        };
        wanted
            && !self.exclude.iter().any(|mask| {
                if mask.starts_with(b"\\") {
                    has_use(special_use, mask)
                } else {
                    wildcard(mask, name.as_bytes(), MASK)
                }
            })
    }

    /// Whether a subscription of this name takes part: as in Dovecot, only a name pattern
    /// restricts them. Leaving out more would unsubscribe names in the destination of a backup.
    pub fn accepts_subscription(&self, name: &str, separator: char) -> bool {
        match &self.sync_box {
            Some(pattern) if !pattern.starts_with(b"\\") => {
                (name == "INBOX" && pattern.eq_ignore_ascii_case(b"INBOX"))
                    || wildcard(
                        pattern,
                        name.as_bytes(),
                        Wildcards {
                            one: None,
                            level: u8::try_from(separator).ok(),
                        },
                    )
            }
            _ => true,
        }
    }

    /// Whether a mailbox with this GUID takes part, its name aside.
    pub fn accepts_guid(&self, guid: Guid) -> bool {
        self.sync_box_guid.is_none_or(|wanted| wanted == guid)
    }
}

fn has_use(uses: &[String], wanted: &[u8]) -> bool {
    uses.iter()
        .any(|have| have.as_bytes().eq_ignore_ascii_case(wanted))
}

/// Meaning of wildcards beside `*`.
#[derive(Clone, Copy)]
struct Wildcards {
    /// Stands for exactly one byte.
    one: Option<u8>,
    /// If given, `%` stands for anything without this separator.
    level: Option<u8>,
}

const MASK: Wildcards = Wildcards {
    one: Some(b'?'),
    level: None,
};

/// Matches all of `text`, in time proportional to the product of the lengths.
fn wildcard(pattern: &[u8], text: &[u8], kinds: Wildcards) -> bool {
    // reach[i]: the first i bytes of the pattern can match the text read so far.
    let mut reach = vec![false; pattern.len() + 1];
    reach[0] = true;
    skip_empty(&mut reach, pattern, kinds);
    for byte in text {
        let mut next = vec![false; reach.len()];
        for (at, kind) in pattern.iter().enumerate() {
            if !reach[at] {
                continue;
            }
            match *kind {
                b'*' => next[at] = true,
                b'%' if kinds.level.is_some() => next[at] |= Some(*byte) != kinds.level,
                other => next[at + 1] |= other == *byte || Some(other) == kinds.one,
            }
        }
        skip_empty(&mut next, pattern, kinds);
        reach = next;
    }
    reach.last() == Some(&true)
}

/// A `*` or `%` may stand for nothing.
fn skip_empty(reach: &mut [bool], pattern: &[u8], kinds: Wildcards) {
    for (at, kind) in pattern.iter().enumerate() {
        if reach[at] && (*kind == b'*' || (*kind == b'%' && kinds.level.is_some())) {
            reach[at + 1] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_box(pattern: &str) -> Selection {
        Selection {
            sync_box: Some(pattern.into()),
            ..Selection::default()
        }
    }

    fn without(mask: &str) -> Selection {
        Selection {
            exclude: vec![mask.into()],
            ..Selection::default()
        }
    }

    #[test]
    fn list_patterns() {
        for (pattern, name, expected) in [
            ("foo", "foo", true),
            ("foo", "foo/bar", false),
            ("foo", "Foo", false),
            ("inbox", "INBOX", true),
            ("foo*", "foo/bar", true),
            ("foo*", "foobar", true),
            ("%", "foo", true),
            ("%", "foo/bar", false),
            ("%/%", "foo/bar", true),
            ("foo?", "fooa", false),
            ("*b*", "a/b/c", true),
            ("", "a", false),
        ] {
            assert_eq!(
                with_box(pattern).accepts(name, '/', &[]),
                expected,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn masks() {
        for (mask, name, excluded) in [
            ("foo", "foo", true),
            ("foo", "foo/bar", false),
            ("*bar", "foo/bar", true),
            ("f?o", "fxo", true),
            ("f?o", "fo", false),
            ("%", "x", false),
            ("%", "%", true),
            ("*", "anything/at all", true),
        ] {
            assert_eq!(
                !without(mask).accepts(name, '/', &[]),
                excluded,
                "{mask} {name}"
            );
            assert!(without(mask).accepts_subscription(name, '/'));
        }
    }

    #[test]
    fn special_uses() {
        let trash = ["\\Trash".to_owned()];
        assert!(with_box("\\trash").accepts("Bin", '/', &trash));
        assert!(!with_box("\\Sent").accepts("Bin", '/', &trash));
        assert!(!with_box("\\Trash").accepts("Trash", '/', &[]));
        assert!(!without("\\TRASH").accepts("Bin", '/', &trash));
        assert!(without("\\Trash").accepts("Trash", '/', &[]));
    }

    #[test]
    fn many_stars_are_fast() {
        let mask = "*a".repeat(500);
        assert!(without(&mask).accepts(&"b".repeat(5000), '/', &[]));
    }
}
