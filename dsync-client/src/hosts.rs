//! What the runs of many users know together about the hosts on the other side.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex as SyncMutex, PoisonError};
use std::time::{Duration, Instant};

use dsync_client::RemoteNames;
use dsync_transport::SshMaster;
use tokio::sync::Mutex;

use crate::failure::Failure;

/// After a failure to reach a host it is left alone for so long: users are many, and each attempt
/// may take minutes.
const PAUSE: Duration = Duration::from_secs(60);

/// The hosts of a command: one ssh connection for each, and those that cannot be reached.
#[derive(Default)]
pub(crate) struct Hosts {
    /// Where control sockets are made. Without it every user has an ssh connection of its own.
    pub(crate) folder: Option<PathBuf>,
    /// By host and login.
    masters: Mutex<BTreeMap<(String, String), SshMaster>>,
    unreachable: SyncMutex<BTreeMap<String, (Instant, Failure)>>,
}

impl Hosts {
    /// Fails if this host could not be reached a moment ago.
    pub(crate) fn expect_reachable(&self, host: &str) -> Result<(), Failure> {
        let known = self.unreachable.lock();
        let known = known.unwrap_or_else(PoisonError::into_inner);
        match known.get(host) {
            Some((since, failure)) if since.elapsed() < PAUSE => Err(failure.clone()),
            _ => Ok(()),
        }
    }

    /// This host cannot be reached, whoever's mail it is.
    pub(crate) fn is_unreachable(&self, host: &str, failure: &Failure) {
        let known = self.unreachable.lock();
        let mut known = known.unwrap_or_else(PoisonError::into_inner);
        known.insert(host.to_owned(), (Instant::now(), failure.clone()));
    }

    /// Where the ssh connection to this host is; it is made if it is not there. Others that want
    /// it wait meanwhile.
    pub(crate) async fn control_socket(
        &self,
        names: &RemoteNames,
    ) -> Result<Option<PathBuf>, Failure> {
        let Some(folder) = &self.folder else {
            return Ok(None);
        };
        let key = (names.host.clone(), names.login.clone());
        let mut masters = self.masters.lock().await;
        if let Some(master) = masters.get(&key) {
            return Ok(Some(master.control_socket().to_owned()));
        }
        let place = format!("ssh {}@{}", names.login, names.host);
        self.expect_reachable(&place)?;
        match SshMaster::connect(&names.host, &names.login, folder).await {
            Ok(master) => {
                let socket = master.control_socket().to_owned();
                masters.insert(key, master);
                Ok(Some(socket))
            }
            Err(error) => {
                let failure = Failure::temporary(error.to_string());
                self.is_unreachable(&place, &failure);
                Err(failure)
            }
        }
    }

    /// Closes all connections.
    pub(crate) async fn close(&self) {
        let masters = std::mem::take(&mut *self.masters.lock().await);
        for master in masters.into_values() {
            master.close().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_host_is_left_alone() {
        let hosts = Hosts::default();
        hosts.expect_reachable("h:1").unwrap();
        hosts.is_unreachable("h:1", &Failure::temporary("refused"));
        let failure = hosts.expect_reachable("h:1").unwrap_err();
        assert_eq!(
            (failure.message.as_str(), failure.exit_code),
            ("refused", 75)
        );
        hosts.expect_reachable("h:2").unwrap();
    }
}
