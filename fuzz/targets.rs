//! What the fuzz targets do with their bytes; panics if something is wrong.
//!
//! `dsync-proto/tests/fuzz_smoke.rs` runs the same functions under plain `cargo test`.

use bytes::{Bytes, BytesMut};
use dsync_proto::doveadm::multiplex::{PacketDecoder, write_packets};
use dsync_proto::doveadm::{
    AuthLine, ClientLine, Greeting, Lines, LogDecoder, ReplyDecoder, Status, parse_client_version,
};
use dsync_proto::header_hash::{HashVersion, HashedHeaders};
use dsync_proto::items::{Handshake, Item, Mail};
use dsync_proto::limits::{self, Limits};
use dsync_proto::state_string;
use dsync_proto::types::MailGuid;
use dsync_proto::wire::{DecodeError, Decoder, Dialect, Encoder, PeerInfo};

/// Everything that a decoder said about a stream.
type Decoded = (Option<PeerInfo>, Vec<Item>, Option<DecodeError>);

/// A whole stream of a peer: the cut must not matter, and what was understood must survive being
/// sent on.
pub fn decoder(data: &[u8]) {
    let Some((seed, stream)) = data.split_first() else {
        return;
    };
    let whole = decode(&[Bytes::copy_from_slice(stream)]);
    let cut = decode(&cut(stream, *seed));
    assert_eq!(whole, cut, "the cut of the stream matters");
    let (peer, items, _) = whole;
    if let (Some(peer), Some((Item::Handshake(handshake), rest))) = (peer, items.split_first()) {
        round_trip(peer.dialect, handshake, rest);
    }
}

/// One line of a peer with a normal start.
pub fn item(data: &[u8]) {
    let line = data.split(|byte| *byte == b'\n').next().unwrap_or(data);
    let mut stream = BytesMut::new();
    let handshake = handshake();
    Encoder::default().start(&handshake, &mut stream);
    stream.extend_from_slice(line);
    stream.extend_from_slice(b"\n");
    let (_, items, _) = decode(&[stream.freeze()]);
    if let Some((_, rest)) = items.split_first() {
        round_trip(Dialect::default(), &handshake, rest);
    }
}

/// A body on its way through an encoder and a decoder, both in pieces.
pub fn body(data: &[u8]) {
    let Some((seed, body)) = data.split_first() else {
        return;
    };
    let mut wire = BytesMut::new();
    let mut encoder = Encoder::default();
    encoder.start(&handshake(), &mut wire);
    let mail = Item::Mail(Mail {
        guid: Some(MailGuid::from("g")),
        stream: true,
        ..Mail::default()
    });
    encoder.encode(&mail, &mut wire).expect("mail");
    for chunk in cut(body, *seed) {
        for slice in encoder.body_slices(chunk).expect("body is open") {
            wire.extend_from_slice(&slice);
        }
    }
    encoder
        .encode(&Item::BodyEnd, &mut wire)
        .expect("end of body");
    encoder.encode(&Item::Done, &mut wire).expect("done");
    let (_, items, error) = decode(&cut(&wire, seed.wrapping_mul(31)));
    assert_eq!(error, None);
    let [
        Item::Handshake(_),
        Item::Mail(_),
        between @ ..,
        Item::BodyEnd,
        Item::Done,
    ] = &items[..]
    else {
        panic!("the body spoke protocol: {items:?}");
    };
    match between {
        [] => assert!(body.is_empty()),
        [Item::BodyChunk(chunk)] => assert_eq!(chunk, body),
        other => panic!("not one body: {other:?}"),
    }
}

/// A state string is an error, or comes back.
pub fn state_string(data: &[u8]) {
    if let Ok(states) = state_string::import(data) {
        let text = state_string::export(&states);
        assert_eq!(state_string::import(text.as_bytes()), Ok(states));
    }
}

/// The cut must not matter, nor what comes behind the header.
pub fn header_hash(data: &[u8]) {
    let Some((seed, message)) = data.split_first() else {
        return;
    };
    let names = ["Date".into(), "Message-ID".into()];
    for version in [HashVersion::V1, HashVersion::V2, HashVersion::V3] {
        for headers in [
            HashedHeaders::new(version, &names),
            HashedHeaders::as_dovecot_server(version, &names),
        ] {
            let mut whole = headers.hasher();
            let complete = whole.push(message);
            let mut cut_up = headers.hasher();
            for chunk in cut(message, *seed) {
                if cut_up.push(&chunk) {
                    break;
                }
            }
            assert_eq!(cut_up.is_complete(), complete);
            assert_eq!(cut_up.finish(), whole.finish());
        }
    }
}

