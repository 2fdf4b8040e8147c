//! Mail of every shape that a sync could stumble over.

use std::fmt;

/// What is odd about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Plain,
    NoDate,
    NoMessageId,
    NoHeaderThatCounts,
    /// Equal to other messages of this shape with the same number modulo 2.
    Twin,
    Dots,
    Nul,
    BareCr,
    MixedLineEnds,
    EightBit,
    Empty,
    HeadersOnly,
    HeadersAndBlankLine,
    NoLastLineEnd,
    Long,
    NoHeaders,
}

pub(super) const SHAPES: [Shape; 16] = [
    Shape::Plain,
    Shape::NoDate,
    Shape::NoMessageId,
    Shape::NoHeaderThatCounts,
    Shape::Twin,
    Shape::Dots,
    Shape::Nul,
    Shape::BareCr,
    Shape::MixedLineEnds,
    Shape::EightBit,
    Shape::Empty,
    Shape::HeadersOnly,
    Shape::HeadersAndBlankLine,
    Shape::NoLastLineEnd,
    Shape::Long,
    Shape::NoHeaders,
];

/// A message to save.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mail {
    pub(super) shape: Shape,
    /// Makes it different from all others.
    pub(super) number: u32,
    /// Flags and keywords as IMAP writes them.
    pub(super) flags: String,
    /// Received date as IMAP writes it; now if empty.
    pub(super) received: &'static str,
}

impl Mail {
    /// Whether IMAP refuses to take it.
    pub(super) fn needs_doveadm(&self) -> bool {
        matches!(self.shape, Shape::Nul | Shape::Empty)
    }

    pub(super) fn content(&self) -> Vec<u8> {
        let number = match self.shape {
            Shape::Twin => self.number % 2,
            _ => self.number,
        };
        let date = "Date: Mon, 02 Nov 2026 10:00:00 +0000\n";
        let id = format!("Message-ID: <{number}@example.org>\n");
        let subject = format!("From: anna@example.org\nSubject: {number}\n");
        let all = format!("{subject}{date}{id}");
        match self.shape {
            Shape::Plain | Shape::Twin => format!("{all}\nbody {number}\n"),
            Shape::NoDate => format!("{subject}{id}\nbody\n"),
            Shape::NoMessageId => format!("{subject}{date}\nbody\n"),
            Shape::NoHeaderThatCounts => format!("{subject}\nbody\n"),
            Shape::Dots => format!("{all}\n.\n..\n.dot\n\n.\n"),
            Shape::Nul => format!("{all}X: a\0b\n\nbody\0\0end\n"),
            Shape::BareCr => format!("{all}\none\rtwo\r\r\nthree\n\r\n"),
            Shape::MixedLineEnds => format!("{all}\r\none\r\ntwo\nthree\r\n\n"),
            Shape::EightBit => {
                let mut bytes = format!("{all}X-Name: Gr\u{fc}\u{df}e\n\n\u{20ac} ").into_bytes();
                bytes.extend_from_slice(b"\xff\xfe\x80 \xc3\n");
                return bytes;
            }
            Shape::Empty => String::new(),
            Shape::HeadersOnly => all,
            Shape::HeadersAndBlankLine => format!("{all}\n"),
            Shape::NoLastLineEnd => format!("{all}\nlast {number}"),
            Shape::Long => format!("{all}\n{}", format!("line {number} of it\n").repeat(700)),
            Shape::NoHeaders => format!("\n{number}: nothing but a body\n"),
        }
        .into_bytes()
    }
}

impl fmt::Display for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} number {}", self.shape, self.number)?;
        if !self.flags.is_empty() {
            write!(f, " ({})", self.flags)?;
        }
        if !self.received.is_empty() {
            write!(f, " {:?}", self.received)?;
        }
        Ok(())
    }
}
