//! The server's side of the doveadm protocol, with our own client and with bytes.
#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::time::Duration;

use dsync_proto::doveadm::{Command, Credentials, LogLevel, Reply, Status};
use dsync_testkit::certificates::Certificates;
use dsync_transport::doveadm::{Gate, GateError, Login, Road, admit, connect};
use dsync_transport::net::{
    BoxStream, Target, TlsClient, TlsClientOptions, TlsServer, TlsServerOptions,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const LONG: Duration = Duration::from_secs(60);

fn gate(certificates: Option<&Certificates>) -> Gate {
    Gate {
        password: b"sekret-Pass1".to_vec(),
        start_tls: certificates.map(|certificates| {
            TlsServer::new(&TlsServerOptions {
                certificate: certificates.file("server.pem"),
                key: certificates.file("server.key"),
                client_ca: None,
                min_version: Default::default(),
            })
            .unwrap()
        }),
        trusted: false,
    }
}

fn login(password: &str) -> Login {
    Login {
        credentials: Credentials {
            username: b"doveadm".to_vec(),
            password: password.into(),
        },
        command: Command::dsync_server("joe"),
    }
}

/// Both sides of ours, with TLS after the greeting: log line, answer, session in both directions.
#[tokio::test]
async fn a_session_inside_starttls() {
    let certificates = Certificates::new(&["localhost"]);
    let gate = gate(Some(&certificates));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut guest = admit(Box::new(stream), &gate, LONG).await.unwrap();
        let command = guest.next_command().await.unwrap().unwrap();
        assert_eq!(
            (&command.username[..], &command.name[..]),
            (&b"joe"[..], &b"dsync-server"[..])
        );
        guest
            .log(LogLevel::Error, "p: ", b"one\ntwo")
            .await
            .unwrap();
        guest.answer(&Reply::new(Status::success())).await.unwrap();
        let (early, mut reader, mut sender) = guest.into_session();
        let mut said = early.to_vec();
        reader.read_to_end(&mut said).await.unwrap();
        sender.send(&said).await.unwrap();
        sender.close().await;
    });
    let options = TlsClientOptions {
        ca_file: Some(certificates.file("ca.pem")),
        ..TlsClientOptions::default()
    };
    let road = Road {
        target: Target::Tcp {
            host: "localhost".into(),
            port,
        },
        tls: Some(TlsClient::new(&options).unwrap()),
        start_tls: true,
    };
    let (lines, mut logged) = tokio::sync::mpsc::unbounded_channel();
    let sink = Box::new(move |line: dsync_proto::doveadm::LogLine| {
        lines.send(line.text.to_string()).unwrap();
    });
    let mut connection = connect(&road, &login("sekret-Pass1"), LONG, sink)
        .await
        .unwrap();
    let body = vec![b'x'; 300_000];
    connection.writer.write_all(&body).await.unwrap();
    connection.writer.shutdown().await.unwrap();
    let mut echo = Vec::new();
    connection.reader.read_to_end(&mut echo).await.unwrap();
    assert!(echo == body);
    assert_eq!(logged.recv().await.unwrap(), "p: one");
    assert_eq!(logged.recv().await.unwrap(), "p: two");
    server.await.unwrap();
}

/// What a client says, and why it is sent away.
async fn refused(gate: Gate, said: &[u8]) -> GateError {
    let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
    theirs.write_all(said).await.unwrap();
    let stream: BoxStream = Box::new(ours);
    admit(stream, &gate, LONG).await.err().unwrap()
}

/// Somebody between both sides adds a login of his own before TLS begins.
#[tokio::test]
async fn nothing_in_the_clear_counts_after_starttls() {
    let certificates = Certificates::new(&["localhost"]);
    let said = b"VERSION\tdoveadm-server\t1\t2\nSTARTTLS\nPLAIN\tAGRvdmVhZG0Ac2VrcmV0LVBhc3Mx\n";
    let error = refused(gate(Some(&certificates)), said).await;
    assert!(matches!(error, GateError::Io(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn silence_is_not_waited_for() {
    let (ours, _theirs) = tokio::io::duplex(16);
    let result = admit(Box::new(ours), &gate(None), Duration::from_secs(10)).await;
    assert!(matches!(result, Err(GateError::Timeout(10))));
}

#[tokio::test(start_paused = true)]
async fn passwords() {
    for (line, text) in [
        (
            &b"PLAIN\tAGRvdmVhZG0Ad3Jvbmc=\n"[..],
            "doveadm client authenticated with wrong password",
        ),
        (
            b"PLAIN\tAGRvdmVhZG0A\n",
            "doveadm client authenticated with wrong password",
        ),
        (
            b"PLAIN\tAGpvZQBzZWtyZXQtUGFzczE=\n",
            "doveadm client didn't authenticate as 'doveadm'",
        ),
        (
            b"LOGIN\tx\n",
            "doveadm client attempted non-PLAIN authentication",
        ),
        (
            b"STARTTLS\n",
            "doveadm client wants STARTTLS, but there is no certificate (ssl_server_cert_file)",
        ),
    ] {
        let said = [b"VERSION\tdoveadm-server\t1\t2\n", line].concat();
        assert_eq!(refused(gate(None), &said).await.to_string(), text);
    }
    let nobody = Gate {
        password: Vec::new(),
        ..gate(None)
    };
    let said = b"VERSION\tdoveadm-server\t1\t2\nPLAIN\tAGRvdmVhZG0A\n";
    assert!(matches!(refused(nobody, said).await, GateError::NoPassword));
}
