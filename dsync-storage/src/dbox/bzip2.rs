//! Unpacks bzip2 streams. No crate that we use does it.
//!
//! A stream is a row of blocks of at most 900,000 bytes, each of them: runs of four to 255 equal
//! bytes shortened, then the Burrows-Wheeler transform, move to front, runs of zeros as numbers,
//! and Huffman codes, whose table changes every 50 symbols.

use std::io::{self, Read};

/// Size of a block per level.
const BLOCK_UNIT: usize = 100_000;
const BLOCK_MAGIC: u64 = 0x3141_5926_5359;
const END_MAGIC: u64 = 0x1772_4538_5090;
/// Symbols that are coded with one table.
const GROUP_SIZE: usize = 50;
/// Longest Huffman code.
const MAX_LENGTH: usize = 20;

/// Reads what was packed.
pub(super) struct Bzip2<R> {
    bits: Bits<R>,
    block_size: usize,
    /// The block before shortened runs are made long again.
    block: Vec<u8>,
    at: usize,
    runs: Runs,
    crc: u32,
    wanted_crc: u32,
    ended: bool,
}

/// Where we are in a run of equal bytes.
#[derive(Default)]
struct Runs {
    last: Option<u8>,
    length: u8,
    repeat: u8,
}

impl<R: Read> Bzip2<R> {
    pub(super) fn new(inner: R) -> io::Result<Self> {
        let mut bits = Bits {
            inner: io::BufReader::new(inner),
            value: 0,
            count: 0,
        };
        let block_size = stream_header(&mut bits)?;
        Ok(Self {
            bits,
            block_size,
            block: Vec::new(),
            at: 0,
            runs: Runs::default(),
            crc: u32::MAX,
            wanted_crc: 0,
            ended: false,
        })
    }

    /// The next byte; `None` at the end of the block.
    fn next_byte(&mut self) -> Option<u8> {
        if self.runs.repeat > 0 {
            self.runs.repeat -= 1;
            return self.runs.last;
        }
        let byte = *self.block.get(self.at)?;
        self.at += 1;
        if self.runs.last != Some(byte) {
            self.runs.last = Some(byte);
            self.runs.length = 0;
        }
        self.runs.length += 1;
        if self.runs.length == 4 {
            // The byte behind four equal ones says how many more there are.
            self.runs.repeat = self.block.get(self.at).copied().unwrap_or(0);
            self.at += 1;
            self.runs.length = 0;
            let last = self.runs.last;
            if self.runs.repeat == 0 {
                self.runs.last = None;
            }
            return last;
        }
        Some(byte)
    }

    /// Reads the next block; `false` at the end of the last stream.
    fn next_block(&mut self) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        loop {
            let magic = u64::from(self.bits.take(24)?) << 24 | u64::from(self.bits.take(24)?);
            match magic {
                BLOCK_MAGIC => break,
                END_MAGIC => {
                    self.bits.take(32)?; // the checksum of the blocks' checksums
                    self.bits.count -= self.bits.count % 8;
                    if !self.bits.has_more()? {
                        self.ended = true;
                        return Ok(false);
                    }
                    self.block_size = stream_header(&mut self.bits)?;
                }
                _ => return Err(invalid("a block has no valid start")),
            }
        }
        self.wanted_crc = self.bits.take(32)?;
        self.crc = u32::MAX;
        self.block = read_block(&mut self.bits, self.block_size)?;
        self.at = 0;
        self.runs = Runs::default();
        Ok(true)
    }
}

impl<R: Read> Read for Bzip2<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.next_byte() {
                Some(byte) => {
                    self.crc = update_crc(self.crc, byte);
                    if let Some(place) = buffer.get_mut(done) {
                        *place = byte;
                    }
                    done += 1;
                }
                None if !self.block.is_empty() && !self.crc != self.wanted_crc => {
                    return Err(invalid("a block has a wrong checksum"));
                }
                None => {
                    self.block.clear();
                    self.at = 0;
                    if done > 0 {
                        break;
                    }
                    if !self.next_block()? {
                        break;
                    }
                }
            }
        }
        Ok(done)
    }
}

fn stream_header<R: Read>(bits: &mut Bits<R>) -> io::Result<usize> {
    let magic = bits.take(24)?;
    let level = bits.take(8)?;
    if magic != 0x42_5a_68 || !(0x31..=0x39).contains(&level) {
        return Err(invalid("it is no bzip2 stream"));
    }
    Ok((level as usize - 0x30) * BLOCK_UNIT)
}

