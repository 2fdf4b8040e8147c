//! Listening sockets: our own, and those that systemd passes.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::{env, fs};

use dsync_transport::net::BoxStream;
use listenfd::ListenFd;
use nix::sys::stat::{Mode, umask};
use tokio::net::{TcpListener, UnixListener};

use super::address::{Address, Door, TRUSTED_MODE};
use crate::failure::Failure;

/// A socket that clients can connect to.
pub(crate) struct Listener {
    socket: Socket,
    /// For messages.
    pub(crate) name: String,
    pub(crate) door: Door,
}

enum Socket {
    Tcp(TcpListener),
    /// With its path if it is ours, to be removed at the end.
    Unix(UnixListener, Option<PathBuf>),
}

/// A client that has just connected.
pub(crate) struct Peer {
    /// For messages.
    pub(crate) name: String,
    /// None for one of this host.
    pub(crate) address: Option<IpAddr>,
}

impl Listener {
    /// The next client.
    pub(crate) async fn accept(&self) -> io::Result<(BoxStream, Peer)> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let address = Some(peer.ip());
                let name = peer.to_string();
                Ok((Box::new(stream), Peer { name, address }))
            }
            Socket::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let uid = stream.peer_cred().map(|peer| peer.uid());
                let name = uid.map_or("local".to_owned(), |uid| format!("local uid {uid}"));
                let address = None;
                Ok((Box::new(stream), Peer { name, address }))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Socket::Unix(_, Some(path)) = &self.socket {
            // The next start removes it too.
            let _ = fs::remove_file(path);
        }
    }
}

/// Opens everything, or nothing.
pub(crate) fn open_all(addresses: &[Address], has_tls: bool) -> Result<Vec<Listener>, Failure> {
    let mut listeners = from_systemd()?;
    for address in addresses {
        let failed = |error| Failure::temporary(format!("cannot listen on {address}: {error}"));
        match address {
            Address::Tcp { host, port, door } => {
                listeners.extend(tcp(host, *port, *door).map_err(failed)?);
            }
            Address::Unix { path, mode } => listeners.push(unix(path, *mode).map_err(failed)?),
        }
    }
    if !has_tls && listeners.iter().any(|listener| listener.door == Door::Tls) {
        return Err(Failure::config(
            "tcps: needs a certificate: set ssl_server_cert_file and ssl_server_key_file",
        ));
    }
    Ok(listeners)
}

/// One socket for each address of the host.
fn tcp(host: &str, port: u16, door: Door) -> io::Result<Vec<Listener>> {
    use std::net::ToSocketAddrs;
    let host = if host == "*" { "::" } else { host };
    let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    let mut listeners = Vec::new();
    for address in addresses {
        listeners.push(tcp_listener(std::net::TcpListener::bind(address)?, door)?);
    }
    Ok(listeners)
}

fn tcp_listener(socket: std::net::TcpListener, door: Door) -> io::Result<Listener> {
    socket.set_nonblocking(true)?;
    let scheme = if door == Door::Tls { "tcps" } else { "tcp" };
    let name = format!("{scheme}:{}", socket.local_addr()?);
    let socket = Socket::Tcp(TcpListener::from_std(socket)?);
    Ok(Listener { socket, name, door })
}

fn unix(path: &Path, mode: u32) -> io::Result<Listener> {
    remove_stale(path)?;
    // Nobody may come in between bind and chmod. There are no other threads yet that create files.
    let before = umask(Mode::from_bits_truncate(0o777));
    let bound = StdUnixListener::bind(path);
    umask(before);
    let socket = bound?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    unix_listener(socket, Some(path.to_owned()))
}

/// Removes the socket of a program that is gone; one that answers stays.
fn remove_stale(path: &Path) -> io::Result<()> {
    use std::os::unix::net::UnixStream;
    match UnixStream::connect(path) {
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // Not there, or not a socket: bind says it.
        Err(_) => Ok(()),
    }
}

/// Whether clients are trusted is decided by the permissions of the path, as in Dovecot.
fn unix_listener(socket: StdUnixListener, own: Option<PathBuf>) -> io::Result<Listener> {
    socket.set_nonblocking(true)?;
    let path = socket.local_addr()?.as_pathname().map(Path::to_owned);
    let mode = path
        .as_ref()
        .and_then(|path| fs::metadata(path).ok())
        .map(|metadata| metadata.permissions().mode() & 0o777);
    let door = match mode {
        Some(TRUSTED_MODE) => Door::Trusted,
        _ => Door::Plain,
    };
    let name = path.map_or("unix:".to_owned(), |path| {
        format!("unix:{}", path.display())
    });
    let socket = Socket::Unix(UnixListener::from_std(socket)?, own);
    Ok(Listener { socket, name, door })
}

/// The sockets of `LISTEN_FDS`. One whose `FileDescriptorName` is `tcps` speaks TLS.
fn from_systemd() -> Result<Vec<Listener>, Failure> {
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut passed = ListenFd::from_env();
    let mut listeners = Vec::new();
    for index in 0..passed.len() {
        let door = match names.next() {
            Some("tcps") => Door::Tls,
            _ => Door::Plain,
        };
        let failed =
            |error| Failure::temporary(format!("cannot use socket {index} of systemd: {error}"));
        let listener = match passed.take_tcp_listener(index) {
            Ok(Some(socket)) => tcp_listener(socket, door),
            _ => match passed.take_unix_listener(index) {
                Ok(Some(socket)) => unix_listener(socket, None),
                Ok(None) => continue,
                Err(error) => Err(error),
            },
        };
        listeners.push(listener.map_err(failed)?);
    }
    Ok(listeners)
}
