//! Modified UTF-7 (RFC 3501 5.1.3) with Dovecot's rules (`spec/maildir.md` 4.2).

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

/// Encodes a name. Every name has exactly one encoding.
pub(crate) fn encode(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut chars = name.chars().peekable();
    while let Some(&c) = chars.peek() {
        if is_direct(c) {
            out.push(c);
            if c == '&' {
                out.push('-');
            }
            chars.next();
            continue;
        }
        out.push('&');
        let mut shift = Base64::default();
        while let Some(c) = chars.next_if(|c| !is_direct(*c)) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                shift.push(*unit, &mut out);
            }
        }
        shift.finish(&mut out);
        out.push('-');
    }
    out
}

/// Decodes a name; `None` if it is not valid, including encodings that [`encode`] avoids. Only
/// the unused low bits at the end of a shift are not looked at.
pub(crate) fn decode(bytes: &[u8]) -> Option<String> {
    let mut out = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if !(0x20..0x7f).contains(&byte) {
            return None;
        }
        if byte != b'&' {
            out.push(char::from(byte));
            continue;
        }
        let end = memchr::memchr(b'-', rest)?;
        let shift = &rest[..end];
        rest = &rest[end + 1..];
        if shift.is_empty() {
            out.push('&');
            continue;
        }
        decode_shift(shift, &mut out)?;
        // The next shift belonged into this one.
        if rest.starts_with(b"&") && !rest.starts_with(b"&-") {
            return None;
        }
    }
    Some(out)
}

fn decode_shift(text: &[u8], out: &mut String) -> Option<()> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut bits = 0_u32;
    let mut count = 0;
    for byte in text {
        let value = ALPHABET.iter().position(|letter| letter == byte)?;
        bits = bits << 6 | u32::try_from(value).ok()?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    // Four letters hold three bytes; a single letter behind them holds none at all.
    if bytes.is_empty() || bytes.len() % 2 != 0 || text.len() % 4 == 1 {
        return None;
    }
    let units = bytes
        .chunks_exact(2)
        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    for c in char::decode_utf16(units) {
        let c = c.ok()?;
        if c == '\0' || is_direct(c) {
            return None;
        }
        out.push(c);
    }
    Some(())
}

/// Characters that stand for themselves (`&` as `&-`).
fn is_direct(c: char) -> bool {
    matches!(c, ' '..='~')
}

#[derive(Default)]
struct Base64 {
    bits: u32,
    count: u32,
}

impl Base64 {
    fn push(&mut self, unit: u16, out: &mut String) {
        self.bits = self.bits << 16 | u32::from(unit);
        self.count += 16;
        while self.count >= 6 {
            self.count -= 6;
            self.letter(self.bits >> self.count, out);
        }
        self.bits &= (1 << self.count) - 1;
    }

    fn finish(&self, out: &mut String) {
        if self.count > 0 {
            self.letter(self.bits << (6 - self.count), out);
        }
    }

    fn letter(&self, value: u32, out: &mut String) {
        out.push(char::from(ALPHABET[(value & 0x3f) as usize]));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn vectors() {
        for (name, encoded) in [
            ("é", "&AOk-"),
            ("&x", "&-x"),
            ("Ünï", "&ANw-n&AO8-"),
            ("\t", "&AAk-"),
            ("", ""),
            ("a b~", "a b~"),
            ("😀", "&2D3eAA-"),
            ("a-é-", "a-&AOk--"),
            ("é&", "&AOk-&-"),
        ] {
            assert_eq!(encode(name), encoded);
            assert_eq!(decode(encoded.as_bytes()).as_deref(), Some(name));
        }
        // Unused low bits are not looked at.
        assert_eq!(decode(b"&AOl-").as_deref(), Some("é"));
    }

    #[test]
    fn invalid_names() {
        for name in [
            &b"\xc3\xa9"[..],
            b"a\tb",
            b"a\x7f",
            b"&",
            b"&foo",
            b"&AOk",
            b"&A-",
            b"&AO-",
            b"&AOkA-",
            b"&AO/-",
            b"&2D0-",
            b"&3gA-",
            b"&AAA-",
            b"&AGE-",
            b"&ACY-",
            b"&AOk-&AOk-",
        ] {
            assert_eq!(decode(name), None, "{}", String::from_utf8_lossy(name));
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_can_be_decoded(name in "[^\0]*") {
            let encoded = encode(&name);
            prop_assert!(encoded.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
            prop_assert_eq!(decode(encoded.as_bytes()), Some(name));
        }

        #[test]
        fn what_can_be_decoded_has_the_same_encoding_but_for_unused_bits(
            bytes in "[&A-D0-9a,+-]{0,12}"
        ) {
            if let Some(name) = decode(bytes.as_bytes()) {
                prop_assert_eq!(encode(&name).len(), bytes.len());
            }
        }

        #[test]
        fn garbage_does_no_harm(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }
}
