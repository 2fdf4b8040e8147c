//! Items of one direction to bytes.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use super::body::{BodyEncoder, BodySlices, TERMINATOR};
use super::codec;
use super::decoder::Position;
use super::dialect::Dialect;
use super::row::Row;
use super::spec::{ItemSpec, Layout, Layouts};
use crate::items::{AttributeValue, Change, ChangeKind, Handshake, Item};
use crate::types::Uid;

/// An item that must never be sent: it would crash a Dovecot peer, or break the stream
/// (`spec/wire.md` 13). Always a bug on this side; nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// Something other than the rest of the body while a body is open.
    #[error("bug: tried to send {0} in the middle of a body")]
    BodyOpen(&'static str),
    /// A piece of a body while no body is open.
    #[error("bug: tried to send a piece of a body that was not announced")]
    NoBodyOpen,
    /// The handshake is sent by [`Encoder::start`] and at no other time.
    #[error("bug: tried to send a second handshake")]
    SecondHandshake,
    /// The dialect has no header line for this item type.
    #[error("bug: tried to send {0}, which was not announced")]
    NotAnnounced(&'static str),
    /// Changes must be sent by strictly rising UID, starting at 1.
    #[error("bug: tried to send a change of UID {uid} after UID {previous}")]
    UidOrder {
        /// UID of the item.
        uid: Uid,
        /// UID of the change before, 0 if it is the first of a list.
        previous: Uid,
    },
    /// A save needs a GUID, if only an empty one.
    #[error("bug: tried to send the save of UID {0} without a GUID")]
    SaveWithoutGuid(Uid),
    /// A request needs a GUID or a UID.
    #[error("bug: tried to send an empty mail request")]
    EmptyRequest,
    /// A node of the mailbox tree needs a name.
    #[error("bug: tried to send a mailbox without a name")]
    EmptyName,
}

/// Turns [`Item`]s into what a peer reads (`spec/wire.md` 2 to 8).
///
/// Call [`Encoder::start`] first. A mail or attribute that announces a stream must be followed by
/// the chunks of its body and [`Item::BodyEnd`].
#[derive(Debug)]
pub struct Encoder {
    dialect: Dialect,
    layouts: Layouts,
    row: Row,
    body: Option<BodyEncoder>,
    last_change: Uid,
    position: Position,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new(Dialect::default())
    }
}

impl Encoder {
    /// An encoder for this dialect; the default one is that of Dovecot 2.3.
    pub fn new(dialect: Dialect) -> Self {
        Self {
            layouts: dialect.layouts(),
            dialect,
            row: Row::default(),
            body: None,
            last_change: 0,
            position: Position::default(),
        }
    }

    /// Appends the start block: banner, header lines, `.`, and the handshake item. Keys of its
    /// extensions are announced after the others, and with them the other keys of ours.
    pub fn start(&mut self, handshake: &Handshake, out: &mut BytesMut) {
        let spec = &codec::handshake::SPEC;
        for (name, _) in &handshake.extensions {
            self.dialect.announce(spec.letter, name);
        }
        if !handshake.extensions.is_empty() {
            self.dialect.announce_extensions();
            self.layouts = self.dialect.layouts();
        }
        self.dialect.write(out);
        let keys = self.dialect.keys(spec.letter);
        let layout = Layout::with_extensions(spec, keys, &handshake.extensions);
        self.row.clear();
        codec::handshake::encode(handshake, &mut self.row);
        out.put_u8(spec.letter);
        self.row.write(&layout, out);
        out.put_u8(b'\n');
        self.position.item = spec.name;
    }

    /// Appends one item. Body chunks are copied; see [`Encoder::body_slices`] to avoid that.
    ///
    /// # Errors
    ///
    /// The item must not be sent now, or not at all; nothing was appended.
    pub fn encode(&mut self, item: &Item, out: &mut BytesMut) -> Result<(), EncodeError> {
        self.check(item)?;
        match item {
            Item::Handshake(_) => return Err(EncodeError::SecondHandshake),
            Item::BodyChunk(chunk) => {
                for slice in self.body_slices(chunk.clone())? {
                    out.put_slice(&slice);
                }
            }
            Item::BodyEnd => {
                out.put_slice(TERMINATOR);
                self.body = None;
            }
            Item::EndOfList => out.put_slice(b".\n"),
            Item::Done => out.put_slice(b"X\n"),
            _ => self.line(item, out)?,
        }
        self.sent(item);
        Ok(())
    }

