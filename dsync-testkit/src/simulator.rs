//! A whole sync in one thread: two brains and two queues, repeatable, stoppable at any step.
//!
//! ```
//! use dsync_engine::SyncOptions;
//! use dsync_storage::memory::{MemoryOptions, MemoryStore, NewMail};
//! use dsync_testkit::simulator::Simulator;
//!
//! let a = MemoryStore::new(MemoryOptions::dbox(1));
//! let b = MemoryStore::new(MemoryOptions::maildir(2));
//! a.user().save("INBOX", NewMail::with_subject("hello")).unwrap();
//! let report = Simulator::new(SyncOptions::default(), a.clone(), b.clone()).run();
//! assert_eq!(report.client.exit_code(), 0);
//! ```

use std::collections::VecDeque;
use std::fmt;

use dsync_engine::{Brain, Environment, Outcome, Poll, RunError, SyncOptions};
use dsync_proto::items::Item;
use dsync_proto::types::Guid;
use dsync_storage::{Account, Store};

use crate::random::Random;

/// Steps after which a run counts as endless, unless [`Simulator::max_steps`] says otherwise.
const MAX_STEPS: u64 = 2_000_000;

/// One of the two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Where the run was started.
    Client,
    /// The other one.
    Server,
}

impl Side {
    const BOTH: [Self; 2] = [Self::Client, Self::Server];
}

/// How a run ended on both sides.
#[derive(Debug)]
pub struct Report {
    /// The client's outcome.
    pub client: Outcome,
    /// The server's outcome.
    pub server: Outcome,
    /// Steps that it took.
    pub steps: u64,
    /// Items that were sent, with their sender, if [`Simulator::record`] was called.
    pub items: Vec<(Side, Item)>,
}

impl Report {
    /// Both sides are content: no error, nothing to repeat, no problem.
    pub fn is_clean(&self) -> bool {
        let clean = |outcome: &Outcome| outcome.exit_code() == 0 && !outcome.require_full_resync;
        clean(&self.client) && clean(&self.server)
    }

    /// Number of recorded items of this name ([`Item::name`]).
    pub fn count(&self, name: &str) -> usize {
        self.items
            .iter()
            .filter(|(_, item)| item.name() == name)
            .count()
    }
}

struct Party {
    brain: Brain,
    /// Items on their way to it.
    inbox: VecDeque<Item>,
    outcome: Option<Outcome>,
    /// Its last poll found nothing to do.
    idle: bool,
}

impl Party {
    fn new(brain: Brain) -> Self {
        Self {
            brain,
            inbox: VecDeque::new(),
            outcome: None,
            idle: false,
        }
    }
}

/// Two brains and what travels between them.
pub struct Simulator {
    parties: [Party; 2],
    /// Decides whose turn it is; without it they take turns.
    schedule: Option<Random>,
    steps: u64,
    max_steps: u64,
    recording: bool,
    items: Vec<(Side, Item)>,
}

impl Simulator {
    /// A run with these options, of one store on each side.
    pub fn new(
        options: SyncOptions,
        client: impl Store + 'static,
        server: impl Store + 'static,
    ) -> Self {
        Self::with_stores(options, vec![Box::new(client)], vec![Box::new(server)])
    }

    /// A run with several namespaces.
    pub fn with_stores(
        options: SyncOptions,
        client: Vec<Box<dyn Store>>,
        server: Vec<Box<dyn Store>>,
    ) -> Self {
        let environment = |name: &str, seed| {
            let mut random = Random::new(seed);
            Environment::new(name, move || Guid(random.bytes16()))
        };
        let client = Brain::client(
            options,
            Account::new(client),
            environment("client.example.org", 0xc11e),
        );
        let server = Brain::server(
            Account::new(server),
            environment("server.example.org", 0x5e12),
        );
        Self {
            parties: [Party::new(client), Party::new(server)],
            schedule: None,
            steps: 0,
            max_steps: MAX_STEPS,
            recording: false,
            items: Vec::new(),
        }
    }

