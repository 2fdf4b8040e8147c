//! The doveadm protocol, on captured connections and on tables.

#![allow(clippy::unwrap_used)] // clippy knows only test functions, not their helpers

mod common;

use bytes::Bytes;
use common::{CUTS, Cut, decode, encode};
use dsync_proto::doveadm::multiplex::{Channel, PacketDecoder, write_packets};
use dsync_proto::doveadm::{
    AuthLine, ClientLine, Command, Credentials, DoveadmError, Greeting, Lines, LogDecoder,
    LogLevel, LogLine, Reply, ReplyDecoder, Status, StatusName, client_version,
    parse_client_version,
};
use dsync_proto::wire::Eof;
use proptest::prelude::*;

/// What a capture contains, by our reading of it.
#[derive(Debug, Default)]
struct Connection {
    client_minor: u32,
    server_minor: u32,
    auth: Vec<AuthLine>,
    greetings: Vec<Greeting>,
    commands: Vec<ClientLine>,
    replies: Vec<Reply>,
    logs: Vec<LogLine>,
    /// The dsync sessions of both sides, empty if none was started.
    client_session: Vec<u8>,
    server_session: Vec<u8>,
}

fn captures() -> Vec<(String, Vec<u8>, Vec<u8>)> {
    let mut captures: Vec<_> = std::fs::read_dir(common::transcripts().join("doveadm-tcp"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let read = |file: &str| std::fs::read(path.join(file)).unwrap();
            (name, read("client.raw"), read("server.raw"))
        })
        .collect();
    captures.sort();
    assert_eq!(captures.len(), 20);
    captures
}

fn lines(bytes: &[u8], cut: Cut) -> (Vec<Bytes>, Vec<usize>) {
    let mut reader = Lines::new(1 << 20);
    let (mut lines, mut ends, mut end) = (Vec::new(), Vec::new(), 0);
    for chunk in cut.chunks(bytes) {
        reader.push(&chunk);
        while let Some(line) = reader.next_line().unwrap() {
            end += line.len() + 1;
            lines.push(line);
            ends.push(end);
        }
    }
    (lines, ends)
}

/// Reads a capture, and checks on the way that everything is written back as it came.
fn read(client: &[u8], server: &[u8], cut: Cut) -> Connection {
    let mut connection = Connection::default();
    let main = read_server(server, cut, &mut connection);
    read_client(client, cut, &mut connection);
    read_replies(&main, cut, &mut connection);
    connection
}

/// Returns the main channel.
fn read_server(server: &[u8], cut: Cut, connection: &mut Connection) -> Vec<u8> {
    let (lines, ends) = lines(server, cut);
    let mut used = 0;
    for (line, end) in lines.iter().zip(ends) {
        let greeting = Greeting::parse(line).unwrap();
        let mut written = Vec::new();
        greeting.write(&mut written);
        assert_eq!(written, server[used..end]);
        connection.greetings.push(greeting);
        used = end;
        match greeting {
            Greeting::Version(minor) => connection.server_minor = minor,
            Greeting::Ready => break,
            Greeting::AuthRequired => {}
        }
    }
    let rest = &server[used..];
    if connection.server_minor == 0 {
        return rest.to_vec();
    }
    let mut packets = PacketDecoder::default();
    let mut logs = LogDecoder::default();
    let (mut main, mut written) = (Vec::new(), Vec::new());
    for chunk in cut.chunks(rest) {
        packets.push(chunk);
        while let Some((channel, data)) = packets.next_data() {
            write_packets(channel, &data, &mut written);
            match channel {
                Channel::Main => main.extend_from_slice(&data),
                Channel::Log => connection.logs.extend(logs.decode(&data)),
            }
        }
    }
    packets.finish().unwrap();
    if matches!(cut, Cut::Whole) {
        assert_eq!(written, rest);
    }
    main
}

