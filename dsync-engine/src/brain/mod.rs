//! One side of a run as a value: items in, items out.
//!
//! The caller moves items between two brains, or between a brain and a codec. It must accept
//! input at all times, also while output is waiting: both sides send at once, and a side that
//! only writes would wait for ever for one that does the same.

mod agreement;
mod errors;
mod handshake;
mod inquiry;
mod mailboxes;
mod mails;
mod states;
mod survey;
mod tree_phase;

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bstr::BString;
use dsync_proto::items::{Finish, Item, MailboxInfo, MailboxState};
use dsync_proto::types::Guid;
use dsync_storage::{Account, Mailbox, StorageError};

pub use self::inquiry::{Findings, Inquiry};

use self::errors::unexpected;
use self::mails::MailExchange;
use self::states::States;
use self::survey::Survey;
use self::tree_phase::{TreeExchange, Walk};
use crate::mailbox::{ImportResult, Scan};
use crate::options::Direction;
use crate::tree::{GuidAlias, WalkEntry};
use crate::{Fault, Outcome, Progress, RunError, SyncOptions};

/// What the brain wants next.
#[derive(Debug)]
pub enum Poll {
    /// Send this to the peer.
    Transmit(Item),
    /// Nothing to do before the peer says something.
    NeedInput,
    /// The run is over; send what is queued and close.
    Finished(Box<Outcome>),
}

/// Facts about the peer that only the codec knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Minor version of its banner.
    pub minor: u32,
    /// Its handshake has the key `import_commit_msgs_interval`: Dovecot 2.3, not 2.4.
    pub has_commit_interval: bool,
}

impl Default for Peer {
    /// A peer in the same process.
    fn default() -> Self {
        Self {
            minor: 5,
            has_commit_interval: true,
        }
    }
}

/// The lock of a user against a second run (`spec/brain-and-tree.md` 4.1).
pub trait UserLock: Send {
    /// Takes the lock; it is given up when this value is dropped.
    fn lock(&mut self, timeout: Duration) -> Result<(), StorageError>;
}

/// What a brain needs besides its store.
pub struct Environment {
    /// Fully qualified name of this host.
    pub hostname: BString,
    /// Takes the user lock; without it a run that asks for the lock fails.
    pub user_lock: Option<Box<dyn UserLock>>,
    /// Makes random mailbox GUIDs.
    pub new_guid: Box<dyn FnMut() -> Guid + Send>,
    /// Counters to update.
    pub progress: Arc<Progress>,
    /// Server only: replaces what a mailbox name cannot hold, unless the client sends its own.
    pub alt_char: u8,
    /// Prefixes of the namespaces whose mail root does not exist yet, with the root. They can be
    /// destinations, but not the source of a one-way run.
    pub missing_roots: Vec<(String, PathBuf)>,
}

impl Environment {
    /// An environment with this host name and source of random GUIDs, without user lock.
    pub fn new(
        hostname: impl Into<BString>,
        new_guid: impl FnMut() -> Guid + Send + 'static,
    ) -> Self {
        Self {
            hostname: hostname.into(),
            user_lock: None,
            new_guid: Box::new(new_guid),
            progress: Arc::default(),
            alt_char: b'_',
            missing_roots: Vec::new(),
        }
    }
}

/// A mailbox that was opened, locked and refreshed, with the `B` that tells about it.
struct Opened {
    mailbox: Box<dyn Mailbox>,
    info: MailboxInfo,
    /// On the client: where it stands in the tree.
    entry: Option<WalkEntry>,
    /// On the client of a stateful run: what has happened since the saved state.
    scan: Option<Scan>,
}

/// Where a run stands; the names of Dovecot's states are in [`Brain::state_name`].
enum Phase {
    /// Waits for the peer's `H`.
    Handshake,
    /// Server: reads the client's saved states.
    States,
    /// Both trees travel.
    Trees(Box<TreeExchange>),
    /// Both of ours: the counters of all mailboxes travel.
    Survey(Box<Survey>),
    /// Client: takes the next mailbox. Server: waits for the next `B`.
    Mailboxes,
    /// Client: waits for the answer to its `B`.
    AwaitMailbox(Box<Opened>),
    /// Messages of one mailbox travel.
    Mails(Box<MailExchange>),
    /// Client: waits for `F`.
    AwaitFinish,
    /// Nothing more is done; what is queued still goes out.
    Over,
}

