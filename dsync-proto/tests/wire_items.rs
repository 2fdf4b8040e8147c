//! Known answers: values and items (`spec/wire.md` 2, 7).

#![allow(clippy::panic, clippy::unwrap_used)] // clippy knows only test functions, not their helpers

mod common;

use bytes::BytesMut;
use common::lines::{HEADERS, decode_lines, decode_one, encode_one, error, start};
use common::{CUTS, Cut, decode};
use dsync_proto::items::{
    Attribute, AttributeKind, AttributeValue, CacheDecision, Existence, Finish, Handshake, Item,
    Mail, MailboxInfo, TreeNode,
};
use dsync_proto::limits;
use dsync_proto::types::{Flags, KeywordChange, KeywordOp, MailErrorClass, MailGuid};
use dsync_proto::wire::{DecodeError, Encoder};

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
    // Escapes that hide the byte that means "absent".
    for absent in ["\x02", "\x01\x02", "\x02\x01", "\x01\x02\x01"] {
        let error = error(&format!("Ap\tk\t{absent}\t\x02"));
        assert_eq!(
            error,
            "mailbox_attribute: Neither value, stream nor deleted"
        );
    }
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

/// Keys of ours travel only behind an extended handshake, which Dovecot never sends.
#[test]
fn what_only_one_of_ours_says_of_a_mailbox() {
    let mailbox = MailboxInfo {
        digest: 77,
        ignore_state: true,
        ..MailboxInfo::default()
    };
    for (extensions, digest) in [(vec![], 0), (vec![("dsync_ext".into(), "1".into())], 77)] {
        let handshake = Handshake {
            hostname: "h".into(),
            extensions,
            ..Handshake::default()
        };
        let mut encoder = Encoder::default();
        let mut bytes = BytesMut::new();
        encoder.start(&handshake, &mut bytes);
        encoder
            .encode(&Item::Mailbox(mailbox.clone()), &mut bytes)
            .unwrap();
        let (_, items, _) = decode(&bytes, Cut::Whole).unwrap();
        let Item::Mailbox(mailbox) = &items[1] else {
            panic!("{items:?}");
        };
        assert_eq!(mailbox.digest, digest);
        assert_eq!(mailbox.ignore_state, digest != 0);
    }
}
