//! Whole runs between two brains.
#![allow(clippy::unwrap_used, reason = "test helpers")]

mod common;

use std::sync::mpsc;

use common::{client, environment, never, options, stores};
use dsync_engine::{Brain, Fault};
use dsync_storage::Account;
use dsync_storage::memory::MemoryStore;
use dsync_transport::{Ending, Role, Session, SessionOptions, drive, drive_local};
use tokio::io::{AsyncWriteExt, duplex, split};
use tokio::runtime::Builder;

fn server(store: &MemoryStore) -> Brain {
    let account = Account::new(vec![Box::new(store.clone())]);
    Brain::server(account, environment(2))
}

#[test]
fn a_signal_ends_a_local_run() {
    // The run needs the only thread there is for it, which is busy until the signal was seen:
    // the task that frees it runs when the first poll of the run is over.
    let runtime = Builder::new_current_thread()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    let (a, b) = stores(3000);
    let before = (a.dump(), b.dump());
    let ended = runtime.block_on(async {
        let (free, freed) = mpsc::channel();
        tokio::task::spawn_blocking(move || freed.recv());
        tokio::spawn(async move { free.send(()) });
        drive_local(client(&a), server(&b), std::future::ready("SIGTERM")).await
    });
    for outcome in [ended.client, ended.server] {
        let error = outcome.error.unwrap();
        assert!(error.message.contains("SIGTERM"), "{error}");
        assert_eq!(error.fault, Fault::Stopped);
    }
    assert_eq!((a.dump(), b.dump()), before);
}

/// A pipe that holds much less than a body: each side must read while it writes.
async fn run_pair(a: &MemoryStore, b: &MemoryStore) -> (Session, Session) {
    let (near, far) = duplex(1000);
    let (near_read, near_write) = split(near);
    let (far_read, far_write) = split(far);
    tokio::join!(
        drive(
            client(a),
            near_read,
            near_write,
            options(Role::Client),
            never()
        ),
        drive(
            server(b),
            far_read,
            far_write,
            options(Role::Server),
            never()
        ),
    )
}

#[tokio::test]
async fn two_sides_over_a_narrow_pipe() {
    let (a, b) = stores(3_000_000);
    let (near, far) = run_pair(&a, &b).await;
    assert_eq!(near.outcome.error, None);
    assert_eq!(far.outcome.error, None);
    assert_eq!(
        (near.ending, far.ending),
        (Ending::Finished, Ending::Finished)
    );
    assert_eq!(near.bytes_out, far.bytes_in);
    assert!(near.bytes_in > 10_000_000 && near.bytes_out > 10_000_000);
    assert_eq!(a.dump().without_modseqs(), b.dump().without_modseqs());
    let before = (a.dump(), b.dump());
    let (near, _) = run_pair(&a, &b).await;
    assert_eq!(near.outcome.error, None);
    assert_eq!((a.dump(), b.dump()), before, "a second run changes nothing");
}

#[tokio::test]
async fn two_sides_in_one_process() {
    let (a, b) = stores(3_000_000);
    let ended = drive_local(client(&a), server(&b), never()).await;
    assert_eq!((&ended.client.error, &ended.server.error), (&None, &None));
    assert_eq!(a.dump().without_modseqs(), b.dump().without_modseqs());
}

#[tokio::test]
async fn a_cut_anywhere_is_the_peers_fault_and_loses_nothing() {
    let (a, b) = stores(300);
    let bytes = server_bytes(&a, &b).await;
    for cut in (0..bytes.len() - 4).step_by(97) {
        let (a, _) = stores(300);
        let before = a.dump();
        let (reader, mut feeder) = duplex(1 << 20);
        feeder.write_all(&bytes[..cut]).await.unwrap();
        drop(feeder);
        let session = drive(
            client(&a),
            reader,
            tokio::io::sink(),
            options(Role::Client),
            never(),
        )
        .await;
        let error = session
            .outcome
            .error
            .unwrap_or_else(|| panic!("cut at {cut}"));
        assert_eq!(error.fault, Fault::Peer, "cut at {cut}: {error}");
        let after = a.dump();
        for (old, new) in before.mailboxes.values().zip(after.mailboxes.values()) {
            assert!(new.messages.len() >= old.messages.len(), "cut at {cut}");
        }
    }
}

/// Everything that a server says in a good run.
async fn server_bytes(a: &MemoryStore, b: &MemoryStore) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("raw.log");
    let (near, far) = duplex(1 << 20);
    let (near_read, near_write) = split(near);
    let (far_read, far_write) = split(far);
    let logged = SessionOptions {
        rawlog: Some(dsync_transport::Rawlog::open(&path).unwrap()),
        ..options(Role::Client)
    };
    let (near, _) = tokio::join!(
        drive(client(a), near_read, near_write, logged, never()),
        drive(
            server(b),
            far_read,
            far_write,
            options(Role::Server),
            never()
        ),
    );
    assert_eq!(near.outcome.error, None);
    let log = std::fs::read(&path).unwrap();
    let mut bytes = Vec::new();
    for line in log.split_inclusive(|byte| *byte == b'\n') {
        let at = line.iter().position(|byte| *byte == b' ').unwrap();
        if line[at + 1..].starts_with(b"I: ") {
            bytes.extend_from_slice(&line[at + 4..]);
        }
    }
    bytes
}
