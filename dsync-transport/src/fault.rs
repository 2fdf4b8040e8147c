//! What to say when a stream ends in the wrong way: one line, whose fault it is, what to do.

use std::time::Duration;

use dsync_engine::RunError;
use dsync_proto::wire::{DecodeError, Eof};

/// What ended a session, besides the brain's own verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// The brain was finished.
    #[default]
    Finished,
    /// The peer's stream ended too early, or could not be read any more.
    Closed,
    /// The peer does not speak dsync.
    Garbage,
    /// The peer broke the protocol.
    Damaged,
    /// Nothing moved for too long.
    Stalled,
    /// A signal.
    Stopped,
}

/// Which side this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The side that a person started.
    Client,
    /// The side that answers.
    Server,
}

impl Role {
    /// The other side, for sentences.
    fn peer(self) -> &'static str {
        match self {
            Self::Client => "the remote side",
            Self::Server => "the client",
        }
    }
}

const BANNER_HINT: &str = "the command has to speak only dsync on its stdout: check that it \
     starts dsync-server, and that no login script or wrapper prints anything";

/// The peer's stream ended. `head` is what it sent at the very beginning.
pub(crate) fn closed(
    role: Role,
    eof: Eof,
    head: &[u8],
    stream: &str,
    read_error: Option<&str>,
) -> (Ending, RunError) {
    let peer = role.peer();
    if let Some(error) = read_error {
        let text = format!("reading from {peer} failed: {error} ({stream}); run it again");
        return (Ending::Closed, RunError::peer(text));
    }
    let text = match (eof, role) {
        (Eof::BeforeBanner, _) if !head.is_empty() => return garbage(role, head),
        (Eof::BeforeBanner, Role::Client) => format!(
            "{peer} closed the connection without a word; \
             check that the command starts dsync-server or doveadm dsync-server"
        ),
        (Eof::BeforeBanner, Role::Server) => format!(
            "{peer} closed the connection without a word; \
             dsync-server is started by dsync or doveadm sync, which speak to its stdin and stdout"
        ),
        (Eof::InHandshake, _) => format!("{peer} closed the connection during the handshake"),
        (Eof::InLine | Eof::InBody, _) => format!(
            "{peer} closed the connection in the middle of {} ({stream}); \
             what was finished is kept, run it again for the rest",
            if eof == Eof::InBody {
                "a message"
            } else {
                "a line"
            }
        ),
        (Eof::BetweenItems | Eof::AfterDone, _) => format!(
            "{peer} closed the connection before the end ({stream}); \
             what was finished is kept, run it again for the rest"
        ),
    };
    (Ending::Closed, RunError::peer(text))
}

/// The peer's first line is no banner.
pub(crate) fn garbage(role: Role, head: &[u8]) -> (Ending, RunError) {
    let peer = role.peer();
    let line = first_line(head);
    let text = match role {
        Role::Client => format!("{peer} printed: {line} ({BANNER_HINT})"),
        Role::Server => format!("{peer} sent: {line} (this is not the dsync protocol, version 3)"),
    };
    (Ending::Garbage, RunError::peer(text))
}

/// The peer's bytes could not be decoded.
pub(crate) fn damaged(
    role: Role,
    peer_name: &str,
    head: &[u8],
    before_banner: bool,
    error: &DecodeError,
) -> (Ending, RunError) {
    if before_banner {
        return garbage(role, head);
    }
    let text = format!("dsync({peer_name}): {error} ({})", error.hint());
    (Ending::Damaged, RunError::peer(text))
}

/// Nothing was sent or received for too long (`spec/wire.md` 11).
pub(crate) fn stalled(
    role: Role,
    peer_name: &str,
    stream: &str,
    brain: &str,
    timeout: Duration,
) -> (Ending, RunError) {
    let text = format!(
        "dsync({peer_name}): I/O has stalled, no activity for {} seconds ({stream}); \
         Timeout during state={brain} ({} does not answer: check it and the network, \
         or allow more time with -T)",
        timeout.as_secs(),
        role.peer(),
    );
    (Ending::Stalled, RunError::peer(text))
}

/// The first line of what a stranger sent, quoted, short, and harmless for a terminal.
pub fn first_line(bytes: &[u8]) -> String {
    const LONGEST: usize = 120;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or(bytes);
    let line = String::from_utf8_lossy(line);
    let line = line.trim_end_matches('\r');
    let mut quoted = String::from("\"");
    quoted.extend(
        line.chars()
            .take(LONGEST)
            .map(|c| if c.is_control() { '?' } else { c }),
    );
    if line.chars().nth(LONGEST).is_some() {
        quoted.push_str("...");
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines() {
        for (bytes, expected) in [
            (&b"Welcome to host\r\nsecond"[..], "\"Welcome to host\""),
            (b"", "\"\""),
            (b"\x1b[31mred\x07", "\"?[31mred?\""),
            (b"\xff\n", "\"\u{fffd}\""),
        ] {
            assert_eq!(first_line(bytes), expected);
        }
        let long = first_line(&[b'x'; 1000]);
        assert_eq!(long.len(), 120 + "\"...\"".len());
    }

    #[test]
    fn every_ending_is_one_line_that_names_a_side() {
        let ends = [
            Eof::BeforeBanner,
            Eof::InHandshake,
            Eof::BetweenItems,
            Eof::InLine,
        ];
        let ends = ends.into_iter().chain([Eof::InBody, Eof::AfterDone]);
        let mut texts: Vec<String> = ends
            .flat_map(|eof| {
                [(Role::Client, eof), (Role::Server, eof)].map(|(role, eof)| {
                    closed(role, eof, b"", "last sent=done, last recv=done", None)
                        .1
                        .message
                })
            })
            .collect();
        texts.push(garbage(Role::Client, b"hello\n").1.message);
        texts.push(
            closed(Role::Server, Eof::BeforeBanner, b"hel", "", None)
                .1
                .message,
        );
        for text in texts {
            assert!(!text.contains('\n'), "{text}");
            assert!(
                text.contains("the remote side") || text.contains("the client"),
                "{text}"
            );
        }
    }
}
