//! Pieces of work whose cost is watched: criterion measures their time, callgrind counts their
//! instructions (`cargo xtask instructions`).

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use dsync_engine::tree::{Tree, TreeRules, TreeSyncType, sync_trees};
use dsync_engine::{Mode, SyncOptions};
use dsync_proto::items::{Change, ChangeKind, Existence, Handshake, Item, Mail, SyncType};
use dsync_proto::types::{Flags, Guid, MailGuid};
use dsync_proto::wire::{Decoder, Encoder};
use dsync_storage::Namespace;
use dsync_storage::memory::{LoadMailbox, LoadMessage, MemoryOptions, MemoryStore};

use crate::simulator::Simulator;

/// Bytes that arrive at a time.
const CHUNK: usize = 64 * 1024;

/// A piece of work.
#[derive(Clone, Copy)]
pub struct Workload {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What its size counts.
    pub unit: &'static str,
    /// Size for a measurement of time.
    pub size: u32,
    /// Size for the count of instructions, where everything is fifty times slower.
    pub small_size: u32,
    prepare: fn(u32) -> Work,
}

/// Does it once more.
pub type Work = Box<dyn FnMut()>;

impl Workload {
    /// Makes what is needed for a size; the work itself can be done again and again.
    pub fn prepare(&self, size: u32) -> Work {
        (self.prepare)(size)
    }
}

/// All of them.
pub const ALL: &[Workload] = &[
    Workload {
        name: "decode-changes",
        unit: "changes",
        size: 100_000,
        small_size: 10_000,
        prepare: decode_changes,
    },
    Workload {
        name: "encode-changes",
        unit: "changes",
        size: 100_000,
        small_size: 10_000,
        prepare: encode_changes,
    },
    Workload {
        name: "decode-body",
        unit: "KiB",
        size: 64 * 1024,
        small_size: 1024,
        prepare: decode_body,
    },
    Workload {
        name: "encode-body",
        unit: "KiB",
        size: 64 * 1024,
        small_size: 1024,
        prepare: encode_body,
    },
    Workload {
        name: "equal-trees",
        unit: "mailboxes",
        size: 10_000,
        small_size: 10_000,
        prepare: |size| merge_trees(size, "box"),
    },
    Workload {
        name: "renamed-trees",
        unit: "mailboxes",
        size: 10_000,
        small_size: 10_000,
        prepare: |size| merge_trees(size, "other"),
    },
    Workload {
        name: "equal-messages",
        unit: "messages",
        size: 1_000_000,
        small_size: 20_000,
        prepare: merge_messages,
    },
];

fn started() -> (Encoder, BytesMut) {
    let (mut encoder, mut out) = (Encoder::default(), BytesMut::new());
    let handshake = Handshake {
        hostname: "host".into(),
        ..Handshake::default()
    };
    encoder.start(&handshake, &mut out);
    (encoder, out)
}

fn changes(count: u32) -> Vec<Item> {
    let change = |uid: u32| {
        let guid = format!("{uid}.M720564P31272.host,S=210,W=221");
        Item::Change(Change {
            guid: Some(guid.as_str().into()),
            modseq: 1_234_567,
            final_flags: Flags::SEEN,
            ..Change::new(ChangeKind::Save, uid)
        })
    };
    (1..=count).map(change).collect()
}

fn decode_changes(count: u32) -> Work {
    let (mut encoder, mut wire) = started();
    for item in changes(count) {
        encoder.encode(&item, &mut wire).unwrap();
    }
    let wire = wire.freeze();
    Box::new(move || decode_all(&wire))
}

fn encode_changes(count: u32) -> Work {
    let items = changes(count);
    Box::new(move || {
        let (mut encoder, mut out) = started();
        for item in &items {
            encoder.encode(item, &mut out).unwrap();
            if out.len() > CHUNK {
                out.clear();
            }
        }
        black_box(out);
    })
}

/// Lines of 76 bytes.
fn body(kib: u32) -> Bytes {
    let line = [&[b'a'; 74][..], b"\r\n"].concat();
    let lines = kib as usize * 1024 / line.len();
    line.repeat(lines).into()
}

fn mail() -> Item {
    Item::Mail(Mail {
        guid: Some(MailGuid::from("1795447100.M1P1.client,S=210")),
        received_date: 1_795_447_493,
        stream: true,
        ..Mail::default()
    })
}

fn decode_body(kib: u32) -> Work {
    let (mut encoder, mut wire) = started();
    for item in [mail(), Item::BodyChunk(body(kib)), Item::BodyEnd] {
        encoder.encode(&item, &mut wire).unwrap();
    }
    let wire = wire.freeze();
    Box::new(move || decode_all(&wire))
}

fn encode_body(kib: u32) -> Work {
    let body = body(kib);
    Box::new(move || {
        let (mut encoder, mut out) = started();
        encoder.encode(&mail(), &mut out).unwrap();
        let mut rest = body.clone();
        while !rest.is_empty() {
            let chunk = rest.split_to(CHUNK.min(rest.len()));
            encoder.body_slices(chunk).unwrap().for_each(|slice| {
                black_box(slice);
            });
        }
    })
}

fn decode_all(wire: &Bytes) {
    let mut decoder = Decoder::default();
    let mut rest = wire.clone();
    while !rest.is_empty() {
        decoder.push(rest.split_to(CHUNK.min(rest.len())));
        while let Some(item) = decoder.next_item().unwrap() {
            black_box(item);
        }
    }
}

fn tree(count: u32, time: i64, name: &str) -> Tree {
    let mut tree = Tree::new('/', vec![Namespace::default()], Some(0));
    for number in 0..count {
        let id = tree.ensure_path(&format!("{name}/{}/{number}", number / 100));
        let mut guid = [7; 16];
        guid[..4].copy_from_slice(&number.to_be_bytes());
        tree.set_guid(id, Guid(guid)).unwrap();
        let node = tree.node_mut(id);
        node.existence = Existence::Exists;
        node.last_renamed_or_created = time;
        node.namespace = Some(0);
    }
    tree
}

/// With another name all mailboxes were renamed on one side.
fn merge_trees(count: u32, name: &'static str) -> Work {
    let (local, remote) = (tree(count, 0, "box"), tree(count, 5, name));
    Box::new(move || {
        let (mut local, mut remote) = (local.clone(), remote.clone());
        let rules = TreeRules::with_ours(true);
        black_box(sync_trees(
            &mut local,
            &mut remote,
            TreeSyncType::TwoWay,
            rules,
        ));
    })
}

/// A full run of two brains over one mailbox that is equal on both sides.
fn merge_messages(count: u32) -> Work {
    let [a, b] = [1, 2].map(|seed| {
        let message = |uid: u32| LoadMessage {
            uid,
            guid: MailGuid::from(format!("{uid}.M720564P31272.host").as_str()),
            modseq: u64::from(uid),
            ..LoadMessage::default()
        };
        let mailbox = LoadMailbox {
            guid: Guid([9; 16]),
            uid_validity: 1,
            uid_next: count + 1,
            highest_modseq: u64::from(count),
            messages: (1..=count).map(message).collect(),
            ..LoadMailbox::default()
        };
        let store = MemoryStore::new(MemoryOptions::dbox(seed));
        store.user().load("INBOX", mailbox).unwrap();
        store
    });
    Box::new(move || {
        let options = SyncOptions {
            mode: Mode::TwoWay,
            sync_type: SyncType::Full,
            ..SyncOptions::default()
        };
        let run = Simulator::new(options, a.clone(), b.clone()).max_steps(u64::MAX);
        assert!(run.run().is_clean());
    })
}
