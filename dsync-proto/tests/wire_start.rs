//! Known answers: banner, header lines and handshake (`spec/wire.md` 3, 5).

#![allow(clippy::panic, clippy::unwrap_used)] // clippy knows only test functions, not their helpers

mod common;

use bstr::BString;
use common::lines::{HEADERS, handshake, start};
use common::{CUTS, Cut, decode};
use dsync_proto::items::{Handshake, Item, MailRequest, SyncType};
use dsync_proto::limits;
use dsync_proto::types::MailGuid;
use dsync_proto::wire::{DecodeError, Decoder};

// Section 3: start

#[test]
fn our_start_block_is_that_of_dovecot() {
    let ours = Handshake {
        hostname: "cli.example.org".into(),
        sync_type: Some(SyncType::Full),
        send_mail_requests: true,
        import_commit_msgs_interval: 100,
        hashed_headers: Some(vec!["Date".into(), "Message-ID".into()]),
        alt_char: Some(b'_'),
        ..Handshake::default()
    };
    let path = common::transcripts().join("two-way-initial.client.raw");
    let captured = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    let (_, text) = start(&ours);
    assert!(captured.starts_with(&text));
    assert!(text.starts_with(HEADERS));
}

#[test]
fn banners() {
    let minor = |banner: &str| {
        let text = HEADERS.replacen("VERSION\tdsync\t3\t5", banner, 1);
        decode(text.as_bytes(), Cut::Bytes).map(|(peer, ..)| peer.minor())
    };
    assert_eq!(minor("VERSION\tdsync\t3\t0"), Ok(0));
    assert_eq!(minor("VERSION\tdsync\t3\t99"), Ok(99));
    assert_eq!(minor("VERSION\tdsync\t03\t5\r"), Ok(5));
    for bad in [
        "VERSION\tdsync\t2\t5",
        "VERSION\tdsync\t4\t0",
        "VERSION\tdsync\t3",
        "VERSION\tdsync\t3\t",
        "VERSION\tdsync\t3\t5\t",
        "VERSION\tdsync\t3\t5 ",
        "VERSION\tdsync\t3\t-5",
        "VERSION\tdsync\t3\t4294967296",
        "VERSION\tdsync-server\t3\t5",
        "version\tdsync\t3\t5",
        "Last login: Monday",
        "",
    ] {
        let error = minor(bad).unwrap_err();
        assert!(
            matches!(error, DecodeError::IncompatibleProtocol { .. }),
            "{bad:?}"
        );
        assert_eq!(
            error.to_string(),
            "Remote dsync doesn't use compatible protocol"
        );
        assert!(error.hint().contains("login message"));
    }
}

#[test]
fn endless_banner() {
    let mut decoder = Decoder::default();
    decoder.push_slice(&vec![b'x'; limits::HEADER_LINE + 1]);
    let error = decoder.next_item().unwrap_err();
    assert!(matches!(error, DecodeError::IncompatibleProtocol { .. }));
    decoder.push_slice(HEADERS.as_bytes());
    assert_eq!(decoder.next_item().unwrap_err(), error, "an error is final");
}

#[test]
fn header_lines_in_any_order_with_unknown_keys() {
    let text = HEADERS
        .replace("Rguid\tuid\n", "Zwhat\tever\n\nRnew\tuid\tuid\tguid\n")
        .replace("Mguid\tuid", "Mwrong\nMstream\tx\tguid\tuid");
    let text = format!("{text}Hpeer\nRa\t7\t8\tg\nR\x02\t7\nM\t\x02\tG\t5\n");
    let (peer, items, _) = decode(text.as_bytes(), Cut::Whole).unwrap();
    assert_eq!(peer.dialect.keys(b'Z'), ["what", "ever"]);
    let request = |guid: Option<&str>| {
        Item::Request(MailRequest {
            guid: guid.map(MailGuid::from),
            uid: 7,
        })
    };
    assert_eq!(items[1..3], [request(Some("g")), request(None)]);
    let Item::Mail(mail) = &items[3] else {
        panic!("{items:?}");
    };
    assert!(mail.stream);
    assert_eq!(
        (mail.guid.clone(), mail.uid),
        (Some(MailGuid::from("G")), 5)
    );
}

