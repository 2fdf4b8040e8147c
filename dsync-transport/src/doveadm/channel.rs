//! What a client reads after the greeting: the main channel, with the log lines taken out.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use dsync_proto::doveadm::multiplex::{Channel, PacketDecoder};
use dsync_proto::doveadm::{LogDecoder, LogLine};
use tokio::io::{AsyncRead, ReadBuf, ReadHalf};

use crate::net::BoxStream;

/// Room for one read.
const READ_BYTES: usize = 64 * 1024;

/// Gets each line of the server's log.
pub type LogSink = Box<dyn FnMut(LogLine) + Send>;

/// The server's direction of a connection. It reads as the bytes of the main channel; lines of the
/// log channel go to the sink.
pub struct MainChannel {
    reader: ReadHalf<BoxStream>,
    buffer: Vec<u8>,
    /// Bytes of the main channel that nobody took yet.
    ready: Bytes,
    packets: Option<PacketDecoder>,
    log: LogDecoder,
    sink: LogSink,
}

impl MainChannel {
    /// `first` was read already; all is split into packets if `multiplexed`.
    pub(super) fn new(
        reader: ReadHalf<BoxStream>,
        first: Bytes,
        multiplexed: bool,
        sink: LogSink,
    ) -> Self {
        let mut channel = Self {
            reader,
            buffer: vec![0; READ_BYTES],
            ready: Bytes::new(),
            packets: multiplexed.then(PacketDecoder::default),
            log: LogDecoder::default(),
            sink,
        };
        channel.take(first);
        channel
    }

    /// Gives bytes back that belong to another reader.
    pub(super) fn unread(&mut self, bytes: Bytes) {
        self.ready = if self.ready.is_empty() {
            bytes
        } else {
            [&bytes[..], &self.ready[..]].concat().into()
        };
    }

    fn take(&mut self, bytes: Bytes) {
        match &mut self.packets {
            Some(packets) => packets.push(bytes),
            None => self.ready = bytes,
        }
    }

    /// Main channel bytes that are there, without reading.
    fn fill(&mut self) -> bool {
        while self.ready.is_empty() {
            let data = self.packets.as_mut().and_then(PacketDecoder::next_data);
            match data {
                Some((Channel::Main, bytes)) => self.ready = bytes,
                Some((Channel::Log, bytes)) => {
                    self.log.decode(&bytes).into_iter().for_each(&mut self.sink);
                }
                None => return false,
            }
        }
        true
    }

    fn end(&mut self) -> io::Result<()> {
        self.log.finish().into_iter().for_each(&mut self.sink);
        match &self.packets {
            Some(packets) => packets.finish().map_err(io::Error::other),
            None => Ok(()),
        }
    }
}

impl AsyncRead for MainChannel {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while !this.fill() {
            if this.packets.is_none() {
                return Pin::new(&mut this.reader).poll_read(context, out);
            }
            let mut buffer = ReadBuf::new(&mut this.buffer);
            ready!(Pin::new(&mut this.reader).poll_read(context, &mut buffer))?;
            let bytes = Bytes::copy_from_slice(buffer.filled());
            if bytes.is_empty() {
                return Poll::Ready(this.end());
            }
            this.take(bytes);
        }
        let size = this.ready.len().min(out.remaining());
        out.put_slice(this.ready.get(..size).unwrap_or_default());
        this.ready.advance(size);
        Poll::Ready(Ok(()))
    }
}
