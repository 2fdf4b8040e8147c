//! Unpacking bodies that Dovecot's compression plugin stored (`spec/dbox.md` 3.5,
//! `spec/maildir.md` 9).
//!
//! A body says, in its metadata or its file name, how large it is unpacked; not a byte more is made of it.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// Longest magic.
const MAGIC_SIZE: usize = 16;
/// Magic of Dovecot's own format, which holds LZ4 blocks.
const LZ4_MAGIC: &[u8] = b"Dovecot-LZ4\x0d\x2a\x9b\xc5";
const GZ_MAGIC: &[u8] = b"\x1f\x8b";
const ZSTD_MAGIC: &[u8] = b"\x28\xb5\x2f\xfd";
const BZ2_MAGIC: &[u8] = b"BZh";
const XZ_MAGIC: &[u8] = b"\xfd7zXZ\0";
/// Largest LZ4 block that is unpacked; Dovecot makes blocks of 64 KiB.
const MAX_LZ4_BLOCK: u32 = 1 << 24;
/// Largest zstd window, as base 2 logarithm: 128 MiB, what every decoder must support.
const MAX_ZSTD_WINDOW: u32 = 27;

/// Whether a file begins as if the plugin had packed it. A mail that is plain may do so, too.
pub(crate) fn looks_packed(file: &File) -> bool {
    let mut start = [0; MAGIC_SIZE];
    let read = file.read_at(&mut start, 0).unwrap_or(0);
    let start = start.get(..read).unwrap_or_default();
    let magics = [GZ_MAGIC, ZSTD_MAGIC, LZ4_MAGIC, BZ2_MAGIC, XZ_MAGIC];
    magics.iter().any(|magic| start.starts_with(magic))
}

/// Unpacks a body whose plain size is known. The inner error says why that is impossible.
pub(crate) fn unpack(
    mut stored: impl Read + Send + 'static,
    plain_size: u64,
) -> io::Result<Result<Box<dyn Read + Send>, &'static str>> {
    let mut start = Vec::new();
    (&mut stored)
        .take(MAGIC_SIZE as u64)
        .read_to_end(&mut start)?;
    let magic = start.clone();
    let whole = io::Cursor::new(start).chain(stored);
    let unpacked: Box<dyn Read + Send> = if magic.starts_with(GZ_MAGIC) {
        Box::new(flate2::read::MultiGzDecoder::new(whole))
    } else if magic.starts_with(ZSTD_MAGIC) {
        let mut decoder = zstd::Decoder::new(whole)?;
        decoder.window_log_max(MAX_ZSTD_WINDOW)?;
        Box::new(decoder)
    } else if magic.starts_with(LZ4_MAGIC) {
        Box::new(Lz4::new(whole)?)
    } else if magic.starts_with(BZ2_MAGIC) {
        Box::new(bzip2::read::MultiBzDecoder::new(whole))
    } else if magic.starts_with(XZ_MAGIC) {
        return Ok(Err("it is compressed with xz, which is not supported"));
    } else if magic.starts_with(b"CRYPTED\x03\x07") {
        return Ok(Err(
            "it is encrypted by Dovecot's mail_crypt plugin; sync through Dovecot on this host",
        ));
    } else {
        return Ok(Err("it is compressed in a way that is not known"));
    };
    Ok(Ok(Box::new(Exactly {
        inner: unpacked,
        left: plain_size,
    })))
}

/// Dovecot's framing of LZ4 blocks: the largest size of a block, then blocks with their packed
/// size, both big endian.
struct Lz4<R> {
    inner: R,
    packed: Vec<u8>,
    block: Vec<u8>,
    /// What of the block was read.
    at: usize,
    max_block: usize,
}

impl<R: Read> Lz4<R> {
    fn new(mut inner: R) -> io::Result<Self> {
        let mut header = [0; LZ4_MAGIC.len() + 4];
        inner.read_exact(&mut header)?;
        let max_block = header
            .last_chunk::<4>()
            .map_or(0, |b| u32::from_be_bytes(*b));
        if max_block > MAX_LZ4_BLOCK {
            return Err(invalid("its LZ4 blocks are too large"));
        }
        Ok(Self {
            inner,
            packed: Vec::new(),
            block: Vec::new(),
            at: 0,
            max_block: max_block as usize,
        })
    }

