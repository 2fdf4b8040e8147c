//! The server's side of a connection, up to the command and around its session
//! (`spec/transports-and-cli.md` 11).

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dsync_proto::doveadm::multiplex::{Channel, write_packets};
use dsync_proto::doveadm::{
    AuthLine, ClientLine, Command, Credentials, DoveadmError, Greeting, Lines, LogLevel, LogLine,
    MINOR, MINOR_MULTIPLEX, Reply, USERNAME, parse_client_version,
};
use dsync_proto::limits::DOVEADM_COMMAND;
use subtle::ConstantTimeEq;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, join, split};
use tokio::time::{sleep, timeout};

use crate::net::{BoxStream, TlsServer};

/// Longest line before the login, in bytes.
const GREETING_LINE: usize = 8 * 1024;

/// How long somebody who guessed wrong has to wait for the answer.
const WRONG_PASSWORD_DELAY: Duration = Duration::from_secs(1);

/// How many options a client may set before its command.
const MAX_OPTIONS: usize = 100;

/// What decides who may come in.
#[derive(Clone)]
pub struct Gate {
    /// `doveadm_password`; empty: nobody.
    pub password: Vec<u8>,
    /// TLS after `STARTTLS`, if the connection has none yet.
    pub start_tls: Option<TlsServer>,
    /// The way here is as good as a password: a UNIX socket that only its owner may open.
    pub trusted: bool,
}

/// Why a client was sent away.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The client closed the connection.
    #[error("Connection closed")]
    Closed,
    /// The client does not keep to the protocol.
    #[error("{0}")]
    Protocol(#[from] DoveadmError),
    /// There is no password that could be right.
    #[error("doveadm_password not set, remote authentication disabled")]
    NoPassword,
    /// The password is wrong.
    #[error("doveadm client authenticated with wrong password")]
    WrongPassword,
    /// TLS was asked for, and there is none.
    #[error("doveadm client wants STARTTLS, but there is no certificate (ssl_server_cert_file)")]
    NoTls,
    /// It took too long.
    #[error("doveadm client did not log in within {0} seconds")]
    Timeout(u64),
}

impl GateError {
    /// Somebody has tried a password or a name that is wrong.
    pub fn is_wrong_login(&self) -> bool {
        matches!(
            self,
            Self::WrongPassword | Self::Protocol(DoveadmError::NotDoveadm)
        )
    }
}

/// A client that has logged in.
pub struct Guest {
    reader: ReadHalf<BoxStream>,
    lines: Lines,
    sender: Sender,
}

/// Does greeting and login, within this time.
pub async fn admit(stream: BoxStream, gate: &Gate, patience: Duration) -> Result<Guest, GateError> {
    match timeout(patience, Guest::admit(stream, gate)).await {
        Ok(result) => result,
        Err(_) => Err(GateError::Timeout(patience.as_secs())),
    }
}

impl Guest {
    async fn admit(stream: BoxStream, gate: &Gate) -> Result<Self, GateError> {
        let mut guest = Self::new(stream);
        let minor = parse_client_version(&guest.line().await?)?;
        let multiplexed = minor >= MINOR_MULTIPLEX;
        let mut hello = BytesMut::new();
        if multiplexed {
            Greeting::Version(MINOR).write(&mut hello);
        }
        if !gate.trusted {
            Greeting::AuthRequired.write(&mut hello);
            guest.sender.plain(&hello).await?;
            hello.clear();
            guest = guest.login(gate).await?;
        }
        Greeting::Ready.write(&mut hello);
        guest.sender.plain(&hello).await?;
        guest.sender.multiplexed = multiplexed;
        guest.lines.set_limit(DOVEADM_COMMAND);
        Ok(guest)
    }

    fn new(stream: BoxStream) -> Self {
        let (reader, writer) = split(stream);
        let sender = Sender {
            writer,
            multiplexed: false,
        };
        Self {
            reader,
            lines: Lines::new(GREETING_LINE),
            sender,
        }
    }

    async fn login(mut self, gate: &Gate) -> Result<Self, GateError> {
        match self.authenticate(gate).await {
            Ok(None) => Ok(self),
            Ok(Some(tls)) => {
                // What follows is the handshake, so a word that somebody put in between in the
                // clear is never taken for the client's.
                let rest = io::Cursor::new(self.lines.into_rest());
                let stream = join(rest.chain(self.reader), self.sender.writer);
                let stream = tls.accept(Box::new(stream)).await?;
                let mut inside = Self::new(stream);
                match inside
                    .authenticate(&Gate {
                        start_tls: None,
                        ..gate.clone()
                    })
                    .await
                {
                    Ok(_) => Ok(inside),
                    Err(error) => Err(inside.refuse(error).await),
                }
            }
            Err(error) => Err(self.refuse(error).await),
        }
    }

