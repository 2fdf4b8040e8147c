//! The escaping of text files with tabs (`spec/maildir.md` 15).

/// Appends `text` with TAB, LF, CR, NUL and 0x01 escaped.
pub(crate) fn escape_into(out: &mut Vec<u8>, text: &[u8]) {
    for &byte in text {
        let escaped = match byte {
            0 => b'0',
            1 => b'1',
            b'\t' => b't',
            b'\r' => b'r',
            b'\n' => b'n',
            _ => {
                out.push(byte);
                continue;
            }
        };
        out.extend([1, escaped]);
    }
}

/// Undoes [`escape_into`]. Like Dovecot, an unknown escape stands for its second byte and one at
/// the end for nothing.
pub(crate) fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        if byte != 1 {
            out.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'0') => out.push(0),
            Some(b'1') => out.push(1),
            Some(b't') => out.push(b'\t'),
            Some(b'r') => out.push(b'\r'),
            Some(b'n') => out.push(b'\n'),
            Some(&other) => out.push(other),
            None => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_answers() {
        let mut out = Vec::new();
        escape_into(&mut out, b"a\tb\nc\rd\x01e\0");
        assert_eq!(out, b"a\x01tb\x01nc\x01rd\x011e\x010");
        assert_eq!(unescape(b"x\x01y\x01"), b"xy");
    }

    proptest! {
        #[test]
        fn escaping_is_undone(text: Vec<u8>) {
            let mut out = Vec::new();
            escape_into(&mut out, &text);
            prop_assert!(!out.iter().any(|byte| matches!(byte, 0 | b'\t' | b'\n' | b'\r')));
            prop_assert_eq!(unescape(&out), text);
        }
    }
}
