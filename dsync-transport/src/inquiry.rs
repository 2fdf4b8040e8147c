//! The second session of a client: when it pays, and who holds it.

use std::time::Duration;

use dsync_engine::{Brain, Findings, Inquiry, Peer, Poll, RunError};
use dsync_proto::items::Item;
use tokio::sync::{mpsc, oneshot};

/// Below this a round trip is not worth a second session.
const LEAST_ROUND_TRIP: Duration = Duration::from_millis(10);

/// Round trips of a second session, from its first byte to its last.
const ROUND_TRIPS: u32 = 4;

/// Whether it takes less time to open a second session, which took `opening` for the first one,
/// than to wait this long for each of so many mailboxes.
pub(crate) fn pays(opening: Duration, round_trip: Duration, mailboxes: usize) -> bool {
    let mailboxes = u32::try_from(mailboxes).unwrap_or(u32::MAX);
    let one_by_one = round_trip.saturating_mul(mailboxes);
    let at_once = opening.saturating_mul(2) + round_trip.saturating_mul(ROUND_TRIPS);
    round_trip >= LEAST_ROUND_TRIP && one_by_one > at_once
}

/// A second session that somebody shall hold, and where its findings go.
pub type Question = (Inquiry, oneshot::Sender<Findings>);

/// The end at the thread of the brain, which waits for the findings.
#[derive(Debug)]
pub struct Asker(mpsc::Sender<Question>);

impl Asker {
    /// Both ends.
    pub fn new() -> (Self, mpsc::Receiver<Question>) {
        let (sender, receiver) = mpsc::channel(1);
        (Self(sender), receiver)
    }

    /// Nothing is found out if nobody holds the session.
    pub(crate) fn ask(&self, inquiry: Inquiry) -> Findings {
        let (sender, receiver) = oneshot::channel();
        match self.0.blocking_send((inquiry, sender)) {
            Ok(()) => receiver.blocking_recv().unwrap_or_default(),
            Err(_) => Findings::new(),
        }
    }
}

/// One side of a session, as the thread that moves its items sees it.
pub(crate) trait Talk: Send + 'static {
    fn set_peer(&mut self, peer: Peer);
    fn handle(&mut self, item: Item);
    fn fail(&mut self, error: RunError);
    fn poll(&mut self) -> Poll;
    fn state_name(&self) -> String;
    fn peer_name(&self) -> Option<String>;
    fn peer_is_ours(&self) -> bool;
    /// Mailboxes that a second session could spare.
    fn inquiry_size(&self) -> usize {
        0
    }
    fn inquiry(&self) -> Option<Inquiry> {
        None
    }
    fn inquired(&mut self, _findings: Findings) {}
}

impl Talk for Brain {
    fn set_peer(&mut self, peer: Peer) {
        Self::set_peer(self, peer);
    }

    fn handle(&mut self, item: Item) {
        Self::handle(self, item);
    }

    fn fail(&mut self, error: RunError) {
        Self::fail(self, error);
    }

    fn poll(&mut self) -> Poll {
        Self::poll(self)
    }

    fn state_name(&self) -> String {
        Self::state_name(self)
    }

    fn peer_name(&self) -> Option<String> {
        Self::peer_name(self).map(ToString::to_string)
    }

    fn peer_is_ours(&self) -> bool {
        Self::peer_is_ours(self)
    }

    fn inquiry_size(&self) -> usize {
        Self::inquiry_size(self)
    }

    fn inquiry(&self) -> Option<Inquiry> {
        Some(Self::inquiry(self))
    }

    fn inquired(&mut self, findings: Findings) {
        Self::inquired(self, findings);
    }
}

impl Talk for Inquiry {
    fn set_peer(&mut self, _peer: Peer) {}

    fn handle(&mut self, item: Item) {
        Self::handle(self, item);
    }

    fn fail(&mut self, error: RunError) {
        Self::fail(self, error);
    }

    fn poll(&mut self) -> Poll {
        Self::poll(self)
    }

    fn state_name(&self) -> String {
        Self::state_name(self).to_owned()
    }

    fn peer_name(&self) -> Option<String> {
        Self::peer_name(self).map(ToString::to_string)
    }

    fn peer_is_ours(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_session_pays_with_many_mailboxes_far_away() {
        let pays = |opening, round_trip, mailboxes| {
            let milliseconds = Duration::from_millis;
            pays(milliseconds(opening), milliseconds(round_trip), mailboxes)
        };
        assert!(pays(200, 100, 100));
        assert!(pays(200, 100, 9));
        assert!(!pays(200, 100, 8));
        // Somebody had to type a password.
        assert!(!pays(10_000, 100, 100));
        assert!(!pays(0, 5, 1000));
        assert!(!pays(0, 100, 0));
    }
}
