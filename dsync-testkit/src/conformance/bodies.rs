//! Bodies of every kind come back as they were, but for documented line ends.

use bstr::ByteSlice;

use super::StoreFactory;
use super::support::{message, new_mailbox, open, read, save};

fn normalised(factory: &dyn StoreFactory, body: &[u8]) -> Vec<u8> {
    let body = if factory.features().lf_only {
        body.replace("\r\n", "\n")
    } else {
        body.to_vec()
    };
    if factory.features().ends_headers {
        return with_ended_headers(&body);
    }
    body
}

fn with_ended_headers(body: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let end = rest.find_byte(b'\n').map_or(rest.len(), |at| at + 1);
        let (line, behind) = rest.split_at(end);
        rest = behind;
        let text = line.trim_end_with(|c| matches!(c, '\r' | '\n'));
        if text.is_empty() {
            break;
        }
        if !text.starts_with(b"From ") {
            kept.extend_from_slice(text);
            kept.push(b'\n');
        }
    }
    kept.push(b'\n');
    kept.extend_from_slice(rest);
    kept
}

/// Empty, without end of line, with NUL, bare CR, dots, 8 bits, `From ` lines.
pub fn keeps_every_kind_of_body(factory: &dyn StoreFactory) {
    let every_byte: Vec<u8> = (0..=255).collect();
    let long_line = [b"Subject: ".to_vec(), vec![b'x'; 70_000], b"\n\n".to_vec()].concat();
    let bodies: &[&[u8]] = &[
        b"",
        b"\n",
        b"\r",
        b"\r\n",
        b"x",
        b"Subject: no body\n",
        b"Subject: no body\r\n\r\n",
        b"\nonly a body",
        b"\0",
        b"Subject: a\0b\n\n\0\0\n",
        b"a\rb\r\rc\r",
        b"a\r\r\nb\n\rc\n",
        b".\n",
        b".\r\n.\r\n..\r\n.x",
        b"Subject: x\n\n.\n",
        b"Subject: x\r\n\r\n\r\n.\r\n",
        b"From me\n\nFrom you\n>From him\n",
        b"S: \xff\xfe\x80\n\n\xc3\n",
        b"Subject: no end of line\n\nend",
        b"mixed\r\nline\nends\r\n",
        &every_byte,
        &long_line,
    ];
    let account = factory.create();
    let mut store = account.open();
    let mut mailbox = new_mailbox(store.as_mut());
    for (uid, body) in (1..).zip(bodies) {
        save(mailbox.as_mut(), message(uid), body);
    }
    mailbox.commit().unwrap();
    let mut again = open(account.open().as_mut(), "box");
    for (uid, body) in (1..).zip(bodies) {
        let expected = normalised(factory, body);
        assert_eq!(read(mailbox.as_mut(), uid).as_bstr(), expected.as_bstr());
        assert_eq!(read(again.as_mut(), uid).as_bstr(), expected.as_bstr());
    }
}

/// Some megabytes, written in pieces.
pub fn keeps_a_large_body(factory: &dyn StoreFactory) {
    let mut store = factory.create().open();
    let mut mailbox = new_mailbox(store.as_mut());
    let line = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\r\n";
    let piece = line.repeat(400);
    mailbox.save_begin(message(1)).unwrap();
    for _ in 0..200 {
        mailbox.save_write(&piece).unwrap();
    }
    mailbox.save_finish().unwrap();
    mailbox.commit().unwrap();
    let expected = normalised(factory, &piece.repeat(200));
    assert!(
        read(mailbox.as_mut(), 1) == expected,
        "a large body changed"
    );
    let added = if factory.features().ends_headers {
        2
    } else {
        0
    };
    let size = piece.len() as u64 * 200 + added;
    assert_eq!(mailbox.virtual_size(1), Ok(Some(size)));
}

/// A CRLF may be torn between two pieces.
pub fn a_body_may_come_in_any_pieces(factory: &dyn StoreFactory) {
    let body = b"Subject: a\r\n\r\nb\rc\r\r\n\nd\r";
    let mut store = factory.create().open();
    let mut mailbox = new_mailbox(store.as_mut());
    let sizes = 1..=4;
    for (uid, size) in (1..).zip(sizes.clone()) {
        mailbox.save_begin(message(uid)).unwrap();
        for piece in body.chunks(size) {
            mailbox.save_write(piece).unwrap();
            mailbox.save_write(b"").unwrap();
        }
        mailbox.save_finish().unwrap();
    }
    mailbox.commit().unwrap();
    let expected = normalised(factory, body);
    for (uid, size) in (1..).zip(sizes) {
        let found = read(mailbox.as_mut(), uid);
        assert_eq!(found.as_bstr(), expected.as_bstr(), "pieces of {size}");
    }
}
