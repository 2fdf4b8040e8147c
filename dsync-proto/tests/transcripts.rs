//! Every captured session decodes, and encodes back to the same bytes.

#![allow(clippy::unwrap_used)] // clippy knows only test functions, not their helpers

mod common;

use common::{CUTS, Cut, decode, encode, join_bodies, raw_files};
use dsync_proto::header_hash::HashVersion;
use dsync_proto::items::Item;
use dsync_proto::wire::{Dialect, Encoder, Eof};

fn replace_all(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}

#[test]
fn all_encode_back_to_the_same_bytes() {
    for (name, raw) in raw_files() {
        // These hide two keys of `B` from the peer under unknown names; shown again here, so
        // that their values survive the way through the items.
        let raw = replace_all(&raw, b"_guidz", b"_guids");
        let expected = without_unstuffed_dot(&name, &raw);
        for cut in CUTS {
            let (peer, items, _) = decode(&raw, cut).unwrap_or_else(|e| panic!("{name}: {e}"));
            let encoded = encode(&peer, &items);
            assert!(
                encoded == expected,
                "{name} cut {cut:?}:\n{}\n!=\n{}",
                encoded.escape_ascii(),
                expected.escape_ascii()
            );
        }
    }
}

/// Dovecot 2.4 does not double a dot that is the first byte of a body (`spec/wire.md` 8,
/// "Leading-dot bug"). Every receiver drops it, so it cannot come back.
fn without_unstuffed_dot(name: &str, raw: &[u8]) -> Vec<u8> {
    match name {
        "v2.4.4-client.client.raw" | "v2.4.4-server.server.raw" => {
            let expected = replace_all(raw, b"\t\n.X-Dot", b"\t\nX-Dot");
            assert_eq!(expected.len(), raw.len() - 1, "{name}");
            expected
        }
        _ => raw.to_vec(),
    }
}

#[test]
fn the_cut_does_not_matter() {
    for (name, raw) in raw_files() {
        let (_, items, _) = decode(&raw, Cut::Whole).unwrap();
        let whole = join_bodies(items);
        for cut in CUTS {
            let (_, items, _) = decode(&raw, cut).unwrap();
            assert!(join_bodies(items) == whole, "{name} cut {cut:?}");
        }
    }
}

#[test]
fn all_end_between_items_or_after_done() {
    for (name, raw) in raw_files() {
        let (_, items, decoder) = decode(&raw, Cut::Whole).unwrap();
        let expected = match items.last() {
            Some(Item::Done) => Eof::AfterDone,
            _ => Eof::BetweenItems,
        };
        assert_eq!(decoder.eof(), expected, "{name}");
    }
}

#[test]
fn header_blocks_are_those_of_the_default_dialect() {
    let mut changed = Vec::new();
    for (name, raw) in raw_files() {
        let (peer, ..) = decode(&raw, Cut::Whole).unwrap();
        if peer.dialect != *Encoder::default().dialect() {
            changed.push(name);
        } else {
            assert_eq!(peer.dialect, Dialect::default());
            assert!(peer.has_commit_interval());
            assert_eq!(peer.extra_handshake_keys().count(), 0);
            assert_eq!(peer.hash_version(), HashVersion::V3);
        }
    }
    assert!(
        changed
            .iter()
            .all(|name| name.starts_with("edited-") || name.starts_with("v2.4.4-")),
        "{changed:?}"
    );
    assert_eq!(changed.len(), 14, "{changed:?}");
}

#[test]
fn peers_of_other_versions() {
    for (name, raw) in raw_files() {
        let (peer, items, _) = decode(&raw, Cut::Whole).unwrap();
        let is_v24 = name == "v2.4.4-client.client.raw" || name == "v2.4.4-server.server.raw";
        assert_eq!(peer.has_commit_interval(), !is_v24, "{name}");
        if name.starts_with("edited-minor0") {
            assert_eq!(peer.effective_minor(), 0);
            assert!(!peer.has_attributes() && peer.implies_save_guids() && !peer.has_finish());
            assert!(!items.iter().any(|item| matches!(item, Item::Attribute(_))));
        }
        if name.starts_with("edited-hdr-hash-v1") {
            assert_eq!(peer.hash_version(), HashVersion::V1);
        }
        if name.starts_with("edited-no-guid") {
            let hidden = items
                .iter()
                .any(|item| matches!(item, Item::Mailbox(m) if m.have_guids || m.have_save_guids));
            assert!(!hidden, "{name}: keys with unknown names must be ignored");
        }
    }
}

/// The letters in the table of `spec/wire.md` 16.
#[test]
fn sequences_are_those_of_the_specification() {
    for (name, client, server) in [
        (
            "two-way-initial",
            "HN.DBAA.CC..MM.SB..R..S.",
            "HNN.DB..RR..SB.C..M.SFX",
        ),
        ("stateful-no-change", "HSS.NN.D.", "HNN.DFX"),
        (
            "stateful-incremental",
            "HSSSS.NNNNN.DBAA.CCC..M.SB.C.R..S.",
            "HNNNNN.DB.C.R..SB.C..M.SFX",
        ),
        ("backup", "HNN.DB.C.M.SBA.C.M.S.", "H.DBR.SBR.SFX"),
        ("attributes-streamed", "HN.DBAAAA.C..M.S.", "H.DB..R..SFX"),
        ("edited-minor0", "HN.DBC..M.S.X", "H.DB.R..SFX"),
        ("mbox-backup", "HN.DB.CC.MM.S.", "H.DBRR.SFX"),
    ] {
        for (side, expected) in [("client", client), ("server", server)] {
            let path = common::transcripts().join(format!("{name}.{side}.raw"));
            let (_, items, _) = decode(&std::fs::read(path).unwrap(), Cut::Whole).unwrap();
            assert_eq!(letters(&items), expected, "{name} {side}");
        }
    }
}

fn letters(items: &[Item]) -> String {
    let letter = |item: &Item| match item {
        Item::Handshake(_) => Some('H'),
        Item::State(_) => Some('S'),
        Item::Node(_) => Some('N'),
        Item::Deletes(_) => Some('D'),
        Item::Mailbox(_) => Some('B'),
        Item::Attribute(_) => Some('A'),
        Item::Change(_) => Some('C'),
        Item::Request(_) => Some('R'),
        Item::Mail(_) => Some('M'),
        Item::BodyChunk(_) | Item::BodyEnd => None,
        Item::EndOfList => Some('.'),
        Item::Finish(_) => Some('F'),
        Item::Done => Some('X'),
    };
    items.iter().filter_map(letter).collect()
}
