//! A process of our own that becomes the user.
//!
//! Root opens the way to the other side, with its keys and passwords, and never touches mail. The
//! worker is this program once more: it drops root for ever and syncs over its standard input,
//! which is a socket. What it has to tell it prints as one JSON object.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::Stdio;
use std::time::Duration;

use dsync_transport::own_program;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::ended::Ended;
use crate::failure::Failure;
use crate::road::Opened;

/// Largest result of a worker, in bytes.
const LARGEST_RESULT: u64 = 256 * 1024 * 1024;

/// How long the last bytes for the other side may take when the worker has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What a worker is started with.
pub(crate) struct WorkerOptions {
    /// The arguments of this program.
    pub(crate) arguments: Vec<OsString>,
    pub(crate) user: String,
    /// It is one of many.
    pub(crate) of_many: bool,
}

/// Does the run of one user in a worker. `opened` is the way to the other side, if there is one.
pub(crate) async fn run(
    options: &WorkerOptions,
    opened: Option<&mut Opened>,
    stop: impl Future<Output = &'static str>,
) -> Result<Ended, Failure> {
    let failed = |error| {
        Failure::temporary(format!(
            "cannot start a process for {}: {error}",
            options.user
        ))
    };
    match opened {
        None => {
            let mut child = spawn(options, Stdio::null()).map_err(failed)?;
            result(options, &mut child, stop).await
        }
        Some(opened) => {
            let (own, other) = StdUnixStream::pair().map_err(failed)?;
            let mut child = spawn(options, OwnedFd::from(other).into()).map_err(failed)?;
            own.set_nonblocking(true).map_err(failed)?;
            let own = UnixStream::from_std(own).map_err(failed)?;
            {
                let relay = relay(own, &mut opened.reader, &mut opened.writer);
                tokio::pin!(relay);
                let result = result(options, &mut child, stop);
                tokio::pin!(result);
                tokio::select! {
                    ended = &mut result => {
                        // The other side may still want to hear the last bytes.
                        let _ = timeout(LAST_WORDS, &mut relay).await;
                        ended
                    }
                    () = &mut relay => result.await,
                }
            }
        }
    }
}

fn spawn(options: &WorkerOptions, stdin: Stdio) -> io::Result<Child> {
    let mut command = Command::new(own_program(env::args_os().next())?);
    command.arg(format!("--worker={}", options.user));
    command.args(options.of_many.then_some("--worker-of-many"));
    command
        .args(&options.arguments)
        .stdin(stdin)
        .stdout(Stdio::piped())
        // Signals of a terminal come to this process, which passes them on.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Waits for the worker; a signal is passed on to it, and it ends at its next step.
async fn result(
    options: &WorkerOptions,
    child: &mut Child,
    stop: impl Future<Output = &'static str>,
) -> Result<Ended, Failure> {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    let stdout = child.stdout.take();
    let wait = async {
        let mut printed = String::new();
        if let Some(stdout) = stdout {
            // What is not text is no result.
            let mut stdout = stdout.take(LARGEST_RESULT);
            let _ = stdout.read_to_string(&mut printed).await;
        }
        let code = child.wait().await.ok().and_then(|status| status.code());
        (printed, code)
    };
    tokio::pin!(wait);
    let mut stopped = None;
    let (printed, code) = tokio::select! {
        ended = &mut wait => ended,
        signal = stop => {
            stopped = Some(signal);
            if let Some(pid) = pid {
                // It may have ended by itself.
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
            wait.await
        }
    };
    Ended::of_worker(&options.user, &printed, code, stopped)
}

/// Passes bytes on in both directions, until the worker has closed its end.
async fn relay(
    own: UnixStream,
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
) {
    let (mut from_worker, mut to_worker) = own.into_split();
    let inward = async {
        // A worker that has ended takes no more.
        let _ = copy(reader, &mut to_worker).await;
        let _ = to_worker.shutdown().await;
        std::future::pending::<()>().await;
    };
    let outward = async {
        let _ = copy(&mut from_worker, writer).await;
        let _ = writer.shutdown().await;
    };
    tokio::select! {
        () = inward => {}
        () = outward => {}
    }
}

/// For a worker: its standard input, which is a socket, as the way to the other side.
pub(crate) fn inherited_stream() -> io::Result<UnixStream> {
    let socket = StdUnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}
