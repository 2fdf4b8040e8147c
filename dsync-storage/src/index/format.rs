//! Numbers and paddings on disk (`spec/dovecot-index.md` 2). Everything is little endian.

/// Largest log record, and largest log that is read: the offset encoding ends here.
pub(crate) const MAX_LOG_SIZE: u64 = 1 << 30;

/// The offset encoding: multiples of 4 below 2^30, each byte with bit 7 set.
pub(crate) fn encode_offset(value: u32) -> [u8; 4] {
    let groups = value / 4;
    [groups >> 21, groups >> 14, groups >> 7, groups].map(|group| 0x80 | (group & 0x7f) as u8)
}

/// Undoes [`encode_offset`]; 0 (not written yet) if a byte lacks bit 7.
pub(crate) fn decode_offset(bytes: [u8; 4]) -> u32 {
    if bytes.iter().any(|byte| byte & 0x80 == 0) {
        return 0;
    }
    bytes
        .iter()
        .fold(0, |value, byte| value << 7 | u32::from(byte & 0x7f))
        * 4
}

/// Numbers one behind the other.
pub(crate) fn encode_u32s(numbers: &[u32]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect()
}

/// Rounds up to a multiple of 4.
pub(crate) fn pad4(size: usize) -> usize {
    size.next_multiple_of(4)
}

/// Rounds up to a multiple of 8.
pub(crate) fn pad8(size: usize) -> usize {
    size.next_multiple_of(8)
}

/// The bytes at this place, if they exist.
pub(crate) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_le_bytes)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_of_the_specification() {
        for (value, bytes) in [
            (8, [0x80, 0x80, 0x80, 0x82]),
            (12, [0x80, 0x80, 0x80, 0x83]),
            (20, [0x80, 0x80, 0x80, 0x85]),
            (512, [0x80, 0x80, 0x81, 0x80]),
            ((1 << 30) - 4, [0xff; 4]),
        ] {
            assert_eq!(encode_offset(value), bytes);
            assert_eq!(decode_offset(bytes), value);
        }
        assert_eq!(decode_offset([0x80, 0x80, 0, 0x85]), 0);
    }
}