fn read_block<R: Read>(bits: &mut Bits<R>, block_size: usize) -> io::Result<Vec<u8>> {
    if bits.take(1)? != 0 {
        return Err(invalid("it was packed by bzip2 0.9 or older"));
    }
    let start = bits.take(24)? as usize;
    let symbols = read_symbols(bits)?;
    let tables_count = bits.take(3)? as usize;
    let selectors_count = bits.take(15)? as usize;
    if !(2..=6).contains(&tables_count) || selectors_count == 0 {
        return Err(invalid("a block has no valid tables"));
    }
    let mut order: Vec<usize> = (0..tables_count).collect();
    let mut selectors = Vec::with_capacity(selectors_count);
    for _ in 0..selectors_count {
        let mut position = 0;
        while bits.take(1)? == 1 {
            position += 1;
            if position >= tables_count {
                return Err(invalid("a block has no valid selectors"));
            }
        }
        selectors.push(to_front(&mut order, position));
    }
    let mut tables = Vec::with_capacity(tables_count);
    for _ in 0..tables_count {
        tables.push(Table::read(bits, symbols.len() + 2)?);
    }
    let transformed = read_transformed(bits, symbols, &tables, &selectors, block_size)?;
    untransform(&transformed, start)
}

/// Which bytes there are in the block.
fn read_symbols<R: Read>(bits: &mut Bits<R>) -> io::Result<Vec<u8>> {
    let used = bits.take(16)?;
    let mut symbols = Vec::new();
    for high in (0..16_u8).filter(|high| used & (0x8000 >> high) != 0) {
        let row = bits.take(16)?;
        let bytes = (0..16_u8).filter(|low| row & (0x8000 >> low) != 0);
        symbols.extend(bytes.map(|low| high * 16 + low));
    }
    match symbols.is_empty() {
        true => Err(invalid("a block has no bytes")),
        false => Ok(symbols),
    }
}

/// Undoes Huffman codes, runs of zeros and move to front.
fn read_transformed<R: Read>(
    bits: &mut Bits<R>,
    mut symbols: Vec<u8>,
    tables: &[Table],
    selectors: &[usize],
    block_size: usize,
) -> io::Result<Vec<u8>> {
    let end = symbols.len() + 1;
    let mut out = Vec::with_capacity(block_size.min(1 << 16));
    let (mut run, mut weight) = (0_usize, 1_usize);
    for selector in selectors {
        let table = tables
            .get(*selector)
            .ok_or_else(|| invalid("no such table"))?;
        for _ in 0..GROUP_SIZE {
            let symbol = table.decode(bits)?;
            if symbol < 2 {
                run = run.saturating_add(weight << symbol);
                weight = weight.saturating_mul(2).min(1 << 24);
                if run > block_size {
                    return Err(invalid("a block is too large"));
                }
                continue;
            }
            if out.len() + run >= block_size + usize::from(symbol == end) {
                return Err(invalid("a block is too large"));
            }
            let first = symbols.first().copied().unwrap_or(0);
            out.resize(out.len() + run, first);
            (run, weight) = (0, 1);
            if symbol == end {
                return Ok(out);
            }
            out.push(to_front(&mut symbols, symbol - 1));
        }
    }
    Err(invalid("a block does not end"))
}

/// Undoes the Burrows-Wheeler transform.
fn untransform(transformed: &[u8], start: usize) -> io::Result<Vec<u8>> {
    if start >= transformed.len() {
        return Err(invalid("a block begins outside of itself"));
    }
    let mut places = [0_usize; 256];
    for byte in transformed {
        places[usize::from(*byte)] += 1;
    }
    let mut sum = 0;
    for place in &mut places {
        sum += std::mem::replace(place, sum);
    }
    let mut next = vec![0_u32; transformed.len()];
    for (position, byte) in (0_u32..).zip(transformed) {
        let place = &mut places[usize::from(*byte)];
        if let Some(entry) = next.get_mut(*place) {
            *entry = position;
        }
        *place += 1;
    }
    let mut out = Vec::with_capacity(transformed.len());
    let mut at = next.get(start).copied().unwrap_or(0) as usize;
    for _ in 0..transformed.len() {
        out.push(transformed.get(at).copied().unwrap_or(0));
        at = next.get(at).copied().unwrap_or(0) as usize;
    }
    Ok(out)
}

fn to_front<T: Copy + Default>(list: &mut [T], position: usize) -> T {
    match list.get_mut(..=position) {
        Some(part) => {
            part.rotate_right(1);
            part.first().copied().unwrap_or_default()
        }
        None => T::default(),
    }
}

/// A canonical Huffman code.
struct Table {
    /// How many codes of each length there are.
    counts: [u32; MAX_LENGTH + 1],
    /// Symbols by rising code.
    symbols: Vec<u16>,
}

