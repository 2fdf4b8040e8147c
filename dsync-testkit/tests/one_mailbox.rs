//! Exporter and importer of one mailbox under peers that answer in any order, stop anywhere or
//! lie, and with messages that cannot be read. Never may a message be lost or doubled.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "these are tests"
)]

mod common;

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use common::{assert_same, full, mails, run, run_clean, two_way};
use dsync_engine::Mode;
use dsync_engine::mailbox::{
    CommitInterval, ExportOptions, Exporter, HashSettings, ImportOptions, ImportResult, Importer,
    MailboxError, PeerFault, Scan, scan,
};
use dsync_proto::items::{
    Attribute, AttributeKind, AttributeValue, Change, ChangeKind, Mail, MailboxInfo, MailboxState,
};
use dsync_proto::types::{Flags, KeywordChange, KeywordOp, MailGuid};
use dsync_storage::memory::{LogGuid, MemoryOptions, MemoryStore, NewMail};
use dsync_storage::{Mailbox, OpenMode, Store};
use dsync_testkit::fault::{Fault, FaultStore, Faults};
use dsync_testkit::random::Random;
use dsync_testkit::simulator::Simulator;

struct Side {
    mailbox: Box<dyn Mailbox>,
    scan: Arc<Scan>,
}

fn open(store: &MemoryStore) -> Side {
    let mut mailbox = store.clone().open("INBOX", OpenMode::Write).unwrap();
    let status = mailbox.refresh().unwrap();
    let scan = scan(mailbox.as_mut(), status, &MailboxState::default()).unwrap();
    Side {
        mailbox,
        scan: Arc::new(scan),
    }
}

fn info(scan: &Scan) -> MailboxInfo {
    MailboxInfo {
        uid_validity: scan.status.uid_validity,
        uid_next: scan.status.uid_next,
        messages_count: scan.status.messages,
        first_recent_uid: scan.status.first_recent_uid,
        highest_modseq: scan.status.highest_modseq,
        have_guids: true,
        have_save_guids: true,
        ..MailboxInfo::default()
    }
}

fn import_options(remote: MailboxInfo, interval: u32) -> ImportOptions {
    ImportOptions {
        is_master: true,
        revert: false,
        mails_have_guids: true,
        guid128_only: false,
        want_requests: true,
        remote,
        filters: Default::default(),
        safe_filters: true,
        hashes: HashSettings::default(),
        empty_hdr_workaround: false,
        commit: CommitInterval {
            messages: interval,
            bytes: u64::MAX,
        },
    }
}

fn save(store: &MemoryStore, guid: &str) -> u32 {
    let mail = NewMail::with_subject(guid).guid(guid);
    store.user().save("INBOX", mail).unwrap()
}

fn store(seed: u64) -> MemoryStore {
    let store = MemoryStore::new(MemoryOptions::dbox(seed));
    store.user().create("INBOX").unwrap();
    store
}

/// Copies of each message.
fn counts(store: &MemoryStore) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for mail in store.dump().mailboxes["INBOX"].messages.values() {
        *counts.entry(mail.guid.to_string()).or_insert(0) += 1;
    }
    counts
}

/// Imports from `b` into `a`, bodies in any order, until chance cuts the link.
fn import_a_part(a: &MemoryStore, b: &MemoryStore, random: &mut Random) -> ImportResult {
    let (mut here, mut there) = (open(a), open(b));
    let options = ExportOptions {
        mails_have_guids: true,
        ..ExportOptions::default()
    };
    let mut exporter = Exporter::new(there.mailbox.as_mut(), &there.scan, options).unwrap();
    let interval = 1 + random.below(3) as u32;
    let mut importer = Importer::new(&here.scan, import_options(info(&there.scan), interval));
    while let Some(change) = exporter.next_change(there.mailbox.as_mut()).unwrap() {
        importer.change(here.mailbox.as_mut(), change).unwrap();
    }
    importer.changes_end(here.mailbox.as_mut()).unwrap();
    while let Some(request) = importer.next_request() {
        exporter.add_request(&request).unwrap();
    }
    let mut bodies = Vec::new();
    while let Some(mail) = exporter.next_mail(there.mailbox.as_mut()).unwrap() {
        let mut body = Vec::new();
        mail.body.unwrap().read_to_end(&mut body).unwrap();
        bodies.push((mail.item, body));
    }
    let arriving = random.below(bodies.len() + 1);
    for _ in 0..arriving {
        let (mail, body) = bodies.swap_remove(random.below(bodies.len()));
        importer.mail_begin(here.mailbox.as_mut(), &mail).unwrap();
        importer.mail_chunk(here.mailbox.as_mut(), &body).unwrap();
        importer.mail_end(here.mailbox.as_mut()).unwrap();
    }
    // Some are cut in the middle of a body.
    if let Some((mail, body)) = bodies.first().filter(|_| random.one_in(2)) {
        importer.mail_begin(here.mailbox.as_mut(), mail).unwrap();
        importer
            .mail_chunk(here.mailbox.as_mut(), &body[..body.len() / 2])
            .unwrap();
    }
    match bodies.len() {
        0 => importer.finish(here.mailbox.as_mut()),
        _ if random.one_in(2) => importer.finish(here.mailbox.as_mut()),
        _ => importer.abort(here.mailbox.as_mut()),
    }
}

