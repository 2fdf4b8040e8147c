//! Known answers: ends of a stream, limits, and what must never be sent (`spec/wire.md` 12, 13).

#![allow(clippy::panic, clippy::unwrap_used)] // clippy knows only test functions, not their helpers

mod common;

use bytes::{Bytes, BytesMut};
use common::lines::{HEADERS, decode_lines, decode_one, mail_with_body, start};
use dsync_proto::items::{Change, ChangeKind, Handshake, Item, MailRequest, TreeNode};
use dsync_proto::limits::{self, Limits};
use dsync_proto::types::MailGuid;
use dsync_proto::wire::{DecodeError, Decoder, Dialect, EncodeError, Encoder, Eof, Position};

// Section 12: ends

#[test]
fn where_a_stream_ends() {
    let full = format!("{HEADERS}Hh\nMg\t\x02\t\t\x02\t1\t1\t\nbody\n\r\n.\r\n.\nF\nX");
    let eof = |end: usize| decode_prefix(&full.as_bytes()[..end]).eof();
    let banner = full.find('\n').unwrap();
    let handshake = full.find("Hh\n").unwrap();
    let body = full.find("body").unwrap();
    let finish = full.rfind("F\n").unwrap();
    assert_eq!(eof(0), Eof::BeforeBanner);
    assert_eq!(eof(banner), Eof::BeforeBanner);
    assert_eq!(eof(banner + 1), Eof::InHandshake);
    assert_eq!(eof(handshake + 2), Eof::InHandshake);
    assert_eq!(eof(handshake + 3), Eof::BetweenItems);
    assert_eq!(eof(body - 1), Eof::InLine);
    for at in body..finish - 2 {
        assert_eq!(eof(at), Eof::InBody, "{at}");
    }
    assert_eq!(eof(finish), Eof::BetweenItems);
    assert_eq!(eof(finish + 1), Eof::InLine);
    assert_eq!(eof(full.len()), Eof::InLine, "X without line end");
    let mut decoder = decode_prefix(format!("{full} rest is ignored\nrubbish\n").as_bytes());
    assert_eq!(decoder.eof(), Eof::AfterDone);
    decoder.push_slice(b"\0\0\0");
    assert_eq!(decoder.next_item(), Ok(None));
}

#[test]
fn stream_states_in_the_words_of_dovecot() {
    let sent = Position {
        item: "mailbox",
        end_of_list: false,
    };
    let state = |text: &str| decode_prefix(text.as_bytes()).stream_state(sent);
    assert_eq!(state(""), "version not received");
    assert_eq!(state(HEADERS), "handshake not received");
    let started = format!("{HEADERS}Hh\n");
    assert_eq!(state(&started), "last sent=mailbox, last recv=handshake");
    let list = format!("{started}R\x02\t1\n.\n");
    assert_eq!(
        state(&list),
        "last sent=mailbox, last recv=mail_request (EOL)"
    );
}

fn decode_prefix(bytes: &[u8]) -> Decoder {
    let mut decoder = Decoder::default();
    decoder.push_slice(bytes);
    while decoder.next_item().unwrap().is_some() {}
    decoder
}

#[test]
fn limits_hold() {
    let mut decoder = Decoder::new(Limits { line: 1000 });
    decoder.push_slice(format!("{HEADERS}H{}\n", "h".repeat(999)).as_bytes());
    assert!(decoder.next_item().unwrap().is_some());
    for _ in 0..10 {
        decoder.push_slice(&[b'N'; 100]);
        assert_eq!(decoder.next_item(), Ok(None));
    }
    decoder.push_slice(b"N");
    let error = decoder.next_item().unwrap_err();
    assert_eq!(
        error.to_string(),
        "Remote sent too much: the length of a line in bytes is limited to 1000"
    );
    let keywords = format!(
        "Cf\t1\tg{}\t{}\n",
        "\t\x02".repeat(7),
        "+\x01t".repeat(limits::LIST)
    );
    let cache = format!(
        "B{}{}\t{}\n",
        "0".repeat(32),
        "\t0".repeat(8),
        "a\x01tt\x01n".repeat(limits::LIST + 1)
    );
    let name = format!("N{}\ty\n", "\x01t".repeat(limits::LIST));
    for line in [keywords, cache, name] {
        let error = decode_lines(line.as_bytes()).unwrap_err();
        assert!(
            matches!(error, DecodeError::LimitExceeded { .. }),
            "{error}"
        );
    }
}