    /// Unpacks the next block; `false` at the end.
    fn next_block(&mut self) -> io::Result<bool> {
        let mut size = Vec::new();
        (&mut self.inner).take(4).read_to_end(&mut size)?;
        let Some(size) = size.first_chunk::<4>() else {
            return match size.is_empty() {
                true => Ok(false),
                false => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        };
        let size = u32::from_be_bytes(*size) as usize;
        if size > lz4_flex::block::get_maximum_output_size(self.max_block) {
            return Err(invalid("an LZ4 block is too large"));
        }
        self.packed.resize(size, 0);
        self.inner.read_exact(&mut self.packed)?;
        self.block.resize(self.max_block, 0);
        let unpacked = lz4_flex::block::decompress_into(&self.packed, &mut self.block)
            .map_err(|_| invalid("an LZ4 block is damaged"))?;
        self.block.truncate(unpacked);
        self.at = 0;
        Ok(true)
    }
}

impl<R: Read> Read for Lz4<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() {
            if !self.next_block()? {
                return Ok(0);
            }
        }
        let count = self.block.get(self.at..).unwrap_or_default().read(buffer)?;
        self.at += count;
        Ok(count)
    }
}

/// Fails unless there are exactly so many bytes.
struct Exactly {
    inner: Box<dyn Read + Send>,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.inner.read(buffer)?;
        match self.left.checked_sub(count as u64) {
            None => Err(invalid("it is larger than its metadata says")),
            Some(left) if count == 0 && left > 0 => {
                Err(invalid("it is smaller than its metadata says"))
            }
            Some(left) => {
                self.left = left;
                Ok(count)
            }
        }
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(body).unwrap();
        writer.finish().unwrap()
    }

    fn bzip2(body: &[u8]) -> Vec<u8> {
        let mut writer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        writer.write_all(body).unwrap();
        writer.finish().unwrap()
    }

    fn lz4(body: &[u8], block: usize) -> Vec<u8> {
        let mut out = LZ4_MAGIC.to_vec();
        out.extend((block as u32).to_be_bytes());
        for chunk in body.chunks(block) {
            let packed = lz4_flex::block::compress(chunk);
            out.extend((packed.len() as u32).to_be_bytes());
            out.extend(packed);
        }
        out
    }

    fn read(packed: Vec<u8>, size: usize) -> io::Result<Vec<u8>> {
        let unpacked = unpack(io::Cursor::new(packed), size as u64)?;
        let mut body = Vec::new();
        unpacked.map_err(invalid)?.read_to_end(&mut body)?;
        Ok(body)
    }

    #[test]
    fn all_methods() {
        let body: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let zstd = zstd::encode_all(body.as_slice(), 1).unwrap();
        for packed in [gzip(&body), zstd, bzip2(&body), lz4(&body, 65536)] {
            assert_eq!(read(packed.clone(), body.len()).unwrap(), body);
            assert!(read(packed.clone(), body.len() - 1).is_err());
            assert!(read(packed.clone(), body.len() + 1).is_err());
            let cut = packed[..packed.len() - 9].to_vec();
            assert!(read(cut, body.len()).is_err());
        }
        for refused in [&b"\xfd7zXZ\0"[..], b"CRYPTED\x03\x07", b"plain", b""] {
            assert!(unpack(refused, 5).unwrap().is_err(), "{refused:?}");
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_do_no_harm(which in 0..4, bytes: Vec<u8>, size in 0_usize..1000) {
            let mut packed = match which {
                0 => b"\x1f\x8b\x08".to_vec(),
                1 => b"\x28\xb5\x2f\xfd".to_vec(),
                2 => b"BZh9\x31\x41\x59\x26\x53\x59".to_vec(),
                _ => [LZ4_MAGIC, &[0, 1, 0, 0]].concat(),
            };
            packed.extend(bytes);
            if let Ok(body) = read(packed, size) {
                prop_assert_eq!(body.len(), size);
            }
        }
    }
}
