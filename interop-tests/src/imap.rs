//! An IMAP session of a real Dovecot on an account, logged in from the start.
//!
//! Just enough of a client for tests: one command at a time, answers as they came, literals in
//! both directions, and a time limit instead of a hang.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::Side;

/// Dovecot answers at once; only a broken test waits for so long.
const TIMEOUT: Duration = Duration::from_secs(100);

/// One value of a response.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// An atom, a quoted string or a literal.
    Text(Vec<u8>),
    /// A list in parentheses.
    List(Vec<Self>),
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{:?}", String::from_utf8_lossy(text)),
            Self::List(values) => f.debug_list().entries(values).finish(),
        }
    }
}

impl Value {
    /// The text; a list has none.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
            Self::List(_) => None,
        }
    }

    /// The values of a list; a text has none.
    pub fn list(&self) -> &[Self] {
        match self {
            Self::Text(_) => &[],
            Self::List(values) => values,
        }
    }

    /// A list of names and values, as in `STATUS` and `FETCH`.
    pub fn pairs(&self) -> BTreeMap<String, Self> {
        self.list()
            .chunks_exact(2)
            .filter_map(|pair| Some((pair.first()?.text()?, pair.get(1)?.clone())))
            .collect()
    }
}

/// What a session answered to one command.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Untagged responses without `* `, literals included.
    pub untagged: Vec<Vec<u8>>,
    /// The tagged response without its tag: `OK [READ-WRITE] Select completed`.
    pub status: String,
}

impl Answer {
    /// Untagged responses that have this word first, or second behind a number, as text.
    pub fn of(&self, word: &str) -> Vec<String> {
        let is_meant = |line: &&Vec<u8>| {
            let mut words = line.split(|byte| *byte == b' ').take(2);
            words.any(|found| found == word.as_bytes())
        };
        let lines = self.untagged.iter().filter(is_meant);
        lines
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .collect()
    }

    /// The value of a response code such as `UIDNEXT` in `* OK [UIDNEXT 7] text`.
    pub fn code(&self, name: &str) -> Option<String> {
        let start = format!("[{name} ");
        let lines = self
            .untagged
            .iter()
            .map(|line| String::from_utf8_lossy(line));
        let mut all = lines.chain([self.status.as_str().into()]);
        all.find_map(|line| {
            let (_, rest) = line.split_once(&start)?;
            Some(rest.split_once(']')?.0.to_owned())
        })
    }

    /// Messages of `FETCH` responses by UID; a later one adds to an earlier one.
    pub fn fetched(&self) -> Result<BTreeMap<u32, BTreeMap<String, Value>>> {
        let mut messages: BTreeMap<u32, BTreeMap<String, Value>> = BTreeMap::new();
        for line in &self.untagged {
            if line.split(|byte| *byte == b' ').nth(1) != Some(b"FETCH") {
                continue;
            }
            let values = parse(line)?;
            let items = values.get(2).context("FETCH without items")?.pairs();
            let uid = items.get("UID").and_then(Value::text).context("no UID")?;
            messages.entry(uid.parse()?).or_default().extend(items);
        }
        Ok(messages)
    }
}

/// A session.
pub struct Imap {
    child: Child,
    input: ChildStdin,
    responses: Receiver<Vec<u8>>,
    log: PathBuf,
    commands: u32,
}

impl Imap {
    pub(crate) fn new(side: &Side<'_>) -> Result<Self> {
        Self::with_log(side, &format!("{}/imap.log", side.name()))
    }

