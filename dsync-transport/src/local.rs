//! Two brains in one process (`spec/transports-and-cli.md` 8): items go from one to the other as
//! they are.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use dsync_engine::{Brain, Fault, Outcome, Poll, RunError};
use dsync_proto::items::Item;
use dsync_proto::types::MailErrorClass;

/// Weight of the items that may wait for one side, in bytes.
const QUEUE_LIMIT: usize = 1024 * 1024;

/// Items are handed over together from this weight on: each time the other side may have to be
/// woken, which costs more than making an item.
const BATCH_WEIGHT: usize = 64 * 1024;

/// What an item counts besides its body: a guess at its size in memory.
const ITEM_WEIGHT: usize = 256;

/// How both sides of a local run ended.
#[derive(Clone, Debug, Default)]
pub struct LocalOutcome {
    /// The own store's side.
    pub client: Outcome,
    /// The destination's side.
    pub server: Outcome,
}

/// Runs two brains against each other, each on a thread of its own.
///
/// # Errors
///
/// None of its own: what failed is in the outcomes. When `stop` resolves, both sides end at
/// their next item, and nothing is left half-written.
pub async fn drive_local(
    client: Brain,
    server: Brain,
    stop: impl Future<Output = &'static str>,
) -> LocalOutcome {
    let exchange = Arc::new(Exchange::default());
    let shared = Arc::clone(&exchange);
    let mut run = tokio::task::spawn_blocking(move || run_both(client, server, &shared));
    let result = tokio::select! {
        result = &mut run => result,
        signal = stop => {
            exchange.stop(signal);
            run.await
        }
    };
    result.unwrap_or_else(|_| LocalOutcome {
        client: crashed(),
        server: Outcome::default(),
    })
}

fn run_both(client: Brain, server: Brain, exchange: &Exchange) -> LocalOutcome {
    thread::scope(|scope| {
        let other = scope.spawn(|| run_side(server, Side::Server, exchange));
        let client = run_side(client, Side::Client, exchange);
        LocalOutcome {
            client,
            server: other.join().unwrap_or_else(|_| crashed()),
        }
    })
}

/// A side ends also by a panic; the other must not wait for it then.
struct EndGuard<'a>(&'a Exchange, Side);

impl Drop for EndGuard<'_> {
    fn drop(&mut self) {
        self.0.lock().of(self.1).finished = true;
        self.0.changed.notify_all();
    }
}

fn run_side(mut brain: Brain, side: Side, exchange: &Exchange) -> Outcome {
    let _guard = EndGuard(exchange, side);
    let mut batch = Batch::default();
    loop {
        let until = match brain.poll() {
            Poll::Finished(outcome) => {
                exchange.send(side, &mut batch);
                return *outcome;
            }
            Poll::NeedInput => {
                exchange.send(side, &mut batch);
                Until::Input
            }
            Poll::Transmit(item) => {
                batch.push(item);
                if batch.weight < BATCH_WEIGHT || exchange.send(side, &mut batch) {
                    continue;
                }
                // The other side's queue is full. It may be that the other side waits for us in
                // the same way, so go on taking its items until there is room.
                Until::Room
            }
        };
        match exchange.wait(side, until) {
            Event::Items(items) => items.into_iter().for_each(|item| brain.handle(item)),
            Event::Room => {}
            Event::Ended => brain.fail(RunError {
                reported_by_peer: true,
                ..RunError::peer("the other side of the run has ended early")
            }),
            Event::Stop(signal) => brain.fail(stopped(signal)),
        }
    }
}

/// The run was ended by a signal.
pub(crate) fn stopped(signal: &str) -> RunError {
    RunError {
        fault: Fault::Stopped,
        ..RunError::local(
            MailErrorClass::Temporary,
            format!("stopped by {signal}; what was finished is kept, run it again for the rest"),
        )
    }
}

/// A bug ended the thread; the panic message is on stderr already.
pub(crate) fn crashed() -> Outcome {
    Outcome {
        error: Some(RunError::local(
            MailErrorClass::Temporary,
            "this program failed by a mistake of its own (see above); run it again, and report it",
        )),
        ..Outcome::default()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    Input,
    Room,
}

enum Event {
    Items(VecDeque<Item>),
    Room,
    Ended,
    Stop(&'static str),
}

/// Items that go to the other side together.
#[derive(Debug, Default)]
struct Batch {
    items: VecDeque<Item>,
    weight: usize,
}

impl Batch {
    fn push(&mut self, item: Item) {
        self.weight += ITEM_WEIGHT;
        if let Item::BodyChunk(chunk) = &item {
            self.weight += chunk.len();
        }
        self.items.push_back(item);
    }

    fn append(&mut self, other: &mut Self) {
        self.weight += std::mem::take(&mut other.weight);
        self.items.append(&mut other.items);
    }
}

/// The items that wait for both sides.
#[derive(Debug, Default)]
struct Exchange {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    client: Inbox,
    server: Inbox,
}

impl State {
    fn of(&mut self, side: Side) -> &mut Inbox {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }
}

#[derive(Debug, Default)]
struct Inbox {
    waiting: Batch,
    /// Its owner takes no more.
    finished: bool,
    stop: Option<&'static str>,
}

impl Exchange {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives items to the other side. Returns whether the next one may be made at once: there is
    /// room for it, and nobody asked to stop.
    fn send(&self, from: Side, batch: &mut Batch) -> bool {
        let mut state = self.lock();
        let stopped = state.of(from).stop.is_some();
        let inbox = state.of(from.other());
        if inbox.finished {
            *batch = Batch::default();
        } else if !batch.items.is_empty() {
            inbox.waiting.append(batch);
            self.changed.notify_all();
        }
        inbox.waiting.weight < QUEUE_LIMIT && !stopped
    }

    fn wait(&self, side: Side, until: Until) -> Event {
        let mut state = self.lock();
        loop {
            if let Some(signal) = state.of(side).stop.take() {
                return Event::Stop(signal);
            }
            let inbox = state.of(side);
            if !inbox.waiting.items.is_empty() {
                let waiting = std::mem::take(&mut inbox.waiting);
                self.changed.notify_all();
                return Event::Items(waiting.items);
            }
            let other = state.of(side.other());
            if until == Until::Room && (other.waiting.weight < QUEUE_LIMIT || other.finished) {
                return Event::Room;
            }
            if until == Until::Input && other.finished {
                return Event::Ended;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn stop(&self, signal: &'static str) {
        let mut state = self.lock();
        state.client.stop = Some(signal);
        state.server.stop = Some(signal);
        self.changed.notify_all();
    }
}
