//! A peer that is a command on this host (`spec/transports-and-cli.md` 7).

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longest line of the command's stderr that is passed on in one piece.
const STDERR_LINE: usize = 8192;

/// How long stderr is read on when the command itself has ended: one of its children may keep it
/// open for ever.
const STDERR_GRACE: Duration = Duration::from_secs(1);

/// A program could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {program}: {error}{}", hint(.program))]
pub struct SpawnError {
    /// The program.
    pub program: String,
    /// Why.
    pub error: io::Error,
}

fn hint(program: &str) -> &'static str {
    if program.contains(':') {
        " (a mail location has to be the only argument after the options)"
    } else {
        " (the first word of DESTINATION has to be a program: check its name and PATH)"
    }
}

/// The file of this program, to start it once more. `called` is the name it was started with; it
/// counts if it is a whole path, since later the file may have been replaced by a newer one.
pub fn own_program(called: Option<OsString>) -> io::Result<PathBuf> {
    match called.map(PathBuf::from).filter(|path| path.is_absolute()) {
        Some(path) => Ok(path),
        None => std::env::current_exe(),
    }
}

/// A running command whose stdin and stdout are a dsync stream. It is killed when dropped.
#[derive(Debug)]
pub struct RemoteCommand {
    child: Child,
    text: String,
    stderr: Option<JoinHandle<()>>,
    wrote: Arc<AtomicBool>,
}

impl RemoteCommand {
    /// Starts the program with our own environment, unchanged. Each line that it writes to its
    /// stderr, line end included, is given to `on_stderr`.
    pub fn spawn(
        program: &str,
        arguments: &[String],
        on_stderr: impl Fn(&[u8]) + Send + 'static,
    ) -> Result<(Self, ChildStdout, ChildStdin), SpawnError> {
        let failed = |error| SpawnError {
            program: program.to_owned(),
            error,
        };
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed(io::Error::other("it has no stdin or stdout")));
        };
        let wrote = Arc::new(AtomicBool::new(false));
        let stderr = child
            .stderr
            .take()
            .map(|stderr| tokio::spawn(copy_lines(stderr, Arc::clone(&wrote), on_stderr)));
        let words = std::iter::once(program).chain(arguments.iter().map(String::as_str));
        let command = Self {
            child,
            text: words.collect::<Vec<_>>().join(" "),
            stderr,
            wrote,
        };
        Ok((command, stdout, stdin))
    }

    /// The command line, for messages.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Waits for the command to end by itself, and kills it after `grace`. Its stdin has to be
    /// closed, and its stdout closed or read, or it may never end.
    pub async fn finish(mut self, grace: Duration) -> CommandEnd {
        let (status, killed) = match timeout(grace, self.child.wait()).await {
            Ok(status) => (status.ok(), false),
            Err(_) => {
                // Fails only if it has just ended.
                let _ = self.child.start_kill();
                (self.child.wait().await.ok(), true)
            }
        };
        if let Some(mut stderr) = self.stderr.take()
            && timeout(STDERR_GRACE, &mut stderr).await.is_err()
        {
            stderr.abort();
        }
        CommandEnd {
            command: self.text,
            status,
            killed,
            wrote_stderr: self.wrote.load(Ordering::Relaxed),
        }
    }
}

/// How a command ended.
#[derive(Clone, Debug)]
pub struct CommandEnd {
    /// The command line.
    pub command: String,
    /// Its status, if the system told it.
    pub status: Option<ExitStatus>,
    /// It did not end by itself.
    pub killed: bool,
    /// It has said something on its stderr.
    pub wrote_stderr: bool,
}

/// It said itself what was in the way.
pub const SSH_FAILED: &str = "ssh could not connect or log in; its own words are above";

impl CommandEnd {
    /// What to tell about it after a run, if anything (`spec/transports-and-cli.md` 7.3).
    pub fn complaint(&self) -> Option<String> {
        if self.killed {
            return Some(format!(
                "Remote command process isn't dying, killed it: {}",
                self.command
            ));
        }
        let status = self.status?;
        if let Some(signal) = status.signal() {
            return Some(format!(
                "Remote command died with signal {signal}: {}",
                self.command
            ));
        }
        match status.code() {
            None | Some(0) => None,
            Some(75) if self.wrote_stderr => None,
            Some(_) if self.is_ssh_failure() => Some(format!("{SSH_FAILED}: {}", self.command)),
            Some(code) => Some(format!(
                "Remote command returned error {code}: {}",
                self.command
            )),
        }
    }