impl Table {
    fn read<R: Read>(bits: &mut Bits<R>, size: usize) -> io::Result<Self> {
        let mut lengths = Vec::with_capacity(size);
        let mut length = bits.take(5)? as usize;
        for _ in 0..size {
            loop {
                if !(1..=MAX_LENGTH).contains(&length) {
                    return Err(invalid("a code is too long"));
                }
                if bits.take(1)? == 0 {
                    break;
                }
                match bits.take(1)? {
                    0 => length += 1,
                    _ => length -= 1,
                }
            }
            lengths.push(length);
        }
        let mut counts = [0; MAX_LENGTH + 1];
        let mut symbols: Vec<u16> = (0..size as u16).collect();
        symbols.sort_by_key(|symbol| lengths.get(usize::from(*symbol)).copied());
        for length in lengths {
            counts[length] += 1;
        }
        Ok(Self { counts, symbols })
    }

    fn decode<R: Read>(&self, bits: &mut Bits<R>) -> io::Result<usize> {
        let (mut code, mut first, mut index) = (0_u32, 0_u32, 0_u32);
        for count in &self.counts[1..] {
            code |= bits.take(1)?;
            if let Some(offset) = code.checked_sub(first).filter(|offset| offset < count) {
                let symbol = self.symbols.get((index + offset) as usize);
                return symbol
                    .map(|symbol| usize::from(*symbol))
                    .ok_or_else(|| invalid("a code stands for nothing"));
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        Err(invalid("a code stands for nothing"))
    }
}

/// Bits, the highest of each byte first.
struct Bits<R> {
    inner: io::BufReader<R>,
    value: u64,
    count: u32,
}

impl<R: Read> Bits<R> {
    /// At most 32 bits.
    fn take(&mut self, count: u32) -> io::Result<u32> {
        while self.count < count {
            let mut byte = [0];
            self.inner.read_exact(&mut byte)?;
            self.value = (self.value << 8) | u64::from(byte[0]);
            self.count += 8;
        }
        self.count -= count;
        let value = self.value >> self.count;
        Ok((value & ((1 << count) - 1)) as u32)
    }

    /// Whether there is another byte. Whole bytes only were taken.
    fn has_more(&mut self) -> io::Result<bool> {
        if self.count > 0 {
            return Ok(true);
        }
        let more = io::BufRead::fill_buf(&mut self.inner)?;
        Ok(!more.is_empty())
    }
}

/// CRC-32 with the highest bit first.
fn update_crc(crc: u32, byte: u8) -> u32 {
    let index = (crc >> 24) as u8 ^ byte;
    (crc << 8) ^ CRC_TABLE[usize::from(index)]
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut number = 0;
    while number < 256 {
        let mut crc = (number as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc << 1)
                ^ (if crc & 0x8000_0000 != 0 {
                    0x04c1_1db7
                } else {
                    0
                });
            bit += 1;
        }
        table[number] = crc;
        number += 1;
    }
    table
};

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("bzip2: {why}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `printf 'hello hello hello\n' | bzip2 -9`, and `printf ''`.
    const HELLO: &str = "425a6839314159265359e5b5f3090000045100001040000244a00021b5180c029069c2a30bb9229c284872daf98480";
    const EMPTY: &str = "425a683917724538509000000000";
    /// Forty `a` and a line end; the run is shortened.
    const RUN: &str =
        "425a6839314159265359244bf88c000002d10000100400200020002126419860b8bb9229c28481225fc460";

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2)
            .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
            .collect()
    }

    fn unpack(packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Bzip2::new(packed)?.take(1 << 20).read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn streams_of_the_program() {
        assert_eq!(unpack(&bytes(HELLO)).unwrap(), b"hello hello hello\n");
        assert_eq!(unpack(&bytes(EMPTY)).unwrap(), b"");
        let run = ["a".repeat(40), "\n".into()].concat();
        assert_eq!(unpack(&bytes(RUN)).unwrap(), run.as_bytes());
        let both = [bytes(HELLO), bytes(RUN)].concat();
        assert_eq!(unpack(&both).unwrap().len(), 18 + 41);
    }

    #[test]
    fn damage_is_an_error() {
        let packed = bytes(HELLO);
        for end in 0..packed.len() {
            assert!(unpack(&packed[..end]).is_err(), "cut at {end}");
        }
        let mut wrong = packed;
        wrong[12] ^= 1; // the checksum
        assert!(unpack(&wrong).is_err());
    }

    proptest! {
        #[test]
        fn hostile_bytes_do_no_harm(
            garbage: Vec<u8>,
            holes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let start = [b"BZh9\x31\x41\x59\x26\x53\x59", garbage.as_slice()].concat();
            let _ = unpack(&start);
            let mut packed = bytes(HELLO);
            for (at, value) in holes {
                let at = at.index(packed.len());
                packed[at] = value;
            }
            let _ = unpack(&packed);
        }
    }
}