#[test]
fn missing_header_lines() {
    let without = |minor: u32, letter: char| {
        let text: String = HEADERS
            .replacen("3\t5", &format!("3\t{minor}"), 1)
            .split_inclusive('\n')
            .filter(|line| !line.starts_with(letter))
            .collect();
        decode(text.as_bytes(), Cut::Whole)
            .map(|_| ())
            .map_err(|e| e.to_string())
    };
    for (letter, name) in [
        ('H', "handshake"),
        ('S', "mailbox_state"),
        ('N', "mailbox_tree_node"),
        ('D', "mailbox_delete"),
        ('B', "mailbox"),
        ('C', "mail_change"),
        ('R', "mail_request"),
        ('M', "mail"),
        ('c', "mailbox_cache_field"),
    ] {
        let error = format!("Remote didn't handshake deserializer for {name}");
        assert_eq!(without(0, letter), Err(error), "{letter}");
    }
    assert!(without(0, 'A').is_ok());
    assert!(without(1, 'A').is_err());
    assert!(without(2, 'F').is_ok());
    assert!(without(3, 'F').is_err());
}

#[test]
fn missing_header_keys() {
    for (key, item) in [
        ("hostname\t", "handshake"),
        ("last_common_uid\t", "mailbox_state"),
        ("existence\t", "mailbox_tree_node"),
        ("hierarchy_sep\t", "mailbox_delete"),
        ("first_recent_uid\t", "mailbox"),
        ("key\t", "mailbox_attribute"),
        ("decision\t", "mailbox_cache_field"),
    ] {
        let text = HEADERS.replacen(key, "", 1);
        let error = decode(text.as_bytes(), Cut::Whole).unwrap_err().to_string();
        let expected = format!(
            "Remote sent invalid handshake for {item}: Header missing required field {}",
            key.trim_end()
        );
        assert_eq!(error, expected);
    }
}

#[test]
fn too_many_headers() {
    let many_lines = format!(
        "VERSION\tdsync\t3\t5\n{}",
        "\n".repeat(limits::HEADER_LINES + 1)
    );
    let many_keys = format!(
        "VERSION\tdsync\t3\t5\nZ{}\n",
        "\t".repeat(limits::HEADER_KEYS)
    );
    let long_line = format!("VERSION\tdsync\t3\t5\nZ{}", "k".repeat(limits::HEADER_LINE));
    for text in [many_lines, many_keys, long_line] {
        let mut decoder = Decoder::default();
        decoder.push_slice(text.as_bytes());
        let error = decoder.next_item().unwrap_err();
        assert!(
            matches!(error, DecodeError::LimitExceeded { .. }),
            "{error}"
        );
    }
}

// Section 5: handshake

#[test]
fn handshake_values() {
    let all = handshake(
        "Hh\t\x01n\tb\t9D11DC0AC55A046B8952000051B4790C\tsomething\t\t\ta\x01tb\t\t\t\t5\t\t\t\t\t-7\t9\t-x\t8\tv\t\t100\tDate\x01t\x01tX\x01t\t_z\tignored",
    )
    .unwrap();
    assert_eq!(all.sync_ns_prefixes, Some(vec!["".into(), "".into()]));
    assert_eq!(
        all.sync_box_guid.unwrap().to_string(),
        "9d11dc0ac55a046b8952000051b4790c"
    );
    assert_eq!(all.sync_type, Some(SyncType::State));
    assert_eq!(all.exclude_mailboxes, ["a", "b"]);
    assert!(all.backup_send && all.backup_recv && all.no_notify && all.empty_hdr_workaround);
    assert_eq!(
        (all.sync_since_timestamp, all.sync_until_timestamp),
        (-7, 8)
    );
    assert_eq!(all.hashed_headers, Some(vec!["Date".into(), "X".into()]));
    assert_eq!(all.alt_char, Some(b'_'));

    let least = handshake("Hh").unwrap();
    assert_eq!(least.hostname, "h");
    assert_eq!(
        least,
        Handshake {
            hostname: "h".into(),
            ..Handshake::default()
        }
    );
    let one_prefix = handshake("Hh\t").unwrap();
    assert_eq!(one_prefix.sync_ns_prefixes, Some(vec!["".into()]));
}

