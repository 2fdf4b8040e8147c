//! Between the blocking thread of a brain and the tasks that read and write its stream.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;

/// Received bytes that wait for the brain; the reader pauses above it.
const INPUT_LIMIT: usize = 1024 * 1024;

/// Bytes that wait to be sent; the brain makes no more of them above it, but still takes input.
const OUTPUT_LIMIT: usize = 1024 * 1024;

/// What the brain's thread gets to know.
#[derive(Debug)]
pub(crate) enum Event {
    /// Bytes from the peer.
    Input(Bytes),
    /// There is room for output.
    Room,
    /// The peer will send no more; the text says why if it was an error.
    End(Option<String>),
    /// Somebody asked to stop; the text says who.
    Stop(&'static str),
    /// Nothing was sent or received for too long.
    Stalled,
}

/// What the brain's thread waits for besides input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// Only input.
    Input,
    /// Input, or room for output.
    Room,
    /// All output was written, or cannot be; input is thrown away.
    Sent,
}

/// Two byte queues with limits.
///
/// Never is one side of it blocked by the other direction: both peers may be in the middle of a
/// long body at the same time, and if each waited for room before it read on, they would wait for
/// each other for ever. So the reader and the writer are two tasks, and a brain whose output
/// queue is full goes on taking input.
#[derive(Debug)]
pub(crate) struct Link {
    state: Mutex<State>,
    /// Wakes the brain's thread.
    brain: Condvar,
    /// Wakes the reader: there is room for input.
    reader: Notify,
    /// Wakes the writer: there is output, or no more will come.
    writer: Notify,
}

#[derive(Debug)]
struct State {
    input: VecDeque<Bytes>,
    input_bytes: usize,
    input_end: Option<Option<String>>,
    discard_input: bool,
    output: VecDeque<Bytes>,
    /// In the queue and in the writer's hands.
    output_bytes: usize,
    output_closed: bool,
    output_broken: bool,
    stop: Option<&'static str>,
    last_activity: Instant,
}

impl Link {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                input: VecDeque::new(),
                input_bytes: 0,
                input_end: None,
                discard_input: false,
                output: VecDeque::new(),
                output_bytes: 0,
                output_closed: false,
                output_broken: false,
                stop: None,
                last_activity: Instant::now(),
            }),
            brain: Condvar::new(),
            reader: Notify::new(),
            writer: Notify::new(),
        }
    }

    /// A panic of another thread must not hide the reason why it panicked.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // The brain's thread.

    /// Waits for something to happen, at most until the link has stalled: no byte in or out for
    /// the whole timeout, while this thread was waiting.
    pub(crate) fn wait(&self, until: Until, timeout: Duration) -> Event {
        let mut state = self.lock();
        let started = Instant::now();
        loop {
            if let Some(signal) = state.stop.take() {
                return Event::Stop(signal);
            }
            if let Some(event) = self.ready(&mut state, until) {
                return event;
            }
            let deadline = state.last_activity.max(started) + timeout;
            let now = Instant::now();
            if now >= deadline {
                return Event::Stalled;
            }
            state = self
                .brain
                .wait_timeout(state, deadline - now)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn ready(&self, state: &mut State, until: Until) -> Option<Event> {
        let room = match until {
            Until::Input => false,
            Until::Room => state.output_bytes < OUTPUT_LIMIT || state.output_broken,
            Until::Sent => state.output_bytes == 0 || state.output_broken,
        };
        if let Some(bytes) = state.input.pop_front() {
            state.input_bytes -= bytes.len();
            self.reader.notify_one();
            return Some(Event::Input(bytes));
        }
        // While output can still be written, the end of the input says little: it is reported when
        // the brain asks for input. With both directions gone nothing else can come.
        if let Some(reason) = &state.input_end
            && (until == Until::Input || (until == Until::Room && state.output_broken))
        {
            return Some(Event::End(reason.clone()));
        }
        room.then_some(Event::Room)
    }

    /// Input that is there already.
    pub(crate) fn try_input(&self) -> Option<Bytes> {
        let mut state = self.lock();
        let bytes = state.input.pop_front()?;
        state.input_bytes -= bytes.len();
        self.reader.notify_one();
        Some(bytes)
    }

    /// Queues output. Returns whether more may be made at once: there is room, nobody asked to
    /// stop, and the peer is still there. If not, the brain's thread has to [`Link::wait`].
    pub(crate) fn send(&self, bytes: Bytes) -> bool {
        let mut state = self.lock();
        if !state.output_broken && !bytes.is_empty() {
            state.output_bytes += bytes.len();
            state.output.push_back(bytes);
            self.writer.notify_one();
        }
        let gone = state.output_broken && state.input_end.is_some();
        state.output_bytes < OUTPUT_LIMIT && state.stop.is_none() && !gone
    }

    /// Whether output was lost.
    pub(crate) fn is_broken(&self) -> bool {
        self.lock().output_broken
    }

    /// No more output comes, and no more input is wanted.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.output_closed = true;
        state.discard_input = true;
        state.input.clear();
        state.input_bytes = 0;
        self.writer.notify_one();
        self.reader.notify_one();
    }

    // The tasks.

    /// Queues input; waits while the queue is full.
    pub(crate) async fn push_input(&self, bytes: Bytes) {
        loop {
            {
                let mut state = self.lock();
                state.last_activity = Instant::now();
                if state.discard_input {
                    return;
                }
                if state.input_bytes < INPUT_LIMIT {
                    state.input_bytes += bytes.len();
                    state.input.push_back(bytes);
                    self.brain.notify_one();
                    return;
                }
            }
            self.reader.notified().await;
        }
    }

    /// The peer will send no more.
    pub(crate) fn end_input(&self, reason: Option<String>) {
        self.lock().input_end = Some(reason);
        self.brain.notify_one();
    }

    /// The next output to write; `None` when all is written.
    pub(crate) async fn next_output(&self) -> Option<Bytes> {
        loop {
            {
                let mut state = self.lock();
                if let Some(bytes) = state.output.pop_front() {
                    return Some(bytes);
                }
                if state.output_closed {
                    return None;
                }
            }
            self.writer.notified().await;
        }
    }

    /// So many bytes were written.
    pub(crate) fn written(&self, bytes: usize) {
        let mut state = self.lock();
        state.output_bytes -= bytes;
        state.last_activity = Instant::now();
        self.brain.notify_one();
    }

    /// Nothing can be written any more: what is queued is dropped. The run goes on: what the peer
    /// sent before may explain why, and the end of the input follows.
    pub(crate) fn break_output(&self) {
        let mut state = self.lock();
        state.output_broken = true;
        state.output.clear();
        state.output_bytes = 0;
        self.brain.notify_one();
    }

    /// Somebody asked to stop.
    pub(crate) fn stop(&self, signal: &'static str) {
        self.lock().stop = Some(signal);
        self.brain.notify_one();
    }
}
