//! Bytes of a session to [`Item`](crate::items::Item)s and back (`spec/wire.md` 2 to 8).
//!
//! * [`Decoder`]: push what was read, pull items. Yields the peer's handshake first.
//! * [`Encoder`]: items to bytes, in a [`Dialect`].
//!
//! Both are values without I/O; one of each serves one direction of one session.
//!
//! ```
//! use bytes::BytesMut;
//! use dsync_proto::items::{Handshake, Item};
//! use dsync_proto::wire::{Decoder, Encoder};
//!
//! let handshake = Handshake { hostname: "client.example".into(), ..Handshake::default() };
//! let mut wire = BytesMut::new();
//! let mut encoder = Encoder::default();
//! encoder.start(&handshake, &mut wire);
//! encoder.encode(&Item::EndOfList, &mut wire)?;
//!
//! let mut decoder = Decoder::default();
//! decoder.push(wire.freeze());
//! assert_eq!(decoder.next_item()?, Some(Item::Handshake(Box::new(handshake))));
//! assert_eq!(decoder.peer().map(|peer| peer.minor()), Some(5));
//! assert_eq!(decoder.next_item()?, Some(Item::EndOfList));
//! assert_eq!(decoder.next_item()?, None); // push more
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod body;
mod codec;
mod decoder;
mod dialect;
mod encoder;
mod error;
mod escape;
mod fields;
mod handshake;
mod number;
mod peer;
mod row;
mod spec;

pub use body::BodySlices;
pub use decoder::{Decoder, Eof, Position};
pub use dialect::{Dialect, HeaderLine, MINOR};
pub use encoder::{EncodeError, Encoder};
pub use error::DecodeError;
pub(crate) use error::excerpt;
pub use escape::{escape_into, unescape};
pub(crate) use number::parse_u32;
pub use peer::PeerInfo;
