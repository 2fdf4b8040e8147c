//! Our codec alone against a real Dovecot server: a whole session written by hand.

use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use bytes::{Bytes, BytesMut};
use dsync_proto::items::{
    Change, ChangeKind, Deletes, Existence, Handshake, Item, Mail, MailboxInfo, MailboxState,
    SyncType, TreeNode,
};
use dsync_proto::types::{Flags, Guid, KeywordChange, KeywordOp, MailGuid};
use dsync_proto::wire::{Decoder, Dialect, Encoder, Eof};
use interop_tests::{Version, World};

const GUID: Guid = Guid([0x42; 16]);
const MESSAGE: &[u8] = b".first: dot\nSubject: dots\n\n.\n..\n\r\n.x\nX\nlast line";

/// What a client would say to give the server one mailbox with one message.
fn session() -> Vec<Item> {
    let keyword = KeywordChange::new(KeywordOp::AddFinal, "work");
    vec![
        Item::Node(TreeNode {
            name: vec!["Grüße\tund 50%".into()],
            existence: Existence::Exists,
            mailbox_guid: GUID,
            uid_validity: 1_795_447_493,
            uid_next: 8,
            subscribed: true,
            last_subscription_change: 1_795_447_493,
            ..TreeNode::default()
        }),
        Item::EndOfList,
        Item::Deletes(Deletes {
            hierarchy_sep: b'.',
            escape_char: Some(b'%'),
            mailboxes: Vec::new(),
            dirs: Vec::new(),
            unsubscribes: Vec::new(),
        }),
        Item::Mailbox(MailboxInfo {
            mailbox_guid: GUID,
            uid_validity: 1_795_447_493,
            uid_next: 8,
            messages_count: 1,
            first_recent_uid: 1,
            highest_modseq: 3,
            have_guids: true,
            have_save_guids: true,
            ..MailboxInfo::default()
        }),
        Item::EndOfList, // attributes
        Item::Change(Change {
            guid: Some(MailGuid::from("our-guid")),
            modseq: 3,
            final_flags: Flags::FLAGGED,
            keyword_changes: vec![keyword],
            virtual_size: Some(u64::MAX),
            ..Change::new(ChangeKind::Save, 7)
        }),
        Item::EndOfList,
        Item::Mail(Mail {
            guid: Some(MailGuid::from("our-guid")),
            received_date: 1_795_447_100,
            saved_date: 1_795_447_200,
            stream: true,
            ..Mail::default()
        }),
        Item::BodyChunk(Bytes::from_static(MESSAGE)),
        Item::BodyEnd,
        Item::EndOfList, // mails
        Item::State(MailboxState {
            mailbox_guid: GUID,
            last_uidvalidity: 1_795_447_493,
            last_common_uid: 7,
            last_common_modseq: 1,
            last_messages_count: 1,
            ..MailboxState::default()
        }),
        Item::EndOfList, // mailboxes
    ]
}

/// Our keys backwards, with keys and an item type that Dovecot does not know.
fn strange_dialect() -> Dialect {
    let mut dialect = Dialect::default();
    dialect.headers.reverse();
    for header in &mut dialect.headers {
        header.keys.reverse();
        header.keys.insert(1, "x-unknown\tkey".into());
    }
    dialect.announce(b'Z', b"nothing");
    dialect
}

fn run(version: Version, dialect: Dialect) -> Result<()> {
    let world = World::new(version)?;
    let side = world.side("server")?;
    let mut encoder = Encoder::new(dialect);
    let mut input = BytesMut::new();
    let handshake = Handshake {
        hostname: "our-host".into(),
        sync_type: Some(SyncType::Full),
        hashed_headers: Some(vec!["Date".into(), "Message-ID".into()]),
        alt_char: Some(b'_'),
        extensions: vec![("x-ours".into(), "1\t2".into())],
        ..Handshake::default()
    };
    encoder.start(&handshake, &mut input);
    for item in session() {
        encoder.encode(&item, &mut input)?;
    }
    let mut server = world
        .command(&side.home(), "env")
        .args(&side.dovecot_server()[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = server.stdin.take().context("no stdin")?;
    stdin.write_all(&input)?;
    let output = server.wait_with_output()?;
    drop(stdin);
    let log = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success() && log.is_empty(),
        "{:?}: {log}",
        output.status
    );

    let mut decoder = Decoder::default();
    decoder.push(output.stdout.into());
    let mut received = Vec::new();
    while let Some(item) = decoder.next_item()? {
        received.push(item);
    }
    ensure!(decoder.eof() == Eof::AfterDone, "no X: {received:?}");
    let finished =
        matches!(received.as_slice(), [.., Item::Finish(f), Item::Done] if !f.require_full_resync);
    ensure!(finished, "not finished: {received:?}");
    let answered = received
        .iter()
        .any(|item| matches!(item, Item::State(state) if state.mailbox_guid == GUID));
    ensure!(answered, "no state: {received:?}");

    // The Maildir turns CRLF into LF; nothing else may be different.
    let expected = r#"[{"uid":"7","guid":"our-guid","flags":"\\Flagged work","text":".first: dot\nSubject: dots\n\n.\n..\n\n.x\nX\nlast line"}]"#;
    let fetched = side.doveadm("fetch", &["uid guid flags text", "mailbox", "Gr*"])?;
    ensure!(fetched.trim() == expected, "{fetched}");
    Ok(())
}

#[test]
fn dovecot_23_takes_our_bytes() -> Result<()> {
    run(Version::V23, Dialect::default())
}

#[test]
fn dovecot_23_takes_other_keys() -> Result<()> {
    run(Version::V23, strange_dialect())
}

#[test]
fn dovecot_24_takes_our_bytes() -> Result<()> {
    run(Version::V24, Dialect::default())
}

#[test]
fn dovecot_24_takes_other_keys() -> Result<()> {
    run(Version::V24, strange_dialect())
}