// Section 13: what must never be sent

#[test]
fn what_would_crash_a_dovecot_is_not_encoded() {
    let (mut encoder, _) = start(&Handshake::default());
    let mut out = BytesMut::new();
    let expunge = |uid| Item::Change(Change::new(ChangeKind::Expunge, uid));
    let mut try_encode = |item: &Item| encoder.encode(item, &mut out).err();
    assert_eq!(
        try_encode(&expunge(0)),
        Some(EncodeError::UidOrder {
            uid: 0,
            previous: 0
        })
    );
    assert_eq!(try_encode(&expunge(2)), None);
    assert_eq!(
        try_encode(&expunge(2)),
        Some(EncodeError::UidOrder {
            uid: 2,
            previous: 2
        })
    );
    assert_eq!(try_encode(&Item::EndOfList), None);
    assert_eq!(try_encode(&expunge(1)), None);
    let save = Item::Change(Change::new(ChangeKind::Save, 9));
    assert_eq!(try_encode(&save), Some(EncodeError::SaveWithoutGuid(9)));
    assert_eq!(
        try_encode(&Item::Request(MailRequest::default())),
        Some(EncodeError::EmptyRequest)
    );
    assert_eq!(
        try_encode(&Item::Node(TreeNode::default())),
        Some(EncodeError::EmptyName)
    );
    assert_eq!(try_encode(&Item::BodyEnd), Some(EncodeError::NoBodyOpen));
    assert_eq!(
        try_encode(&Item::Handshake(Box::default())),
        Some(EncodeError::SecondHandshake)
    );
    assert_eq!(try_encode(&mail_with_body()), None);
    assert_eq!(try_encode(&Item::Done), Some(EncodeError::BodyOpen("done")));
    assert_eq!(try_encode(&Item::BodyEnd), None);
    assert_eq!(try_encode(&Item::Done), None);
}

#[test]
fn keys_that_are_not_announced_are_not_sent() {
    let mut dialect = Dialect::default();
    for header in &mut dialect.headers {
        header
            .keys
            .retain(|key| key != "import_commit_msgs_interval" && key != "uid");
    }
    let mut encoder = Encoder::new(dialect);
    let mut out = BytesMut::new();
    let handshake = Handshake {
        hostname: "h".into(),
        import_commit_msgs_interval: 100,
        ..Handshake::default()
    };
    encoder.start(&handshake, &mut out);
    assert!(out.ends_with(b"\n.\nHh\n"));
    out.clear();
    let request = MailRequest {
        guid: Some(MailGuid::from("g")),
        uid: 7,
    };
    encoder.encode(&Item::Request(request), &mut out).unwrap();
    assert_eq!(out, b"Rg\n"[..]);
}

#[test]
fn items_for_logs_hide_content() {
    let attribute = decode_one(b"Ap\tcomment\tsecret text\n");
    assert_eq!(
        attribute.to_string(),
        "mailbox_attribute private \"comment\" bytes=11"
    );
    let chunk = Item::BodyChunk(Bytes::from_static(b"secret text"));
    assert_eq!(chunk.to_string(), "body bytes=11");
    let change = decode_one(
        b"Cs\t7\tg\nuid\n"
            .split_inclusive(|b| *b == b'\n')
            .next()
            .unwrap(),
    );
    assert_eq!(change.to_string(), "mail_change save uid=7 guid=\"g\"");
    let node = decode_one(b"Na\x01t\x01n\x1b\ty\n");
    assert_eq!(node.to_string(), "mailbox_tree_node \"a/\\n\\x1b\" Exists");
}
