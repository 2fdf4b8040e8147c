//! The listener, with clients that keep to the protocol and others that do not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use common::Homes;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const HELLO: &str = "VERSION\tdoveadm-server\t1\t2\n";
const GREETING: &str = "VERSION\tdoveadm-client\t1\t2\n-\n";
/// `sekret-Pass1`
const PLAIN: &str = "PLAIN\tAGRvdmVhZG0Ac2VrcmV0LVBhc3Mx\n";
const COMMAND: &str = "\tjoe\tdsync-server\t-ujoe\n";

struct Server {
    child: Child,
    stderr: BufReader<ChildStderr>,
    homes: Homes,
    /// Of the first listener.
    port: u16,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let homes = Homes::new(&["joe"]);
        let mut child = Command::new(env!("CARGO_BIN_EXE_dsync-server"))
            .args(homes.options())
            .args(["-o", "doveadm_password=sekret-Pass1"])
            .args(["listen", "tcp:127.0.0.1:0"])
            .args(arguments)
            .current_dir(homes.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let port = line.trim().rsplit(':').next().unwrap().parse().unwrap();
        Self {
            child,
            stderr,
            homes,
            port,
        }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).unwrap()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap());
        kill(pid, signal).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads exactly this.
fn expect(stream: &mut impl Read, expected: &[u8]) {
    let mut got = vec![0; expected.len()];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(
        got.escape_ascii().to_string(),
        expected.escape_ascii().to_string()
    );
}

/// Sends it and reads up to the end of the connection.
fn talk(server: &Server, said: &str) -> String {
    let mut stream = server.connect();
    stream.write_all(said.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer.escape_ascii().to_string()
}

fn escaped(text: &str) -> String {
    text.as_bytes().escape_ascii().to_string()
}

/// A packet of the main channel.
fn packet(stream: &mut impl Read) -> (u8, Vec<u8>) {
    let mut header = [0; 5];
    stream.read_exact(&mut header).unwrap();
    let [channel, length @ ..] = header;
    let mut data = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut data).unwrap();
    (channel, data)
}

#[test]
fn a_session_begins() {
    let server = Server::start(&[]);
    let mut stream = server.connect();
    // All in one write, as the protocol allows.
    stream
        .write_all([HELLO, PLAIN, COMMAND].concat().as_bytes())
        .unwrap();
    expect(&mut stream, GREETING.as_bytes());
    expect(&mut stream, b"+\n");
    assert_eq!(packet(&mut stream), (0, b"\n+\n".to_vec()));
    let (channel, data) = packet(&mut stream);
    assert_eq!(channel, 0);
    assert!(
        data.starts_with(b"VERSION\tdsync\t3\t5\n"),
        "{}",
        data.escape_ascii()
    );
}

#[test]
fn an_old_client_gets_no_packets() {
    let server = Server::start(&[]);
    let mut stream = server.connect();
    let hello = "VERSION\tdoveadm-server\t1\t0\n";
    stream
        .write_all([hello, PLAIN, COMMAND].concat().as_bytes())
        .unwrap();
    expect(&mut stream, b"-\n+\n\n+\nVERSION\tdsync\t3\t5\n");
}

#[test]
fn who_is_not_let_in() {
    let server = Server::start(&[]);
    for (said, answer) in [
        ("GET / HTTP/1.0\r\n\r\n", ""),
        ("VERSION\tdoveadm-server\t2\t0\n", ""),
        (
            "VERSION\tdoveadm-server\t1\t2\nPLAIN\tAGRvdmVhZG0Ad3Jvbmc=\n",
            &[GREETING, "-\n"].concat(),
        ),
        (
            "VERSION\tdoveadm-server\t1\t2\nPLAIN\t!\n",
            &[GREETING, "-\n"].concat(),
        ),
        (
            "VERSION\tdoveadm-server\t1\t2\nLOGIN\tx\n",
            &[GREETING, "-\n"].concat(),
        ),
        // joe with the right password
        (
            "VERSION\tdoveadm-server\t1\t2\nPLAIN\tAGpvZQBzZWtyZXQtUGFzczE=\n",
            &[GREETING, "-\n"].concat(),
        ),
        // There is no certificate.
        (
            "VERSION\tdoveadm-server\t1\t2\nSTARTTLS\n",
            &[GREETING, "-\n"].concat(),
        ),
        (&"x".repeat(100_000), ""),
    ] {
        let mut stream = server.connect();
        // A server that has closed already refuses the rest.
        let _ = stream.write_all(said.as_bytes());
        let mut got = Vec::new();
        let _ = stream.read_to_end(&mut got);
        assert_eq!(
            got.escape_ascii().to_string(),
            escaped(answer),
            "{said:.50}"
        );
    }
}

