//! Lines of the log channel (`spec/transports-and-cli.md` 9.8).

use bstr::BString;
use bytes::BufMut;

use crate::limits;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// 1
    Debug,
    /// 2
    Info,
    /// 3, and everything that we do not know.
    Warning,
    /// 4
    Error,
    /// 5: the server process ends.
    Fatal,
    /// 6: the server process crashed.
    Panic,
}

impl LogLevel {
    fn to_byte(self) -> u8 {
        match self {
            Self::Debug => 1,
            Self::Info => 2,
            Self::Warning => 3,
            Self::Error => 4,
            Self::Fatal => 5,
            Self::Panic => 6,
        }
    }

    fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Debug,
            2 => Self::Info,
            4 => Self::Error,
            5 => Self::Fatal,
            6 => Self::Panic,
            _ => Self::Warning,
        }
    }
}

/// One line of the server's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How bad it is.
    pub level: LogLevel,
    /// Prefix and message.
    pub text: BString,
}

impl LogLine {
    /// For a server: appends a message; every line of it gets level and prefix.
    pub fn write(level: LogLevel, prefix: &str, message: &[u8], out: &mut impl BufMut) {
        let lines = message.split(|byte| *byte == b'\n');
        for line in lines.filter(|line| !line.is_empty()) {
            out.put_u8(level.to_byte());
            out.put_slice(prefix.as_bytes());
            out.put_slice(line);
            out.put_u8(b'\n');
        }
    }
}

/// For a client: takes the log channel apart, in any cut.
#[derive(Debug, Default)]
pub struct LogDecoder {
    partial: Vec<u8>,
}

impl LogDecoder {
    /// Takes the next data of the channel; returns the lines that are complete now. Of lines
    /// longer than [`limits::DOVEADM_LOG`] the rest is cut off.
    pub fn decode(&mut self, data: &[u8]) -> Vec<LogLine> {
        let mut lines = Vec::new();
        let mut rest = data;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (part, tail) = rest.split_at(end);
            self.append(part);
            lines.extend(self.take_line());
            rest = tail.get(1..).unwrap_or_default();
        }
        self.append(rest);
        lines
    }

    /// The connection has ended: the last line, if its end is missing.
    pub fn finish(&mut self) -> Option<LogLine> {
        self.take_line()
    }

    fn append(&mut self, part: &[u8]) {
        let room = limits::DOVEADM_LOG.saturating_sub(self.partial.len());
        self.partial
            .extend_from_slice(part.get(..room).unwrap_or(part));
    }

    fn take_line(&mut self) -> Option<LogLine> {
        let line = std::mem::take(&mut self.partial);
        let (level, text) = line.split_first()?;
        Some(LogLine {
            level: LogLevel::from_byte(*level),
            text: text.into(),
        })
    }
}
