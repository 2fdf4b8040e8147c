//! From a target to a connected socket.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{BoxStream, Target};

/// How long one address may take before the next one is tried beside it (RFC 8305).
const NEXT_ATTEMPT: Duration = Duration::from_millis(250);

/// Connects. All addresses of a name are tried, one after the other, without waiting long for one
/// that does not answer. There is no timeout: the caller has one for all that belongs together.
///
/// # Errors
///
/// The name is unknown, or no address answered; the text names the last one that failed.
pub async fn dial(target: &Target) -> io::Result<BoxStream> {
    let (host, port) = match target {
        Target::Tcp { host, port } => (host, *port),
        Target::Unix(path) => {
            let stream = UnixStream::connect(path)
                .await
                .map_err(|error| failed(target, &error))?;
            return Ok(Box::new(stream));
        }
    };
    let stream = first_of(lookup(host, port).await?).await?;
    // The protocol is made of many small answers, and each is flushed when it is complete.
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

/// All addresses of a host, as the system knows them.
///
/// # Errors
///
/// The name is unknown, or nobody could be asked.
pub async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    match lookup_host((host, port)).await {
        Ok(found) => Ok(found.collect()),
        Err(error) => Err(io::Error::new(
            error.kind(),
            format!("cannot find {host}: {error}"),
        )),
    }
}

async fn first_of(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = addresses.into_iter();
    let mut attempts = JoinSet::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        if let Some(address) = waiting.next() {
            attempts.spawn(async move {
                let result = TcpStream::connect(address).await;
                result.map_err(|error| failed(&address, &error))
            });
        }
        let is_last = waiting.len() == 0;
        tokio::select! {
            ended = attempts.join_next() => match ended {
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(Ok(Err(error))) => last = error,
                Some(Err(_)) => {}
                None if is_last => return Err(last),
                None => {}
            },
            () = sleep(NEXT_ATTEMPT), if !is_last => {}
        }
    }
}

fn failed(address: &impl std::fmt::Display, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("connect({address}) failed: {error}"))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn all_addresses_are_tried() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shut = closed.local_addr().unwrap();
        drop(closed);
        assert!(first_of(vec![shut, shut, open]).await.is_ok());
        let error = first_of(vec![shut, shut]).await.unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("connect({shut}) failed: ")),
            "{error}"
        );
        assert!(first_of(Vec::new()).await.is_err());
    }

    #[tokio::test]
    async fn names_and_sockets() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let tcp = |host: &str| Target::Tcp {
            host: host.to_owned(),
            port,
        };
        assert!(dial(&tcp("localhost")).await.is_ok());
        // Such a name fails without a question to a name server.
        let error = dial(&tcp("no\0host")).await.err().unwrap();
        assert!(error.to_string().starts_with("cannot find no"), "{error}");
        let error = dial(&Target::Unix("/no/such/socket".into()))
            .await
            .err()
            .unwrap();
        assert!(error.to_string().contains("/no/such/socket"), "{error}");
    }
}
