//! The tables of `spec/wire.md`, as tests.

#![allow(clippy::panic, clippy::unwrap_used)] // clippy knows only test functions, not their helpers

mod common;

use bstr::BString;
use bytes::{Bytes, BytesMut};
use common::{CUTS, Cut, decode};
use dsync_proto::items::{
    Attribute, AttributeKind, AttributeValue, CacheDecision, Change, ChangeKind, Existence, Finish,
    Handshake, Item, Mail, MailRequest, MailboxInfo, SyncType, TreeNode,
};
use dsync_proto::limits::{self, Limits};
use dsync_proto::types::{Flags, KeywordChange, KeywordOp, MailErrorClass, MailGuid};
use dsync_proto::wire::{DecodeError, Decoder, Dialect, EncodeError, Encoder, Eof, Position};

const HEADERS: &str = "VERSION\tdsync\t3\t5
Hhostname\tsync_ns_prefix\tsync_box\tsync_box_guid\tsync_type\tdebug\tsync_visible_namespaces\texclude_mailboxes\tsend_mail_requests\tbackup_send\tbackup_recv\tlock_timeout\tno_mail_sync\tno_backup_overwrite\tpurge_remote\tno_notify\tsync_since_timestamp\tsync_max_size\tsync_flags\tsync_until_timestamp\tvirtual_all_box\tempty_hdr_workaround\timport_commit_msgs_interval\thashed_headers\talt_char
Smailbox_guid\tlast_uidvalidity\tlast_common_uid\tlast_common_modseq\tlast_common_pvt_modseq\tlast_messages_count\tchanges_during_sync
Nname\texistence\tmailbox_guid\tuid_validity\tuid_next\tlast_renamed_or_created\tsubscribed\tlast_subscription_change
Dhierarchy_sep\tescape_char\tmailboxes\tdirs\tunsubscribes
Bmailbox_guid\tuid_validity\tuid_next\tmessages_count\tfirst_recent_uid\thighest_modseq\thighest_pvt_modseq\tmailbox_lost\tmailbox_ignore\tcache_fields\thave_guids\thave_save_guids\thave_only_guid128
Atype\tkey\tvalue\tstream\tdeleted\tlast_change\tmodseq
Ctype\tuid\tguid\thdr_hash\tmodseq\tpvt_modseq\tadd_flags\tremove_flags\tfinal_flags\tkeywords_reset\tkeyword_changes\treceived_timestamp\tvirtual_size
Rguid\tuid
Mguid\tuid\tpop3_uidl\tpop3_order\treceived_date\tsaved_date\tstream
Ferror\tmail_error\trequire_full_resync
cname\tdecision\tlast_used
.
";

/// Decodes what follows a normal start block.
fn decode_lines(lines: &[u8]) -> Result<Vec<Item>, DecodeError> {
    let start = format!("{HEADERS}Hpeer\n");
    let (_, items, _) = decode(&[start.as_bytes(), lines].concat(), Cut::Whole)?;
    Ok(items[1..].to_vec())
}

fn decode_one(line: &[u8]) -> Item {
    let items = decode_lines(line).unwrap();
    assert_eq!(items.len(), 1, "{items:?}");
    items[0].clone()
}

fn handshake(line: &str) -> Result<Handshake, DecodeError> {
    let (_, items, _) = decode(format!("{HEADERS}{line}\n").as_bytes(), Cut::Whole)?;
    match &items[0] {
        Item::Handshake(handshake) => Ok(*handshake.clone()),
        other => panic!("{other:?}"),
    }
}

fn start(handshake: &Handshake) -> (Encoder, String) {
    let mut encoder = Encoder::default();
    let mut out = BytesMut::new();
    encoder.start(handshake, &mut out);
    (encoder, String::from_utf8(out.to_vec()).unwrap())
}

fn encode_one(item: &Item) -> Vec<u8> {
    let (mut encoder, _) = start(&Handshake::default());
    let mut out = BytesMut::new();
    encoder.encode(item, &mut out).unwrap();
    out.to_vec()
}

fn error(lines: &str) -> String {
    decode_lines(format!("{lines}\n").as_bytes())
        .unwrap_err()
        .to_string()
}

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

// Section 2: values

#[test]
fn double_escaping_of_lists() {
    let item = Handshake {
        exclude_mailboxes: vec!["Tra*".into(), "\\Junk".into(), "a\tb".into()],
        ..Handshake::default()
    };
    let (_, text) = start(&item);
    assert!(
        text.ends_with("\tTra*\x01t\\Junk\x01ta\x011tb\n"),
        "{text:?}"
    );
}