    /// The wire form of a body chunk as slices of it, for a transport that can write many slices.
    ///
    /// # Errors
    ///
    /// No body is open.
    pub fn body_slices(&mut self, chunk: Bytes) -> Result<BodySlices, EncodeError> {
        let body = self.body.as_mut().ok_or(EncodeError::NoBodyOpen)?;
        Ok(body.encode(chunk))
    }

    /// The last item sent.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Whether a body was begun and not ended; then not even `X` may be sent.
    pub fn is_in_body(&self) -> bool {
        self.body.is_some()
    }

    /// The dialect, with the keys that [`Encoder::start`] announced.
    pub fn dialect(&self) -> &Dialect {
        &self.dialect
    }

    fn line(&mut self, item: &Item, out: &mut BytesMut) -> Result<(), EncodeError> {
        let spec = self.fill_row(item);
        let layout = spec.and_then(|spec| self.layouts.get(spec.letter));
        let (Some(spec), Some(layout)) = (spec, layout) else {
            return Err(EncodeError::NotAnnounced(item.name()));
        };
        out.put_u8(spec.letter);
        self.row.write(layout, out);
        out.put_u8(b'\n');
        Ok(())
    }

    /// Encodes the values of an item that has some.
    fn fill_row(&mut self, item: &Item) -> Option<&'static ItemSpec> {
        let row = &mut self.row;
        row.clear();
        match item {
            Item::State(state) => codec::state::encode(state, row),
            Item::Node(node) => codec::node::encode(node, row),
            Item::Deletes(deletes) => codec::deletes::encode(deletes, row),
            Item::Mailbox(mailbox) => {
                let cache = self.dialect.layout(&codec::mailbox::CACHE_SPEC);
                codec::mailbox::encode(mailbox, &cache, row);
            }
            Item::Attribute(attribute) => codec::attribute::encode(attribute, row),
            Item::Change(change) => codec::change::encode(change, row),
            Item::Request(request) => codec::mail::encode_request(request, row),
            Item::Mail(mail) => codec::mail::encode(mail, row),
            Item::Finish(finish) => codec::finish::encode(finish, row),
            _ => return None,
        }
        codec::spec_of(item)
    }

    fn check(&self, item: &Item) -> Result<(), EncodeError> {
        match (item, &self.body) {
            (Item::BodyChunk(_) | Item::BodyEnd, None) => return Err(EncodeError::NoBodyOpen),
            (Item::BodyChunk(_) | Item::BodyEnd, Some(_)) => return Ok(()),
            (_, Some(_)) => return Err(EncodeError::BodyOpen(item.name())),
            (_, None) => {}
        }
        match item {
            Item::Change(change) => self.check_change(change),
            Item::Request(request) if request.guid.is_none() && request.uid == 0 => {
                Err(EncodeError::EmptyRequest)
            }
            Item::Node(node) if node.name.is_empty() => Err(EncodeError::EmptyName),
            _ => Ok(()),
        }
    }

    fn check_change(&self, change: &Change) -> Result<(), EncodeError> {
        if change.uid <= self.last_change {
            return Err(EncodeError::UidOrder {
                uid: change.uid,
                previous: self.last_change,
            });
        }
        if change.kind == ChangeKind::Save && change.guid.is_none() {
            return Err(EncodeError::SaveWithoutGuid(change.uid));
        }
        Ok(())
    }

    fn sent(&mut self, item: &Item) {
        self.position.update(item);
        match item {
            Item::Mail(mail) if mail.stream => self.body = Some(BodyEncoder::new()),
            Item::Attribute(attribute) if attribute.value == AttributeValue::Stream => {
                self.body = Some(BodyEncoder::new());
            }
            Item::Change(change) => self.last_change = change.uid,
            Item::EndOfList | Item::Mailbox(_) => self.last_change = 0,
            _ => {}
        }
    }
}
