//! A bad link: passes bytes on, slowly, for a while, or only in one direction.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;

/// How bad it is.
#[derive(Clone, Copy, Debug)]
pub enum Link {
    /// Passes everything on.
    Good,
    /// Both directions end when so many bytes have passed in both together.
    Cut(usize),
    /// After so many bytes from the server nothing comes from it any more.
    Silent(usize),
    /// Passes so many bytes on at one time, with a pause behind.
    Trickle(usize, Duration),
}

/// A port that leads to another one. Each connection is as bad.
pub struct Proxy {
    /// Where it listens, on the loopback interface.
    pub port: u16,
    passed: Arc<AtomicUsize>,
}

impl Proxy {
    /// Starts it; its threads end with their connections.
    pub fn start(to: u16, link: Link) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let passed = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&passed);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else {
                    continue;
                };
                // Without delay, as both programs do.
                let _ = client.set_nodelay(true).and(server.set_nodelay(true));
                for (from, to, is_server) in [(&client, &server, false), (&server, &client, true)] {
                    let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else {
                        continue;
                    };
                    let count = Arc::clone(&count);
                    thread::spawn(move || pass(from, to, is_server, link, &count));
                }
            }
        });
        Ok(Self { port, passed })
    }

    /// Bytes of both directions together, of all connections.
    pub fn passed(&self) -> usize {
        self.passed.load(Ordering::SeqCst)
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, is_server: bool, link: Link, count: &AtomicUsize) {
    let mut buffer = vec![0; 64 * 1024];
    let mut sent = 0;
    loop {
        let most = match link {
            Link::Trickle(bytes, _) => bytes,
            _ => buffer.len(),
        };
        let Ok(size) = from.read(&mut buffer[..most]) else {
            break;
        };
        if size == 0 {
            break;
        }
        let before = count.fetch_add(size, Ordering::SeqCst);
        let mut keep = size;
        match link {
            Link::Cut(after) => keep = size.min(after.saturating_sub(before)),
            Link::Silent(after) if is_server => {
                keep = size.min(after.saturating_sub(sent));
            }
            Link::Trickle(_, pause) => thread::sleep(pause),
            _ => {}
        }
        sent += keep;
        if to.write_all(&buffer[..keep]).is_err() {
            break;
        }
        if matches!(link, Link::Cut(_)) && keep < size {
            let _ = to.shutdown(Shutdown::Both);
            let _ = from.shutdown(Shutdown::Both);
            return;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