    /// Lets chance decide who goes on and when items arrive, as a slow link would.
    #[must_use]
    pub fn schedule(mut self, seed: u64) -> Self {
        self.schedule = Some(Random::new(seed));
        self
    }

    /// Keeps all items.
    #[must_use]
    pub fn record(mut self) -> Self {
        self.recording = true;
        self
    }

    /// Panics as endless after this many steps.
    #[must_use]
    pub fn max_steps(mut self, steps: u64) -> Self {
        self.max_steps = steps;
        self
    }

    /// Runs to the end. Panics if both sides wait for each other, or never end.
    pub fn run(mut self) -> Report {
        while self.step() {}
        self.report()
    }

    /// Takes this many steps and no more; `None` if the run has ended before. Dropping the
    /// simulator then is what killing both processes is.
    #[must_use]
    pub fn run_for(mut self, steps: u64) -> Option<Self> {
        while self.steps < steps {
            if !self.step() {
                return None;
            }
        }
        Some(self)
    }

    /// Cuts the link: nothing that was sent arrives any more, and both sides are told. Gives both
    /// the chance to keep what is safe.
    pub fn cut_link(mut self) -> Report {
        for party in &mut self.parties {
            party.inbox.clear();
            party.brain.fail(RunError::peer("the connection was cut"));
            while party.outcome.is_none() {
                match party.brain.poll() {
                    Poll::Transmit(_) => {}
                    Poll::Finished(outcome) => party.outcome = Some(*outcome),
                    Poll::NeedInput => panic!("a brain waits after its link was cut"),
                }
            }
        }
        self.report()
    }

    fn report(self) -> Report {
        let [client, server] = self
            .parties
            .map(|party| party.outcome.expect("the run ended"));
        Report {
            client,
            server,
            steps: self.steps,
            items: self.items,
        }
    }

    /// One thing happens: an item is sent, or one is taken. `false` if all is over.
    fn step(&mut self) -> bool {
        self.steps += 1;
        assert!(self.steps <= self.max_steps, "endless run: {self:?}");
        let first = match &mut self.schedule {
            Some(random) => random.below(2),
            None => (self.steps % 2) as usize,
        };
        for side in [first, 1 - first] {
            if self.advance(side) {
                return true;
            }
        }
        let over = self.parties.iter().all(|party| party.outcome.is_some());
        assert!(over, "both sides wait for each other: {self:?}");
        false
    }

    fn advance(&mut self, side: usize) -> bool {
        let chance = self
            .schedule
            .as_mut()
            .is_some_and(|random| random.one_in(2));
        let [party, peer] = match &mut self.parties {
            [client, server] if side == 0 => [client, server],
            [client, server] => [server, client],
        };
        if party.outcome.is_some() {
            return false;
        }
        // An item may arrive while a brain still has something to send.
        if (party.idle || chance)
            && let Some(item) = party.inbox.pop_front()
        {
            party.brain.handle(item);
            party.idle = false;
            return true;
        }
        if party.idle {
            let closed = peer.outcome.is_some();
            if closed {
                party
                    .brain
                    .fail(RunError::peer("the peer closed the connection"));
                party.idle = false;
            }
            return closed;
        }
        match party.brain.poll() {
            Poll::Transmit(item) => {
                if self.recording {
                    self.items.push((Side::BOTH[side], item.clone()));
                }
                peer.inbox.push_back(item);
            }
            Poll::NeedInput => party.idle = true,
            Poll::Finished(outcome) => party.outcome = Some(*outcome),
        }
        true
    }
}

impl fmt::Debug for Simulator {
    /// Where both sides stand.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {} steps", self.steps)?;
        for (side, party) in Side::BOTH.iter().zip(&self.parties) {
            let state = party.brain.state_name();
            let waiting: Vec<_> = party.inbox.iter().take(5).map(Item::name).collect();
            write!(f, "; {side:?} in {state}, not yet read {waiting:?}")?;
            if let Some(outcome) = &party.outcome {
                write!(f, ", ended with {outcome:?}")?;
            }
        }
        Ok(())
    }
}