#[test]
fn crlf_line_ends_are_accepted() {
    let text = format!("{HEADERS}Hpeer\nR\x02\t7\n.\nX\n");
    let (_, plain, _) = decode(text.as_bytes(), Cut::Whole).unwrap();
    for cut in CUTS {
        let (_, crlf, _) = decode(text.replace('\n', "\r\n").as_bytes(), cut).unwrap();
        assert_eq!(crlf, plain);
    }
}

#[test]
fn values_that_look_absent() {
    for text in [
        &b"\x02"[..],
        b"\x02\x02",
        b"\x02x",
        b"\x01",
        b"x\x01",
        b"",
        b"\t\r\n\0",
    ] {
        let item = Item::Attribute(Attribute {
            kind: AttributeKind::Private,
            key: text.into(),
            value: AttributeValue::Inline(text.into()),
            last_change: 0,
            modseq: 0,
        });
        let line = encode_one(&item);
        assert_eq!(decode_one(&line), item, "{}", line.escape_ascii());
    }
    // An escape that hides the byte that means "absent".
    let item = decode_one(b"Ap\tk\t\x01\x02\x01\t\x02\t\n");
    assert!(matches!(item, Item::Attribute(a) if a.value == AttributeValue::Deleted));
}

#[test]
fn trailing_absent_values_are_cut_and_extra_ones_ignored() {
    assert_eq!(encode_one(&Item::Finish(Finish::default())), b"F\n");
    // A single empty value would look like none.
    let empty_error = Item::Finish(Finish {
        error: Some("".into()),
        ..Finish::default()
    });
    assert_eq!(encode_one(&empty_error), b"F\t\x02\n");
    assert_eq!(decode_one(b"F\t\x02\n"), empty_error);
    let resync = Item::Finish(Finish {
        require_full_resync: true,
        ..Finish::default()
    });
    assert_eq!(encode_one(&resync), b"F\x02\t\x02\t\n");
    assert_eq!(decode_one(b"F\x02\t\x02\t\tfuture\t\x02\n"), resync);
    let mail = Item::Mail(Mail {
        guid: Some(MailGuid::from("g")),
        ..Mail::default()
    });
    assert_eq!(
        encode_one(&mail),
        b"Mg\t\x02\t\n",
        "POP3 UIDL is always written"
    );
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

// Section 7: items

#[test]
fn nodes() {
    let Item::Node(node) = decode_one(b"NProjects\x01tTwo\tz\n") else {
        panic!("no node");
    };
    assert_eq!(node.name, ["Projects", "Two"]);
    assert_eq!(
        node.existence,
        Existence::Nonexistent,
        "other letters count as n"
    );
    let node = Item::Node(TreeNode {
        name: vec!["a\tb".into(), "50% off".into()],
        existence: Existence::Deleted,
        ..TreeNode::default()
    });
    assert_eq!(encode_one(&node), b"Na\x011tb\x01t50% off\td\n");
}

#[test]
fn cache_fields() {
    let line = b"B9d11dc0ac55a046b8952000051b4790c\t1\t2\t3\t4\t5\t6\t\x02\t\x02\tflags\x01tt\x01t1795447493\x01nhdr.x\x01tyF\n";
    let item = decode_one(line);
    assert_eq!(encode_one(&item), line);
    let Item::Mailbox(mailbox) = item else {
        panic!("no mailbox");
    };
    assert_eq!(mailbox.cache_fields[0].last_used, 1_795_447_493);
    assert_eq!(mailbox.cache_fields[1].name, "hdr.x");
    assert_eq!(mailbox.cache_fields[1].decision, CacheDecision::Yes);
    assert!(mailbox.cache_fields[1].forced);
}

#[test]
fn save_guids_are_implied_below_minor_2() {
    let mailbox = MailboxInfo {
        have_guids: true,
        ..MailboxInfo::default()
    };
    let line = encode_one(&Item::Mailbox(mailbox));
    for (minor, implied) in [(0, true), (1, true), (2, false), (5, false)] {
        let start = HEADERS.replacen("3\t5", &format!("3\t{minor}"), 1);
        let bytes = [start.as_bytes(), b"Hh\n", &line].concat();
        let (_, items, _) = decode(&bytes, Cut::Whole).unwrap();
        let Item::Mailbox(mailbox) = &items[1] else {
            panic!("{items:?}");
        };
        assert_eq!(mailbox.have_save_guids, implied, "{minor}");
    }
}

#[test]
fn changes() {
    let Item::Change(change) = decode_one(
        b"Cf\t1\tg\t\x02\t13\t\x02\tC1\t2\tff\t\x02\t-work\x01t=$Label1\x01t&todo\x01t?what\x01t\x01t+\n",
    ) else {
        panic!("no change");
    };
    let keyword = |op, name: &str| KeywordChange::new(op, name);
    assert_eq!(
        change.keyword_changes,
        [
            keyword(KeywordOp::Remove, "work"),
            keyword(KeywordOp::Final, "$Label1"),
            keyword(KeywordOp::AddFinal, "todo"),
            keyword(KeywordOp::Add, ""),
        ]
    );
    assert_eq!(change.final_flags, Flags::WIRE, "internal bits are dropped");
    assert_eq!(change.add_flags, Flags::ANSWERED);
}

#[test]
fn finish_classes() {
    for (text, class) in [
        ("0", None),
        ("6", Some(MailErrorClass::Quota)),
        ("99", Some(MailErrorClass::Temporary)),
        ("-1", Some(MailErrorClass::Temporary)),
    ] {
        let item = decode_one(format!("Ffailed\t{text}\n").as_bytes());
        assert!(
            matches!(item, Item::Finish(f) if f.mail_error == class),
            "{text}"
        );
    }
}

#[test]
fn errors_of_items() {
    let guid = "9d11dc0ac55a046b8952000051b4790c";
    let mailbox = format!("B{guid}\t1\t2\t3\t4\t5\t6\t\x02\t\x02\t");
    for (line, expected) in [
        ("S1\t1\t1\t1\t1", "mailbox_state: Invalid mailbox_guid"),
        (
            &format!("S{guid}\t+1\t1\t1\t1"),
            "mailbox_state: Invalid last_uidvalidity",
        ),
        (
            &format!("S{guid}\t1\t\t1\t1"),
            "mailbox_state: Invalid last_common_uid",
        ),
        (
            &format!("S{guid}\t1\t1\tx\t1"),
            "mailbox_state: Invalid last_common_modseq",
        ),
        (
            &format!("S{guid}\t1\t1\t1\t99999999999999999999"),
            "mailbox_state: Invalid last_common_pvt_modseq",
        ),
        (
            &format!("S{guid}\t1\t1\t1"),
            "Invalid input to mailbox_state: Missing required field last_common_pvt_modseq",
        ),
        ("N\ty", "mailbox_tree_node: Empty name"),
        (
            "N",
            "Invalid input to mailbox_tree_node: Missing required field name",
        ),
        (
            "Na",
            "Invalid input to mailbox_tree_node: Missing required field existence",
        ),
        ("Na\ty\tzz", "mailbox_tree_node: Invalid mailbox_guid"),
        (
            "Na\ty\t\x02\t4294967296",
            "mailbox_tree_node: Invalid uid_validity",
        ),
        ("Na\ty\t\x02\t1\t-1", "mailbox_tree_node: Invalid uid_next"),
        (
            "Na\ty\t\x02\t1\t1\tx",
            "mailbox_tree_node: Invalid last_renamed_or_created",
        ),
        (
            "Na\ty\t\x02\t1\t1\t1\t\t--1",
            "mailbox_tree_node: Invalid last_subscription_change",
        ),
        (
            "D",
            "Invalid input to mailbox_delete: Missing required field hierarchy_sep",
        ),
        ("D//", "mailbox_delete: Invalid hierarchy_sep"),
        ("D/\t%%", "mailbox_delete: Invalid escape_char '%%'"),
        (
            &format!("D/\t%\t{guid}"),
            "mailbox_delete: Invalid mailboxes",
        ),
        (
            &format!("D/\t%\t{guid} 1 "),
            "mailbox_delete: Invalid mailboxes",
        ),
        ("D/\t%\tx 1", "mailbox_delete: Invalid mailboxes"),
        (
            &format!("D/\t%\t\x02\t{guid} x"),
            "mailbox_delete: Invalid dirs",
        ),
        (
            &format!("D/\t%\t\x02\t\x02\t{guid}"),
            "mailbox_delete: Invalid dirs",
        ),
        ("Bx\t1\t1\t1\t1\t1\t1", "mailbox: Invalid mailbox_guid"),
        (
            &format!("B{guid}\t1\t1\t1\t1\t1\tx"),
            "mailbox: Invalid highest_pvt_modseq",
        ),
        (&format!("{mailbox}f\x01tq"), "mailbox: Invalid decision: q"),
        (
            &format!("{mailbox}f\x01tt\x01tx"),
            "mailbox_cache_field: Invalid last_used",
        ),
        (
            &format!("{mailbox}f"),
            "mailbox: cache_field: Invalid input: Missing required field decision",
        ),
        ("Ax\tk\tv", "mailbox_attribute: Invalid type: x"),
        (
            "Ap\tk",
            "mailbox_attribute: Neither value, stream nor deleted",
        ),
        (
            "Ap\tk\tv\t\x02\t\x02\tx",
            "mailbox_attribute: Invalid last_change",
        ),
        (
            "Ap\tk\tv\t\x02\t\x02\t1\tx",
            "mailbox_attribute: Invalid modseq",
        ),
        ("Cx\t1", "mail_change: Invalid type: x"),
        ("C\t1", "mail_change: Invalid type: "),
        (
            "Cf",
            "Invalid input to mail_change: Missing required field uid",
        ),
        ("Cf\tx", "mail_change: Invalid uid"),
        ("Cf\t0", "mail_change: Invalid uid"),
        (
            "Cs\t1",
            "Invalid input to mail_change: Missing required field guid",
        ),
        ("Cf\t1\tg\t\x02\tx", "mail_change: Invalid modseq"),
        ("Cf\t1\tg\t\x02\t1\t", "mail_change: Invalid pvt_modseq"),
        (
            "Cf\t1\tg\t\x02\t1\t1\t100",
            "mail_change: Invalid add_flags: 100",
        ),
        (
            "Cf\t1\tg\t\x02\t1\t1\t1\t0x1",
            "mail_change: Invalid remove_flags: 0x1",
        ),
        (
            "Cf\t1\tg\t\x02\t1\t1\t1\t1\tg",
            "mail_change: Invalid final_flags: g",
        ),
        (
            "Cs\t1\tg\t\x02\t1\t1\t1\t1\t1\t\x02\t\x02\tx",
            "mail_change: Invalid received_timestamp",
        ),
        (
            "Cs\t1\tg\t\x02\t1\t1\t1\t1\t1\t\x02\t\x02\t1\t10000000000000000",
            "mail_change: Invalid virtual_size",
        ),
        ("R\x02\tx", "mail_request: Invalid uid"),
        ("R", "mail_request: Invalid uid"),
        ("Mg\tx", "mail: Invalid uid"),
        ("Mg\t1\t\t-1", "mail: Invalid pop3_order"),
        ("Mg\t1\t\t1\tx", "mail: Invalid received_date"),
        ("Mg\t1\t\t1\t1\tx", "mail: Invalid saved_date"),
        ("F\x02\tx", "finish: Invalid mail_error: x"),
        ("Z", "Received unexpected input Z"),
        ("\x1b", "Received unexpected input \\x1b"),
        ("c", "Received unexpected input c"),
        ("H", "Received unexpected input H"),
        ("VERSION\tdsync\t3\t5", "Received unexpected input V"),
        (".x", "Received unexpected input ."),
        ("", "Received unexpected input (empty line)"),
        ("R\0", "Remote sent a NUL byte in a line"),
    ] {
        assert_eq!(error(line), expected, "{line:?}");
    }
}

#[test]
fn errors_can_be_matched_and_are_safe_to_print() {
    let error = decode_lines(b"Cf\t1\tg\t\x02\t1\t1\t\x1b[2J\n").unwrap_err();
    assert_eq!(
        error,
        DecodeError::InvalidValue {
            item: "mail_change",
            key: "add_flags",
            value: Some("\x1b[2J".into())
        }
    );
    assert_eq!(error.to_string(), "mail_change: Invalid add_flags: ?[2J");
    let long = format!("Cf\t1\tg\t\x02\t1\t1\t{}", "9".repeat(100_000));
    assert!(is_short(&self::error(&long)));
    let expected = DecodeError::UnexpectedInput {
        got: Some(b'S'),
        expected: Some(b'M'),
    };
    assert_eq!(expected.to_string(), "Received unexpected input S != M");
}

fn is_short(text: &str) -> bool {
    text.len() < 2 * limits::ERROR_EXCERPT
}

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

fn mail_with_body() -> Item {
    Item::Mail(Mail {
        guid: Some(MailGuid::from("g")),
        stream: true,
        ..Mail::default()
    })
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