#[test]
fn handshake_errors() {
    let error_of = |position: usize, value: &str| {
        let absent = "\t\x02".repeat(position - 1);
        handshake(&format!("Hh{absent}\t{value}"))
            .unwrap_err()
            .to_string()
    };
    assert_eq!(error_of(3, "0"), "handshake: Invalid sync_box_guid: 0");
    assert_eq!(error_of(4, "x"), "handshake: Unknown sync_type: x");
    assert_eq!(error_of(4, ""), "handshake: Unknown sync_type: ");
    assert_eq!(error_of(11, "0"), "handshake: Invalid lock_timeout: 0");
    assert_eq!(
        error_of(16, "0"),
        "handshake: Invalid sync_since_timestamp: 0"
    );
    assert_eq!(error_of(17, "-1"), "handshake: Invalid sync_max_size: -1");
    assert_eq!(
        error_of(19, "now"),
        "handshake: Invalid sync_until_timestamp: now"
    );
    assert_eq!(
        error_of(22, "0"),
        "handshake: Invalid import_commit_msgs_interval: 0"
    );
    assert_eq!(
        handshake("H").unwrap_err().to_string(),
        "Invalid input to handshake: Missing required field hostname"
    );
    assert_eq!(
        handshake(".").unwrap_err().to_string(),
        "Unexpected input in handshake"
    );
    assert_eq!(
        handshake("S").unwrap_err().to_string(),
        "Received unexpected input S != H"
    );
    assert_eq!(
        handshake("").unwrap_err().to_string(),
        "Received unexpected input (empty line) != H"
    );
}

#[test]
fn extensions_travel_in_extra_keys() {
    let ours = Handshake {
        hostname: "h".into(),
        extensions: vec![
            ("x-pipeline".into(), "1".into()),
            ("x\tb".into(), "\x02".into()),
        ],
        ..Handshake::default()
    };
    let (encoder, text) = start(&ours);
    assert!(encoder.dialect().has_key(b'H', b"x-pipeline"));
    for cut in CUTS {
        let (peer, items, _) = decode(text.as_bytes(), cut).unwrap();
        assert_eq!(items, [Item::Handshake(Box::new(ours.clone()))]);
        let extra: Vec<_> = peer.extra_handshake_keys().collect();
        assert_eq!(extra, ["x-pipeline", "x\tb"]);
    }
    // A peer may announce a key without using it.
    let text = HEADERS.replacen("alt_char", "alt_char\tx-one\tx-two", 1);
    let line = format!("Hh{}\tyes", "\t\x02".repeat(25));
    let (peer, items, _) = decode(format!("{text}{line}\n").as_bytes(), Cut::Whole).unwrap();
    assert_eq!(peer.extra_handshake_keys().count(), 2);
    let Item::Handshake(handshake) = &items[0] else {
        panic!("{items:?}");
    };
    assert_eq!(
        handshake.extensions,
        [(BString::from("x-two"), BString::from("yes"))]
    );
}

#[test]
fn of_an_extension_named_twice_the_first_position_counts() {
    let text = HEADERS.replacen("alt_char", "alt_char\tx-two\tx-one\tx-two", 1);
    let line = format!("Hh{}\tone\ttwo", "\t\x02".repeat(25));
    let (_, items, _) = decode(format!("{text}{line}\n").as_bytes(), Cut::Whole).unwrap();
    let Item::Handshake(handshake) = &items[0] else {
        panic!("{items:?}");
    };
    assert_eq!(handshake.extensions, [("x-one".into(), "one".into())]);
}
