//! `dsync-server listen`: the doveadm protocol on TCP and UNIX sockets.
//!
//! This process only talks to clients. Each session is a process of its own, the same program on
//! its standard streams: it becomes the user, and whatever happens to it stays with it.

mod address;
mod child;
mod doorman;
mod session;
mod sockets;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dsync_config::matches_mask;
use dsync_transport::net::{BoxStream, TlsServer};
use dsync_transport::{Hangup, stop_signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

pub(crate) use address::{Address, Door};
pub(crate) use child::ChildOptions;

use self::doorman::Doorman;
use self::session::Visit;
use self::sockets::{Listener, Peer};
use crate::failure::{Failure, leave_at_once, note, say};

/// Connections that may be between greeting and login at one time.
const MAX_STRANGERS: usize = 256;

/// How long running sessions may take to end after a signal.
const GRACE: Duration = Duration::from_secs(30);

/// After an error of the system (such as: no more file descriptors) this long nobody is let in.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What the listener needs to know.
pub(crate) struct ListenOptions {
    pub(crate) addresses: Vec<Address>,
    /// `doveadm_password`
    pub(crate) password: Vec<u8>,
    pub(crate) tls: Option<TlsServer>,
    /// Sessions at one time.
    pub(crate) max_sessions: usize,
    /// Connections of one address at one time.
    pub(crate) max_per_address: usize,
    /// Masks of the users who are served; none for all.
    pub(crate) served: Vec<String>,
    pub(crate) child: ChildOptions,
}

impl ListenOptions {
    /// Whether clients get the mail of this user.
    fn serves(&self, user: &str) -> bool {
        let fits = |mask: &String| matches_mask(mask, user);
        self.served.is_empty() || self.served.iter().any(fits)
    }
}

/// Listens until a signal comes.
pub(crate) async fn listen(options: ListenOptions) -> Result<(), Failure> {
    let stop = stop_signal(Hangup::Stop, leave_at_once)?;
    tokio::pin!(stop);
    let listeners = sockets::open_all(&options.addresses, options.tls.is_some())?;
    if listeners.is_empty() {
        return Err(Failure::usage(
            "nowhere to listen: give tcp:HOST:PORT, tcps:HOST:PORT or unix:PATH, \
             or let systemd pass sockets",
        ));
    }
    let (stopping, stopped) = watch::channel(false);
    let most = MAX_STRANGERS + options.max_sessions;
    let house = Arc::new(House {
        doorman: Mutex::new(Doorman::new(most, options.max_per_address)),
        strangers: Arc::new(Semaphore::new(MAX_STRANGERS)),
        sessions: Arc::new(Semaphore::new(options.max_sessions)),
        options,
        stopped,
    });
    let mut doors = JoinSet::new();
    for listener in listeners {
        note(&format!("listening on {}", listener.name));
        doors.spawn(Arc::clone(&house).attend(listener));
    }
    let signal = stop.await;
    note(&format!("{signal}: no new clients; running sessions end"));
    doors.shutdown().await;
    // Everybody who is inside hears of it.
    let _ = stopping.send(true);
    let everybody = u32::try_from(house.options.max_sessions).unwrap_or(u32::MAX);
    let empty = house.sessions.acquire_many(everybody);
    if tokio::time::timeout(GRACE, empty).await.is_err() {
        say("some sessions did not end, they are killed");
    }
    Ok(())
}

/// Everything that visits share.
pub(crate) struct House {
    doorman: Mutex<Doorman>,
    options: ListenOptions,
    strangers: Arc<Semaphore>,
    sessions: Arc<Semaphore>,
    /// Becomes true when the program has to end.
    stopped: watch::Receiver<bool>,
}

impl House {
    fn doorman(&self) -> MutexGuard<'_, Doorman> {
        self.doorman.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn attend(self: Arc<Self>, listener: Listener) {
        loop {
            // With too many strangers inside the next one waits at the door.
            let Ok(stranger) = Arc::clone(&self.strangers).acquire_owned().await else {
                return;
            };
            let (stream, peer): (BoxStream, Peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    say(&format!("{}: cannot accept: {error}", listener.name));
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let entered = self.doorman().enter(peer.address, Instant::now());
            if let Err((refusal, to_report)) = entered {
                if to_report {
                    say(&format!("{}: {refusal}", peer.name));
                }
                continue;
            }
            let visit = Visit {
                _inside: Inside(Arc::clone(&self), peer.address),
                house: Arc::clone(&self),
                peer: peer.name,
                address: peer.address,
                door: listener.door,
            };
            tokio::spawn(visit.run(stream, stranger));
        }
    }
}

/// Somebody whom the doorman has let in; tells him at the end.
struct Inside(Arc<House>, Option<IpAddr>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.doorman().leave(self.1);
    }
}
