//! Names of mailboxes as IMAP writes them (RFC 3501, 5.1.3).
//!
//! Not the product's own decoder, which the tests are to check.

use anyhow::{Context, Result};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

/// The name in Unicode.
pub(crate) fn decode(name: &str) -> Result<String> {
    let mut out = String::new();
    let mut rest = name;
    while let Some((plain, shifted)) = rest.split_once('&') {
        let (shift, tail) = shifted.split_once('-').context("a shift without end")?;
        out += plain;
        match shift {
            "" => out.push('&'),
            _ => out += &decode_shift(shift).with_context(|| format!("cannot read {name}"))?,
        }
        rest = tail;
    }
    Ok(out + rest)
}

/// UTF-16 in base64.
fn decode_shift(shift: &str) -> Result<String> {
    let (mut bits, mut count) = (0_u32, 0);
    let mut units = Vec::new();
    for byte in shift.bytes() {
        let value = ALPHABET.iter().position(|known| *known == byte);
        bits = bits << 6 | value.context("no base64")? as u32;
        count += 6;
        if count >= 16 {
            count -= 16;
            units.push((bits >> count) as u16);
        }
    }
    Ok(String::from_utf16(&units)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes() {
        for (name, decoded) in [
            ("Gr&APwA3w-e.&AMQ-", "Grüße.Ä"),
            ("a&-b", "a&b"),
            ("&2D3eAA-", "😀"),
            ("", ""),
        ] {
            assert_eq!(decode(name).unwrap(), decoded);
        }
        for wrong in ["&APw", "&!-", "&2D0-"] {
            assert!(decode(wrong).is_err(), "{wrong}");
        }
    }
}