    /// How it ended, to be read after "the command".
    pub fn describe(&self) -> String {
        match self.status {
            _ if self.killed => "did not end and was killed".to_owned(),
            None => "ended".to_owned(),
            Some(status) => match (status.code(), status.signal()) {
                (Some(0), _) => "ended without an error".to_owned(),
                (Some(127), _) => "ended with status 127: a program was not found".to_owned(),
                (Some(code), _) => format!("ended with status {code}"),
                (None, Some(signal)) => format!("was killed by signal {signal}"),
                (None, None) => "ended".to_owned(),
            },
        }
    }

    /// Whether it was ssh, and ssh itself failed: it could not connect or log in, and said why.
    pub fn is_ssh_failure(&self) -> bool {
        self.code() == Some(255) && self.command.starts_with("ssh ")
    }

    /// Its exit code.
    pub fn code(&self) -> Option<i32> {
        self.status.and_then(|status| status.code())
    }
}

async fn copy_lines(stderr: ChildStderr, wrote: Arc<AtomicBool>, on_line: impl Fn(&[u8])) {
    let mut reader = BufReader::with_capacity(STDERR_LINE, stderr);
    let mut line = Vec::new();
    loop {
        let chunk = match reader.fill_buf().await {
            Ok([]) | Err(_) => break,
            Ok(chunk) => chunk,
        };
        wrote.store(true, Ordering::Relaxed);
        let room = STDERR_LINE - line.len();
        let window = chunk.get(..room).unwrap_or(chunk);
        let (length, complete) = match memchr::memchr(b'\n', window) {
            Some(at) => (at + 1, true),
            None => (window.len(), false),
        };
        line.extend_from_slice(window.get(..length).unwrap_or(window));
        reader.consume(length);
        if complete || line.len() >= STDERR_LINE {
            on_line(&line);
            line.clear();
        }
    }
    if !line.is_empty() {
        line.push(b'\n');
        on_line(&line);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    async fn run(script: &str, grace: Duration) -> (CommandEnd, String) {
        let said = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&said);
        let (command, stdout, stdin) =
            RemoteCommand::spawn("sh", &["-c".into(), script.into()], move |line| {
                sink.lock().unwrap().extend_from_slice(line);
            })
            .unwrap();
        drop((stdout, stdin));
        let end = command.finish(grace).await;
        let said = String::from_utf8(said.lock().unwrap().clone()).unwrap();
        (end, said)
    }

    #[tokio::test]
    async fn status_and_stderr_are_reported() {
        let long = Duration::from_secs(60);
        let (end, said) = run("echo one >&2; printf two >&2; exit 3", long).await;
        assert_eq!(said, "one\ntwo\n");
        assert_eq!(end.code(), Some(3));
        assert!(
            end.complaint()
                .unwrap()
                .starts_with("Remote command returned error 3: sh -c")
        );

        let (end, _) = run("kill -9 $$", long).await;
        assert!(
            end.complaint()
                .unwrap()
                .starts_with("Remote command died with signal 9: ")
        );

        let (end, _) = run("echo busy >&2; exit 75", long).await;
        assert_eq!(end.complaint(), None);
        let (end, _) = run("exit 75", long).await;
        assert!(end.complaint().is_some());
        let (end, _) = run("exit 0", long).await;
        assert_eq!(end.complaint(), None);
    }

    #[tokio::test]
    async fn a_command_that_does_not_end_is_killed() {
        let (end, _) = run("exec sleep 1000", Duration::ZERO).await;
        assert!(end.killed);
        assert!(end.complaint().unwrap().contains("isn't dying"));
    }

    #[tokio::test]
    async fn long_lines_come_in_pieces() {
        let script = "head -c 20000 /dev/zero | tr '\\0' x >&2; echo >&2";
        let (_, said) = run(script, Duration::from_secs(60)).await;
        assert_eq!(said.len(), 20001);
    }

    #[tokio::test]
    async fn a_missing_program_is_named_at_once() {
        let error = RemoteCommand::spawn("/no/such/program", &[], |_| {}).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("cannot start /no/such/program: No such file")
        );
        let error = RemoteCommand::spawn("maildir:/x", &[], |_| {}).unwrap_err();
        assert!(error.to_string().contains("only argument"), "{error}");
    }
}
