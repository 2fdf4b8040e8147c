//! Values survive the way to bytes and back, and no bytes can do harm.

#![allow(clippy::unwrap_used)] // clippy knows only test functions, not their helpers

mod common;

use bstr::{BString, ByteSlice};
use bytes::{Bytes, BytesMut};
use common::{Cut, decode, join_bodies};
use dsync_proto::items::*;
use dsync_proto::types::{Flags, Guid, KeywordChange, KeywordOp, MailErrorClass, MailGuid};
use dsync_proto::wire::{Dialect, Encoder};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Text of the bytes that matter to the protocol.
fn text() -> impl Strategy<Value = BString> {
    let byte = prop_oneof![
        3 => proptest::sample::select(&b"\0\x01\x02\t\r\n.0trn-+"[..]),
        1 => any::<u8>(),
    ];
    vec(byte, 0..10).prop_map(BString::from)
}

fn mail_guid() -> impl Strategy<Value = MailGuid> {
    text().prop_map(|text| MailGuid::new(Vec::from(text)))
}

fn guid() -> impl Strategy<Value = Guid> {
    any::<[u8; 16]>().prop_map(Guid)
}

/// Lists of one empty element cannot be told from empty lists.
fn list() -> impl Strategy<Value = Vec<BString>> {
    vec(text(), 0..4).prop_filter("empty list", |list| list.len() != 1 || !list[0].is_empty())
}

fn flags() -> impl Strategy<Value = Flags> {
    (0_u8..0x40).prop_map(Flags)
}

fn handshake() -> impl Strategy<Value = Handshake> {
    let line_free = |text: BString| BString::from(text.replace("\n", ""));
    let prefixes = vec(text().prop_map(line_free), 1..4);
    let name = text().prop_filter("empty name", |name| !name.is_empty());
    let extension = (
        text().prop_map(|name| [b"x-", &name[..]].concat().into()),
        text(),
    );
    let texts = (
        text(),
        option::of(prefixes),
        option::of(text()),
        option::of(guid()),
        list(),
    );
    let more = (
        option::of(vec(name, 0..3)),
        option::of(any::<u8>()),
        proptest::collection::btree_map("x-[a-z]{1,3}", text(), 0..3),
        vec(extension, 0..2),
    );
    let numbers = (
        any::<u32>(),
        any::<i64>(),
        any::<u64>(),
        any::<i64>(),
        any::<u32>(),
    );
    (texts, more, numbers, any::<[bool; 10]>(), 0..4_u8).prop_map(|(t, m, n, flags, kind)| {
        let mut extensions: Vec<(BString, BString)> =
            m.2.into_iter()
                .map(|(name, value)| (name.into(), value))
                .collect();
        extensions.extend(m.3.into_iter().take(1));
        extensions.dedup_by(|a, b| a.0 == b.0);
        let mut names = std::collections::HashSet::new();
        extensions.retain(|(name, _)| names.insert(name.clone()));
        Handshake {
            hostname: t.0,
            sync_ns_prefixes: t.1,
            sync_box: t.2.clone(),
            sync_box_guid: t.3,
            sync_type: [
                None,
                Some(SyncType::Full),
                Some(SyncType::Changed),
                Some(SyncType::State),
            ][usize::from(kind)],
            debug: flags[0],
            sync_visible_namespaces: flags[1],
            exclude_mailboxes: t.4,
            send_mail_requests: flags[2],
            backup_send: flags[3],
            backup_recv: flags[4],
            lock_timeout: n.0,
            no_mail_sync: flags[5],
            no_backup_overwrite: flags[6],
            purge_remote: flags[7],
            no_notify: flags[8],
            sync_since_timestamp: n.1,
            sync_max_size: n.2,
            sync_flags: t.2.clone(),
            sync_until_timestamp: n.3,
            virtual_all_box: t.2,
            empty_hdr_workaround: flags[9],
            import_commit_msgs_interval: n.4,
            hashed_headers: m.0,
            alt_char: m.1,
            extensions,
        }
    })
}

fn state() -> impl Strategy<Value = Item> {
    (guid(), any::<(u32, u32, u64, u64, u32, bool)>()).prop_map(|(guid, n)| {
        Item::State(MailboxState {
            mailbox_guid: guid,
            last_uidvalidity: n.0,
            last_common_uid: n.1,
            last_common_modseq: n.2,
            last_common_pvt_modseq: n.3,
            last_messages_count: n.4,
            changes_during_sync: n.5,
        })
    })
}

