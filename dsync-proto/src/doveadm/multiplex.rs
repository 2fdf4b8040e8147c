//! Packets: several channels in the server's direction (`spec/transports-and-cli.md` 9.8).

use bytes::{Buf, BufMut, Bytes};

use super::error::DoveadmError;

const LOG_CHANNEL: u8 = b'L';
const HEADER_SIZE: usize = 5;

/// A channel that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// Replies, and after a `dsync-server` command the dsync session.
    Main,
    /// Log lines of the server.
    Log,
}

/// For a server: the header of a packet with this much data; the data must follow.
///
/// Nothing must be sent for a length of 0.
pub fn packet_header(channel: Channel, length: u32) -> [u8; HEADER_SIZE] {
    let number = match channel {
        Channel::Main => 0,
        Channel::Log => LOG_CHANNEL,
    };
    let [a, b, c, d] = length.to_be_bytes();
    [number, a, b, c, d]
}

/// For a server: appends data as one packet, or as several if it exceeds 4 GiB.
pub fn write_packets(channel: Channel, data: &[u8], out: &mut impl BufMut) {
    for part in data.chunks(u32::MAX as usize) {
        out.put_slice(&packet_header(channel, part.len() as u32));
        out.put_slice(part);
    }
}

/// For a client: takes packets apart, in any cut.
#[derive(Debug, Default)]
pub struct PacketDecoder {
    input: Bytes,
    /// What there is of a header that is not complete.
    header: Vec<u8>,
    /// Channel (`None` for an unknown one) of the current packet, and how much is left of it.
    current: Option<(Option<Channel>, u32)>,
}

impl PacketDecoder {
    /// Adds bytes that were read. Pull all data before pushing again.
    pub fn push(&mut self, bytes: Bytes) {
        if self.input.is_empty() {
            self.input = bytes;
        } else {
            self.input = [&self.input[..], &bytes[..]].concat().into();
        }
    }

    /// The next data of a channel, a slice of what was pushed; `None` if more bytes are needed.
    /// Data of unknown channels is skipped.
    pub fn next_data(&mut self) -> Option<(Channel, Bytes)> {
        loop {
            let (channel, left) = match self.current.take() {
                Some(current) => current,
                None => self.take_header()?,
            };
            if left == 0 {
                continue;
            }
            if self.input.is_empty() {
                self.current = Some((channel, left));
                return None;
            }
            let size = self.input.len().min(left as usize);
            let data = self.input.split_to(size);
            self.current = Some((channel, left - size as u32));
            if let Some(channel) = channel {
                return Some((channel, data));
            }
        }
    }

    /// The connection has ended.
    ///
    /// # Errors
    ///
    /// It ended inside a packet.
    pub fn finish(&self) -> Result<(), DoveadmError> {
        match self.current {
            Some((_, left)) if left > 0 => Err(DoveadmError::EofInPacket(left)),
            _ if !self.header.is_empty() => Err(DoveadmError::EofInPacket(
                (HEADER_SIZE - self.header.len()) as u32,
            )),
            _ => Ok(()),
        }
    }

    fn take_header(&mut self) -> Option<(Option<Channel>, u32)> {
        let wanted = HEADER_SIZE - self.header.len();
        let part = self.input.split_to(wanted.min(self.input.len()));
        self.header.extend_from_slice(&part);
        if self.header.len() < HEADER_SIZE {
            return None;
        }
        let header = std::mem::take(&mut self.header);
        let mut header = header.as_slice();
        let channel = match header.get_u8() {
            0 => Some(Channel::Main),
            LOG_CHANNEL => Some(Channel::Log),
            _ => None,
        };
        Some((channel, header.get_u32()))
    }
}
