//! Unpacking bodies that Dovecot's compression plugin stored (`spec/dbox.md` 3.5).

use std::io::{self, Read};

use super::message::StoredBody;

/// Longest magic.
const MAGIC_SIZE: usize = 16;
/// Of a method that we can name.
const MAGICS: [(&[u8], Method); 5] = [
    (b"\x1f\x8b", Method::Gzip),
    (b"BZh", Method::Bzip2),
    (b"\xfd7zXZ\0", Method::Xz),
    (b"\x28\xb5\x2f\xfd", Method::Zstd),
    (b"Dovecot-LZ4\x0d\x2a\x9b\xc5", Method::Lz4),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Gzip,
    Bzip2,
    Xz,
    Zstd,
    Lz4,
}

/// Unpacks a body whose plain size is known. The inner error says why that is impossible.
pub(super) fn unpack(
    mut stored: StoredBody,
    plain_size: u64,
) -> io::Result<Result<Box<dyn Read + Send>, &'static str>> {
    let mut start = Vec::new();
    (&mut stored)
        .take(MAGIC_SIZE as u64)
        .read_to_end(&mut start)?;
    let method = MAGICS
        .iter()
        .find(|(magic, _)| start.starts_with(magic))
        .map(|(_, method)| *method);
    let whole = io::Cursor::new(start).chain(stored);
    let _ = (whole, plain_size);
    Ok(Err(match method {
        Some(Method::Gzip) => "gz is not supported yet",
        Some(Method::Bzip2) => "bz2 is not supported yet",
        Some(Method::Xz) => "xz is not supported yet",
        Some(Method::Zstd) => "zstd is not supported yet",
        Some(Method::Lz4) => "lz4 is not supported yet",
        None => "it is packed in a way that is not known, or encrypted (mail-crypt)",
    }))
}