fn node() -> impl Strategy<Value = Item> {
    let name = list().prop_filter("no name", |name| !name.is_empty());
    (
        name,
        guid(),
        0..3_usize,
        any::<(u32, u32, i64, bool, i64)>(),
    )
        .prop_map(|(name, guid, kind, n)| {
            Item::Node(TreeNode {
                name,
                existence: [
                    Existence::Nonexistent,
                    Existence::Exists,
                    Existence::Deleted,
                ][kind],
                mailbox_guid: guid,
                uid_validity: n.0,
                uid_next: n.1,
                last_renamed_or_created: n.2,
                subscribed: n.3,
                last_subscription_change: n.4,
            })
        })
}

fn deletes() -> impl Strategy<Value = Item> {
    let entry = || (guid(), any::<i64>()).prop_map(|(guid, time)| DeleteEntry { guid, time });
    let lists = (vec(entry(), 0..3), vec(entry(), 0..3), vec(entry(), 0..3));
    (any::<u8>(), option::of(any::<u8>()), lists).prop_map(|(sep, escape_char, lists)| {
        Item::Deletes(Deletes {
            hierarchy_sep: sep,
            escape_char,
            mailboxes: lists.0,
            dirs: lists.1,
            unsubscribes: lists.2,
        })
    })
}

fn mailbox() -> impl Strategy<Value = Item> {
    let decision =
        proptest::sample::select(&[CacheDecision::No, CacheDecision::Temp, CacheDecision::Yes][..]);
    let field =
        (text(), decision, any::<(bool, i64)>()).prop_map(|(name, decision, n)| CacheField {
            name,
            decision,
            forced: n.0,
            last_used: n.1,
        });
    let numbers = any::<(u32, u32, u32, u32, u64, u64)>();
    (guid(), numbers, any::<[bool; 5]>(), vec(field, 0..3)).prop_map(|(guid, n, flags, fields)| {
        Item::Mailbox(MailboxInfo {
            mailbox_guid: guid,
            uid_validity: n.0,
            uid_next: n.1,
            messages_count: n.2,
            first_recent_uid: n.3,
            highest_modseq: n.4,
            highest_pvt_modseq: n.5,
            mailbox_lost: flags[0],
            mailbox_ignore: flags[1],
            cache_fields: fields,
            have_guids: flags[2],
            have_save_guids: flags[3],
            have_only_guid128: flags[4],
            digest: 0,
            ignore_state: false,
        })
    })
}

fn change() -> impl Strategy<Value = Item> {
    let kind =
        proptest::sample::select(&[ChangeKind::Save, ChangeKind::Flags, ChangeKind::Expunge][..]);
    let op = proptest::sample::select(
        &[
            KeywordOp::Add,
            KeywordOp::Remove,
            KeywordOp::Final,
            KeywordOp::AddFinal,
        ][..],
    );
    let keyword = (op, text()).prop_map(|(op, name)| KeywordChange::new(op, name));
    let ids = (
        kind,
        1..=u32::MAX,
        option::of(mail_guid()),
        option::of(text()),
    );
    let numbers = any::<(u64, u64, bool, Option<u64>, Option<u64>)>();
    let all_flags = (flags(), flags(), flags());
    (ids, numbers, all_flags, vec(keyword, 0..4)).prop_map(|(ids, n, flags, keyword_changes)| {
        let guid = match ids.0 {
            ChangeKind::Save => ids.2.or_else(|| Some(MailGuid::default())),
            _ => ids.2,
        };
        Item::Change(Change {
            kind: ids.0,
            uid: ids.1,
            guid,
            hdr_hash: ids.3,
            modseq: n.0,
            pvt_modseq: n.1,
            add_flags: flags.0,
            remove_flags: flags.1,
            final_flags: flags.2,
            keywords_reset: n.2,
            keyword_changes,
            received_timestamp: n.3,
            virtual_size: n.4,
        })
    })
}

fn request() -> impl Strategy<Value = Item> {
    (option::of(mail_guid()), 1..=u32::MAX)
        .prop_filter("no values at all", |(guid, _)| {
            guid.is_some() || guid.is_none()
        })
        .prop_map(|(guid, uid)| Item::Request(MailRequest { guid, uid }))
}

fn attribute(value: AttributeValue) -> impl Strategy<Value = Item> {
    (any::<(bool, i64, u64)>(), text()).prop_map(move |(n, key)| {
        Item::Attribute(Attribute {
            kind: if n.0 {
                AttributeKind::Private
            } else {
                AttributeKind::Shared
            },
            key,
            value: value.clone(),
            last_change: n.1,
            modseq: n.2,
        })
    })
}

