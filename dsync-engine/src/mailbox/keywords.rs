//! Which keywords may be stored.

/// Dovecot's default `mail_max_keyword_length`.
const MAX_KEYWORD_LENGTH: usize = 50;

/// Whether Dovecot, and so everybody, can store this keyword: an IMAP atom of 1 to 50 bytes.
/// A Dovecot that gets an invalid one drops all keywords of the message
/// (`spec/mailbox-sync.md` 6.4).
pub(crate) fn is_valid(name: &[u8]) -> bool {
    !name.is_empty() && name.len() <= MAX_KEYWORD_LENGTH && name.iter().all(is_atom_byte)
}

fn is_atom_byte(byte: &u8) -> bool {
    byte.is_ascii_graphic()
        && !matches!(byte, b'(' | b')' | b'{' | b'%' | b'*' | b'"' | b'\\' | b']')
}

#[cfg(test)]
mod tests {
    use super::is_valid;

    #[test]
    fn atoms_only() {
        for valid in ["a", "$Label1", "NonJunk", &"x".repeat(50)] {
            assert!(is_valid(valid.as_bytes()), "{valid}");
        }
        for invalid in [
            "",
            "a b",
            "a(b",
            "a]",
            "caf\u{e9}",
            "\\Seen",
            &"x".repeat(51),
        ] {
            assert!(!is_valid(invalid.as_bytes()), "{invalid}");
        }
    }
}
