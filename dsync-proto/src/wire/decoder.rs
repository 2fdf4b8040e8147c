//! Bytes of one direction to items.

use std::fmt;

use bytes::{Bytes, BytesMut};

use super::body::{BodyDecoder, Piece};
use super::codec;
use super::error::DecodeError;
use super::fields::Fields;
use super::handshake::{HeaderBlock, parse_banner};
use super::peer::PeerInfo;
use super::spec::{ItemSpec, Layout, Layouts};
use crate::items::{AttributeValue, Item};
use crate::limits::{self, Limits};

/// Turns what a peer sends into [`Item`]s (`spec/wire.md` 2 to 8).
///
/// Push bytes in any cut, then pull items until there is none left. The first item is the
/// peer's handshake; from then on [`Decoder::peer`] knows the peer. Which item may come when is
/// not checked here. Buffered are at most one incomplete line and what was pushed and not yet
/// pulled; bodies are handed out as slices of the pushed bytes.
///
/// After an error the session is over: the same error is returned again and again.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    state: State,
    /// Pushed and not yet looked at.
    input: Bytes,
    /// Beginning of a line whose end was not pushed yet.
    partial: BytesMut,
    peer: Option<PeerInfo>,
    layouts: Layouts,
    position: Position,
    failure: Option<DecodeError>,
}

#[derive(Debug)]
enum State {
    Banner,
    Headers(HeaderBlock),
    Handshake,
    Items,
    Body(BodyDecoder),
    Done,
}

/// Where the stream ended, see [`Decoder::eof`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eof {
    /// Nothing complete was received, not even the banner.
    BeforeBanner,
    /// Between the banner and the handshake item.
    InHandshake,
    /// Between two items. Whether that is all right depends on which item would be next.
    BetweenItems,
    /// In the middle of a line.
    InLine,
    /// In the middle of a body: what was received of it must be thrown away.
    InBody,
    /// After the peer's `X`.
    AfterDone,
}

/// The last item of a direction, for error texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Name of the last item, or of the last item type of a list that was ended.
    pub item: &'static str,
    /// The list of these items was ended.
    pub end_of_list: bool,
}

impl Position {
    pub(crate) fn update(&mut self, item: &Item) {
        match item {
            Item::EndOfList => self.end_of_list = true,
            Item::BodyChunk(_) | Item::BodyEnd => {}
            _ => {
                self.item = item.name();
                self.end_of_list = false;
            }
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.item)?;
        if self.end_of_list {
            f.write_str(" (EOL)")?;
        }
        Ok(())
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Decoder {
    /// A decoder at the beginning of a stream.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: State::Banner,
            input: Bytes::new(),
            partial: BytesMut::new(),
            peer: None,
            layouts: Layouts::default(),
            position: Position::default(),
            failure: None,
        }
    }

    /// Adds bytes that were read. Pull all items before pushing again: else what is left is
    /// copied and grows.
    pub fn push(&mut self, bytes: Bytes) {
        if self.input.is_empty() {
            self.input = bytes;
        } else {
            let mut joined = BytesMut::from(std::mem::take(&mut self.input));
            joined.extend_from_slice(&bytes);
            self.input = joined.freeze();
        }
    }

    /// As [`Decoder::push`], with a copy.
    pub fn push_slice(&mut self, bytes: &[u8]) {
        self.push(Bytes::copy_from_slice(bytes));
    }