/// One side of a run.
pub struct Brain {
    is_client: bool,
    account: Account,
    environment: Environment,
    options: SyncOptions,
    direction: Direction,
    /// Bodies are sent only on request.
    requests: bool,
    peer: Peer,
    peer_name: Option<BString>,
    peer_is_ours: bool,
    phase: Phase,
    out: VecDeque<Item>,
    states: States,
    /// The mailbox we told the result of; the peer's result is still to come. Its lock is held
    /// until then.
    finished_mailbox: Option<Box<MailExchange>>,
    own_state: Option<MailboxState>,
    walk: Walk,
    /// Mailboxes that the survey has found equal, as they are here.
    equal: HashMap<Guid, MailboxInfo>,
    /// What a second session has found out about the mailboxes of a Dovecot server.
    findings: Option<Findings>,
    /// Mailboxes whose GUID depends on which one a Dovecot peer has; its first `B` tells.
    guid_aliases: Vec<GuidAlias>,
    /// Mailboxes that the tree phase gave another GUID.
    renewed: Vec<Guid>,
    /// The tree phase made mailboxes anew that are in the client's state.
    has_unfilled: bool,
    outcome: Outcome,
    /// The outcome is final.
    decided: bool,
}

impl Brain {
    /// The side that was started by a person and decides what is done.
    pub fn client(options: SyncOptions, account: Account, environment: Environment) -> Self {
        let mut brain = Self::new(true, account, environment, options);
        let handshake = brain
            .options
            .to_handshake(brain.environment.hostname.clone());
        brain.out.push_back(Item::Handshake(Box::new(handshake)));
        brain
    }

    /// The side that answers. All options come from the client.
    pub fn server(account: Account, environment: Environment) -> Self {
        let mut brain = Self::new(false, account, environment, SyncOptions::default());
        let handshake = handshake::server_handshake(brain.environment.hostname.clone());
        brain.out.push_back(Item::Handshake(Box::new(handshake)));
        brain
    }

    fn new(
        is_client: bool,
        account: Account,
        environment: Environment,
        options: SyncOptions,
    ) -> Self {
        Self {
            is_client,
            account,
            environment,
            direction: options.client_direction(),
            requests: true,
            peer: Peer::default(),
            peer_name: None,
            peer_is_ours: false,
            phase: Phase::Handshake,
            out: VecDeque::new(),
            states: States::new(options.state.iter().copied()),
            finished_mailbox: None,
            own_state: None,
            walk: Walk::default(),
            equal: HashMap::new(),
            findings: None,
            guid_aliases: Vec::new(),
            renewed: Vec::new(),
            has_unfilled: false,
            outcome: Outcome::default(),
            decided: false,
            options,
        }
    }

    /// Tells what the codec learned from the peer's banner; call it before the first item.
    pub fn set_peer(&mut self, peer: Peer) {
        self.peer = peer;
    }

    /// Takes one item from the peer. Errors end the run; [`Brain::poll`] reports them.
    pub fn handle(&mut self, item: Item) {
        if let Err(error) = self.try_handle(item) {
            self.fail(error);
        }
    }