    /// One with this file of the world as its log.
    pub(crate) fn with_log(side: &Side<'_>, log: &str) -> Result<Self> {
        side.world().write(log, b"")?;
        let log = side.world().outside(log);
        let mut child = side
            .doveadm_command("exec imap")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::options().append(true).open(&log)?)
            .spawn()?;
        let input = child.stdin.take().context("no stdin")?;
        let mut output = BufReader::new(child.stdout.take().context("no stdout")?);
        let (sender, responses) = channel();
        thread::spawn(move || {
            while let Ok(Some(response)) = read_response(&mut output) {
                if sender.send(response).is_err() {
                    break;
                }
            }
        });
        let mut session = Self {
            child,
            input,
            responses,
            log,
            commands: 0,
        };
        let greeting = session.next()?;
        ensure!(
            greeting.starts_with(b"* PREAUTH "),
            "unexpected greeting {}",
            String::from_utf8_lossy(&greeting)
        );
        Ok(session)
    }

    /// Does a command, which must end with `OK`.
    pub fn ok(&mut self, command: &str) -> Result<Answer> {
        let answer = self.send(command.as_bytes())?;
        ensure!(answer.status.starts_with("OK "), "{command}: {answer:?}");
        Ok(answer)
    }

    /// Does a command, however it ends.
    pub fn command(&mut self, command: &str) -> Result<Answer> {
        self.send(command.as_bytes())
    }

    /// Does an `APPEND`, which must end with `OK`: `start` is everything before the literal.
    pub fn append(&mut self, start: &str, message: &[u8]) -> Result<Answer> {
        let mut command = format!("APPEND {start} {{{}+}}\r\n", message.len()).into_bytes();
        command.extend_from_slice(message);
        let answer = self.send(&command)?;
        ensure!(answer.status.starts_with("OK "), "APPEND: {answer:?}");
        Ok(answer)
    }

    /// `IDLE` until all these words have come as untagged responses: `["EXISTS", "FETCH"]`. The
    /// work is done while the session waits.
    pub fn idle(&mut self, until: &[&str], work: impl FnOnce() -> Result<()>) -> Result<Answer> {
        self.input.write_all(b"idle IDLE\r\n")?;
        while !self.next()?.starts_with(b"+ ") {}
        work()?;
        let mut answer = Answer {
            untagged: Vec::new(),
            status: String::new(),
        };
        while until.iter().any(|word| answer.of(word).is_empty()) {
            let response = self.next().with_context(|| format!("IDLE: {answer:?}"))?;
            let response = response.strip_prefix(b"* ").unwrap_or(&response);
            answer.untagged.push(response.to_vec());
        }
        self.input.write_all(b"DONE\r\n")?;
        let mut end = self.until("idle")?;
        answer.untagged.append(&mut end.untagged);
        answer.status = end.status;
        Ok(answer)
    }

    /// Ends the session; fails if Dovecot had anything to complain about.
    pub fn logout(self) -> Result<()> {
        let complaints = self.complaints()?;
        ensure!(
            complaints.is_empty(),
            "Dovecot's log says\n{}",
            complaints.join("\n")
        );
        Ok(())
    }

    /// Ends the session; gives the lines that Dovecot has logged since it began.
    pub fn complaints(mut self) -> Result<Vec<String>> {
        self.ok("LOGOUT")?;
        self.child.wait()?;
        let log = fs::read_to_string(&self.log)?;
        let harmless = |line: &&str| line.contains("Info: Disconnected: Logged out");
        let complaints = log.lines().filter(|line| !harmless(line));
        Ok(complaints.map(str::to_owned).collect())
    }

    fn send(&mut self, command: &[u8]) -> Result<Answer> {
        self.commands += 1;
        let tag = format!("t{}", self.commands);
        let line = [tag.as_bytes(), b" ", command, b"\r\n"].concat();
        self.input.write_all(&line)?;
        self.until(&tag)
            .with_context(|| format!("command {}", String::from_utf8_lossy(command)))
    }

    /// Reads up to the response with this tag.
    fn until(&mut self, tag: &str) -> Result<Answer> {
        let mut untagged = Vec::new();
        loop {
            let response = self.next()?;
            if let Some(response) = response.strip_prefix(b"* ") {
                untagged.push(response.to_vec());
                continue;
            }
            let text = String::from_utf8_lossy(&response);
            let status = text
                .strip_prefix(tag)
                .and_then(|status| status.strip_prefix(' '))
                .with_context(|| format!("unexpected response {text}"))?
                .to_owned();
            return Ok(Answer { untagged, status });
        }
    }

    fn next(&mut self) -> Result<Vec<u8>> {
        match self.responses.recv_timeout(TIMEOUT) {
            Ok(response) => Ok(response),
            Err(RecvTimeoutError::Timeout) => bail!("no response within {TIMEOUT:?}"),
            Err(RecvTimeoutError::Disconnected) => {
                let log = fs::read_to_string(&self.log)?;
                bail!("the session ended: {log}")
            }
        }
    }
}