fn read_client(client: &[u8], cut: Cut, connection: &mut Connection) {
    let (lines, ends) = lines(client, cut);
    let mut used = 0;
    for (index, (line, end)) in lines.iter().zip(ends).enumerate() {
        let mut written = Vec::new();
        if index == 0 {
            connection.client_minor = parse_client_version(line).unwrap();
            client_version(connection.client_minor, &mut written);
        } else if connection.auth.is_empty()
            && connection.greetings.contains(&Greeting::AuthRequired)
            || line.starts_with(b"PLAIN")
        {
            let auth = AuthLine::parse(line).unwrap();
            auth.write(&mut written);
            connection.auth.push(auth);
        } else if line.starts_with(b"VERSION") {
            break; // the dsync session
        } else {
            let minor = connection.client_minor.min(connection.server_minor);
            match ClientLine::parse(line, minor) {
                Ok(command) => {
                    command.write(&mut written);
                    connection.commands.push(command);
                }
                Err(error) => {
                    assert_eq!(error, DoveadmError::UnknownFlag(b'z'));
                    written.extend_from_slice(&client[used..end]);
                }
            }
        }
        assert_eq!(written, client[used..end]);
        used = end;
    }
    connection.client_session = client[used..].to_vec();
}

fn read_replies(main: &[u8], cut: Cut, connection: &mut Connection) {
    let mut decoder = ReplyDecoder::default();
    let mut written = Vec::new();
    for mut chunk in cut.chunks(main) {
        while !chunk.is_empty() {
            if !connection.client_session.is_empty() && !connection.replies.is_empty() {
                connection.server_session.extend_from_slice(&chunk);
                break;
            }
            if let Some(reply) = decoder.decode(&mut chunk).unwrap() {
                reply.write(&mut written);
                connection.replies.push(reply);
            }
        }
    }
    assert!(main.starts_with(&written));
    assert_eq!(written.len() + connection.server_session.len(), main.len());
}

#[test]
fn captures_come_back_in_every_cut() {
    for (name, client, server) in captures() {
        let whole = format!("{:?}", read(&client, &server, Cut::Whole));
        for cut in CUTS {
            let connection = read(&client, &server, cut);
            assert_eq!(format!("{connection:?}"), whole, "{name} {cut:?}");
            for session in [&connection.client_session, &connection.server_session] {
                if session.is_empty() {
                    continue;
                }
                let (peer, items, decoder) = decode(session, cut).unwrap();
                assert_eq!(&encode(&peer, &items), session, "{name} {cut:?}");
                assert!(matches!(decoder.eof(), Eof::BetweenItems | Eof::AfterDone));
            }
        }
    }
}

/// Everything that the captures show, one line each.
#[test]
fn what_the_captures_show() {
    let shown = |wanted: &str| {
        let (_, client, server) = captures()
            .into_iter()
            .find(|(name, ..)| name.starts_with(wanted))
            .unwrap();
        read(&client, &server, Cut::Whole)
    };
    let password = |connection: &Connection| match connection.auth.last() {
        Some(AuthLine::Plain(credentials)) => credentials.password.clone(),
        _ => Vec::new(),
    };

    let ok = shown("01");
    assert_eq!((ok.client_minor, ok.server_minor), (2, 2));
    assert_eq!(password(&ok), b"sekret-Pass1");
    assert_eq!(
        ok.commands,
        [ClientLine::Command(Command::dsync_server("u1@example.org"))]
    );
    assert_eq!(ok.replies, [Reply::new(Status::success())]);
    assert!(!ok.client_session.is_empty() && !ok.server_session.is_empty());

    let wrong = shown("02");
    assert_eq!(password(&wrong), b"wrong");
    assert_eq!(
        wrong.greetings,
        [
            Greeting::Version(2),
            Greeting::AuthRequired,
            Greeting::AuthRequired
        ]
    );

    let unknown_user = shown("03");
    assert_eq!(
        unknown_user.replies,
        [Reply::new(Status::failure(StatusName::NoUser))]
    );
    assert_eq!(
        unknown_user.logs,
        [LogLine {
            level: LogLevel::Error,
            text: "doveadm(127.0.0.1,u9@example.org): User doesn't exist".into()
        }]
    );

    let status = shown("04");
    assert_eq!(status.auth.first(), Some(&AuthLine::StartTls));
    assert_eq!(status.replies[0].fields, ["INBOX", "2", "3"]);

    let minor0 = shown("06");
    assert_eq!(minor0.greetings, [Greeting::AuthRequired, Greeting::Ready]);
    assert!(!minor0.server_session.is_empty());

    assert_eq!(
        shown("07").replies,
        [Reply::new(Status::failure(StatusName::NoReplicate))]
    );
    let ClientLine::Command(debug) = &shown("08").commands[0] else {
        panic!("not a command");
    };
    assert!(debug.debug);
    assert_eq!(shown("09").replies[0].fields.len(), 1);
    assert_eq!(
        shown("11").replies,
        [Reply::new(Status::failure(StatusName::Usage))]
    );

    let v24 = shown("13");
    assert_eq!(
        v24.commands[0],
        ClientLine::Option(vec!["log-passthrough".into()])
    );
    let ClientLine::Command(command) = &v24.commands[1] else {
        panic!("not a command");
    };
    assert_eq!(command.extra, Some(vec!["proxy-ttl=1".into()]));

    assert_eq!(
        shown("17").greetings,
        [Greeting::Version(2), Greeting::Ready]
    );
    let unknown_command = Status::Failure {
        name: None,
        text: None,
    };
    assert_eq!(shown("18").replies, [Reply::new(unknown_command)]);
    assert!(shown("19").replies.is_empty());
}

