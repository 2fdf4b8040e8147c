//! Dovecot's auth-userdb socket (`spec/auth-master.md`).

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dsync_proto::wire::{escape_into, unescape};

use super::UserFields;
use crate::ConfigError;

/// How long the server may think about an answer: behind it may be a slow database.
const PATIENCE: Duration = Duration::from_secs(60);

/// Longest line, in bytes.
const LONGEST_LINE: u64 = 64 * 1024;

/// Most users of a list.
const MOST_USERS: usize = 10_000_000;

/// A connection that has been greeted.
pub(super) struct AuthSocket {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

impl AuthSocket {
    /// Connects.
    pub(super) fn connect(path: &Path) -> Result<Self, ConfigError> {
        let connected = || -> io::Result<UnixStream> {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        };
        let path = path.to_owned();
        let stream = match connected() {
            Ok(stream) => BufReader::new(stream),
            Err(error) => {
                return Err(failed(
                    &path,
                    format!(
                        "cannot connect: {error} (is Dovecot running, and may this user open it? \
                     -o userdb=... names another source)"
                    ),
                ));
            }
        };
        let mut socket = Self { path, stream };
        loop {
            let line = socket.line()?;
            let mut fields = line.split(|byte| *byte == b'\t');
            match (fields.next(), fields.next()) {
                (Some(b"VERSION"), Some(b"1")) => {}
                (Some(b"VERSION"), _) => return Err(socket.failed("its version is not 1")),
                // The last line of the greeting.
                (Some(b"SPID"), _) => break,
                _ => return Err(socket.failed("it does not speak Dovecot's auth-master protocol")),
            }
        }
        socket.send(b"VERSION\t1\t1\n")?;
        Ok(socket)
    }

    /// Looks one user up.
    pub(super) fn lookup(mut self, name: &str) -> Result<Option<UserFields>, ConfigError> {
        let mut request = b"USER\t1\t".to_vec();
        escape_into(name.as_bytes(), &mut request);
        request.extend_from_slice(b"\tservice=doveadm\n");
        self.send(&request)?;
        loop {
            let fields = self.answer()?;
            let mut fields = fields.iter().map(String::as_str);
            match (fields.next(), fields.next()) {
                (Some("USER"), Some("1")) => {
                    let name = fields.next().unwrap_or(name).to_owned();
                    return UserFields::parse(&name, fields)
                        .map(Some)
                        .map_err(|reason| self.failed(&format!("user {name}: {reason}")));
                }
                (Some("NOTFOUND"), Some("1")) => return Ok(None),
                (Some("FAIL"), Some("1")) => {
                    let reason = fields.find_map(|field| field.strip_prefix("reason="));
                    let reason = reason.unwrap_or("see Dovecot's log");
                    return Err(self.failed(&format!("the lookup of {name} failed: {reason}")));
                }
                // Something about another connection.
                _ => {}
            }
        }
    }

    /// The names of all users.
    pub(super) fn list(mut self) -> Result<Vec<String>, ConfigError> {
        self.send(b"LIST\t1\tservice=doveadm\n")?;
        let mut users = Vec::new();
        loop {
            let fields = self.answer()?;
            let mut fields = fields.into_iter();
            let (kind, id) = (fields.next(), fields.next());
            let value = fields.next().unwrap_or_default();
            match (kind.as_deref(), id.as_deref()) {
                (Some("LIST"), Some("1")) if users.len() == MOST_USERS => {
                    return Err(self.failed("it lists too many users"));
                }
                (Some("LIST"), Some("1")) => users.push(value),
                (Some("DONE"), Some("1")) if value == "fail" => {
                    return Err(self.failed("it cannot list its users; see Dovecot's log"));
                }
                (Some("DONE"), Some("1")) => return Ok(users),
                _ => {}
            }
        }
    }

    fn answer(&mut self) -> Result<Vec<String>, ConfigError> {
        let line = self.line()?;
        let fields = line.split(|byte| *byte == b'\t');
        let text = |field: &[u8]| String::from_utf8(unescape(field).into_owned());
        fields
            .map(text)
            .collect::<Result<_, _>>()
            .map_err(|_| self.failed("it sent a line that is not UTF-8"))
    }

    fn line(&mut self) -> Result<Vec<u8>, ConfigError> {
        let mut line = Vec::new();
        let read = self
            .stream
            .by_ref()
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line);
        match read {
            Ok(_) if line.pop() == Some(b'\n') => Ok(line),
            Ok(_) if line.is_empty() => Err(self.failed("it closed the connection")),
            Ok(_) => Err(self.failed("it sent a line that is cut off or too long")),
            Err(error) => Err(self.failed(&format!("cannot read: {error}"))),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), ConfigError> {
        let sent = self.stream.get_mut().write_all(bytes);
        sent.map_err(|error| self.failed(&format!("cannot write: {error}")))
    }

    fn failed(&self, reason: &str) -> ConfigError {
        failed(&self.path, reason.to_owned())
    }
}

fn failed(path: &Path, reason: String) -> ConfigError {
    ConfigError::Userdb {
        userdb: format!("auth:{}", path.display()),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// Answers one connection: greeting, the request that has to come, the answer.
    fn with_server<T>(
        request: &'static str,
        answer: &'static str,
        ask: impl FnOnce(AuthSocket) -> Result<T, ConfigError>,
    ) -> Result<T, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth-userdb");
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"VERSION\t1\t1\nSPID\t12298\n").unwrap();
            let expected = ["VERSION\t1\t1\n", request].concat();
            let mut got = vec![0; expected.len()];
            stream.read_exact(&mut got).unwrap();
            assert_eq!(String::from_utf8(got).unwrap(), expected);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let result = AuthSocket::connect(&path).and_then(ask);
        server.join().unwrap();
        result
    }

    #[test]
    fn lookups() {
        const ASKED: &str = "USER\t1\talice@example.com\tservice=doveadm\n";
        let lookup =
            |answer| with_server(ASKED, answer, |socket| socket.lookup("alice@example.com"));
        let answer = "USER\t2\tother\nUSER\t1\talice\tuid=5000\tgid=5000\thome=/srv/a\u{1}tb\tmail=maildir:~/M\n";
        let alice = lookup(answer).unwrap().unwrap();
        assert_eq!((alice.name.as_str(), alice.uid), ("alice", Some(5000)));
        assert_eq!(alice.home, Some("/srv/a\tb".into()));
        assert_eq!(lookup("NOTFOUND\t1\n").unwrap(), None);
        for (answer, expected) in [
            ("FAIL\t1\treason=database down\ttemp\n", "database down"),
            ("FAIL\t1\n", "see Dovecot's log"),
            ("", "closed the connection"),
            ("USER\t1", "cut off"),
            ("USER\t1\ta\tuid=x\n", "neither a uid"),
        ] {
            let error = lookup(answer).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(error.exit_code(), 75);
        }
    }

    #[test]
    fn lists() {
        const ASKED: &str = "LIST\t1\tservice=doveadm\n";
        let list = |answer| with_server(ASKED, answer, AuthSocket::list);
        assert_eq!(
            list("LIST\t1\ta\nLIST\t1\tb\nDONE\t1\t\n").unwrap(),
            ["a", "b"]
        );
        assert!(list("DONE\t1\tfail\n").is_err());
        assert!(list("LIST\t1\ta\n").is_err());
    }
}
