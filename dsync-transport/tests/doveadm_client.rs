//! The doveadm client against servers that say what they were told to say.
#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use dsync_proto::doveadm::{Command, Credentials, Status, StatusName};
use dsync_testkit::certificates::Certificates;
use dsync_transport::doveadm::{ConnectError, Connection, Login, Road, connect};
use dsync_transport::net::{Target, TlsClient, TlsClientOptions, TlsServer, TlsServerOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const LONG: Duration = Duration::from_secs(60);
const HELLO: &[u8] = b"VERSION\tdoveadm-server\t1\t2\n";
const PLAIN: &[u8] = b"PLAIN\tAGRvdmVhZG0Ac2VrcmV0LVBhc3Mx\n";
const COMMAND: &[u8] = b"\tu1@example.org\tdsync-server\t-uu1@example.org\n";
const BANNER: &[u8] = b"VERSION\tdsync\t3\t5\n";

/// A step of a server.
enum Step {
    /// It has to receive exactly this.
    Expect(Vec<u8>),
    /// It says this, one byte at a time.
    Say(Vec<u8>),
    /// TLS begins.
    Tls(TlsServer),
}
use Step::{Expect, Say};

fn login(password: &str) -> Login {
    Login {
        credentials: Credentials {
            username: b"doveadm".to_vec(),
            password: password.as_bytes().to_vec(),
        },
        command: Command::dsync_server("u1@example.org"),
    }
}

/// A server for one client; it closes the connection at the end.
async fn server(steps: Vec<Step>) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream: dsync_transport::net::BoxStream = Box::new(stream);
        for step in steps {
            match step {
                Expect(bytes) => {
                    let mut got = vec![0; bytes.len()];
                    stream.read_exact(&mut got).await.unwrap();
                    assert_eq!(got, bytes);
                }
                Say(bytes) => {
                    for byte in bytes {
                        stream.write_all(&[byte]).await.unwrap();
                        stream.flush().await.unwrap();
                    }
                }
                Step::Tls(tls) => stream = tls.accept(stream).await.unwrap(),
            }
        }
        stream.shutdown().await.unwrap();
    });
    Target::Tcp {
        host: "localhost".into(),
        port,
    }
}

fn plain(target: Target) -> Road {
    Road {
        target,
        tls: None,
        start_tls: false,
    }
}

type Log = Arc<Mutex<Vec<String>>>;

async fn call(road: &Road, password: &str) -> (Result<Connection, ConnectError>, Log) {
    let log = Log::default();
    let lines = Arc::clone(&log);
    let sink = Box::new(move |line: dsync_proto::doveadm::LogLine| {
        lines.lock().unwrap().push(line.text.to_string());
    });
    (connect(road, &login(password), LONG, sink).await, log)
}

fn say(bytes: &[u8]) -> Step {
    Say(bytes.to_vec())
}

fn expect(bytes: &[u8]) -> Step {
    Expect(bytes.to_vec())
}

fn packet(channel: u8, data: &[u8]) -> Vec<u8> {
    let mut packet = vec![channel];
    packet.extend_from_slice(&(data.len() as u32).to_be_bytes());
    packet.extend_from_slice(data);
    packet
}

/// The session's first bytes share a packet with the answer, as Dovecot sends them.
#[tokio::test]
async fn every_order_of_the_greeting() {
    let version = b"VERSION\tdoveadm-client\t1\t2\n";
    let answer = [b"\n+\n", BANNER].concat();
    let packets = [packet(b'L', b"\x04hello\n"), packet(0, &answer)].concat();
    for (before, after, last, session_bytes) in [
        (&version[..], &b""[..], &b""[..], &packets),
        (b"", version, b"", &packets),
        (b"", b"", version, &packets),
        (b"", b"", b"", &answer),
    ] {
        let target = server(vec![
            expect(HELLO),
            say(&[before, b"-\n", after].concat()),
            expect(&[PLAIN, COMMAND].concat()),
            say(&[b"+\n", last, session_bytes].concat()),
            expect(BANNER),
        ])
        .await;
        let (connection, log) = call(&plain(target), "sekret-Pass1").await;
        let mut connection = connection.unwrap();
        assert_eq!(connection.reply.status, Status::success());
        connection.writer.write_all(BANNER).await.unwrap();
        let mut session = Vec::new();
        connection.reader.read_to_end(&mut session).await.unwrap();
        assert_eq!(session, BANNER);
        let logged = log.lock().unwrap().len();
        assert_eq!(logged, usize::from(session_bytes == &packets));
    }
}

#[tokio::test]
async fn a_trusted_socket_gets_no_password() {
    let target = server(vec![
        expect(HELLO),
        say(b"VERSION\tdoveadm-client\t1\t2\n+\n"),
        expect(COMMAND),
        Say(packet(0, b"\n-NOUSER\n")),
    ])
    .await;
    let connection = call(&plain(target), "").await.0.unwrap();
    assert_eq!(connection.reply.status, Status::failure(StatusName::NoUser));
}

