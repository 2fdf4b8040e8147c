//! Runs the fuzz targets for a moment, on damaged captures, the same ones at every run.

#![allow(clippy::unwrap_used)] // clippy knows only test functions, not their helpers

mod common;
#[allow(clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]
#[path = "../../fuzz/targets.rs"]
mod targets;

use std::path::Path;

use common::{Random, raw_files, transcripts};

/// Bytes that mean something to one of the parsers.
const TOKENS: [&[u8]; 24] = [
    b"\n",
    b"\t",
    b"\x02",
    b"\x01t",
    b"\x01n",
    b"\x01",
    b"\0",
    b"\r",
    b".\n",
    b"\r\n.\r\n",
    b"\n.",
    b"X\n",
    b"Cs\t1\tg\n",
    b"Mg\t\x02\t\t\x02\t1\t1\t\n",
    b"Ap\tk\t\x02\t\n",
    b"F\n",
    b"R\x02\t1\n",
    b"18446744073709551615",
    b"-1",
    b"4294967296",
    b"Date: x\n",
    b" ",
    b"+\n",
    b"L\0\0\0\x02\x04x",
];

/// Changes a few places of the sample.
fn mutate(sample: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = sample.to_vec();
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len() + 1);
        match random.below(5) {
            0 if at < bytes.len() => bytes[at] = random.next() as u8,
            1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            2 => bytes.truncate(at.max(bytes.len() / 2)),
            3 => {
                let end = (at + random.below(20)).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                let token = TOKENS[random.below(TOKENS.len())];
                bytes.splice(at..at, token.iter().copied());
            }
        }
    }
    bytes
}

fn run(target: fn(&[u8]), samples: &[Vec<u8>], rounds: usize, seed: u64) {
    let mut random = Random::new(seed);
    for sample in samples {
        target(sample);
    }
    for _ in 0..rounds {
        let sample = &samples[random.below(samples.len())];
        target(&mutate(sample, &mut random));
    }
}

fn with_seed(bytes: &[u8]) -> Vec<u8> {
    [&[7], bytes].concat()
}

#[test]
fn decoder() {
    let samples: Vec<Vec<u8>> = raw_files()
        .into_iter()
        .map(|(_, raw)| with_seed(&raw))
        .filter(|sample| sample.len() < 5000)
        .collect();
    run(targets::decoder, &samples, 4000, 1);
}

#[test]
fn item() {
    let mut samples = Vec::new();
    for (_, raw) in raw_files() {
        let lines = raw.split(|byte| *byte == b'\n').skip(14);
        samples.extend(lines.map(<[u8]>::to_vec).filter(|line| line.len() < 500));
    }
    samples.sort();
    samples.dedup();
    run(targets::item, &samples, 6000, 2);
}

#[test]
fn body() {
    let samples = [
        &b"\x01"[..],
        b"\x02.\n..\n.\r\nX\n",
        b"\x03From: a\n\n.\n",
        b"\x04\r\n.\r\n\r\r\n.\r.\n",
    ]
    .map(<[u8]>::to_vec);
    run(targets::body, &samples, 6000, 3);
}

#[test]
fn state_string() {
    let mut samples = vec![b"AQAAAHm4+Jk=".to_vec()];
    for entry in std::fs::read_dir(transcripts()).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().contains(".state-") {
            samples.push(std::fs::read(path).unwrap());
        }
    }
    samples.sort();
    run(targets::state_string, &samples, 10_000, 4);
}

#[test]
fn header_hash() {
    let samples = [
        &b"\x01Date: x\r\nMessage-ID: <a@b>\r\n\r\n"[..],
        b"\x02From: x\nDate : \xe4\xff?\n folded\nno colon\n: no name\n\nbody",
        b"\x03date:\r\r\n\r\r\n\r\n",
    ]
    .map(<[u8]>::to_vec);
    run(targets::header_hash, &samples, 3000, 5);
}

#[test]
fn doveadm() {
    let mut samples = Vec::new();
    for entry in std::fs::read_dir(transcripts().join("doveadm-tcp")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            for file in ["client.raw", "server.raw"] {
                samples.push(with_seed(&std::fs::read(path.join(file)).unwrap()));
            }
        }
    }
    samples.sort();
    run(targets::doveadm, &samples, 3000, 6);
}

/// Everything in the corpus, which includes what a fuzzer once found.
#[test]
fn corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let mut files = 0;
    for (name, target) in [
        ("decoder", targets::decoder as fn(&[u8])),
        ("item", targets::item),
        ("body", targets::body),
        ("state_string", targets::state_string),
        ("header_hash", targets::header_hash),
        ("doveadm", targets::doveadm),
    ] {
        for entry in std::fs::read_dir(corpus.join(name)).unwrap() {
            target(&std::fs::read(entry.unwrap().path()).unwrap());
            files += 1;
        }
    }
    assert!(files >= 20, "the corpus is missing");
}
