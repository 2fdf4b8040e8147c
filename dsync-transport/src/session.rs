//! One brain and a byte stream.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use dsync_engine::{Brain, Findings, Inquiry, Outcome, Peer, Poll, RunError};
use dsync_proto::items::Item;
use dsync_proto::types::MailErrorClass;
use dsync_proto::wire::{Decoder, Encoder};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinHandle;

use crate::fault::{self, Role};
use crate::inquiry::{Asker, Talk, pays};
use crate::link::{Event, Link, Until};
use crate::local::{crashed, stopped};
use crate::rawlog::Way;
use crate::{Ending, Rawlog};

/// Encoded items are handed to the writer in pieces of about this size.
const FLUSH_BYTES: usize = 32 * 1024;

/// Room for one read.
const READ_BYTES: usize = 64 * 1024;

/// Slices of a body from this size on are sent as they are; smaller ones are copied together.
const SLICE_BYTES: usize = 4 * 1024;

/// How much of the beginning is kept, to show what a stranger said.
const HEAD_BYTES: usize = 1024;

/// How long the last words of a failed run may take.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What a session needs to know besides the brain.
#[derive(Debug)]
pub struct SessionOptions {
    /// Which side this is.
    pub role: Role,
    /// Name of the peer in messages, until it has told its host name: `remote` for a command,
    /// `local` for a server's client (`spec/wire.md` 12.1).
    pub peer_name: String,
    /// Without a byte in or out for this long the run fails.
    pub timeout: Duration,
    /// Gets a copy of the stream.
    pub rawlog: Option<Rawlog>,
}

/// How a session ended.
#[derive(Debug)]
pub struct Session {
    /// The brain's verdict.
    pub outcome: Outcome,
    /// What ended the stream.
    pub ending: Ending,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// The peer is one of ours and was told why the run failed, so it will report it.
    pub told_peer: bool,
    /// Who the peer is, if it has said so.
    pub peer: Option<PeerInfo>,
    /// Reads and forgets what the peer still says, so that it can end in peace.
    _drain: Drain,
}

/// What a peer says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// Its host name, without control characters.
    pub host: String,
    /// Minor version of its protocol; the major is 3.
    pub minor: u32,
    /// It is one of ours.
    pub is_ours: bool,
}

#[derive(Debug)]
struct Drain(JoinHandle<()>);

impl Drop for Drain {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs a brain on a byte stream until it is finished.
///
/// The brain and the codec work on a thread of their own. Two tasks read and write, always at
/// the same time: both peers may send long bodies at once, and a side that wrote without reading
/// would wait for ever for one that does the same.
///
/// Everything that goes wrong with the stream ends up as the error of the outcome. When `stop`
/// resolves (with the name of a signal), the brain stops at its next item.
pub async fn drive<R, W>(
    brain: Brain,
    reader: R,
    writer: W,
    options: SessionOptions,
    stop: impl Future<Output = &'static str>,
) -> Session
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    talk(brain, None, reader, writer, options, stop).await.0
}

/// The same for a client that may hold a second session (see [`Inquiry`]): whoever has the other
/// end of `asker` holds it.
pub async fn drive_inquiring<R, W>(
    brain: Brain,
    asker: Asker,
    reader: R,
    writer: W,
    options: SessionOptions,
    stop: impl Future<Output = &'static str>,
) -> Session
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let asker = Some(asker);
    talk(brain, asker, reader, writer, options, stop).await.0
}

/// Holds a second session: what it found out, less than all if it failed.
pub async fn inquire<R, W>(
    inquiry: Inquiry,
    reader: R,
    writer: W,
    options: SessionOptions,
    stop: impl Future<Output = &'static str>,
) -> Findings
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let (session, inquiry) = talk(inquiry, None, reader, writer, options, stop).await;
    if let Some(error) = session.outcome.error {
        tracing::debug!("the second session failed: {}", error.message);
    }
    inquiry.map(Inquiry::into_findings).unwrap_or_default()
}

async fn talk<T: Talk, R, W>(
    brain: T,
    asker: Option<Asker>,
    reader: R,
    writer: W,
    options: SessionOptions,
    stop: impl Future<Output = &'static str>,
) -> (Session, Option<T>)
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let link = Arc::new(Link::new());
    let drain = Drain(tokio::spawn(read(reader, Arc::clone(&link))));
    let mut writing = tokio::spawn(write(writer, Arc::clone(&link)));
    let pump = Pump {
        asker,
        ..Pump::new(brain, Arc::clone(&link), options)
    };
    let mut pumping = tokio::task::spawn_blocking(move || pump.run());
    let result = tokio::select! {
        result = &mut pumping => result,
        signal = stop => {
            link.stop(signal);
            pumping.await
        }
    };
    let (ended, brain) = match result {
        Ok((ended, brain)) => (ended, Some(brain)),
        Err(_) => (
            Ended {
                outcome: crashed(),
                ..Ended::default()
            },
            None,
        ),
    };
    // The pump has waited already until everything is written, or gave it up.
    link.close();
    if tokio::time::timeout(LAST_WORDS, &mut writing)
        .await
        .is_err()
    {
        writing.abort();
    }
    let session = Session {
        outcome: ended.outcome,
        ending: ended.ending,
        bytes_in: ended.bytes_in,
        bytes_out: ended.bytes_out,
        told_peer: ended.told_peer,
        peer: ended.peer,
        _drain: drain,
    };
    (session, brain)
}

