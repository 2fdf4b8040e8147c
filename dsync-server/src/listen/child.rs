//! The process of one session, and its streams.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use dsync_proto::doveadm::LogLevel;
use dsync_transport::doveadm::{Guest, Sender};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader, Split, copy};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::failure::note;

/// How long the process may take to end when its streams are closed.
const GRACE: Duration = Duration::from_secs(30);

/// Bytes that are passed on together.
const CHUNK: usize = 64 * 1024;

/// Before the lines that go to the client's operator.
const LOG_PREFIX: &str = "dsync-server: ";

/// What a session's process is started with.
pub(crate) struct ChildOptions {
    /// This program.
    pub(crate) program: PathBuf,
    /// Options of this process that count for sessions too.
    pub(crate) arguments: Vec<OsString>,
    /// `-T`
    pub(crate) timeout: u32,
}

/// What the client wants from its session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SessionFlags {
    pub(super) debug: bool,
    pub(super) verbose: bool,
    /// `-T` of the client.
    pub(super) timeout: Option<u32>,
}

/// This program, serving one user on pipes. It is killed when dropped.
pub(super) struct Session {
    child: Child,
    stdin: ChildStdin,
    output: Output,
    /// For the log.
    name: String,
    /// Without progress for so long the client is gone.
    stall: Duration,
}

impl Session {
    pub(super) fn start(
        options: &ChildOptions,
        user: &str,
        flags: SessionFlags,
        name: String,
    ) -> io::Result<Self> {
        let seconds = flags.timeout.unwrap_or(options.timeout);
        let mut command = Command::new(&options.program);
        command.args(&options.arguments);
        // In one word: a user may be called -o.
        command.arg(format!("--user={user}"));
        command.arg(format!("--timeout={seconds}"));
        command.args(flags.debug.then_some("--debug"));
        command.args(flags.verbose.then_some("--verbose"));
        let mut child = command
            .env_remove("LISTEN_FDS")
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDNAMES")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let streams = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = streams else {
            return Err(io::Error::other("it has no streams"));
        };
        Ok(Self {
            child,
            stdin,
            output: Output::new(stdout, stderr),
            name,
            stall: Duration::from_secs(seconds.into()),
        })
    }

    /// Waits for the first bytes of the session; `None` if it ends without any.
    pub(super) async fn first_bytes(&mut self, guest: &mut Guest) -> io::Result<Option<Bytes>> {
        loop {
            match self.output.next().await {
                Said::Line(line) => {
                    let (level, text) = self.note(&line);
                    guest.log(level, LOG_PREFIX, text).await?;
                }
                Said::Bytes(bytes) => return Ok(Some(bytes)),
                Said::End => return Ok(None),
            }
        }
    }

    /// Passes everything on in both directions until the process has said its last word, or
    /// nobody listens to it any more.
    pub(super) async fn run(
        mut self,
        guest: Guest,
        first: Bytes,
        mut stopped: watch::Receiver<bool>,
    ) {
        note(&format!("{}: begins", self.name));
        let (early, reader, mut sender) = guest.into_session();
        let input = tokio::spawn(feed(early, reader, self.stdin));
        let mut told = false;
        let mut said = Said::Bytes(first);
        loop {
            let sent = timeout(self.stall, pass_on(&mut sender, &self.name, &said)).await;
            if !matches!(sent, Ok(Ok(()))) {
                break;
            }
            said = loop {
                tokio::select! {
                    said = self.output.next() => break said,
                    _ = stopped.wait_for(|stopped| *stopped), if !told => {
                        terminate(&self.child);
                        told = true;
                    }
                }
            };
            if matches!(said, Said::End) {
                break;
            }
        }
        sender.close().await;
        input.abort();
        drop(self.output);
        let code = wait(&mut self.child).await.and_then(|status| status.code());
        note(&match code {
            Some(code) => format!("{}: ended with {code}", self.name),
            None => format!("{}: was killed", self.name),
        });
    }

    /// Waits for the end of a session that never began.
    pub(super) async fn end(mut self) -> Option<ExitStatus> {
        drop(self.stdin);
        wait(&mut self.child).await
    }

    fn note<'a>(&self, line: &'a [u8]) -> (LogLevel, &'a [u8]) {
        note_line(&self.name, line)
    }
}