    /// The next item, `None` if more bytes are needed.
    ///
    /// # Errors
    ///
    /// The peer broke the protocol; the session must be ended.
    pub fn next_item(&mut self) -> Result<Option<Item>, DecodeError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        match self.advance() {
            Ok(item) => {
                if let Some(item) = &item {
                    self.position.update(item);
                }
                Ok(item)
            }
            Err(error) => {
                self.failure = Some(error.clone());
                self.input = Bytes::new();
                self.partial = BytesMut::new();
                Err(error)
            }
        }
    }

    /// What the peer announced; known from its header block on.
    pub fn peer(&self) -> Option<&PeerInfo> {
        self.peer.as_ref()
    }

    /// The last item received.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Says what it means that the stream ends here. Pull all items first.
    pub fn eof(&self) -> Eof {
        match self.state {
            State::Done => Eof::AfterDone,
            State::Body(_) => Eof::InBody,
            State::Banner => Eof::BeforeBanner,
            State::Headers(_) | State::Handshake => Eof::InHandshake,
            State::Items if self.partial.is_empty() => Eof::BetweenItems,
            State::Items => Eof::InLine,
        }
    }

    /// The state of the stream in Dovecot's words, for errors about it (`spec/wire.md` 11).
    pub fn stream_state(&self, last_sent: Position) -> String {
        match self.state {
            State::Banner => "version not received".into(),
            State::Headers(_) | State::Handshake => "handshake not received".into(),
            _ => format!("last sent={last_sent}, last recv={}", self.position),
        }
    }

    fn advance(&mut self) -> Result<Option<Item>, DecodeError> {
        loop {
            match &mut self.state {
                State::Done => {
                    self.input = Bytes::new();
                    return Ok(None);
                }
                State::Body(body) => match body.next_piece(&mut self.input) {
                    Piece::Data(chunk) => return Ok(Some(Item::BodyChunk(chunk))),
                    Piece::NeedInput => return Ok(None),
                    Piece::End => {
                        self.state = State::Items;
                        return Ok(Some(Item::BodyEnd));
                    }
                },
                State::Banner | State::Headers(_) | State::Handshake | State::Items => {
                    let Some(line) = self.take_line()? else {
                        return Ok(None);
                    };
                    if let Some(item) = self.line(&line)? {
                        return Ok(Some(item));
                    }
                }
            }
        }
    }

    /// The next complete line without its line end.
    fn take_line(&mut self) -> Result<Option<Bytes>, DecodeError> {
        let end = memchr::memchr(b'\n', &self.input);
        let length = self.partial.len() + end.unwrap_or(self.input.len());
        if length > self.line_limit() {
            return Err(self.too_long_line());
        }
        let Some(end) = end else {
            self.partial.extend_from_slice(&self.input);
            self.input = Bytes::new();
            return Ok(None);
        };
        let mut line = self.input.split_to(end + 1);
        if !self.partial.is_empty() {
            let mut whole = std::mem::take(&mut self.partial);
            whole.extend_from_slice(&line);
            line = whole.freeze();
        }
        let without_end = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = without_end.strip_suffix(b"\r").unwrap_or(without_end);
        line.truncate(text.len());
        Ok(Some(line))
    }

    fn line_limit(&self) -> usize {
        match self.state {
            State::Banner | State::Headers(_) => self.limits.line.min(limits::HEADER_LINE),
            _ => self.limits.line,
        }
    }

    fn too_long_line(&self) -> DecodeError {
        match self.state {
            State::Banner => DecodeError::incompatible(if self.partial.is_empty() {
                &self.input
            } else {
                &self.partial
            }),
            _ => DecodeError::LimitExceeded {
                what: "the length of a line in bytes",
                limit: self.line_limit(),
            },
        }
    }

    fn line(&mut self, line: &[u8]) -> Result<Option<Item>, DecodeError> {
        match &mut self.state {
            State::Banner => {
                self.state = State::Headers(HeaderBlock::new(parse_banner(line)?));
                Ok(None)
            }
            State::Headers(block) if line == b"." => {
                let block = std::mem::replace(block, HeaderBlock::new(0));
                self.headers_done(block)?;
                Ok(None)
            }
            State::Headers(block) => {
                block.line(line)?;
                Ok(None)
            }
            _ => self.item_line(line).map(Some),
        }
    }

    fn headers_done(&mut self, block: HeaderBlock) -> Result<(), DecodeError> {
        let dialect = block.finish()?;
        self.layouts = dialect.layouts();
        self.peer = Some(PeerInfo { dialect });
        self.state = State::Handshake;
        Ok(())
    }

    fn item_line(&mut self, line: &[u8]) -> Result<Item, DecodeError> {
        if memchr::memchr(0, line).is_some() {
            return Err(DecodeError::NulInLine);
        }
        let in_handshake = matches!(self.state, State::Handshake);
        let item = match line.split_first() {
            Some((b'X', _)) => Item::Done,
            Some((b'.', [])) if in_handshake => {
                return Err(DecodeError::UnexpectedHandshakeInput);
            }
            Some((b'.', [])) => Item::EndOfList,
            Some((b'H', rest)) if in_handshake => self.parse_item(b'H', rest)?,
            Some((letter, rest)) if !in_handshake && *letter != b'H' => {
                self.parse_item(*letter, rest)?
            }
            other => {
                return Err(DecodeError::UnexpectedInput {
                    got: other.map(|(letter, _)| *letter),
                    expected: in_handshake.then_some(b'H'),
                });
            }
        };
        self.state = state_after(&item);
        Ok(item)
    }

    fn parse_item(&self, letter: u8, rest: &[u8]) -> Result<Item, DecodeError> {
        let fields = |spec: &'static ItemSpec| {
            let layout = self.layout(spec)?;
            Fields::parse(spec, layout, rest)
        };
        Ok(match letter {
            b'C' => Item::Change(codec::change::decode(&fields(&codec::change::SPEC)?)?),
            b'M' => Item::Mail(codec::mail::decode(&fields(&codec::mail::SPEC)?)?),
            b'R' => Item::Request(codec::mail::decode_request(&fields(
                &codec::mail::REQUEST_SPEC,
            )?)?),
            b'N' => Item::Node(codec::node::decode(&fields(&codec::node::SPEC)?)?),
            b'S' => Item::State(codec::state::decode(&fields(&codec::state::SPEC)?)?),
            b'D' => Item::Deletes(codec::deletes::decode(&fields(&codec::deletes::SPEC)?)?),
            b'A' => Item::Attribute(codec::attribute::decode(&fields(&codec::attribute::SPEC)?)?),
            b'F' => Item::Finish(codec::finish::decode(&fields(&codec::finish::SPEC)?)?),
            b'B' => self.parse_mailbox(&fields(&codec::mailbox::SPEC)?)?,
            b'H' => self.parse_handshake(&fields(&codec::handshake::SPEC)?, rest)?,
            _ => return Err(unknown_letter(letter)),
        })
    }

    fn parse_mailbox(&self, fields: &Fields<'_>) -> Result<Item, DecodeError> {
        let cache = self.layout(&codec::mailbox::CACHE_SPEC)?;
        let mut mailbox = codec::mailbox::decode(fields, cache)?;
        if self.peer.as_ref().is_some_and(PeerInfo::implies_save_guids) {
            mailbox.have_save_guids |= mailbox.have_guids;
        }
        Ok(Item::Mailbox(mailbox))
    }

    fn parse_handshake(&self, fields: &Fields<'_>, rest: &[u8]) -> Result<Item, DecodeError> {
        let mut handshake = codec::handshake::decode(fields)?;
        if let Some(peer) = &self.peer {
            handshake.extensions =
                codec::handshake::decode_extensions(peer.dialect.keys(b'H'), rest);
        }
        Ok(Item::Handshake(Box::new(handshake)))
    }

    /// A peer cannot send an item type that it did not announce.
    fn layout(&self, spec: &ItemSpec) -> Result<&Layout, DecodeError> {
        self.layouts
            .get(spec.letter)
            .ok_or_else(|| unknown_letter(spec.letter))
    }
}

fn unknown_letter(letter: u8) -> DecodeError {
    DecodeError::UnexpectedInput {
        got: Some(letter),
        expected: None,
    }
}

fn state_after(item: &Item) -> State {
    let has_body = match item {
        Item::Mail(mail) => mail.stream,
        Item::Attribute(attribute) => attribute.value == AttributeValue::Stream,
        Item::Done => return State::Done,
        _ => false,
    };
    if has_body {
        State::Body(BodyDecoder::new())
    } else {
        State::Items
    }
}