#[test]
fn a_cut_import_in_any_order_loses_and_doubles_nothing() {
    for seed in 0..400 {
        let mut random = Random::new(seed);
        let (a, b) = (store(1), store(2));
        for number in 0..random.below(4) {
            save(&a, &format!("common{number}"));
        }
        run_clean(two_way(), &a, &b);
        let mut guids = Vec::new();
        for number in 0..8 {
            // The order of GUIDs decides about UIDs.
            let guid = format!("{:02}-{number}", random.below(100));
            match random.below(4) {
                0 => save(&a, &guid),
                1 => {
                    save(&a, &guid);
                    save(&b, &guid)
                }
                _ => save(&b, &guid),
            };
            if random.one_in(4) {
                let uid = save(&b, &guid);
                b.user().add_flags("INBOX", &[uid], Flags::FLAGGED).unwrap();
            }
            guids.push(guid);
        }
        let mut wanted = counts(&a);
        for (guid, count) in counts(&b) {
            let most = wanted.entry(guid).or_insert(0);
            *most = count.max(*most);
        }
        for _ in 0..random.below(3) {
            let result = import_a_part(&a, &b, &mut random);
            assert!(
                result.failure.is_none_or(|failure| failure.is_peer_fault()),
                "seed {seed}"
            );
        }
        for _ in 0..3 {
            run(two_way(), &a, &b);
        }
        assert_same(&a, &b);
        assert_eq!(counts(&a), wanted, "seed {seed}");
    }
}

fn hostile_change(random: &mut Random, uid: u32) -> Change {
    let kinds = [
        ChangeKind::Save,
        ChangeKind::Save,
        ChangeKind::Flags,
        ChangeKind::Expunge,
    ];
    let mut change = Change::new(*random.pick(&kinds), uid);
    let guids = [
        "",
        "a",
        "b",
        "c",
        "0123456789abcdef0123456789abcdef",
        "\u{0}\u{ff}",
    ];
    if !random.one_in(5) {
        change.guid = Some(MailGuid::from(*random.pick(&guids)));
    }
    if random.one_in(3) {
        change.hdr_hash = Some("68b329da9893e34099c7d8ad5cb9c940".into());
    }
    change.modseq = random.next_u64() >> random.below(64);
    change.pvt_modseq = random.next_u64() >> random.below(64);
    change.add_flags = Flags(random.next_u64() as u8);
    change.remove_flags = Flags(random.next_u64() as u8);
    change.final_flags = Flags(random.next_u64() as u8);
    for _ in 0..random.below(4) {
        let ops = [
            KeywordOp::Add,
            KeywordOp::Remove,
            KeywordOp::Final,
            KeywordOp::AddFinal,
        ];
        let names = ["", "ok", "OK", "not ok", "\u{fc}"];
        let keyword = KeywordChange::new(*random.pick(&ops), *random.pick(&names));
        change.keyword_changes.push(keyword);
    }
    change
}

