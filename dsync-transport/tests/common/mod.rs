//! Brains on memory stores, and the options of their sessions.
#![allow(unreachable_pub, clippy::unwrap_used, reason = "test helpers")]

use std::time::Duration;

use dsync_engine::{Brain, Environment, SyncOptions};
use dsync_proto::types::Guid;
use dsync_storage::Account;
use dsync_storage::memory::{MemoryOptions, MemoryStore, NewMail};
use dsync_transport::{Role, SessionOptions};

pub fn environment(seed: u8) -> Environment {
    let mut count = 0;
    Environment::new("host", move || {
        count += 1;
        Guid([seed, count, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
    })
}

pub fn client(store: &MemoryStore) -> Brain {
    let account = Account::new(vec![Box::new(store.clone())]);
    Brain::client(SyncOptions::default(), account, environment(1))
}

pub fn options(role: Role) -> SessionOptions {
    SessionOptions {
        role,
        peer_name: "remote".into(),
        timeout: Duration::from_secs(60),
        rawlog: None,
    }
}

pub fn never() -> impl Future<Output = &'static str> {
    std::future::pending()
}

/// Two stores with large messages that only one of them has.
pub fn stores(size: usize) -> (MemoryStore, MemoryStore) {
    let stores = [1, 2].map(|seed| MemoryStore::new(MemoryOptions::dbox(seed)));
    for (store, name) in stores.iter().zip(["a", "b"]) {
        let user = store.user();
        user.create("INBOX").unwrap();
        for number in 0..4 {
            let body = format!(
                "Message-ID: <{name}{number}>\n\n{}",
                ".x\n".repeat(size / 3)
            );
            user.save("INBOX", NewMail::new(body)).unwrap();
        }
    }
    let [a, b] = stores;
    (a, b)
}
