//! The handshake: who is who, who locks, which namespaces (`spec/brain-and-tree.md` 2 to 4).

use std::time::Duration;

use bstr::{BString, ByteSlice};
use dsync_proto::items::{Handshake, Item, SyncType};
use dsync_proto::types::MailErrorClass;

use super::errors::unexpected;
use super::{Brain, Phase};
use crate::options::{Direction, EXTENSION_KEY, extensions};
use crate::{RunError, SyncOptions};

/// What a server says about itself; everything else is the client's to say.
pub(super) fn server_handshake(hostname: BString) -> Handshake {
    Handshake {
        hostname,
        hashed_headers: Some(Vec::new()),
        extensions: extensions(),
        ..Handshake::default()
    }
}

impl Brain {
    pub(super) fn receive_handshake(&mut self, handshake: Handshake) -> Result<(), RunError> {
        self.peer_is_ours = handshake
            .extensions
            .iter()
            .any(|(key, _)| key == EXTENSION_KEY);
        if !self.is_client {
            self.options = SyncOptions::from_handshake(&handshake, self.environment.alt_char);
            self.direction = self.options.server_direction();
            self.requests = handshake.send_mail_requests;
        }
        self.take_user_lock(&handshake.hostname)?;
        self.peer_name = Some(handshake.hostname);
        self.select_namespaces()?;
        self.check_source()?;
        match (self.options.sync_type, self.is_client) {
            (SyncType::State, true) => {
                self.out
                    .extend(self.states.iter().map(|state| Item::State(*state)));
                self.out.push_back(Item::EndOfList);
                self.start_trees()
            }
            (SyncType::State, false) => {
                self.phase = Phase::States;
                Ok(())
            }
            _ => self.start_trees(),
        }
    }

    pub(super) fn receive_state(&mut self, item: Item) -> Result<(), RunError> {
        match item {
            Item::State(state) => {
                self.states.insert(state);
                self.phase = Phase::States;
                Ok(())
            }
            Item::EndOfList => self.start_trees(),
            item => Err(unexpected(&item, "mailbox_state")),
        }
    }

    /// A backup of an account that is missing, because of a wrong path or a file system that is
    /// not mounted, would empty the destination. A server learns only from the client that it is
    /// the source.
    fn check_source(&self) -> Result<(), RunError> {
        if self.direction != Direction::Send {
            return Ok(());
        }
        let missing = self.account.stores().find_map(|store| {
            let prefix = &store.namespace().prefix;
            let roots = &self.environment.missing_roots;
            roots.iter().find(|(missing, _)| missing == prefix)
        });
        let Some((_, root)) = missing else {
            return Ok(());
        };
        Err(RunError::local(
            MailErrorClass::NotFound,
            format!(
                "mail directory {} does not exist: it is not taken for an empty account; check \
                 the path, or create the directory",
                root.display()
            ),
        ))
    }

    /// The side with the smaller name locks; with equal names the client (4.1).
    fn take_user_lock(&mut self, peer: &BString) -> Result<(), RunError> {
        let own = &self.environment.hostname;
        if self.options.lock_timeout == 0 || peer < own || (peer == own && !self.is_client) {
            return Ok(());
        }
        let timeout = Duration::from_secs(self.options.lock_timeout.into());
        match &mut self.environment.user_lock {
            Some(lock) => Ok(lock.lock(timeout)?),
            None => Err(RunError::local(
                MailErrorClass::Temporary,
                "the run asks for the user lock, but the user has no home directory to hold it",
            )),
        }
    }

    /// Which namespaces take part (3.1).
    fn select_namespaces(&mut self) -> Result<(), RunError> {
        if let Some(prefixes) = &self.options.namespaces {
            let selected = |prefix: &str| prefixes.iter().any(|wanted| wanted == prefix.as_bytes());
            for wanted in prefixes {
                let known = self
                    .account
                    .stores()
                    .any(|store| store.namespace().prefix.as_bytes() == wanted.as_bytes());
                if !known {
                    let message = format!(
                        "Namespace not found: '{wanted}'; -n takes a prefix exactly as configured"
                    );
                    return Err(RunError::local(MailErrorClass::Params, message));
                }
            }
            self.account
                .retain(|store| selected(&store.namespace().prefix));
        } else if self.options.all_namespaces {
            self.account.retain(|store| {
                let namespace = store.namespace();
                !namespace.alias && (!namespace.hidden || namespace.list)
            });
        } else {
            self.account.retain(|store| {
                let namespace = store.namespace();
                !namespace.alias && !namespace.own_location
            });
        }
        if self.account.stores().next().is_none() {
            return Err(RunError::local(
                MailErrorClass::Temporary,
                "All your namespaces have a location setting; name the ones to sync with -n, or \
                 use -N",
            ));
        }
        Ok(())
    }
}
