//! The thread of the brain, the reader and the writer together.

use tokio::io::{duplex, split};

use super::*;

/// What each side sends: much more than all queues and the pipe hold together.
const TOTAL: usize = 16 * 1024 * 1024;

/// A side that only wants to send, and takes input only while it waits for room.
fn send_everything(link: &Link) -> usize {
    let (mut sent, mut received) = (0, 0);
    let minute = Duration::from_secs(60);
    while sent < TOTAL {
        sent += FLUSH_BYTES;
        let mut room = link.send(Bytes::from(vec![b'x'; FLUSH_BYTES]));
        while !room {
            match link.wait(Until::Room, minute) {
                Event::Input(bytes) => received += bytes.len(),
                Event::Room => room = true,
                other => panic!("{other:?}"),
            }
        }
    }
    while received < TOTAL {
        match link.wait(Until::Input, minute) {
            Event::Input(bytes) => received += bytes.len(),
            other => panic!("{other:?}"),
        }
    }
    received
}

#[tokio::test]
async fn two_sides_that_only_want_to_send_do_not_wait_for_each_other() {
    let (near, far) = duplex(100);
    let mut sides = Vec::new();
    for end in [near, far] {
        let link = Arc::new(Link::new());
        let (reader, writer) = split(end);
        tokio::spawn(read(reader, Arc::clone(&link)));
        tokio::spawn(write(writer, Arc::clone(&link)));
        sides.push(tokio::task::spawn_blocking(move || send_everything(&link)));
    }
    for side in sides {
        assert_eq!(side.await.unwrap(), TOTAL);
    }
}

/// Enough turns for the other task on this thread to do all that it can.
async fn many_turns() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn input_is_not_read_without_limit() {
    let (near, mut far) = duplex(1000);
    let link = Arc::new(Link::new());
    let task = tokio::spawn(read(near, Arc::clone(&link)));
    let mut taken = 0;
    let chunk = vec![b'x'; 1000];
    // Nobody takes the input; the reader must stop at some point.
    loop {
        tokio::select! {
            biased;
            result = far.write_all(&chunk) => result.unwrap(),
            () = many_turns() => break,
        }
        taken += chunk.len();
        assert!(taken < 4 * 1024 * 1024, "the reader never stops");
    }
    assert!(taken >= 1024 * 1024);
    task.abort();
}