#[tokio::test]
async fn what_can_go_wrong() {
    let greeting = || vec![expect(HELLO), say(b"VERSION\tdoveadm-client\t1\t2\n-\n")];
    let mut wrong = greeting();
    wrong.extend([expect(&[PLAIN, COMMAND].concat()), say(b"-\n")]);
    for (steps, password, expected) in [
        (greeting(), "", "doveadm_password not set"),
        (wrong, "sekret-Pass1", "doveadm authentication failed"),
        (
            vec![say(b"* OK IMAP ready\r\n")],
            "x",
            "doveadm server sent invalid handshake: * OK IMAP",
        ),
        (vec![], "x", "is this a doveadm port"),
        (
            greeting(),
            "x",
            "Disconnected from remote: EOF (while logging in)",
        ),
        (vec![Say(vec![b'x'; 100_000])], "x", "is limited to 32768"),
    ] {
        let target = server(steps).await;
        let error = call(&plain(target.clone()), password)
            .await
            .0
            .err()
            .unwrap();
        let text = error.to_string();
        assert!(text.contains(expected), "{text}");
        assert!(text.starts_with(&target.to_string()), "{text}");
    }
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let road = plain(Target::Tcp {
        host: "127.0.0.1".into(),
        port,
    });
    let patience = Duration::from_millis(50);
    let result = connect(&road, &login("x"), patience, Box::new(|_| {})).await;
    let text = result.err().unwrap().to_string();
    assert!(text.contains("while waiting for its greeting"), "{text}");
}

fn tls_server(certificates: &Certificates, client_ca: bool) -> TlsServer {
    TlsServer::new(&TlsServerOptions {
        certificate: certificates.file("server.pem"),
        key: certificates.file("server.key"),
        client_ca: client_ca.then(|| certificates.file("ca.pem")),
        min_version: Default::default(),
    })
    .unwrap()
}

/// A server that speaks TLS at once, or after `STARTTLS`.
async fn tls_target(tls: TlsServer, start_tls: bool) -> Target {
    let mut steps = vec![expect(HELLO), say(b"VERSION\tdoveadm-client\t1\t2\n-\n")];
    if start_tls {
        steps.push(expect(b"STARTTLS\n"));
        steps.push(Step::Tls(tls));
    } else {
        steps.insert(0, Step::Tls(tls));
    }
    steps.push(expect(&[PLAIN, COMMAND].concat()));
    steps.push(say(b"+\n"));
    steps.push(Say(packet(0, b"\n+\n")));
    server(steps).await
}

#[tokio::test]
async fn tls_checks_authority_and_name() {
    let known = Certificates::new(&["localhost", "::1"]);
    let stranger = Certificates::new(&["localhost"]);
    let misnamed = Certificates::new(&["mail.example.org"]);
    let options = TlsClientOptions {
        ca_file: Some(known.file("ca.pem")),
        ..TlsClientOptions::default()
    };
    let anybody = TlsClientOptions {
        accept_anybody: true,
        ..options.clone()
    };
    let its_ca = TlsClientOptions {
        ca_file: Some(misnamed.file("ca.pem")),
        ..TlsClientOptions::default()
    };
    for start_tls in [false, true] {
        for (certificates, options, expected) in [
            (&known, &options, ""),
            (&stranger, &anybody, ""),
            (
                &stranger,
                &options,
                "unable to get local issuer certificate",
            ),
            (
                &misnamed,
                &its_ca,
                "doesn't match expected host name localhost",
            ),
        ] {
            let target = tls_target(tls_server(certificates, false), start_tls).await;
            let tls = Some(TlsClient::new(options).unwrap());
            let result = call(
                &Road {
                    target,
                    tls,
                    start_tls,
                },
                "sekret-Pass1",
            )
            .await
            .0;
            match result {
                Ok(_) => assert_eq!(expected, ""),
                Err(error) => {
                    let text = error.to_string();
                    assert!(!expected.is_empty() && text.contains(expected), "{text}");
                }
            }
        }
    }
}

#[tokio::test]
async fn tls_with_a_client_certificate() {
    let certificates = Certificates::new(&["localhost"]);
    let without = TlsClientOptions {
        ca_file: Some(certificates.file("ca.pem")),
        ..TlsClientOptions::default()
    };
    let with = TlsClientOptions {
        identity: Some((
            certificates.file("client.pem"),
            certificates.file("client.key"),
        )),
        ..without.clone()
    };
    for (options, succeeds) in [(with, true), (without, false)] {
        let target = tls_target(tls_server(&certificates, true), false).await;
        let tls = Some(TlsClient::new(&options).unwrap());
        let road = Road {
            target,
            tls,
            start_tls: false,
        };
        assert_eq!(call(&road, "sekret-Pass1").await.0.is_ok(), succeeds);
    }
}

#[tokio::test]
async fn tls_files_that_cannot_be_used() {
    let certificates = Certificates::new(&["localhost"]);
    for (file, expected) in [
        (certificates.file("none.pem"), "cannot use"),
        (
            certificates.file("server.key"),
            "there is no certificate in it",
        ),
    ] {
        let options = TlsClientOptions {
            ca_file: Some(file),
            ..TlsClientOptions::default()
        };
        let text = TlsClient::new(&options).err().unwrap().to_string();
        assert!(text.contains(expected), "{text}");
    }
}
