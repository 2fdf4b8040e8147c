//! Signals that end a run cleanly.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

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
pub fn stop_signal(hangup: Hangup) -> io::Result<impl Future<Output = &'static str> + Send> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(async move {
        loop {
            tokio::select! {
                () = received(&mut interrupt) => return "SIGINT",
                () = received(&mut terminate) => return "SIGTERM",
                () = received(&mut hang_up) => if hangup == Hangup::Stop { return "SIGHUP" },
            }
        }
    })
}

/// Resolves when the signal arrives, and never if no more can arrive.
async fn received(signal: &mut Signal) {
    if signal.recv().await.is_none() {
        std::future::pending::<()>().await;
    }
}