    /// Says no.
    async fn refuse(&mut self, error: GateError) -> GateError {
        if matches!(error, GateError::WrongPassword) {
            sleep(WRONG_PASSWORD_DELAY).await;
        }
        if !matches!(error, GateError::Io(_) | GateError::Closed) {
            // The reason for the refusal says more than a failure to tell it.
            let _ = self.sender.plain(b"-\n").await;
        }
        error
    }

    /// Reads one line: the right password, or the wish for TLS.
    async fn authenticate(&mut self, gate: &Gate) -> Result<Option<TlsServer>, GateError> {
        let line = self.line().await?;
        if gate.password.is_empty() {
            return Err(GateError::NoPassword);
        }
        match AuthLine::parse(&line)? {
            AuthLine::StartTls => gate.start_tls.clone().map(Some).ok_or(GateError::NoTls),
            AuthLine::Plain(credentials) => check(&credentials, &gate.password).map(|()| None),
        }
    }

    /// The next command; `None` when the client has closed the connection between two commands.
    pub async fn next_command(&mut self) -> Result<Option<Command>, GateError> {
        for _ in 0..=MAX_OPTIONS {
            let line = match self.line().await {
                Ok(line) => line,
                Err(GateError::Closed) => return Ok(None),
                Err(error) => return Err(error),
            };
            if let ClientLine::Command(command) = ClientLine::parse(&line, MINOR)? {
                return Ok(Some(command));
            }
        }
        Err(GateError::Closed)
    }

    /// Answers a command.
    pub async fn answer(&mut self, reply: &Reply) -> io::Result<()> {
        let mut out = BytesMut::new();
        reply.write(&mut out);
        self.sender.send(&out).await
    }

    /// Sends a line for the client's operator.
    pub async fn log(&mut self, level: LogLevel, prefix: &str, text: &[u8]) -> io::Result<()> {
        self.sender.log(level, prefix, text).await
    }

    /// The client's bytes after the command (those that are here already, and the rest), and the
    /// way back.
    pub fn into_session(self) -> (Bytes, ReadHalf<BoxStream>, Sender) {
        (self.lines.into_rest(), self.reader, self.sender)
    }

    async fn line(&mut self) -> Result<Bytes, GateError> {
        loop {
            if let Some(line) = self.lines.next_line()? {
                return Ok(line);
            }
            let mut bytes = [0; 4096];
            let size = self.reader.read(&mut bytes).await?;
            if size == 0 {
                return Err(GateError::Closed);
            }
            self.lines.push(bytes.get(..size).unwrap_or_default());
        }
    }
}

/// Both comparisons always happen, and take the same time wherever the first difference is.
fn check(credentials: &Credentials, password: &[u8]) -> Result<(), GateError> {
    let right_name = credentials.username.as_slice().ct_eq(USERNAME.as_bytes());
    let right_password = credentials.password.as_slice().ct_eq(password);
    if (right_name & right_password).into() {
        return Ok(());
    }
    if bool::from(right_name) {
        return Err(GateError::WrongPassword);
    }
    Err(DoveadmError::NotDoveadm.into())
}

/// The server's direction: in packets if both sides know them.
pub struct Sender {
    writer: WriteHalf<BoxStream>,
    multiplexed: bool,
}

impl Sender {
    /// Sends bytes on the main channel.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.multiplexed {
            return self.plain(bytes).await;
        }
        let mut out = BytesMut::with_capacity(bytes.len() + 16);
        write_packets(Channel::Main, bytes, &mut out);
        self.plain(&out).await
    }

    /// Sends a line for the client's operator, if there is a channel for it.
    pub async fn log(&mut self, level: LogLevel, prefix: &str, text: &[u8]) -> io::Result<()> {
        if !self.multiplexed {
            return Ok(());
        }
        let mut lines = Vec::new();
        LogLine::write(level, prefix, text, &mut lines);
        let mut out = BytesMut::new();
        write_packets(Channel::Log, &lines, &mut out);
        self.plain(&out).await
    }

    /// Ends the stream.
    pub async fn close(&mut self) {
        // The client may have gone before: it has heard all that it wants.
        let _ = self.writer.shutdown().await;
    }

    async fn plain(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes).await?;
        self.writer.flush().await
    }
}
