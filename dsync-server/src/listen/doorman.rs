//! Who may come in, and how many. Pure: the time is given.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// After so many wrong passwords nobody from that address is let in for a while.
const MAX_GUESSES: u32 = 10;

/// How long, counted from the last of them.
const GUESS_PAUSE: Duration = Duration::from_secs(60);

/// Addresses that are remembered; with more of them those without connections are forgotten.
const MAX_KNOWN: usize = 10_000;

/// Why somebody is sent away at the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// There are too many connections.
    #[error("too many connections")]
    Full,
    /// There are too many of this address.
    #[error("too many connections of this address (--max-per-address)")]
    TooMany,
    /// Somebody there tries passwords.
    #[error("too many wrong passwords, nobody of this address is let in for a minute")]
    Guessing,
}

/// Counts connections and wrong passwords.
#[derive(Debug)]
pub(super) struct Doorman {
    most: usize,
    most_per_address: usize,
    inside: usize,
    known: BTreeMap<IpAddr, Record>,
}

#[derive(Debug, Default)]
struct Record {
    inside: usize,
    guesses: u32,
    last_guess: Option<Instant>,
    /// A refusal was reported; the next ones are not, or the log would be what is attacked.
    reported: bool,
}

impl Record {
    fn is_guessing(&self, now: Instant) -> bool {
        self.last_guess
            .is_some_and(|last| now.saturating_duration_since(last) < GUESS_PAUSE)
    }
}

impl Doorman {
    pub(super) fn new(most: usize, most_per_address: usize) -> Self {
        Self {
            most,
            most_per_address,
            inside: 0,
            known: BTreeMap::new(),
        }
    }

    /// Somebody wants to come in; `None` for a local one. A refusal comes with whether it is to be
    /// reported.
    pub(super) fn enter(
        &mut self,
        address: Option<IpAddr>,
        now: Instant,
    ) -> Result<(), (Refusal, bool)> {
        let full = self.inside >= self.most;
        let Some(address) = address.map(place) else {
            if full {
                return Err((Refusal::Full, true));
            }
            self.inside += 1;
            return Ok(());
        };
        self.forget(now);
        let record = self.known.entry(address).or_default();
        if !record.is_guessing(now) {
            record.guesses = 0;
        }
        let refusal = match () {
            () if record.guesses >= MAX_GUESSES => Refusal::Guessing,
            () if record.inside >= self.most_per_address => Refusal::TooMany,
            () if full => Refusal::Full,
            () => {
                record.reported = false;
                record.inside += 1;
                self.inside += 1;
                return Ok(());
            }
        };
        let is_first = !record.reported;
        record.reported = true;
        Err((refusal, is_first))
    }

    /// Somebody who was inside has gone.
    pub(super) fn leave(&mut self, address: Option<IpAddr>) {
        self.inside = self.inside.saturating_sub(1);
        if let Some(record) = address.and_then(|address| self.known.get_mut(&place(address))) {
            record.inside = record.inside.saturating_sub(1);
        }
    }

    /// Somebody had a wrong password.
    pub(super) fn guessed(&mut self, address: Option<IpAddr>, now: Instant) {
        if let Some(record) = address.and_then(|address| self.known.get_mut(&place(address))) {
            record.guesses = record.guesses.saturating_add(1);
            record.last_guess = Some(now);
        }
    }

    /// Keeps the memory of addresses bounded.
    fn forget(&mut self, now: Instant) {
        if self.known.len() < MAX_KNOWN {
            return;
        }
        self.known
            .retain(|_, record| record.inside > 0 || record.is_guessing(now));
        if self.known.len() >= MAX_KNOWN {
            self.known.retain(|_, record| record.inside > 0);
        }
    }
}

/// Addresses that one person has: of IPv6 the whole network.
fn place(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(network))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn connections_are_counted() {
        let now = Instant::now();
        let mut doorman = Doorman::new(4, 2);
        let (one, other) = (address("10.0.0.1"), address("10.0.0.2"));
        let mapped = address("::ffff:10.0.0.1");
        assert_eq!(doorman.enter(one, now), Ok(()));
        assert_eq!(doorman.enter(mapped, now), Ok(()));
        assert_eq!(doorman.enter(one, now), Err((Refusal::TooMany, true)));
        assert_eq!(doorman.enter(one, now), Err((Refusal::TooMany, false)));
        assert_eq!(doorman.enter(other, now), Ok(()));
        assert_eq!(doorman.enter(None, now), Ok(()));
        assert_eq!(doorman.enter(other, now), Err((Refusal::Full, true)));
        assert_eq!(doorman.enter(None, now), Err((Refusal::Full, true)));
        doorman.leave(one);
        assert_eq!(doorman.enter(one, now), Ok(()));
        assert_eq!(doorman.enter(one, now), Err((Refusal::TooMany, true)));
    }

    #[test]
    fn passwords_are_not_tried_for_long() {
        let start = Instant::now();
        let mut doorman = Doorman::new(100, 100);
        let (one, near, far) = (
            address("2001:db8::1"),
            address("2001:db8::2"),
            address("::2"),
        );
        for _ in 0..MAX_GUESSES {
            assert_eq!(doorman.enter(one, start), Ok(()));
            doorman.guessed(one, start);
            doorman.leave(one);
        }
        assert_eq!(doorman.enter(near, start), Err((Refusal::Guessing, true)));
        assert_eq!(doorman.enter(far, start), Ok(()));
        assert_eq!(doorman.enter(None, start), Ok(()));
        let before = start + GUESS_PAUSE - Duration::from_secs(1);
        assert_eq!(doorman.enter(one, before), Err((Refusal::Guessing, false)));
        assert_eq!(doorman.enter(one, start + GUESS_PAUSE), Ok(()));
        // The next mistake is the first one again.
        doorman.guessed(one, start + GUESS_PAUSE);
        assert_eq!(doorman.enter(one, start + GUESS_PAUSE), Ok(()));
    }

    #[test]
    fn memory_is_bounded() {
        let now = Instant::now();
        let mut doorman = Doorman::new(usize::MAX, 100);
        doorman.enter(address("10.0.0.1"), now).unwrap();
        for number in 0..3 * MAX_KNOWN {
            let other = IpAddr::V4((0x0b00_0000 + number as u32).into());
            doorman.enter(Some(other), now).unwrap();
            doorman.guessed(Some(other), now);
            doorman.leave(Some(other));
        }
        assert!(doorman.known.len() <= MAX_KNOWN);
        assert_eq!(doorman.known[&address("10.0.0.1").unwrap()].inside, 1);
    }
}