async fn wait(child: &mut Child) -> Option<ExitStatus> {
    if let Ok(status) = timeout(GRACE, child.wait()).await {
        return status.ok();
    }
    // Fails only if it has just ended.
    let _ = child.start_kill();
    child.wait().await.ok()
}

/// The session ends at its next item: nothing is left half-written.
fn terminate(child: &Child) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // It may have ended by itself.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
}

async fn feed(early: Bytes, mut reader: impl AsyncRead + Unpin, mut stdin: ChildStdin) {
    // A session that is over takes no more; dropping its input tells it that no more comes.
    if stdin.write_all(&early).await.is_ok() {
        let _ = copy(&mut reader, &mut stdin).await;
    }
}

async fn pass_on(sender: &mut Sender, name: &str, said: &Said) -> io::Result<()> {
    match said {
        Said::Bytes(bytes) => sender.send(bytes).await,
        Said::Line(line) => {
            let (level, text) = note_line(name, line);
            sender.log(level, LOG_PREFIX, text).await
        }
        Said::End => Ok(()),
    }
}

/// Warnings and errors go to our own log too.
fn note_line<'a>(name: &str, line: &'a [u8]) -> (LogLevel, &'a [u8]) {
    let (level, text) = level_of(line);
    if level >= LogLevel::Warning {
        note(&format!("{name}: {}", String::from_utf8_lossy(text)));
    }
    (level, text)
}

/// What a line of the process's stderr begins with tells how bad it is.
fn level_of(line: &[u8]) -> (LogLevel, &[u8]) {
    let line = line.trim_ascii_start();
    for (start, level) in [
        (&b"dsync-server: error: "[..], LogLevel::Error),
        (b"ERROR ", LogLevel::Error),
        (b"WARN ", LogLevel::Warning),
        (b"INFO ", LogLevel::Info),
        (b"DEBUG ", LogLevel::Debug),
    ] {
        if let Some(text) = line.strip_prefix(start) {
            return (level, text);
        }
    }
    (LogLevel::Warning, line)
}

/// Something that the process said.
enum Said {
    Bytes(Bytes),
    Line(Vec<u8>),
    End,
}

/// Its standard output and error together.
struct Output {
    stdout: ChildStdout,
    stderr: Option<Split<BufReader<ChildStderr>>>,
    buffer: Vec<u8>,
}

impl Output {
    fn new(stdout: ChildStdout, stderr: ChildStderr) -> Self {
        Self {
            stdout,
            stderr: Some(BufReader::new(stderr).split(b'\n')),
            buffer: vec![0; CHUNK],
        }
    }

    /// The next thing. Lines come before the end of the bytes. Nothing is lost if the result is
    /// not waited for.
    async fn next(&mut self) -> Said {
        while let Some(stderr) = &mut self.stderr {
            tokio::select! {
                biased;
                line = stderr.next_segment() => match line {
                    Ok(Some(line)) => return Said::Line(line),
                    _ => self.stderr = None,
                },
                size = self.stdout.read(&mut self.buffer) => match size.unwrap_or(0) {
                    0 => return self.last_lines().await,
                    size => return self.bytes(size),
                },
            }
        }
        match self.stdout.read(&mut self.buffer).await.unwrap_or(0) {
            0 => Said::End,
            size => self.bytes(size),
        }
    }

    fn bytes(&self, size: usize) -> Said {
        Said::Bytes(Bytes::copy_from_slice(
            self.buffer.get(..size).unwrap_or_default(),
        ))
    }

    async fn last_lines(&mut self) -> Said {
        if let Some(stderr) = &mut self.stderr
            && let Ok(Ok(Some(line))) = timeout(GRACE, stderr.next_segment()).await
        {
            return Said::Line(line);
        }
        self.stderr = None;
        Said::End
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels() {
        for (line, level, text) in [
            ("dsync-server: error: no", LogLevel::Error, "no"),
            ("DEBUG user joe", LogLevel::Debug, "user joe"),
            (" WARN odd", LogLevel::Warning, "odd"),
            (
                "thread 'main' panicked",
                LogLevel::Warning,
                "thread 'main' panicked",
            ),
        ] {
            assert_eq!(level_of(line.as_bytes()), (level, text.as_bytes()));
        }
    }
}
