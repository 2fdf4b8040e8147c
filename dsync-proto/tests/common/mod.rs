//! Helpers shared by the integration tests of this crate.
#![allow(dead_code, clippy::expect_used, clippy::panic, clippy::unwrap_used)]

pub(crate) mod lines;

use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use dsync_proto::items::Item;
use dsync_proto::wire::{DecodeError, Decoder, Encoder, PeerInfo};

/// The folder with captures of real sessions.
pub(crate) fn transcripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/transcripts")
}

/// All captured directions: name and bytes, sorted by name.
pub(crate) fn raw_files() -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(transcripts())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "raw"))
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(&path).unwrap())
        })
        .collect();
    files.sort();
    assert!(files.len() > 40, "captures are missing");
    files
}

/// A small generator of numbers (xorshift), so that every run is the same.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// How a stream is cut before it is pushed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    Whole,
    Bytes,
    Random(u64),
}

pub(crate) const CUTS: [Cut; 5] = [
    Cut::Whole,
    Cut::Bytes,
    Cut::Random(1),
    Cut::Random(2),
    Cut::Random(3),
];

impl Cut {
    pub(crate) fn chunks(self, bytes: &[u8]) -> Vec<Bytes> {
        let mut rest = Bytes::copy_from_slice(bytes);
        let mut random = match self {
            Self::Random(seed) => Random::new(seed),
            _ => Random::new(0),
        };
        let mut chunks = Vec::new();
        while !rest.is_empty() {
            let size = match self {
                Self::Whole => rest.len(),
                Self::Bytes => 1,
                Self::Random(_) => 1 + random.below(70),
            };
            chunks.push(rest.split_to(size.min(rest.len())));
        }
        chunks
    }
}

/// Decodes a whole direction.
pub(crate) fn decode(
    bytes: &[u8],
    cut: Cut,
) -> Result<(PeerInfo, Vec<Item>, Decoder), DecodeError> {
    let mut decoder = Decoder::default();
    let mut items = Vec::new();
    for chunk in cut.chunks(bytes) {
        decoder.push(chunk);
        while let Some(item) = decoder.next_item()? {
            items.push(item);
        }
    }
    let peer = decoder.peer().expect("no header block").clone();
    Ok((peer, items, decoder))
}

/// Encodes a whole direction that begins with the handshake.
pub(crate) fn encode(peer: &PeerInfo, items: &[Item]) -> Vec<u8> {
    let mut encoder = Encoder::new(peer.dialect.clone());
    let mut out = BytesMut::new();
    let Some((Item::Handshake(handshake), rest)) = items.split_first() else {
        panic!("no handshake");
    };
    encoder.start(handshake, &mut out);
    for item in rest {
        encoder.encode(item, &mut out).unwrap();
    }
    out.to_vec()
}

/// Joins the chunks of every body, so that decodings of different cuts can be compared.
pub(crate) fn join_bodies(items: Vec<Item>) -> Vec<Item> {
    let mut joined: Vec<Item> = Vec::new();
    for item in items {
        match (joined.last_mut(), &item) {
            (Some(Item::BodyChunk(last)), Item::BodyChunk(chunk)) => {
                *last = [last.as_ref(), chunk.as_ref()].concat().into();
            }
            _ => joined.push(item),
        }
    }
    joined
}
