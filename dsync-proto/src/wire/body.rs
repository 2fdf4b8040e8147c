//! Bodies: dot-stuffed streams (`spec/wire.md` 8).

use bytes::{Buf, Bytes};
use memchr::memmem;

/// What ends a body on the wire, whatever it ended with.
pub(crate) const TERMINATOR: &[u8] = b"\r\n.\r\n";

/// Where in a body the next byte of input belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// At the beginning of a line.
    LineStart,
    /// After a dot at the beginning of a line.
    Dot,
    /// After a dot and a CR at the beginning of a line.
    DotCr,
    /// Anywhere else.
    Text,
}

/// Removes dot-stuffing and finds the end, for any cut of the input.
///
/// A line end that may belong to the terminator is held back until the next byte is known, so at
/// most two bytes are ever buffered; everything else is handed out as a slice of the input.
#[derive(Debug)]
pub(crate) struct BodyDecoder {
    at: At,
    /// Line end before the current line, or a CR that may be the first half of one.
    held: &'static [u8],
}

/// One step of a [`BodyDecoder`].
#[derive(Debug)]
pub(crate) enum Piece {
    /// A part of the body, never empty.
    Data(Bytes),
    /// The terminator was read.
    End,
    /// All input is used up.
    NeedInput,
}

impl BodyDecoder {
    pub(crate) fn new() -> Self {
        Self {
            at: At::LineStart,
            held: b"",
        }
    }

    /// Takes the next piece from the front of `input`.
    pub(crate) fn next_piece(&mut self, input: &mut Bytes) -> Piece {
        loop {
            let Some(first) = input.first().copied() else {
                return Piece::NeedInput;
            };
            match (self.at, first) {
                (At::LineStart, b'.') => {
                    input.advance(1);
                    self.at = At::Dot;
                }
                (At::Dot | At::DotCr, b'\n') => {
                    input.advance(1);
                    return Piece::End;
                }
                (At::Dot, b'\r') => {
                    input.advance(1);
                    self.at = At::DotCr;
                }
                (At::DotCr, _) => {
                    self.at = At::Text;
                    let held = std::mem::replace(&mut self.held, b"\r");
                    if !held.is_empty() {
                        return Piece::Data(Bytes::from_static(held));
                    }
                }
                (At::Text, b'\n') if !self.held.is_empty() => {
                    input.advance(1);
                    self.at = At::LineStart;
                    self.held = b"\r\n";
                }
                (At::LineStart | At::Dot | At::Text, _) => {
                    self.at = At::Text;
                    let held = std::mem::take(&mut self.held);
                    if !held.is_empty() {
                        return Piece::Data(Bytes::from_static(held));
                    }
                    let data = self.text(input);
                    if !data.is_empty() {
                        return Piece::Data(data);
                    }
                }
            }
        }
    }

    /// Takes text up to the next dot at the beginning of a line, or all there is, without the
    /// line end at its end. Nothing is held, and the input is not empty.
    fn text(&mut self, input: &mut Bytes) -> Bytes {
        let dot = memmem::find(input, b"\n.");
        let available = dot.map_or(input.len(), |at| at + 1);
        let line_end: &'static [u8] = match input.get(..available).unwrap_or_default() {
            [.., b'\r', b'\n'] => b"\r\n",
            [.., b'\n'] => b"\n",
            [.., b'\r'] => b"\r",
            _ => b"",
        };
        // A dot that is followed by other text than a line end can be decided right here, which
        // keeps the line end in the piece.
        if let (Some(at), [_, _, next, ..]) = (dot, input.get(available - 1..).unwrap_or_default())
            && !matches!(next, b'\r' | b'\n')
        {
            let data = input.split_to(at + 1);
            input.advance(1);
            return data;
        }
        let data = input.split_to(available - line_end.len());
        input.advance(line_end.len());
        self.held = line_end;
        if line_end.ends_with(b"\n") {
            self.at = At::LineStart;
        }
        data
    }
}

/// Adds dot-stuffing, for any cut of the body.
#[derive(Debug)]
pub(crate) struct BodyEncoder {
    at_line_start: bool,
}

impl BodyEncoder {
    pub(crate) fn new() -> Self {
        Self {
            at_line_start: true,
        }
    }

    /// The wire form of the next chunk of the body.
    pub(crate) fn encode(&mut self, chunk: Bytes) -> BodySlices {
        let leading_dot = self.at_line_start && chunk.first() == Some(&b'.');
        if let Some(last) = chunk.last() {
            self.at_line_start = *last == b'\n';
        }
        BodySlices {
            rest: chunk,
            dot_first: leading_dot,
        }
    }
}

/// The wire form of a body chunk: slices of the chunk, with dots between them. Nothing is copied.
#[derive(Clone, Debug)]
pub struct BodySlices {
    rest: Bytes,
    dot_first: bool,
}

impl Iterator for BodySlices {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if std::mem::take(&mut self.dot_first) {
            return Some(Bytes::from_static(b"."));
        }
        if self.rest.is_empty() {
            return None;
        }
        match memmem::find(&self.rest, b"\n.") {
            Some(at) => {
                self.dot_first = true;
                Some(self.rest.split_to(at + 1))
            }
            None => Some(std::mem::take(&mut self.rest)),
        }
    }
}