fn mail(stream: bool) -> impl Strategy<Value = Item> {
    (
        option::of(mail_guid()),
        text(),
        any::<(u32, u32, i64, i64)>(),
    )
        .prop_map(move |(guid, uidl, n)| {
            Item::Mail(Mail {
                guid,
                uid: n.0,
                pop3_uidl: uidl,
                pop3_order: n.1,
                received_date: n.2,
                saved_date: n.3,
                stream,
            })
        })
}

fn finish() -> impl Strategy<Value = Item> {
    let class = (1_u32..15).prop_map(|number| MailErrorClass::from_wire(number).unwrap());
    (option::of(text()), option::of(class), any::<bool>()).prop_map(
        |(error, mail_error, resync)| {
            // A single empty value cannot be told from none.
            let error = error.filter(|error| !error.is_empty() || mail_error.is_some() || resync);
            Item::Finish(Finish {
                error,
                mail_error,
                require_full_resync: resync,
            })
        },
    )
}

/// One item, or an item with its body in chunks.
fn items() -> impl Strategy<Value = Vec<Item>> {
    let body_byte = prop_oneof![
        4 => proptest::sample::select(&b"..\r\n\na"[..]),
        1 => any::<u8>(),
    ];
    let chunk = vec(body_byte, 0..12).prop_map(|chunk| Item::BodyChunk(Bytes::from(chunk)));
    let head = prop_oneof![mail(true), attribute(AttributeValue::Stream)];
    let with_body = (head, vec(chunk, 0..4)).prop_map(|(head, chunks)| {
        let mut items = vec![head];
        items.extend(chunks);
        items.push(Item::BodyEnd);
        items
    });
    let inline = text().prop_flat_map(|value| attribute(AttributeValue::Inline(value)));
    let single = prop_oneof![
        state(),
        node(),
        deletes(),
        mailbox(),
        change(),
        request(),
        inline,
        attribute(AttributeValue::Deleted),
        mail(false),
        finish(),
        Just(Item::EndOfList),
    ];
    prop_oneof![with_body, single.prop_map(|item| vec![item])]
}

/// A dialect with the keys of every item in another order, and unknown keys between them.
fn dialect() -> impl Strategy<Value = Dialect> {
    any::<u64>().prop_map(|seed| {
        let mut random = common::Random::new(seed);
        let mut dialect = Dialect::default();
        for header in &mut dialect.headers {
            for _ in 0..3 {
                let (a, b) = (
                    random.below(header.keys.len()),
                    random.below(header.keys.len()),
                );
                header.keys.swap(a, b);
            }
            if header.letter != b'H' && random.below(2) == 0 {
                let at = random.below(header.keys.len() + 1);
                header.keys.insert(at, "future\tkey".into());
            }
        }
        dialect
    })
}

fn without_empty_chunks(items: Vec<Item>) -> Vec<Item> {
    let mut items = join_bodies(items);
    items.retain(|item| !matches!(item, Item::BodyChunk(chunk) if chunk.is_empty()));
    items
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn values_round_trip(
        dialect in dialect(),
        handshake in handshake(),
        groups in vec(items(), 0..8),
        cut in 0_u64..1000,
    ) {
        let mut encoder = Encoder::new(dialect);
        let mut out = BytesMut::new();
        encoder.start(&handshake, &mut out);
        let mut sent = vec![Item::Handshake(Box::new(handshake))];
        for item in groups.into_iter().flatten() {
            // Changes must rise, which random ones do not.
            if matches!(item, Item::Change(_)) {
                encoder.encode(&Item::EndOfList, &mut out).unwrap();
                sent.push(Item::EndOfList);
            }
            encoder.encode(&item, &mut out).unwrap();
            sent.push(item);
        }
        let (peer, received, _) = decode(&out, Cut::Random(cut)).unwrap();
        prop_assert_eq!(&peer.dialect, encoder.dialect());
        prop_assert_eq!(join_bodies(received), without_empty_chunks(sent));
    }

    #[test]
    fn any_lines_are_items_or_an_error(
        lines in vec((proptest::sample::select(&b"HSNDBACRMFX.c\n"[..]), text()), 0..6),
        cut in 0_u64..1000,
    ) {
        let mut out = BytesMut::new();
        Encoder::default().start(&Handshake::default(), &mut out);
        for (letter, text) in lines {
            out.extend_from_slice(&[letter]);
            out.extend_from_slice(&text);
            out.extend_from_slice(b"\n");
        }
        let whole = decode(&out, Cut::Whole).map(|(_, items, _)| join_bodies(items));
        let cut = decode(&out, Cut::Random(cut)).map(|(_, items, _)| join_bodies(items));
        prop_assert_eq!(whole, cut);
    }
}
