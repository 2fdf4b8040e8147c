//! Sessions with peers that do not behave.
#![allow(clippy::unwrap_used, reason = "test helpers")]

mod common;

use std::io::Cursor;
use std::time::Duration;

use common::{client, environment, never, options, stores};
use dsync_engine::{Brain, Fault, Mode, SyncOptions};
use dsync_storage::Account;
use dsync_transport::{Ending, Role, Session, SessionOptions, drive};
use tokio::io::{duplex, split};

async fn against(bytes: &[u8]) -> Session {
    let (a, _) = stores(3);
    drive(
        client(&a),
        Cursor::new(bytes.to_vec()),
        tokio::io::sink(),
        options(Role::Client),
        never(),
    )
    .await
}

#[tokio::test]
async fn strangers_are_quoted() {
    for (bytes, start, ending) in [
        (
            &b""[..],
            "the remote side closed the connection without a word",
            Ending::Closed,
        ),
        (
            b"hello\n",
            "the remote side printed: \"hello\"",
            Ending::Garbage,
        ),
        (b"hel", "the remote side printed: \"hel\"", Ending::Garbage),
        (
            b"Last login: today\r\nVERSION\tdsync\t3\t5\n",
            "the remote side printed: \"Last login: today\"",
            Ending::Garbage,
        ),
        (
            b"VERSION\tdsync\t2\t5\n",
            "the remote side printed: \"VERSION?dsync?2?5\"",
            Ending::Garbage,
        ),
        (
            &[0xff; 100_000],
            "the remote side printed: \"\u{fffd}",
            Ending::Garbage,
        ),
        (
            b"VERSION\tdsync\t3\t5\n",
            "the remote side closed the connection during the",
            Ending::Closed,
        ),
        (
            b"VERSION\tdsync\t3\t5\n.\n",
            "dsync(remote): Remote didn't handshake deserializer for",
            Ending::Damaged,
        ),
    ] {
        let session = against(bytes).await;
        let error = session.outcome.error.unwrap();
        assert!(error.message.starts_with(start), "{error}");
        assert!(!error.message.contains('\n'));
        assert_eq!((session.ending, error.fault), (ending, Fault::Peer));
        assert_eq!(error.class.exit_code(), 75);
    }
}

#[tokio::test]
async fn a_silent_peer_stalls() {
    let (a, _) = stores(3);
    let (near, _far) = duplex(1 << 20);
    let (reader, writer) = split(near);
    let impatient = SessionOptions {
        timeout: Duration::from_millis(50),
        ..options(Role::Client)
    };
    let session = drive(client(&a), reader, writer, impatient, never()).await;
    assert_eq!(session.ending, Ending::Stalled);
    let error = session.outcome.error.unwrap();
    assert!(
        error.message.starts_with(
            "dsync(remote): I/O has stalled, no activity for 0 seconds \
             (version not received); Timeout during state=master_recv_handshake"
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_signal_ends_a_session() {
    let (a, _) = stores(3);
    let (near, _far) = duplex(1 << 20);
    let (reader, writer) = split(near);
    let stop = std::future::ready("SIGINT");
    let session = drive(client(&a), reader, writer, options(Role::Client), stop).await;
    assert_eq!(session.ending, Ending::Stopped);
    let error = session.outcome.error.unwrap();
    assert!(error.message.starts_with("stopped by SIGINT"), "{error}");
    assert_eq!(error.class.exit_code(), 75);
}

#[tokio::test]
async fn a_missing_account_is_not_an_empty_source() {
    let (a, b) = stores(3);
    let backup = SyncOptions {
        mode: Mode::Backup,
        reverse: true,
        ..SyncOptions::default()
    };
    let own = Account::new(vec![Box::new(a.clone())]);
    let client = Brain::client(backup, own, environment(1));
    let mut missing = environment(2);
    missing.missing_roots = vec![(String::new(), "/not/mounted".into())];
    let server = Brain::server(Account::new(vec![Box::new(b)]), missing);
    let before = a.dump();
    let ended = dsync_transport::drive_local(client, server, never()).await;
    let error = ended.server.error.unwrap();
    assert!(
        error.message.contains("/not/mounted does not exist"),
        "{error}"
    );
    assert_eq!(error.class.exit_code(), 68);
    assert!(ended.client.error.is_some());
    assert_eq!(a.dump(), before);
}
