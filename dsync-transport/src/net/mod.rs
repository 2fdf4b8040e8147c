//! Connections: names to addresses, sockets, TLS.

mod dial;
mod pem;
mod target;
mod tls;

pub use dial::{dial, lookup};
pub use pem::{Pem, PemError};
pub use target::{Target, TargetError};
pub use tls::{
    TlsClient, TlsClientOptions, TlsError, TlsFault, TlsRefused, TlsServer, TlsServerOptions,
    TlsVersion,
};

use tokio::io::{AsyncRead, AsyncWrite};

/// A byte stream in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Any byte stream: TCP or UNIX socket, with or without TLS.
pub type BoxStream = Box<dyn Stream>;
