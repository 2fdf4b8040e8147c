//! Signals that end a run cleanly.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// What SIGHUP does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hangup {
    /// Nothing: a run goes on when the terminal is closed.
    Ignore,
    /// It ends the run like SIGTERM.
    Stop,
}

/// Waits for SIGINT or SIGTERM, and gives its name. Signals count from this call on, not from
/// the first time the result is polled.
///
/// A run ends at its next item, which may take a while if it waits for a lock or a slow disk.
/// Who sends a second signal does not want to wait: `on_second` is called.
pub fn stop_signal(
    hangup: Hangup,
    on_second: impl FnOnce(&'static str) + Send + 'static,
) -> io::Result<impl Future<Output = &'static str> + Send> {
    let mut signals = Signals {
        interrupt: signal(SignalKind::interrupt())?,
        terminate: signal(SignalKind::terminate())?,
        hang_up: signal(SignalKind::hangup())?,
        hangup,
    };
    let (first, stop) = oneshot::channel();
    tokio::spawn(async move {
        // Without a receiver the run is over already.
        let _ = first.send(signals.next().await);
        on_second(signals.next().await);
    });
    Ok(async move {
        match stop.await {
            Ok(name) => name,
            Err(_) => std::future::pending().await,
        }
    })
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    hangup: Hangup,
}

impl Signals {
    async fn next(&mut self) -> &'static str {
        loop {
            tokio::select! {
                () = received(&mut self.interrupt) => return "SIGINT",
                () = received(&mut self.terminate) => return "SIGTERM",
                () = received(&mut self.hang_up) => if self.hangup == Hangup::Stop {
                    return "SIGHUP";
                },
            }
        }
    }
}

/// Resolves when the signal arrives, and never if no more can arrive.
async fn received(signal: &mut Signal) {
    if signal.recv().await.is_none() {
        std::future::pending::<()>().await;
    }
}