/// What the brain's thread returns.
#[derive(Default)]
struct Ended {
    outcome: Outcome,
    ending: Ending,
    bytes_in: u64,
    bytes_out: u64,
    told_peer: bool,
    peer: Option<PeerInfo>,
}

async fn read(mut reader: impl AsyncRead + Unpin, link: Arc<Link>) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ_BYTES);
        match reader.read_buf(&mut buffer).await {
            Ok(0) => return link.end_input(None),
            Ok(_) => link.push_input(buffer.split().freeze()).await,
            Err(error) => return link.end_input(Some(error.to_string())),
        }
    }
}

/// Dropping the writer at the end is what closes the stream.
async fn write(mut writer: impl AsyncWrite + Unpin, link: Arc<Link>) {
    while let Some(mut bytes) = link.next_output().await {
        while !bytes.is_empty() {
            let result = match writer.write(&bytes).await {
                Ok(0) => Err(std::io::ErrorKind::WriteZero.into()),
                result => result,
            };
            let (Ok(written), Ok(())) = (result, writer.flush().await) else {
                // The peer is gone, perhaps because it was finished before us. What it said
                // last is still to be read, and tells more than this error.
                return link.break_output();
            };
            link.written(written);
            let _ = bytes.split_to(written);
        }
    }
    let _ = writer.shutdown().await;
}

/// The brain's thread.
struct Pump<T> {
    brain: T,
    /// Holds a second session; `None` after that.
    asker: Option<Asker>,
    started: Instant,
    /// How long it took until the peer was there.
    opening: Duration,
    /// The last wait for input.
    waited: Duration,
    link: Arc<Link>,
    options: SessionOptions,
    decoder: Decoder,
    encoder: Encoder,
    output: BytesMut,
    head: Vec<u8>,
    peer_known: bool,
    told_peer: bool,
    failed: Option<(Ending, RunError)>,
    bytes_in: u64,
    bytes_out: u64,
}

