//! Tab escaping (`spec/wire.md` 2.2), shared with the doveadm protocol.

use std::borrow::Cow;

use bytes::BufMut;

/// Appends `raw` with NUL, 0x01, TAB, CR and LF escaped.
pub fn escape_into(raw: &[u8], out: &mut impl BufMut) {
    let mut rest = raw;
    while let Some(at) = rest.iter().position(|byte| escape_letter(*byte).is_some()) {
        let (plain, tail) = rest.split_at(at);
        out.put_slice(plain);
        let Some((special, tail)) = tail.split_first() else {
            return;
        };
        if let Some(letter) = escape_letter(*special) {
            out.put_slice(&[0x01, letter]);
        }
        rest = tail;
    }
    out.put_slice(rest);
}

/// Undoes [`escape_into`]. 0x01 before any other byte gives that byte; a final 0x01 is dropped.
pub fn unescape(text: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr::memchr(0x01, text) else {
        return Cow::Borrowed(text);
    };
    let (plain, mut rest) = text.split_at(first);
    let mut out = Vec::with_capacity(text.len());
    out.extend_from_slice(plain);
    loop {
        match rest {
            [] | [0x01] => return Cow::Owned(out),
            [0x01, letter, tail @ ..] => {
                out.push(escaped_byte(*letter));
                rest = tail;
            }
            _ => {
                let end = memchr::memchr(0x01, rest).unwrap_or(rest.len());
                let (plain, tail) = rest.split_at(end);
                out.extend_from_slice(plain);
                rest = tail;
            }
        }
    }
}

fn escape_letter(byte: u8) -> Option<u8> {
    match byte {
        0x00 => Some(b'0'),
        0x01 => Some(b'1'),
        b'\t' => Some(b't'),
        b'\r' => Some(b'r'),
        b'\n' => Some(b'n'),
        _ => None,
    }
}

fn escaped_byte(letter: u8) -> u8 {
    match letter {
        b'0' => 0x00,
        b'1' => 0x01,
        b't' => b'\t',
        b'r' => b'\r',
        b'n' => b'\n',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        for (raw, escaped) in [
            (&b""[..], &b""[..]),
            (b"\0", b"\x010"),
            (b"\x01", b"\x011"),
            (b"a\tb\r\nc", b"a\x01tb\x01r\x01nc"),
            (b"\x02\x7f\xff", b"\x02\x7f\xff"),
            (b"\x01\x01t", b"\x011\x011t"),
        ] {
            let mut out = Vec::new();
            escape_into(raw, &mut out);
            assert_eq!(out, escaped);
            assert_eq!(unescape(escaped), raw);
        }
    }

    #[test]
    fn unknown_and_cut_escapes() {
        assert_eq!(&*unescape(b"Esc\x01z\x01"), b"Escz");
        assert_eq!(&*unescape(b"\x01"), b"");
        assert_eq!(&*unescape(b"\x01\x02"), b"\x02");
    }
}