/// A peer that sends anything: errors, never a panic, and what is stored stays readable.
#[test]
fn a_lying_peer_gets_errors() {
    let mut faults = 0;
    for seed in 0..3000 {
        let mut random = Random::new(seed);
        let a = store(1);
        for guid in ["a", "b", "c", "b"] {
            save(&a, guid);
        }
        let mut side = open(&a);
        let mut remote = MailboxInfo {
            uid_next: random.next_u64() as u32 >> random.below(32),
            highest_modseq: random.next_u64() >> random.below(64),
            first_recent_uid: random.next_u64() as u32 >> random.below(32),
            ..info(&side.scan)
        };
        remote.messages_count = random.below(9) as u32;
        let mut options = import_options(remote, random.below(3) as u32);
        options.revert = random.one_in(3);
        options.mails_have_guids = !random.one_in(3);
        options.want_requests = !random.one_in(3);
        options.guid128_only = random.one_in(5);
        options.empty_hdr_workaround = random.one_in(2);
        let mut importer = Importer::new(&side.scan, options);
        let attribute = Attribute {
            kind: AttributeKind::Private,
            key: "k".into(),
            value: match random.below(3) {
                0 => AttributeValue::Stream,
                1 => AttributeValue::Deleted,
                _ => AttributeValue::Inline("v".into()),
            },
            last_change: random.next_u64() as i64,
            modseq: random.next_u64(),
        };
        let mailbox = side.mailbox.as_mut();
        let stream = random.one_in(2).then(|| b"x".to_vec());
        if random.one_in(3) {
            let _ = importer.attribute(mailbox, &attribute, stream);
        }
        let mut uid = 0;
        for _ in 0..random.below(12) {
            uid = match random.below(12) {
                0 => random.next_u64() as u32,
                _ => uid + random.below(3) as u32,
            };
            let change = hostile_change(&mut random, uid);
            let _ = importer.change(mailbox, change);
        }
        for _ in 0..random.below(3) {
            let _ = importer.changes_end(mailbox);
        }
        while importer.next_request().is_some() {}
        for _ in 0..random.below(6) {
            let mail = Mail {
                guid: Some(MailGuid::from(*random.pick(&["", "a", "b", "x"]))),
                uid: random.below(9) as u32,
                stream: !random.one_in(4),
                ..Mail::default()
            };
            let _ = importer.mail_begin(mailbox, &mail);
            for _ in 0..random.below(3) {
                let _ = importer.mail_chunk(mailbox, b"Subject: x\n\n");
            }
            if !random.one_in(6) {
                let _ = importer.mail_end(mailbox);
            }
        }
        importer.undelivered(&[1, 2, 77]);
        let result = match random.one_in(3) {
            true => importer.abort(mailbox),
            false => importer.finish(mailbox),
        };
        faults += usize::from(result.failure.is_some());
        drop(side);
        let uid = save(&a, "afterwards");
        assert!(uid <= 4_294_967_293, "seed {seed}: no UIDs are left");
    }
    assert!(faults > 500, "only {faults} were caught");
}

#[test]
fn counters_that_would_ruin_the_mailbox_are_refused() {
    let a = store(1);
    for (uid_next, highest_modseq) in [(u32::MAX, 1), (4_294_967_295, 1), (5, u64::MAX)] {
        let mut side = open(&a);
        let remote = MailboxInfo {
            uid_next,
            highest_modseq,
            ..info(&side.scan)
        };
        let mut importer = Importer::new(&side.scan, import_options(remote, 1));
        importer.changes_end(side.mailbox.as_mut()).unwrap();
        let failure = importer.finish(side.mailbox.as_mut()).failure;
        let fault = match failure {
            Some(MailboxError::Peer { fault, .. }) => fault,
            other => panic!("{other:?}"),
        };
        assert!(matches!(
            fault,
            PeerFault::InvalidUidNext { .. } | PeerFault::InvalidModseq { .. }
        ));
    }
    assert_eq!(a.dump().mailboxes["INBOX"].uid_next, 1);
}

/// Runs both ways with messages of `a` that cannot be read; returns the client's exit code.
fn run_damaged(a: &MemoryStore, faults: &Faults, b: &MemoryStore) -> u8 {
    let a = FaultStore::new(Box::new(a.clone()), faults.clone());
    Simulator::new(two_way(), a, b.clone())
        .run()
        .client
        .exit_code()
}

#[test]
fn an_unreadable_message_stops_nothing_and_is_never_taken_for_expunged() {
    let (a, b) = (store(1), store(2));
    for guid in ["one", "bad", "three"] {
        save(&a, guid);
    }
    let faults = Faults::new(Fault::None);
    faults.damage("bad");
    for round in 0..3 {
        assert_eq!(run_damaged(&a, &faults, &b), 2, "it must be told");
        let there = mails(&b, "INBOX");
        assert_eq!(there, ["1:one", "3:three"], "round {round}");
        assert_eq!(counts(&a)["bad"], 1, "round {round}");
    }
    // Mail goes on arriving, also at the UIDs in question.
    save(&a, "four");
    save(&b, "five");
    run_damaged(&a, &faults, &b);
    faults.repair();
    for _ in 0..2 {
        run_damaged(&a, &faults, &b);
    }
    assert_same(&a, &b);
    let all = counts(&a);
    assert_eq!(all.len(), 5, "{all:?}");
    assert!(all.values().all(|count| *count == 1), "{all:?}");
}

#[test]
fn an_unreadable_message_in_a_conflict_is_kept() {
    let (a, b) = (store(1), store(2));
    save(&a, "common");
    run_clean(two_way(), &a, &b);
    save(&a, "bad");
    save(&b, "another");
    save(&b, "last");
    let faults = Faults::new(Fault::None);
    faults.damage("bad");
    for _ in 0..3 {
        assert_eq!(run_damaged(&a, &faults, &b), 2);
        assert_eq!(counts(&a)["bad"], 1);
    }
    faults.repair();
    for _ in 0..2 {
        run_damaged(&a, &faults, &b);
    }
    assert_same(&a, &b);
    assert_eq!(counts(&a).len(), 4);
}