impl Drop for Imap {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A line with the literals in it; without the last line end.
fn read_response(input: &mut impl BufRead) -> Result<Option<Vec<u8>>> {
    let mut response = Vec::new();
    loop {
        if input.read_until(b'\n', &mut response)? == 0 {
            return Ok(None);
        }
        let end = response.strip_suffix(b"\r\n").context("torn line")?.len();
        match literal_length(&response[..end]) {
            Some(length) => {
                input.take(length).read_to_end(&mut response)?;
            }
            None => {
                response.truncate(end);
                return Ok(Some(response));
            }
        }
    }
}

/// The length that a line announces at its end: `{12}`.
fn literal_length(line: &[u8]) -> Option<u64> {
    let text = line.strip_suffix(b"}")?;
    let start = text.iter().rposition(|byte| *byte == b'{')?;
    std::str::from_utf8(&text[start + 1..]).ok()?.parse().ok()
}

/// All values of a response.
pub fn parse(response: &[u8]) -> Result<Vec<Value>> {
    let mut rest = response;
    let values = parse_values(&mut rest)?;
    ensure!(rest.is_empty(), "unbalanced parentheses");
    Ok(values)
}

fn parse_values(rest: &mut &[u8]) -> Result<Vec<Value>> {
    let mut values = Vec::new();
    loop {
        *rest = rest.trim_ascii_start();
        let text = *rest;
        let value = match text.first() {
            None | Some(b')') => return Ok(values),
            Some(b'(') => {
                *rest = &text[1..];
                let inner = parse_values(rest)?;
                *rest = rest.strip_prefix(b")").context("missing parenthesis")?;
                Value::List(inner)
            }
            Some(b'"') => Value::Text(parse_quoted(rest)?),
            Some(b'{') => Value::Text(parse_literal(rest)?),
            Some(_) => {
                let end = text.iter().position(|byte| b" ()".contains(byte));
                let (atom, tail) = text.split_at(end.unwrap_or(text.len()));
                *rest = tail;
                Value::Text(atom.to_vec())
            }
        };
        values.push(value);
    }
}

fn parse_quoted(rest: &mut &[u8]) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut bytes = rest.iter().enumerate().skip(1);
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => {
                *rest = &rest[at + 1..];
                return Ok(text);
            }
            b'\\' => text.extend(bytes.next().map(|(_, byte)| byte)),
            _ => text.push(*byte),
        }
    }
    bail!("quoted string without end")
}

fn parse_literal(rest: &mut &[u8]) -> Result<Vec<u8>> {
    let end = rest.iter().position(|byte| *byte == b'\n');
    let (head, body) = rest.split_at(end.context("literal without line end")? + 1);
    let length = literal_length(head.trim_ascii_end()).context("wrong literal")?;
    let (text, tail) = body
        .split_at_checked(usize::try_from(length)?)
        .context("literal cut short")?;
    *rest = tail;
    Ok(text.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_servers_send() {
        let text = b"* 1 FETCH (UID 7 FLAGS (\\Seen a) BODY[] {7}\r\n(x)\r\n\"\") x\r\n* BYE\r\n";
        let mut input = &text[..];
        let first = read_response(&mut input).unwrap().unwrap();
        let values = parse(&first[2..]).unwrap();
        let items = values[2].pairs();
        assert_eq!(items["BODY[]"], Value::Text(b"(x)\r\n\"\"".to_vec()));
        assert_eq!(items["FLAGS"].list().len(), 2);
        assert_eq!(values[3].text().as_deref(), Some("x"));
        assert_eq!(read_response(&mut input).unwrap().unwrap(), b"* BYE");
        assert!(read_response(&mut input).unwrap().is_none());
        assert_eq!(
            parse(b"\"a\\\"b\" NIL").unwrap()[0],
            Value::Text(b"a\"b".to_vec())
        );
        for wrong in ["(", ")", "\"a", "{9}\r\nshort"] {
            assert!(parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