impl<T: Talk> Pump<T> {
    fn new(brain: T, link: Arc<Link>, options: SessionOptions) -> Self {
        Self {
            brain,
            asker: None,
            started: Instant::now(),
            opening: Duration::ZERO,
            waited: Duration::ZERO,
            link,
            options,
            decoder: Decoder::default(),
            encoder: Encoder::default(),
            output: BytesMut::new(),
            head: Vec::new(),
            peer_known: false,
            told_peer: false,
            failed: None,
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    fn run(mut self) -> (Ended, T) {
        let outcome = loop {
            self.consider_inquiry();
            match self.brain.poll() {
                Poll::Finished(outcome) => break *outcome,
                Poll::Transmit(item) => self.transmit(&item),
                Poll::NeedInput => {
                    if let Some((_, error)) = &self.failed {
                        // It was told that no input will come.
                        break Outcome {
                            error: Some(error.clone()),
                            ..Outcome::default()
                        };
                    }
                    // Not flush: that may take input, after which the brain must be asked again
                    // before anybody waits.
                    self.send_output();
                    self.wait(Until::Input);
                }
            }
        };
        self.send_output();
        let all_sent = self.finish();
        let peer = self.peer_info();
        let ended = Ended {
            outcome,
            ending: self.failed.map_or(Ending::Finished, |(ending, _)| ending),
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            told_peer: self.told_peer && all_sent,
            peer,
        };
        (ended, self.brain)
    }

    /// Holds a second session if that is faster than to ask for one mailbox after the other.
    fn consider_inquiry(&mut self) {
        let Some(asker) = &self.asker else { return };
        let mailboxes = self.brain.inquiry_size();
        if self.failed.is_none()
            && pays(self.opening, self.waited, mailboxes)
            && let Some(inquiry) = self.brain.inquiry()
        {
            tracing::debug!(mailboxes, waited = ?self.waited, "asking for all mailboxes at once");
            let findings = asker.ask(inquiry);
            self.brain.inquired(findings);
            self.asker = None;
        }
    }

    fn peer_info(&self) -> Option<PeerInfo> {
        let minor = self.decoder.peer()?.minor();
        self.brain.peer_name().map(|name| PeerInfo {
            host: harmless(&name),
            minor,
            is_ours: self.brain.peer_is_ours(),
        })
    }

    fn transmit(&mut self, item: &Item) {
        let result = match item {
            Item::Handshake(handshake) => {
                self.encoder.start(handshake, &mut self.output);
                Ok(())
            }
            Item::Finish(finish) => {
                self.told_peer = finish.error.is_some();
                self.encoder.encode(item, &mut self.output)
            }
            Item::BodyChunk(chunk) if chunk.len() >= SLICE_BYTES => self.transmit_body(chunk),
            item => self.encoder.encode(item, &mut self.output),
        };
        if let Err(error) = result {
            // After a failure in the middle of a body nothing can be said any more; the peer
            // sees the end of the stream. At any other time it is a mistake of this program.
            if self.failed.is_none() {
                let error = RunError::local(MailErrorClass::Temporary, error.to_string());
                self.fail((Ending::Finished, error));
            }
            return;
        }
        if self.output.len() >= FLUSH_BYTES {
            self.flush();
        }
    }

    /// Large pieces of a body go to the writer without being copied.
    fn transmit_body(&mut self, chunk: &Bytes) -> Result<(), dsync_proto::wire::EncodeError> {
        for slice in self.encoder.body_slices(chunk.clone())? {
            if slice.len() >= SLICE_BYTES {
                self.send_output();
                self.send(slice);
            } else {
                self.output.extend_from_slice(&slice);
            }
        }
        self.flush();
        Ok(())
    }

    fn send_output(&mut self) -> bool {
        let bytes = self.output.split().freeze();
        self.send(bytes)
    }

    fn send(&mut self, bytes: Bytes) -> bool {
        self.bytes_out += bytes.len() as u64;
        if let Some(rawlog) = &mut self.options.rawlog {
            rawlog.record(Way::Out, &bytes);
        }
        self.link.send(bytes)
    }

    /// Hands over the output. If there is no room for more, takes input until there is.
    fn flush(&mut self) {
        let mut room = self.send_output();
        while let Some(bytes) = self.link.try_input() {
            self.feed(bytes);
        }
        while !room && self.failed.is_none() {
            room = self.wait(Until::Room);
        }
    }

    /// Waits for one event. Returns whether there is room for output.
    fn wait(&mut self, until: Until) -> bool {
        let start = Instant::now();
        match self.link.wait(until, self.options.timeout) {
            Event::Input(bytes) => {
                self.waited = start.elapsed();
                self.feed(bytes);
            }
            Event::Room => return true,
            Event::End(read_error) => {
                let failure = fault::closed(
                    self.options.role,
                    self.decoder.eof(),
                    &self.head,
                    &self.stream_state(),
                    read_error.as_deref(),
                );
                self.fail(failure);
            }
            Event::Stop(signal) => self.fail((Ending::Stopped, stopped(signal))),
            Event::Stalled => {
                let failure = fault::stalled(
                    self.options.role,
                    &self.peer_name(),
                    &self.stream_state(),
                    &self.brain.state_name(),
                    self.options.timeout,
                );
                self.fail(failure);
            }
        }
        false
    }

    fn feed(&mut self, bytes: Bytes) {
        if self.failed.is_some() {
            return;
        }
        self.bytes_in += bytes.len() as u64;
        if let Some(rawlog) = &mut self.options.rawlog {
            rawlog.record(Way::In, &bytes);
        }
        if !self.peer_known {
            let room = HEAD_BYTES - self.head.len();
            let beginning = bytes.get(..room).unwrap_or(&bytes);
            self.head.extend_from_slice(beginning);
        }
        self.decoder.push(bytes);
        while self.failed.is_none() {
            match self.decoder.next_item() {
                Ok(Some(item)) => self.handle(item),
                Ok(None) => return,
                Err(error) => {
                    let failure = fault::damaged(
                        self.options.role,
                        &self.peer_name(),
                        &self.head,
                        self.decoder.stream_state(self.encoder.position())
                            == "version not received",
                        &error,
                    );
                    self.fail(failure);
                }
            }
        }
    }

    fn handle(&mut self, item: Item) {
        if !self.peer_known
            && let Some(peer) = self.decoder.peer()
        {
            self.peer_known = true;
            self.opening = self.started.elapsed();
            self.head = Vec::new();
            self.brain.set_peer(Peer {
                minor: peer.minor(),
                has_commit_interval: peer.has_commit_interval(),
            });
        }
        self.brain.handle(item);
    }

    fn fail(&mut self, (ending, error): (Ending, RunError)) {
        self.brain.fail(error.clone());
        self.failed.get_or_insert((ending, error));
    }

    /// Waits until everything is written, for a failed run only a moment. Returns whether it was.
    fn finish(&mut self) -> bool {
        self.link.close();
        let timeout = match &self.failed {
            None => self.options.timeout,
            Some(_) => self.options.timeout.min(LAST_WORDS),
        };
        matches!(self.link.wait(Until::Sent, timeout), Event::Room) && !self.link.is_broken()
    }

    fn stream_state(&self) -> String {
        self.decoder.stream_state(self.encoder.position())
    }

    fn peer_name(&self) -> String {
        match self.brain.peer_name() {
            Some(name) => harmless(&name),
            None => self.options.peer_name.clone(),
        }
    }
}

/// A name for a terminal.
fn harmless(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests;