#[test]
fn without_a_password_nobody_comes_in() {
    let server = Server::start(&["-o", "doveadm_password="]);
    let empty = "PLAIN\tAGRvdmVhZG0A\n";
    assert_eq!(
        talk(&server, &[HELLO, empty].concat()),
        escaped(&[GREETING, "-\n"].concat())
    );
}

#[test]
fn refused_commands_leave_the_connection_usable() {
    let server = Server::start(&[]);
    let mut stream = server.connect();
    stream
        .write_all([HELLO, PLAIN].concat().as_bytes())
        .unwrap();
    expect(&mut stream, GREETING.as_bytes());
    expect(&mut stream, b"+\n");
    for (command, answer) in [
        ("\tjoe\tkick\n", "\n-\n"),
        ("\tjoe\tdsync-server\t-Z\n", "\n-USAGE\n"),
        (
            "\tjoe\tdsync-server\t-o\tmail_location=maildir:/\n",
            "\n-USAGE\n",
        ),
        ("\tjoe\tdsync-server\t-r\t/tmp/x\n", "\n-USAGE\n"),
        ("\tjoe\tdsync-server\tlisten\ttcp:*:1\n", "\n-USAGE\n"),
        ("\t\tdsync-server\n", "\n-NOUSER\n"),
        ("\tj\u{1}0e\tdsync-server\n", "\n-NOUSER\n"),
    ] {
        stream.write_all(command.as_bytes()).unwrap();
        assert_eq!(packet(&mut stream), (0, answer.into()), "{command}");
    }
    stream
        .write_all(b"\tjoe\tdsync-server\t-ujoe\t-U\n")
        .unwrap();
    assert_eq!(packet(&mut stream), (0, b"\n+\n".to_vec()));
    drop(stream);
    let flag = [HELLO, PLAIN, "x\tjoe\tdsync-server\n"].concat();
    assert_eq!(talk(&server, &flag), escaped(&[GREETING, "+\n"].concat()));
}

#[test]
fn an_unknown_user_is_refused_with_the_reason() {
    let server = Server::start(&["-o", "userdb=passwd"]);
    let mut stream = server.connect();
    let command = "\tno-such-user-here\tdsync-server\n";
    stream
        .write_all([HELLO, PLAIN, command].concat().as_bytes())
        .unwrap();
    expect(&mut stream, GREETING.as_bytes());
    expect(&mut stream, b"+\n");
    let (channel, line) = packet(&mut stream);
    assert_eq!(channel, b'L');
    let text = String::from_utf8(line).unwrap();
    assert!(
        text.starts_with("\u{4}dsync-server: user no-such-user-here"),
        "{text:?}"
    );
    assert_eq!(packet(&mut stream), (0, b"\n-NOUSER\n".to_vec()));
}

/// Everybody exists in a template, but a name is never a way to other folders.
#[test]
fn a_user_that_is_a_path_is_refused() {
    let server = Server::start(&[]);
    for name in ["../joe", "joe/../joe", "..", "x/../../joe@.."] {
        let mut stream = server.connect();
        let command = format!("\t{name}\tdsync-server\n");
        stream
            .write_all([HELLO, PLAIN, &command].concat().as_bytes())
            .unwrap();
        expect(&mut stream, GREETING.as_bytes());
        expect(&mut stream, b"+\n");
        let (_, line) = packet(&mut stream);
        let text = String::from_utf8(line).unwrap();
        assert!(text.contains("is no name of a user"), "{text:?}");
        assert_eq!(packet(&mut stream), (0, b"\n-NOUSER\n".to_vec()));
    }
}

