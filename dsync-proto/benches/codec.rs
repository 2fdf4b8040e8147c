//! How fast items and bodies go through the codec.

#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dsync_proto::header_hash::{HashVersion, HashedHeaders};
use dsync_proto::items::{Change, ChangeKind, Handshake, Item, Mail};
use dsync_proto::types::{Flags, KeywordChange, KeywordOp, MailGuid};
use dsync_proto::wire::{Decoder, Encoder};

const CHUNK: usize = 64 * 1024;
const CHANGES: u32 = 10_000;

fn started() -> (Encoder, BytesMut) {
    let mut encoder = Encoder::default();
    let mut out = BytesMut::new();
    let handshake = Handshake {
        hostname: "host".into(),
        ..Handshake::default()
    };
    encoder.start(&handshake, &mut out);
    (encoder, out)
}

fn mail() -> Item {
    Item::Mail(Mail {
        guid: Some(MailGuid::from("1795447100.M1P1.client,S=210")),
        received_date: 1_795_447_493,
        stream: true,
        ..Mail::default()
    })
}

fn change(uid: u32) -> Item {
    let keyword = |name: &str| KeywordChange::new(KeywordOp::AddFinal, name);
    Item::Change(Change {
        guid: Some(
            format!("{uid}.M720564P31272.host,S=210,W=221")
                .as_str()
                .into(),
        ),
        modseq: 1_234_567,
        final_flags: Flags::SEEN,
        keyword_changes: if uid.is_multiple_of(4) {
            vec![keyword("$Label1"), keyword("work")]
        } else {
            Vec::new()
        },
        virtual_size: Some(u64::MAX),
        ..Change::new(ChangeKind::Save, uid)
    })
}

/// A body whose lines are 76 bytes long; every n-th one begins with a dot.
fn body(dot_every: usize) -> Bytes {
    let mut body = Vec::new();
    for line in 0..200_000 {
        let first = if line % dot_every == 0 { b'.' } else { b'x' };
        body.push(first);
        body.extend_from_slice(&[b'a'; 73]);
        body.extend_from_slice(b"\r\n");
    }
    body.into()
}

fn drain(decoder: &mut Decoder) {
    while let Some(item) = decoder.next_item().unwrap() {
        black_box(item);
    }
}

fn decode_all(wire: &Bytes) {
    let mut decoder = Decoder::default();
    let mut rest = wire.clone();
    while !rest.is_empty() {
        decoder.push(rest.split_to(CHUNK.min(rest.len())));
        drain(&mut decoder);
    }
}

fn bodies(c: &mut Criterion) {
    for (name, dot_every) in [("plain", usize::MAX), ("a dot every 100 lines", 100)] {
        let body = body(dot_every);
        let (mut encoder, mut wire) = started();
        encoder.encode(&mail(), &mut wire).unwrap();
        encoder
            .encode(&Item::BodyChunk(body.clone()), &mut wire)
            .unwrap();
        encoder.encode(&Item::BodyEnd, &mut wire).unwrap();
        let wire = wire.freeze();
        let mut group = c.benchmark_group(format!("body, {name}"));
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function("decode", |b| b.iter(|| decode_all(&wire)));
        group.bench_function("encode to slices", |b| {
            b.iter(|| {
                let mut rest = body.clone();
                let mut encoder = encoder_in_body();
                while !rest.is_empty() {
                    let chunk = rest.split_to(CHUNK.min(rest.len()));
                    encoder.body_slices(chunk).unwrap().for_each(|s| {
                        black_box(s);
                    });
                }
            });
        });
        group.bench_function("encode to one buffer", |b| {
            let mut out = BytesMut::with_capacity(2 * CHUNK);
            b.iter(|| {
                let mut rest = body.clone();
                let mut encoder = encoder_in_body();
                while !rest.is_empty() {
                    let chunk = Item::BodyChunk(rest.split_to(CHUNK.min(rest.len())));
                    out.clear();
                    encoder.encode(&chunk, &mut out).unwrap();
                }
            });
        });
        group.finish();
    }
}

fn encoder_in_body() -> Encoder {
    let (mut encoder, mut out) = started();
    encoder.encode(&mail(), &mut out).unwrap();
    encoder
}

fn changes(c: &mut Criterion) {
    let items: Vec<Item> = (1..=CHANGES).map(change).collect();
    let (mut encoder, mut wire) = started();
    for item in &items {
        encoder.encode(item, &mut wire).unwrap();
    }
    let wire = wire.freeze();
    let mut group = c.benchmark_group("changes");
    group.throughput(Throughput::Elements(u64::from(CHANGES)));
    group.bench_function("decode", |b| b.iter(|| decode_all(&wire)));
    group.bench_function("encode", |b| {
        let mut out = BytesMut::new();
        b.iter(|| {
            out.clear();
            let mut encoder = Encoder::default();
            for item in &items {
                encoder.encode(item, &mut out).unwrap();
            }
        });
    });
    group.finish();
}

fn hashes(c: &mut Criterion) {
    let header =
        b"Return-Path: <a@example.org>\r\nReceived: from mx (mx.example.org [192.0.2.1])\r\n\tby \
        host; Mon, 02 Nov 2026 10:00:00 +0000\r\nDate: Mon, 02 Nov 2026 10:00:00 +0000\r\nFrom: \
        Anna <anna@example.org>\r\nMessage-ID: <1234567890@example.org>\r\nSubject: test\r\n\r\n";
    let headers = HashedHeaders::new(HashVersion::V3, &["Date".into(), "Message-ID".into()]);
    let mut group = c.benchmark_group("header hash");
    group.throughput(Throughput::Elements(1));
    group.bench_function("v3", |b| {
        b.iter(|| {
            let mut hasher = headers.hasher();
            hasher.push(black_box(header));
            hasher.finish()
        });
    });
    group.finish();
}

criterion_group!(benches, bodies, changes, hashes);
criterion_main!(benches);