#[test]
fn first_lines() {
    for bad in [
        "",
        "VERSION\tdoveadm-client\t1\t2",
        "VERSION\tdoveadm-server\t2\t0",
        "VERSION\tdoveadm-server\t1",
        "VERSION\tdoveadm-server\t1\t",
        "VERSION\tdoveadm-server\t1\t2\t",
        "VERSION\tdoveadm-server\t1\t99999999999",
    ] {
        assert!(parse_client_version(bad.as_bytes()).is_err(), "{bad:?}");
    }
    assert_eq!(
        parse_client_version(b"VERSION\tdoveadm-server\t1\t99"),
        Ok(99)
    );
    assert_eq!(
        Greeting::parse(b"* OK IMAP").unwrap_err().to_string(),
        "doveadm server sent invalid handshake: * OK IMAP"
    );
}

#[test]
fn passwords() {
    let parse = |text: &str| AuthLine::parse(text.as_bytes()).map(|_| ());
    assert_eq!(parse("PLAIN\tAGRvdmVhZG0Ac2VrcmV0LVBhc3Mx"), Ok(()));
    assert_eq!(parse("LOGIN\tx"), Err(DoveadmError::NotPlain));
    assert_eq!(
        parse("PLAIN\tAGRvdmVhZG0Ad3Jvbmc"),
        Err(DoveadmError::InvalidPlain)
    );
    assert_eq!(
        parse("PLAIN\tAGRvdmVhZG0="),
        Err(DoveadmError::InvalidPlain)
    );
    assert_eq!(
        parse("PLAIN\tYQBkb3ZlYWRtAHg="),
        Err(DoveadmError::NotDoveadm)
    );
    let plain = AuthLine::Plain(Credentials {
        username: b"doveadm".to_vec(),
        password: b"secret".to_vec(),
    });
    assert!(
        !format!("{plain:?}").contains("115"),
        "passwords must not be logged"
    );
}

#[test]
fn command_lines() {
    let error = |line: &str| ClientLine::parse(line.as_bytes(), 2).unwrap_err();
    assert_eq!(error(""), DoveadmError::NoCommand);
    assert_eq!(error("\tu"), DoveadmError::NoCommand);
    assert_eq!(
        error("x\tproxy-ttl=1\tu\tc"),
        DoveadmError::UnknownFlag(b'x')
    );
    assert_eq!(
        error("VERSION\tdsync\t3\t5"),
        DoveadmError::UnknownFlag(b'V')
    );
    let option = ClientLine::parse(b"\t\tOPTION\tlog-passthrough", 2).unwrap();
    assert!(matches!(option, ClientLine::Command(_)));
}

