//! Numbers on the wire (`spec/wire.md` 2.4), strict as Dovecot reads them.

use crate::types::Guid;

/// Digits only; `None` for anything else and on overflow.
pub(crate) fn parse_u64(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// As [`parse_u64`], within 32 bits.
pub(crate) fn parse_u32(text: &[u8]) -> Option<u32> {
    parse_u64(text)?.try_into().ok()
}

/// Seconds since the epoch: digits with an optional minus sign.
pub(crate) fn parse_time(text: &[u8]) -> Option<i64> {
    match text.strip_prefix(b"-") {
        Some(digits) => 0_i64.checked_sub_unsigned(parse_u64(digits)?),
        None => parse_u64(text)?.try_into().ok(),
    }
}

/// Hex digits of either case without `0x`, within 64 bits.
pub(crate) fn parse_hex(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |sum, byte| {
        let digit = char::from(*byte).to_digit(16)?;
        if sum >> 60 != 0 {
            return None;
        }
        Some(sum << 4 | u64::from(digit))
    })
}

/// As [`parse_hex`], within 8 bits.
pub(crate) fn parse_hex8(text: &[u8]) -> Option<u8> {
    parse_hex(text)?.try_into().ok()
}

/// Appends the number in decimal.
pub(crate) fn write_u64(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    for slot in digits.iter_mut().rev() {
        *slot = b'0' + (number % 10) as u8;
        number /= 10;
        at -= 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

/// Appends the number in decimal, with a minus sign if it is negative.
pub(crate) fn write_i64(number: i64, out: &mut Vec<u8>) {
    if number < 0 {
        out.push(b'-');
    }
    write_u64(number.unsigned_abs(), out);
}

/// Appends the number in lower-case hex without leading zeros.
pub(crate) fn write_hex(number: u64, out: &mut Vec<u8>) {
    let digits = (16 - number.leading_zeros() / 4).max(1);
    for place in (0..digits).rev() {
        out.push(hex_digit((number >> (4 * place)) as u8));
    }
}

/// Appends the 32 hex digits of a GUID.
pub(crate) fn write_guid(guid: &Guid, out: &mut Vec<u8>) {
    for byte in guid.0 {
        out.push(hex_digit(byte >> 4));
        out.push(hex_digit(byte));
    }
}

fn hex_digit(low_bits: u8) -> u8 {
    match low_bits & 0x0f {
        digit @ 0..=9 => b'0' + digit,
        digit => b'a' + digit - 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal() {
        assert_eq!(parse_u32(b"0"), Some(0));
        assert_eq!(parse_u32(b"0007"), Some(7));
        assert_eq!(parse_u32(b"4294967295"), Some(u32::MAX));
        assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
        for bad in [
            "",
            "+1",
            "-1",
            " 1",
            "1 ",
            "4294967296",
            "1a",
            "99999999999999999999999",
        ] {
            assert_eq!(parse_u32(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(parse_u64(b"18446744073709551616"), None);
    }

    #[test]
    fn times() {
        assert_eq!(parse_time(b"-5"), Some(-5));
        assert_eq!(parse_time(b"9223372036854775807"), Some(i64::MAX));
        assert_eq!(parse_time(b"-9223372036854775808"), Some(i64::MIN));
        for bad in [
            "",
            "-",
            "--1",
            "+1",
            "9223372036854775808",
            "-9223372036854775809",
        ] {
            assert_eq!(parse_time(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn hex() {
        assert_eq!(parse_hex(b"FFFFffffffffffff"), Some(u64::MAX));
        assert_eq!(parse_hex(b"0000000000000000001"), Some(1));
        assert_eq!(parse_hex8(b"ff"), Some(0xff));
        assert_eq!(parse_hex8(b"100"), None);
        for bad in ["", "0x1", "g", "10000000000000000"] {
            assert_eq!(parse_hex(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn writing() {
        let text = |write: fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(|out| write_u64(0, out)), "0");
        assert_eq!(text(|out| write_u64(u64::MAX, out)), "18446744073709551615");
        assert_eq!(text(|out| write_i64(i64::MIN, out)), "-9223372036854775808");
        assert_eq!(text(|out| write_hex(0, out)), "0");
        assert_eq!(text(|out| write_hex(0x10, out)), "10");
        assert_eq!(text(|out| write_hex(u64::MAX, out)), "ffffffffffffffff");
    }
}