#[test]
fn a_private_socket_needs_no_password_and_another_does() {
    let server = Server::start(&["unix:private", "unix:shared:0660"]);
    let connect = |name: &str| {
        let path = server.homes.path().join(name);
        while !path.exists() {
            std::thread::yield_now();
        }
        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(HELLO.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert_eq!(connect("private"), "VERSION\tdoveadm-client\t1\t2\n+\n");
    assert_eq!(connect("shared"), GREETING);
}

#[test]
fn the_end_is_graceful() {
    let mut server = Server::start(&["unix:private"]);
    let socket = server.homes.path().join("private");
    let mut stream = server.connect();
    stream
        .write_all([HELLO, PLAIN, COMMAND].concat().as_bytes())
        .unwrap();
    expect(&mut stream, GREETING.as_bytes());
    expect(&mut stream, b"+\n");
    assert_eq!(packet(&mut stream), (0, b"\n+\n".to_vec()));
    server.signal(Signal::SIGTERM);
    // The session ends by itself, and says so, before the connection is closed.
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    let text = rest.escape_ascii().to_string();
    assert!(text.contains("stopped by SIGTERM"), "{text}");
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    assert!(!socket.exists());
    let mut log = String::new();
    server.stderr.read_to_string(&mut log).unwrap();
    assert!(log.contains("SIGTERM: no new clients"), "{log}");
    assert!(!log.contains("sekret"), "{log}");
}

#[test]
fn too_many_sessions() {
    let server = Server::start(&["--max-sessions", "1"]);
    let login = [HELLO, PLAIN, COMMAND].concat();
    let mut first = server.connect();
    first.write_all(login.as_bytes()).unwrap();
    expect(&mut first, GREETING.as_bytes());
    expect(&mut first, b"+\n");
    assert_eq!(packet(&mut first), (0, b"\n+\n".to_vec()));
    let mut second = server.connect();
    second.write_all(login.as_bytes()).unwrap();
    expect(&mut second, GREETING.as_bytes());
    expect(&mut second, b"+\n");
    assert_eq!(packet(&mut second).0, b'L');
    assert_eq!(packet(&mut second), (0, b"\n-TEMPFAIL\n".to_vec()));
}

#[test]
fn what_cannot_be_listened_on() {
    for (arguments, code) in [
        (&["listen"][..], 64),
        (&["listen", "udp:x:1"], 64),
        (&["listen", "tcps:127.0.0.1:0"], 78),
        (&["listen", "unix:/no/such/folder/socket"], 75),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_dsync-server"))
            .args(["-c", "/dev/null"])
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
    }
    let taken = Server::start(&["unix:x"]);
    let path = taken.homes.path().join("x");
    while !Path::exists(&path) {
        std::thread::yield_now();
    }
    let again = format!("unix:{}", path.display());
    let output = Command::new(env!("CARGO_BIN_EXE_dsync-server"))
        .args(["-c", "/dev/null"])
        .args(["listen", &again])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(75), "{output:?}");
}

/// The sockets of systemd, as file descriptors from 3 on.
#[test]
fn sockets_that_are_passed() {
    let homes = Homes::new(&["joe"]);
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    // Only a shell can put it there.
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=any exec \"$@\"";
    let mut child = Command::new("sh")
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_dsync-server")])
        .args(homes.options())
        .args(["-o", "doveadm_password=sekret-Pass1", "listen"])
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(socket)))
        .spawn()
        .unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .write_all([HELLO, PLAIN, COMMAND].concat().as_bytes())
        .unwrap();
    expect(&mut stream, GREETING.as_bytes());
    expect(&mut stream, b"+\n");
    assert_eq!(packet(&mut stream), (0, b"\n+\n".to_vec()));
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Ten wrong passwords, and the right one is of no use for a while, but on the private socket.
#[test]
fn guessing_is_stopped() {
    let server = Server::start(&["unix:private"]);
    let wrong = [HELLO, "PLAIN\tAGRvdmVhZG0Ad3Jvbmc=\n"].concat();
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| talk(&server, &wrong));
        }
    });
    let mut stream = server.connect();
    // Closed without a word.
    let _ = stream.write_all([HELLO, PLAIN].concat().as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert_eq!(answer.escape_ascii().to_string(), "");
    let mut private = UnixStream::connect(server.homes.path().join("private")).unwrap();
    private.write_all(HELLO.as_bytes()).unwrap();
    expect(&mut private, b"VERSION\tdoveadm-client\t1\t2\n+\n");
}

#[test]
fn too_many_connections_of_one_address() {
    let server = Server::start(&["--max-per-address", "2"]);
    let mut inside = Vec::new();
    for _ in 0..2 {
        let mut stream = server.connect();
        stream.write_all(HELLO.as_bytes()).unwrap();
        expect(&mut stream, GREETING.as_bytes());
        inside.push(stream);
    }
    let mut refused = Vec::new();
    let _ = server.connect().read_to_end(&mut refused);
    assert_eq!(refused, b"");
    drop(inside);
    // There is room again as soon as the server has noticed.
    loop {
        let mut stream = server.connect();
        let _ = stream.write_all(HELLO.as_bytes());
        let mut first = [0; 1];
        if stream.read(&mut first).is_ok_and(|size| size == 1) {
            break;
        }
    }
}

#[test]
fn only_some_users_are_served() {
    let server = Server::start(&["--serve", "ann*", "--serve", "*@example.org"]);
    let mut stream = server.connect();
    stream
        .write_all([HELLO, PLAIN, COMMAND].concat().as_bytes())
        .unwrap();
    expect(&mut stream, GREETING.as_bytes());
    expect(&mut stream, b"+\n");
    assert_eq!(packet(&mut stream), (0, b"\n-NOPERM\n".to_vec()));
    stream
        .write_all(b"\tjoe@example.org\tdsync-server\n")
        .unwrap();
    assert_eq!(packet(&mut stream), (0, b"\n+\n".to_vec()));
}