#[test]
fn exit_codes() {
    for (name, code) in [
        ("TEMPFAIL", 75),
        ("USAGE", 64),
        ("NOUSER", 67),
        ("NOPERM", 77),
        ("PROTOCOL", 76),
        ("DATAERR", 65),
        ("NOTFOUND", 68),
        ("CHANGED", 2),
        ("UNKNOWN", 75),
        ("NOREPLICATE", 75),
        ("-5", 5),
        ("0", 75),
        ("whatever", 75),
    ] {
        let status = StatusName::from_bytes(name.as_bytes());
        assert_eq!(status.exit_code(), code, "{name}");
        assert_eq!(status.as_bytes(), name);
    }
    assert_eq!(StatusName::NoReplicate.code(), 1001);
    for code in [75, 64, 67, 77, 76, 65, 68] {
        assert_eq!(StatusName::from_exit_code(code).exit_code(), code);
    }
    for code in [2, 73, 78, 255] {
        assert_eq!(StatusName::from_exit_code(code), StatusName::Unknown);
    }
    let status = Status::parse(b"-NOPERM not for you").unwrap();
    let text = Some("not for you".into());
    assert_eq!(
        status,
        Status::Failure {
            name: Some(StatusName::NoPerm),
            text
        }
    );
    assert!(matches!(
        Status::parse(b"+anything"),
        Ok(Status::Success(_))
    ));
    assert!(Status::parse(b"?").is_err());
    assert!(Status::parse(b"").is_err());
}

#[test]
fn cut_packets() {
    let mut packets = PacketDecoder::default();
    packets.push(Bytes::from_static(b"\x00\x00\x00\x00\x05abc"));
    assert_eq!(
        packets.next_data(),
        Some((Channel::Main, Bytes::from_static(b"abc")))
    );
    assert_eq!(packets.finish(), Err(DoveadmError::EofInPacket(2)));
    packets.push(Bytes::from_static(b"deZ\x00\x00\x00\x01?L\x00"));
    assert_eq!(
        packets.next_data(),
        Some((Channel::Main, Bytes::from_static(b"de")))
    );
    assert_eq!(packets.next_data(), None, "unknown channels are skipped");
    assert_eq!(packets.finish(), Err(DoveadmError::EofInPacket(3)));
}

#[test]
fn limits_hold() {
    let mut lines = Lines::new(10);
    lines.push(b"0123456789\n0123456789x");
    assert_eq!(lines.next_line().unwrap().unwrap(), "0123456789");
    assert!(lines.next_line().is_err());
    let mut logs = LogDecoder::default();
    let long = vec![b'x'; 1_000_000];
    assert!(logs.decode(&long).is_empty());
    let line = logs.finish().unwrap();
    assert_eq!(line.level, LogLevel::Warning);
    assert!(line.text.len() < 100_000);
}

#[test]
fn log_messages_of_several_lines() {
    let mut out = Vec::new();
    LogLine::write(LogLevel::Error, "dsync: ", b"one\n\ntwo", &mut out);
    assert_eq!(out, b"\x04dsync: one\n\x04dsync: two\n");
    let lines = LogDecoder::default().decode(&out);
    assert_eq!(lines[1].text, "dsync: two");
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..12)
}

proptest! {
    #[test]
    fn commands_round_trip(
        debug in any::<bool>(),
        verbose in any::<bool>(),
        extra in proptest::option::of(proptest::collection::vec(text(), 1..3)),
        username in text(),
        arguments in proptest::collection::vec(text(), 0..4),
    ) {
        let to_fields = |fields: Vec<Vec<u8>>| fields.into_iter().map(Into::into).collect();
        let command = ClientLine::Command(Command {
            debug,
            verbose,
            extra: extra.map(to_fields),
            username: username.into(),
            name: "mailbox status".into(),
            arguments: to_fields(arguments),
        });
        let mut out = Vec::new();
        command.write(&mut out);
        prop_assert_eq!(out.pop(), Some(b'\n'));
        prop_assert!(!out.contains(&b'\n'));
        prop_assert_eq!(ClientLine::parse(&out, 3), Ok(command));
    }

    #[test]
    fn replies_round_trip(fields in proptest::collection::vec(text(), 0..5), cut in 0_u64..9) {
        let reply = Reply {
            fields: fields.into_iter().map(Into::into).collect(),
            status: Status::failure(StatusName::DataErr),
        };
        let mut out = Vec::new();
        reply.write(&mut out);
        let mut decoder = ReplyDecoder::default();
        let mut read = None;
        for mut chunk in Cut::Random(cut).chunks(&out) {
            read = decoder.decode(&mut chunk).unwrap();
        }
        prop_assert_eq!(read, Some(reply));
    }
}
