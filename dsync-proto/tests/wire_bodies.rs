//! Known answers: bodies (`spec/wire.md` 8).

#![allow(clippy::panic, clippy::unwrap_used)] // clippy knows only test functions, not their helpers

mod common;

use bytes::{Bytes, BytesMut};
use common::lines::{HEADERS, mail_with_body, start};
use common::{CUTS, Cut, decode};
use dsync_proto::items::{Handshake, Item};
use dsync_proto::wire::{Decoder, Eof};

// Section 8: bodies

#[test]
fn bodies() {
    for (body, wire) in [
        (&b""[..], &b"\r\n.\r\n"[..]),
        (b"abc", b"abc\r\n.\r\n"),
        (b"abc\n", b"abc\n\r\n.\r\n"),
        (b"abc\r", b"abc\r\r\n.\r\n"),
        (b"a\r\n.\n", b"a\r\n..\n\r\n.\r\n"),
        (b".x", b"..x\r\n.\r\n"),
        (b"a\r.b", b"a\r.b\r\n.\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b"..", b"...\r\n.\r\n"),
        (b"\n.\n.\n", b"\n..\n..\n\r\n.\r\n"),
        (b"\r\n.\r\n", b"\r\n..\r\n\r\n.\r\n"),
        (b"\0\x01\x02\xff\t", b"\0\x01\x02\xff\t\r\n.\r\n"),
    ] {
        assert_eq!(encode_body(&[body]), wire);
        for cut in CUTS {
            assert_eq!(decode_body(wire, cut), body, "{}", wire.escape_ascii());
            let pieces = cut.chunks(body);
            let pieces: Vec<&[u8]> = pieces.iter().map(AsRef::as_ref).collect();
            assert_eq!(encode_body(&pieces), wire);
        }
    }
}

#[test]
fn bodies_of_other_senders() {
    for (wire, body) in [
        (&b".x\r\n.\r\n"[..], &b"x"[..]), // unstuffed first dot: dropped
        (b".\n", b""),                    // ends at once
        (b".\r\n", b""),
        (b"abc\n.\n", b"abc"),
        (b"abc\r\n.\n", b"abc"),
        (b"a\n.b\n.\r\n", b"a\nb"),
        (b"a\n.\rb\n.\r\n", b"a\n\rb"),
        (b"a\n.\r\r\n.\r\n", b"a\n\r"),
        (b"a\r\r\n.\r\n", b"a\r"),
        (b"\n\n\n.\n", b"\n\n"),
        (b".\r.\n.\n", b"\r."),
    ] {
        for cut in CUTS {
            let decoded = decode_body(wire, cut);
            assert_eq!(decoded, body, "{} {cut:?}", wire.escape_ascii());
        }
    }
}

#[test]
fn a_body_is_handed_out_without_copies() {
    let (mut encoder, text) = start(&Handshake::default());
    let body = Bytes::from(vec![b'x'; 100_000]);
    let mut out = BytesMut::from(text.as_bytes());
    encoder.encode(&mail_with_body(), &mut out).unwrap();
    let slices: Vec<Bytes> = encoder.body_slices(body.clone()).unwrap().collect();
    assert_eq!(slices.len(), 1);
    assert_eq!(slices[0].as_ptr(), body.as_ptr());

    out.extend_from_slice(&body);
    let input = out.freeze();
    let mut decoder = Decoder::default();
    decoder.push(input.clone());
    let mut chunks = Vec::new();
    while let Some(item) = decoder.next_item().unwrap() {
        if let Item::BodyChunk(chunk) = item {
            chunks.push(chunk);
        }
    }
    assert_eq!(chunks.len(), 1);
    let inside = input.as_ptr_range().contains(&chunks[0].as_ptr());
    assert!(inside && chunks[0].len() == body.len());
}

fn encode_body(pieces: &[&[u8]]) -> Vec<u8> {
    let (mut encoder, _) = start(&Handshake::default());
    encoder
        .encode(&mail_with_body(), &mut BytesMut::new())
        .unwrap();
    let mut out = BytesMut::new();
    for piece in pieces {
        let chunk = Item::BodyChunk(Bytes::copy_from_slice(piece));
        encoder.encode(&chunk, &mut out).unwrap();
    }
    encoder.encode(&Item::BodyEnd, &mut out).unwrap();
    assert!(!encoder.is_in_body());
    out.to_vec()
}

fn decode_body(wire: &[u8], cut: Cut) -> Vec<u8> {
    let bytes = [
        format!("{HEADERS}Hh\nMg\t\x02\t\t\x02\t1\t1\t\n").as_bytes(),
        wire,
        b".\n",
    ]
    .concat();
    let (_, items, decoder) = decode(&bytes, cut).unwrap();
    let mut body = Vec::new();
    let mut rest = items[2..].iter();
    for item in rest.by_ref() {
        match item {
            Item::BodyChunk(chunk) => body.extend_from_slice(chunk),
            other => {
                assert_eq!(*other, Item::BodyEnd);
                break;
            }
        }
    }
    assert_eq!(rest.as_slice(), [Item::EndOfList]);
    assert_eq!(decoder.eof(), Eof::BetweenItems);
    body
}
