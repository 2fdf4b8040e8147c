//! From a target to a running command of a doveadm server.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dsync_proto::doveadm::{
    AuthLine, ClientLine, Command, Credentials, DoveadmError, Greeting, Lines, MINOR,
    MINOR_MULTIPLEX, MINOR_STARTTLS, Reply, ReplyDecoder, client_version,
};
use dsync_proto::limits::DOVEADM_HANDSHAKE;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::time::timeout;

use super::channel::{LogSink, MainChannel};
use super::error::{ANSWER, ConnectError, GREETING};
use crate::net::{BoxStream, Target, TlsClient, dial};

/// How a server is reached.
#[derive(Clone)]
pub struct Road {
    /// Where it listens.
    pub target: Target,
    /// TLS from the first byte, or after the greeting.
    pub tls: Option<TlsClient>,
    /// TLS begins with `STARTTLS`.
    pub start_tls: bool,
}

/// What a server wants to know first.
#[derive(Clone, Debug)]
pub struct Login {
    /// User name and password; needed unless the server trusts its socket.
    pub credentials: Credentials,
    /// The command to run.
    pub command: Command,
}

/// A command of a doveadm server that was answered.
pub struct Connection {
    /// The answer. After a successful `dsync-server` command the session follows.
    pub reply: Reply,
    /// What the server sends.
    pub reader: MainChannel,
    /// What the client sends.
    pub writer: WriteHalf<BoxStream>,
}

/// Connects, logs in, sends the command and waits for the answer.
///
/// `patience` is for everything up to the answer together, or up to the login if the command is
/// not `dsync-server`: other commands may take any time. Each line of the server's log goes to
/// `sink`, for the whole connection.
pub async fn connect(
    road: &Road,
    login: &Login,
    patience: Duration,
    sink: LogSink,
) -> Result<Connection, ConnectError> {
    begin(None, road, login, patience, sink).await
}

/// The same over a connection that is there already, with TLS if the road has it from the first
/// byte on.
pub async fn log_in(
    stream: BoxStream,
    road: &Road,
    login: &Login,
    patience: Duration,
    sink: LogSink,
) -> Result<Connection, ConnectError> {
    begin(Some(stream), road, login, patience, sink).await
}

async fn begin(
    stream: Option<BoxStream>,
    road: &Road,
    login: &Login,
    patience: Duration,
    sink: LogSink,
) -> Result<Connection, ConnectError> {
    let mut caller = Caller {
        target: road.target.to_string(),
        doing: "connecting",
    };
    let waits = login.command.name == "dsync-server";
    let opened = timeout(patience, async {
        let stream = match stream {
            Some(stream) => stream,
            None => caller.reach(road).await?,
        };
        let (mut reader, writer) = caller.open(stream, road, login, sink).await?;
        let reply = if waits {
            Some(caller.reply(&mut reader).await?)
        } else {
            None
        };
        Ok((reader, writer, reply))
    });
    let (mut reader, writer, reply) = match opened.await {
        Ok(result) => result?,
        Err(_) => return Err(caller.timeout(patience)),
    };
    let reply = match reply {
        Some(reply) => reply,
        None => caller.reply(&mut reader).await?,
    };
    Ok(Connection {
        reply,
        reader,
        writer,
    })
}

/// Says what was being done when it failed.
struct Caller {
    target: String,
    doing: &'static str,
}

impl Caller {
    fn io(&self, error: io::Error) -> ConnectError {
        ConnectError::Io {
            target: self.target.clone(),
            error,
        }
    }

    fn protocol(&self, error: DoveadmError) -> ConnectError {
        ConnectError::Protocol {
            target: self.target.clone(),
            error,
        }
    }

    fn closed(&self) -> ConnectError {
        ConnectError::Closed {
            target: self.target.clone(),
            doing: self.doing,
        }
    }

    fn timeout(&self, patience: Duration) -> ConnectError {
        ConnectError::Timeout {
            target: self.target.clone(),
            seconds: patience.as_secs(),
            doing: self.doing,
        }
    }

    /// A connection, with TLS if it begins with the first byte.
    async fn reach(&mut self, road: &Road) -> Result<BoxStream, ConnectError> {
        let stream = dial(&road.target).await.map_err(|error| self.io(error))?;
        let Some(tls) = road.tls.as_ref().filter(|_| !road.start_tls) else {
            return Ok(stream);
        };
        self.doing = "starting TLS";
        self.start_tls(road, tls, stream).await
    }

