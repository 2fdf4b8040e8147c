//! Bytes of a session to [`Item`](crate::items::Item)s and back (`spec/wire.md` 2 to 8).
//!
//! * [`Decoder`]: push what was read, pull items. Yields the peer's handshake first.
//! * [`Encoder`]: items to bytes, in a [`Dialect`].
//!
//! Both are values without I/O; one of each serves one direction of one session.

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
