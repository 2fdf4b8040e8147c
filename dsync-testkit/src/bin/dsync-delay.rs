//! A link with latency: `dsync-delay MILLISECONDS[:RATE] COMMAND...` runs a command and passes its
//! standard input and output on, each octet half of the round trip time later, and in each
//! direction no more than RATE octets a second. What is under way is not bounded by the delay.

use std::io::{Read, Write};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Octets that are read at a time.
const CHUNK: usize = 64 * 1024;

/// Chunks that may be under way in one direction (64 MiB).
const UNDER_WAY: usize = 1024;

#[derive(Clone, Copy)]
struct Link {
    delay: Duration,
    /// Octets a second; 0 without limit.
    rate: u64,
}

impl Link {
    fn parse(text: &str) -> Option<Self> {
        let (milliseconds, rate) = text.split_once(':').unwrap_or((text, "0"));
        Some(Self {
            delay: Duration::from_millis(milliseconds.parse().ok()?) / 2,
            rate: rate.parse().ok()?,
        })
    }

    /// Time that this many octets occupy the link.
    fn time(self, octets: usize) -> Duration {
        if self.rate == 0 {
            return Duration::ZERO;
        }
        Duration::from_nanos((octets as u64).saturating_mul(1_000_000_000) / self.rate)
    }
}

fn relay(mut from: impl Read + Send, mut to: impl Write, link: Link) {
    let (sender, receiver) = sync_channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut chunk = vec![0; CHUNK];
            let mut free = Instant::now();
            while let Ok(length @ 1..) = from.read(&mut chunk) {
                free = free.max(Instant::now()) + link.time(length);
                let due = free + link.delay;
                let octets = chunk.get(..length).unwrap_or_default().to_vec();
                if sender.send((due, octets)).is_err() {
                    return;
                }
            }
        });
        for (due, octets) in receiver {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            // A reader that is gone ends the relay; its other end notices by itself.
            if to.write_all(&octets).and_then(|()| to.flush()).is_err() {
                return;
            }
        }
    });
}

fn main() -> Result<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    let Some(link) = words.next().and_then(|word| Link::parse(word.to_str()?)) else {
        bail!("usage: dsync-delay ROUND-TRIP-MILLISECONDS[:OCTETS-PER-SECOND] COMMAND...");
    };
    let program = words.next().context("no command")?;
    let mut child = Command::new(&program)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    // Not waited for: it may sit in a read of our own standard input when the command has ended.
    if let Some(stdin) = stdin {
        thread::spawn(move || relay(std::io::stdin(), stdin, link));
    }
    if let Some(stdout) = stdout {
        relay(stdout, std::io::stdout(), link);
    }
    let code = child.wait()?.code().unwrap_or(1);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}