#[test]
fn another_instance_serves_for_an_unreadable_or_vanished_one() {
    let a = store(1);
    for guid in ["twice", "single", "twice"] {
        save(&a, guid);
    }
    let mut side = open(&a);
    let mut exporter = Exporter::new(
        side.mailbox.as_mut(),
        &side.scan,
        ExportOptions {
            mails_have_guids: true,
            send_all_unasked: true,
            ..ExportOptions::default()
        },
    )
    .unwrap();
    a.user().expunge("INBOX", &[1], LogGuid::Known).unwrap();
    let mut sent = Vec::new();
    while let Some(mail) = exporter.next_mail(side.mailbox.as_mut()).unwrap() {
        sent.push((mail.item.guid.unwrap().to_string(), mail.body.is_some()));
    }
    assert_eq!(
        sent,
        [("twice".to_owned(), true), ("single".to_owned(), true)]
    );
}

#[test]
fn a_rebuilt_backup_keeps_the_attributes_of_its_source() {
    let (a, b) = (store(1), store(2));
    for guid in ["one", "two", "three"] {
        save(&a, guid);
    }
    let user = a.user();
    user.set_attribute("INBOX", "/private/comment", Some("mine"))
        .unwrap();
    run_clean(full(Mode::Backup), &a, &b);
    b.user().expunge("INBOX", &[2], LogGuid::Known).unwrap();
    user.set_attribute("INBOX", "/shared/comment", Some("ours"))
        .unwrap();
    run_clean(full(Mode::Backup), &a, &b);
    assert_same(&a, &b);
    assert_eq!(b.dump().mailboxes["INBOX"].attributes.len(), 2);
}

#[test]
fn flags_of_common_messages_survive_a_cut_link() {
    let (a, b) = (store(1), store(2));
    save(&a, "one");
    run_clean(two_way(), &a, &b);
    b.user().add_flags("INBOX", &[1], Flags::SEEN).unwrap();
    save(&b, "two");
    let (mut here, mut there) = (open(&a), open(&b));
    let options = ExportOptions {
        mails_have_guids: true,
        ..ExportOptions::default()
    };
    let mut exporter = Exporter::new(there.mailbox.as_mut(), &there.scan, options).unwrap();
    let mut importer = Importer::new(&here.scan, import_options(info(&there.scan), 1));
    while let Some(change) = exporter.next_change(there.mailbox.as_mut()).unwrap() {
        importer.change(here.mailbox.as_mut(), change).unwrap();
    }
    importer.changes_end(here.mailbox.as_mut()).unwrap();
    // Killed: nothing is called any more.
    drop(here);
    let message = &a.dump().mailboxes["INBOX"].messages[&1];
    assert_eq!(message.flags, Flags::SEEN);
}

/// A destination whose UIDs cannot start anew: what was emptied is filled all the same.
#[test]
fn a_rebuilt_backup_is_never_left_empty() {
    let (a, b) = (store(1), store(2));
    for guid in ["one", "two", "three"] {
        save(&a, guid);
        save(&b, &format!("other-{guid}"));
    }
    let (mut here, mut there) = (open(&b), open(&a));
    let mut options = import_options(info(&there.scan), 1);
    options.revert = true;
    let exporting = ExportOptions {
        mails_have_guids: true,
        ..ExportOptions::default()
    };
    let mut exporter = Exporter::new(there.mailbox.as_mut(), &there.scan, exporting).unwrap();
    let mut importer = Importer::new(&here.scan, options);
    while let Some(change) = exporter.next_change(there.mailbox.as_mut()).unwrap() {
        importer.change(here.mailbox.as_mut(), change).unwrap();
    }
    assert!(importer.delete_mailbox().is_some());
    b.user()
        .expunge("INBOX", &[1, 2, 3], LogGuid::Known)
        .unwrap();
    let mut here = open(&b);
    importer
        .restart_empty(here.mailbox.as_mut(), &here.scan)
        .unwrap();
    importer.changes_end(here.mailbox.as_mut()).unwrap();
    assert_eq!(importer.delete_mailbox(), None);
    while let Some(request) = importer.next_request() {
        exporter.add_request(&request).unwrap();
    }
    while let Some(mail) = exporter.next_mail(there.mailbox.as_mut()).unwrap() {
        let mut body = Vec::new();
        mail.body.unwrap().read_to_end(&mut body).unwrap();
        importer
            .mail_begin(here.mailbox.as_mut(), &mail.item)
            .unwrap();
        importer.mail_chunk(here.mailbox.as_mut(), &body).unwrap();
        importer.mail_end(here.mailbox.as_mut()).unwrap();
    }
    let result = importer.finish(here.mailbox.as_mut());
    assert_eq!(result.failure, None);
    assert!(result.changes_during_sync.is_some(), "it must be repeated");
    assert_eq!(mails(&b, "INBOX"), ["4:one", "5:two", "6:three"]);
}