    async fn open(
        &mut self,
        stream: BoxStream,
        road: &Road,
        login: &Login,
        sink: LogSink,
    ) -> Result<(MainChannel, WriteHalf<BoxStream>), ConnectError> {
        self.doing = GREETING;
        let mut talk = Talk::new(stream);
        let mut hello = BytesMut::new();
        client_version(MINOR, &mut hello);
        talk.send(&hello).await.map_err(|error| self.io(error))?;
        let mut ready = self.status(&mut talk).await?;
        if let (Some(tls), true) = (&road.tls, road.start_tls) {
            ready = false;
            talk = self.upgrade(talk, road, tls).await?;
        }
        let mut rest = BytesMut::new();
        if !ready {
            if login.credentials.password.is_empty() {
                return Err(ConnectError::NoPassword {
                    target: self.target.clone(),
                });
            }
            AuthLine::Plain(login.credentials.clone()).write(&mut rest);
        }
        ClientLine::Command(login.command.clone()).write(&mut rest);
        self.doing = "logging in";
        talk.send(&rest).await.map_err(|error| self.io(error))?;
        if !ready && !self.status(&mut talk).await? {
            return Err(ConnectError::WrongPassword {
                target: self.target.clone(),
            });
        }
        self.doing = ANSWER;
        let multiplexed = self.minor(&mut talk).await? >= MINOR_MULTIPLEX;
        let reader = MainChannel::new(talk.reader, talk.lines.into_rest(), multiplexed, sink);
        Ok((reader, talk.writer))
    }

    async fn start_tls(
        &self,
        road: &Road,
        tls: &TlsClient,
        stream: BoxStream,
    ) -> Result<BoxStream, ConnectError> {
        let stream = tls.connect(road.target.host(), stream).await;
        stream.map_err(|error| self.io(error))
    }

    /// TLS from here on. What the server may have sent in between is forgotten: nobody knows who
    /// wrote it.
    async fn upgrade(
        &mut self,
        mut talk: Talk,
        road: &Road,
        tls: &TlsClient,
    ) -> Result<Talk, ConnectError> {
        if talk.minor.unwrap_or_default() < MINOR_STARTTLS {
            return Err(ConnectError::NoStartTls {
                target: self.target.clone(),
            });
        }
        self.doing = "starting TLS";
        let mut line = BytesMut::new();
        AuthLine::StartTls.write(&mut line);
        talk.send(&line).await.map_err(|error| self.io(error))?;
        let stream = self
            .start_tls(road, tls, talk.reader.unsplit(talk.writer))
            .await?;
        Ok(Talk {
            minor: talk.minor,
            ..Talk::new(stream)
        })
    }

    /// Reads up to the next status line: whether it is `+`.
    async fn status(&self, talk: &mut Talk) -> Result<bool, ConnectError> {
        loop {
            let line = self.line(talk).await?;
            match Greeting::parse(&line).map_err(|error| self.protocol(error))? {
                Greeting::Version(minor) => talk.minor = Some(minor),
                Greeting::AuthRequired => return Ok(false),
                Greeting::Ready => return Ok(true),
            }
        }
    }

    /// The server's minor version. It may also come after the last status line; a server that does
    /// not tell it begins its answer there, which cannot begin with a `V`.
    async fn minor(&self, talk: &mut Talk) -> Result<u32, ConnectError> {
        if let Some(minor) = talk.minor {
            return Ok(minor);
        }
        let first = match talk.lines.first_byte() {
            Some(first) => Some(first),
            None => {
                self.more(talk).await?;
                talk.lines.first_byte()
            }
        };
        if first != Some(b'V') {
            return Ok(0);
        }
        let line = self.line(talk).await?;
        match Greeting::parse(&line).map_err(|error| self.protocol(error))? {
            Greeting::Version(minor) => Ok(minor),
            _ => Ok(0),
        }
    }

    async fn line(&self, talk: &mut Talk) -> Result<Bytes, ConnectError> {
        loop {
            let line = talk
                .lines
                .next_line()
                .map_err(|error| self.protocol(error))?;
            if let Some(line) = line {
                return Ok(line);
            }
            self.more(talk).await?;
        }
    }

    async fn more(&self, talk: &mut Talk) -> Result<(), ConnectError> {
        let mut bytes = [0; 4096];
        let size = talk
            .reader
            .read(&mut bytes)
            .await
            .map_err(|error| self.io(error))?;
        if size == 0 {
            return Err(self.closed());
        }
        talk.lines.push(bytes.get(..size).unwrap_or_default());
        Ok(())
    }

    async fn reply(&self, reader: &mut MainChannel) -> Result<Reply, ConnectError> {
        let mut decoder = ReplyDecoder::default();
        loop {
            let mut bytes = BytesMut::with_capacity(4096);
            let size = reader
                .read_buf(&mut bytes)
                .await
                .map_err(|error| self.io(error))?;
            if size == 0 {
                return Err(self.closed());
            }
            let mut bytes = bytes.freeze();
            let reply = decoder
                .decode(&mut bytes)
                .map_err(|error| self.protocol(error))?;
            if let Some(reply) = reply {
                reader.unread(bytes);
                return Ok(reply);
            }
        }
    }
}

/// A connection during the greeting.
struct Talk {
    reader: ReadHalf<BoxStream>,
    writer: WriteHalf<BoxStream>,
    lines: Lines,
    /// The server's minor version, as far as it was told.
    minor: Option<u32>,
}

impl Talk {
    fn new(stream: BoxStream) -> Self {
        let (reader, writer) = split(stream);
        let lines = Lines::new(DOVEADM_HANDSHAKE);
        Self {
            reader,
            writer,
            lines,
            minor: None,
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes).await?;
        self.writer.flush().await
    }
}
