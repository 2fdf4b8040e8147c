//! Captured connections of Dovecot (`spec/transcripts/doveadm-tcp`), replayed byte for byte to our
//! programs.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use dsync_proto::doveadm::multiplex::{Channel, PacketDecoder};
use interop_tests::daemon::{PASSWORD, passwd_line};
use interop_tests::listener::Listener;
use interop_tests::{Side, Version, World};

/// One side of a capture.
fn capture(number: &str, side: &str) -> Result<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/transcripts/doveadm-tcp");
    let mut found = fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    let is_it = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&format!("{number}-"))
    };
    let folder = found.find(is_it).context("no such capture")?;
    Ok(fs::read(folder.join(side))?)
}

/// A server's greeting, and the beginning of its main channel: the answer to the first command.
fn server_said(said: &[u8], packets: bool) -> (String, String) {
    let status_lines = |line: &[u8]| line == b"+" || line == b"-" || line.starts_with(b"VERSION");
    let mut rest = said;
    let mut greeting = Vec::new();
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let (line, after) = rest.split_at(end);
        let ready = line == b"+";
        if !status_lines(line) {
            break;
        }
        greeting.extend_from_slice(line);
        greeting.push(b'\n');
        rest = &after[1..];
        if ready {
            break;
        }
    }
    let mut main = Vec::new();
    if packets {
        let mut decoder = PacketDecoder::default();
        decoder.push(Bytes::copy_from_slice(rest));
        while let Some((channel, data)) = decoder.next_data() {
            if channel == Channel::Main {
                main.extend_from_slice(&data);
            }
        }
    } else {
        main.extend_from_slice(rest);
    }
    let answer: Vec<u8> = main
        .split_inclusive(|byte| *byte == b'\n')
        .take(3)
        .flatten()
        .copied()
        .collect();
    let text = |bytes: Vec<u8>| bytes.escape_ascii().to_string();
    (text(greeting), text(answer))
}

/// Sends everything and reads to the end.
fn talk(mut stream: impl Read + Write, said: &[u8], end: impl Fn()) -> Result<Vec<u8>> {
    // A server that refuses may have gone before it has heard all.
    let _ = stream.write_all(said);
    end();
    let mut heard = Vec::new();
    let _ = stream.read_to_end(&mut heard);
    Ok(heard)
}

fn ask(listener: &Listener, trusted: bool, said: &[u8]) -> Result<Vec<u8>> {
    if trusted {
        let stream = UnixStream::connect(&listener.socket)?;
        let other = stream.try_clone()?;
        return talk(stream, said, || drop(other.shutdown(Shutdown::Write)));
    }
    let stream = TcpStream::connect(("127.0.0.1", listener.port))?;
    let other = stream.try_clone()?;
    talk(stream, said, || drop(other.shutdown(Shutdown::Write)))
}

/// What Dovecot's clients said is answered as Dovecot's servers did. Left out are sessions inside
/// STARTTLS, what only 1.3 knows, and what is different on purpose: `-NOREPLICATE` and whole
/// commands of `-S`.
#[test]
fn our_server_answers_as_dovecots_did() -> Result<()> {
    let world = World::new(Version::V23)?;
    let side = world.side("a")?;
    side.doveadm("mailbox create", &["Work"])?;
    let users = ["u1", "u2", "u3"]
        .map(|name| passwd_line(&world, &format!("{name}@example.org"), &side, ""));
    world.write("users-there", users.concat().as_bytes())?;
    let listener = Listener::start_for_users(&world, "users-there")?;
    for number in [
        "01", "02", "03", "05", "06", "08", "10", "12", "15", "17", "18", "19", "20",
    ] {
        let said = capture(number, "client.raw")?;
        let packets = number != "06";
        let expected = server_said(&capture(number, "server.raw")?, packets);
        // Ours is 1.2.
        let expected = (expected.0.replace("1\\t3\\n", "1\\t2\\n"), expected.1);
        let heard = ask(&listener, number == "17", &said)?;
        let answered = server_said(&heard, packets);
        ensure!(
            answered == expected,
            "{number}: {answered:?} instead of {expected:?}"
        );
    }
    Ok(())
}

/// A server for one client that says what was captured, whatever it hears; gives what it heard.
fn replay(said: Vec<u8>) -> Result<(u16, thread::JoinHandle<std::io::Result<Vec<u8>>>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let heard = thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        stream.write_all(&said)?;
        stream.shutdown(Shutdown::Write)?;
        let mut heard = Vec::new();
        let _ = stream.read_to_end(&mut heard);
        Ok(heard)
    });
    Ok((port, heard))
}

/// The first lines, up to and with the command.
fn client_said(said: &[u8]) -> String {
    let mut lines: Vec<&[u8]> = Vec::new();
    for line in said.split_inclusive(|byte| *byte == b'\n') {
        lines.push(line);
        if !line.starts_with(b"VERSION") && !line.starts_with(b"PLAIN") {
            break;
        }
    }
    lines.concat().escape_ascii().to_string()
}

fn sync(side: &Side<'_>, port: u16, user: &str, debug: bool, password: &str) -> Result<i32> {
    let home = format!("mail_home={}", side.home().display());
    let password = format!("doveadm_password={password}");
    let destination = format!("tcp:127.0.0.1:{port}");
    let mut words = vec!["-o", &home, "-o", &password];
    words.extend(debug.then_some("-D"));
    words.extend(["sync", "-u", user, &destination]);
    let run = side.dsync(&words)?;
    ensure!(!run.timed_out && run.code < 128, "{}", run.stderr);
    Ok(run.code)
}

/// Our client says what Dovecot's did, and understands what it heard. (`-U` is never passed on:
/// 2.4 does not take it.)
#[test]
fn our_client_says_what_dovecots_did() -> Result<()> {
    let world = World::new(Version::V23)?;
    for (number, user, codes) in [
        ("01", "u1@example.org", &[0, 2, 75][..]),
        ("02", "u1@example.org", &[75]),
        ("03", "u9@example.org", &[67]),
        ("05", "u1@example.org", &[0, 2, 75]),
        ("07", "u4@example.org", &[75]),
        ("08", "u1@example.org", &[0, 2, 75]),
        ("10", "u2@example.org", &[0, 2, 75]),
        ("11", "u2@example.org", &[64]),
    ] {
        let side = world.side(&format!("side-{number}"))?;
        side.doveadm("mailbox create", &["Work"])?;
        let expected = client_said(&capture(number, "client.raw")?).replace("\\t-U", "");
        let (port, heard) = replay(capture(number, "server.raw")?)?;
        let password = if number == "02" { "wrong" } else { PASSWORD };
        let code = sync(&side, port, user, number == "08", password)?;
        let heard = heard.join().ok().context("the server")??;
        // With a wrong password the answer is read before the command counts.
        let said = client_said(&heard);
        ensure!(
            said.starts_with(&expected),
            "{number}: {said} instead of {expected}"
        );
        ensure!(codes.contains(&code), "{number}: exit code {code}");
    }
    Ok(())
}