/// Lines, replies, packets and log lines of the doveadm protocol.
pub fn doveadm(data: &[u8]) {
    let Some((seed, stream)) = data.split_first() else {
        return;
    };
    let mut lines = Lines::new(limits::DOVEADM_HANDSHAKE);
    for chunk in cut(stream, *seed) {
        lines.push(&chunk);
        while let Ok(Some(line)) = lines.next_line() {
            doveadm_line(&line);
        }
    }
    let mut replies = ReplyDecoder::default();
    let mut packets = PacketDecoder::default();
    let mut logs = LogDecoder::default();
    let mut written = Vec::new();
    for mut chunk in cut(stream, *seed) {
        packets.push(chunk.clone());
        while let Some((channel, data)) = packets.next_data() {
            assert!(!data.is_empty());
            logs.decode(&data);
            write_packets(channel, &data, &mut written);
        }
        while !chunk.is_empty() {
            match replies.decode(&mut chunk) {
                Ok(Some(reply)) => {
                    let mut text = Vec::new();
                    reply.write(&mut text);
                    let again = ReplyDecoder::default().decode(&mut text.into());
                    assert_eq!(again, Ok(Some(reply)));
                }
                Ok(None) => assert!(chunk.is_empty()),
                Err(_) => return,
            }
        }
    }
    let _ = packets.finish();
}

fn doveadm_line(line: &[u8]) {
    let _ = parse_client_version(line);
    if let Ok(greeting) = Greeting::parse(line) {
        let text = written(|out| greeting.write(out));
        assert_eq!(Greeting::parse(&text), Ok(greeting));
    }
    if let Ok(auth) = AuthLine::parse(line) {
        let text = written(|out| auth.write(out));
        assert_eq!(AuthLine::parse(&text), Ok(auth));
    }
    if let Ok(status) = Status::parse(line) {
        let text = written(|out| status.write(out));
        assert_eq!(Status::parse(&text), Ok(status));
    }
    for minor in [2, 3] {
        if let Ok(command) = ClientLine::parse(line, minor) {
            let text = written(|out| command.write(out));
            assert_eq!(ClientLine::parse(&text, minor), Ok(command));
        }
    }
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut text = Vec::new();
    write(&mut text);
    assert_eq!(text.pop(), Some(b'\n'));
    text
}

fn handshake() -> Handshake {
    Handshake {
        hostname: "host".into(),
        ..Handshake::default()
    }
}

/// Decodes everything; the chunks of a body are joined.
fn decode(chunks: &[Bytes]) -> Decoded {
    let limit = 100_000;
    let mut decoder = Decoder::new(Limits { line: limit });
    let mut items: Vec<Item> = Vec::new();
    for chunk in chunks {
        decoder.push(chunk.clone());
        loop {
            match decoder.next_item() {
                Ok(None) => break,
                Ok(Some(item)) => add(item, &mut items),
                Err(error) => {
                    assert!(error.to_string().len() < 1000, "endless error text");
                    return (decoder.peer().cloned(), items, Some(error));
                }
            }
        }
    }
    let _ = decoder.eof();
    (decoder.peer().cloned(), items, None)
}

fn add(item: Item, items: &mut Vec<Item>) {
    let _ = item.to_string();
    match (items.last_mut(), &item) {
        (Some(Item::BodyChunk(last)), Item::BodyChunk(chunk)) => {
            *last = [&last[..], &chunk[..]].concat().into();
        }
        _ => items.push(item),
    }
}

/// Sends the items as far as they may be sent, and decodes them again.
fn round_trip(dialect: Dialect, handshake: &Handshake, items: &[Item]) {
    let mut encoder = Encoder::new(dialect);
    let mut out = BytesMut::new();
    encoder.start(handshake, &mut out);
    let mut sent = vec![Item::Handshake(Box::new(handshake.clone()))];
    for item in items {
        // A peer may send what we never would.
        if encoder.encode(item, &mut out).is_err() {
            break;
        }
        sent.push(item.clone());
    }
    if encoder.is_in_body() {
        encoder
            .encode(&Item::BodyEnd, &mut out)
            .expect("end of body");
        sent.push(Item::BodyEnd);
    }
    let (_, received, error) = decode(&[out.freeze()]);
    assert_eq!(error, None);
    for (received, sent) in received.iter().zip(&sent) {
        assert_eq!(received, sent);
    }
    assert_eq!(received.len(), sent.len());
}

/// Cuts bytes into pieces of sizes that depend on the seed.
fn cut(bytes: &[u8], seed: u8) -> Vec<Bytes> {
    let mut rest = Bytes::copy_from_slice(bytes);
    let mut state = u32::from(seed).wrapping_mul(2_654_435_761) | 1;
    let mut chunks = Vec::new();
    while !rest.is_empty() {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let size = 1 + (state % (u32::from(seed % 16) * 4 + 1)) as usize;
        chunks.push(rest.split_to(size.min(rest.len())));
    }
    chunks
}