    fn try_handle(&mut self, item: Item) -> Result<(), RunError> {
        match item {
            Item::Done if !self.decided => {
                return Err(RunError {
                    reported_by_peer: true,
                    ..RunError::peer(
                        "the remote side stopped because of an error of its own; its log or its \
                         messages above say which",
                    )
                });
            }
            Item::Finish(Finish {
                error: Some(error),
                mail_error,
                ..
            }) if !self.decided => {
                return Err(RunError {
                    class: mail_error.unwrap_or_default(),
                    ..RunError::peer(format!("Remote dsync failed: {error}"))
                });
            }
            _ => {}
        }
        if let Some(own) = self.own_state
            && self.finished_mailbox.is_some()
        {
            let Item::State(state) = item else {
                return Err(unexpected(&item, "mailbox_state"));
            };
            self.peer_state(&own, &state);
            self.own_state = None;
            self.finished_mailbox = None;
            return match std::mem::replace(&mut self.phase, Phase::Over) {
                Phase::Mails(mut exchange) => {
                    let result = self.finish_if_complete(&mut exchange);
                    self.put_back(exchange);
                    result
                }
                phase => {
                    self.phase = phase;
                    Ok(())
                }
            };
        }
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Handshake => match item {
                Item::Handshake(handshake) => self.receive_handshake(*handshake),
                item => Err(unexpected(&item, "handshake")),
            },
            Phase::States => self.receive_state(item),
            Phase::Trees(trees) => self.receive_tree_item(trees, item),
            Phase::Survey(mut survey) => {
                self.receive_survey(&mut survey, item)?;
                self.put_back_survey(survey);
                Ok(())
            }
            Phase::Mailboxes if !self.is_client => {
                self.phase = Phase::Mailboxes;
                match item {
                    Item::Mailbox(info) => self.answer_mailbox(&info),
                    Item::EndOfList => self.finish_server(),
                    item => Err(unexpected(&item, "mailbox")),
                }
            }
            Phase::AwaitMailbox(opened) => match item {
                Item::Mailbox(answer) => self.mailbox_answer(*opened, &answer),
                Item::EndOfList => Err(RunError::peer(
                    "Remote sent end-of-list instead of a mailbox",
                )),
                item => Err(unexpected(&item, "mailbox")),
            },
            Phase::Mails(mut exchange) => {
                let mut result = exchange.handle(item);
                if result.is_ok() && exchange.must_empty() {
                    exchange = Box::new(self.empty_and_restart(*exchange)?);
                }
                if result.is_ok() {
                    result = self.finish_if_complete(&mut exchange);
                }
                self.put_back(exchange);
                result
            }
            Phase::AwaitFinish => match item {
                Item::Finish(finish) => {
                    self.outcome.require_full_resync |= finish.require_full_resync;
                    self.decide();
                    Ok(())
                }
                // Dovecot takes this for success, too.
                Item::EndOfList => {
                    self.decide();
                    Ok(())
                }
                item => Err(unexpected(&item, "finish")),
            },
            // Nothing that comes after the end is of interest.
            Phase::Over => Ok(()),
            Phase::Mailboxes => Err(unexpected(&item, "nothing")),
        }
    }

    /// The run fails: the peer closed its side or broke the protocol, our store failed, or
    /// somebody stopped us. What is safe to keep is kept. Does nothing if the run was over.
    pub fn fail(&mut self, error: RunError) {
        if self.decided {
            return;
        }
        let mut body_is_open = false;
        if let Phase::Mails(mut exchange) = std::mem::replace(&mut self.phase, Phase::Over) {
            body_is_open = exchange.is_sending_body();
            let result = exchange.abort();
            self.note_results(&result);
        }
        if error.fault != Fault::Peer && !body_is_open {
            self.out.push_back(self.last_words(&error));
        }
        self.finished_mailbox = None;
        self.outcome.error = Some(error);
        self.decide();
    }

    /// One of ours is told why; a Dovecot would not understand.
    fn last_words(&self, error: &RunError) -> Item {
        if self.peer_is_ours {
            Item::Finish(Finish {
                error: Some(error.message.as_str().into()),
                mail_error: Some(error.class),
                require_full_resync: false,
            })
        } else {
            Item::Done
        }
    }

    /// The next thing to do. After [`Poll::Finished`] nothing more comes.
    pub fn poll(&mut self) -> Poll {
        loop {
            if let Some(item) = self.out.pop_front() {
                return Poll::Transmit(item);
            }
            match self.step() {
                Ok(true) => {}
                Ok(false) if matches!(self.phase, Phase::Over) => {
                    return Poll::Finished(Box::new(self.outcome.clone()));
                }
                Ok(false) => return Poll::NeedInput,
                Err(error) => self.fail(error),
            }
        }
    }

    /// Does what can be done without the peer; `false` if nothing can.
    fn step(&mut self) -> Result<bool, RunError> {
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Survey(mut survey) => {
                let told = self.step_survey(&mut survey);
                self.put_back_survey(survey);
                Ok(told)
            }
            Phase::Mailboxes if self.is_client => {
                self.phase = Phase::Mailboxes;
                self.next_mailbox()?;
                Ok(true)
            }
            Phase::Mails(mut exchange) => {
                let mut result = exchange.step(&mut self.out);
                if result.is_ok() {
                    result = self.finish_if_complete(&mut exchange).and(result);
                }
                self.put_back(exchange);
                result
            }
            phase => {
                self.phase = phase;
                Ok(false)
            }
        }
    }

    /// The result is told as soon as it can be: the peer's next items rely on it.
    fn finish_if_complete(&mut self, exchange: &mut MailExchange) -> Result<(), RunError> {
        if exchange.is_complete() && self.finished_mailbox.is_none() {
            self.finish_exchange(exchange)?;
        }
        Ok(())
    }

    /// After a step. When the result is told and the peer's is missing, a client goes on with the
    /// next mailbox meanwhile, which saves a round trip each. A failure needs the exchange, too:
    /// what is safe is kept.
    fn put_back(&mut self, exchange: Box<MailExchange>) {
        if self.own_state.is_some() && self.finished_mailbox.is_none() {
            self.finished_mailbox = Some(exchange);
            self.phase = Phase::Mailboxes;
        } else {
            self.phase = Phase::Mails(exchange);
        }
    }

    fn finish_server(&mut self) -> Result<(), RunError> {
        if self.options.purge_remote {
            for store in self.account.stores_mut() {
                if let Err(error) = store.purge() {
                    tracing::warn!("cannot purge: {error}");
                }
            }
        }
        self.out.push_back(Item::Finish(Finish {
            require_full_resync: self.outcome.require_full_resync
                || (self.has_unfilled && !self.peer_is_ours),
            ..Finish::default()
        }));
        self.out.push_back(Item::Done);
        self.decide();
        Ok(())
    }

    fn decide(&mut self) {
        self.decided = true;
        self.phase = Phase::Over;
        self.environment.progress.set_current_mailbox("");
        let mut states = std::mem::take(&mut self.states);
        states.retain(|guid| self.walk.knows(guid));
        self.outcome.state = states.into_vec();
    }

    /// Keeps the first reason.
    fn run_again(&mut self, reason: String) {
        self.outcome.run_again.get_or_insert(reason);
    }

    fn note_results(&mut self, result: &ImportResult) {
        self.outcome
            .problems
            .extend(result.problems.iter().cloned());
    }

    /// Name of the present state, for the message about a stalled run
    /// (`spec/brain-and-tree.md` 5.3).
    pub fn state_name(&self) -> String {
        let name = match &self.phase {
            Phase::Handshake if self.is_client => "master_recv_handshake",
            Phase::Handshake => "slave_recv_handshake",
            Phase::States => "slave_recv_last_common",
            Phase::Trees(_) => "recv_mailbox_tree",
            Phase::Survey(_) => "survey",
            Phase::Mailboxes | Phase::AwaitMailbox(_) if self.is_client => "master_send_mailbox",
            Phase::Mailboxes | Phase::AwaitMailbox(_) => "slave_recv_mailbox",
            Phase::Mails(exchange) => return exchange.state_name(),
            Phase::AwaitFinish => "finish",
            Phase::Over => "done",
        };
        name.to_owned()
    }

    /// The peer's host name once it is known.
    pub fn peer_name(&self) -> Option<&BString> {
        self.peer_name.as_ref()
    }

    /// The peer's handshake says that it is one of ours.
    pub fn peer_is_ours(&self) -> bool {
        self.peer_is_ours
    }
}
