//! The mail here, and a run with the other side that changes nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dsync_config::{AccountOptions, ConfigError, HomeLock, OpenAccount, Origin, Settings, User};
use dsync_engine::{Brain, Environment, Mode, SyncOptions, UserLock};
use dsync_proto::types::MailErrorClass;
use dsync_storage::Account;
use dsync_storage::location::Location;
use dsync_storage::memory::{MemoryOptions, MemoryStore};
use dsync_transport::{PeerInfo, Role, Session, SessionOptions, drive};
use nix::unistd::{AccessFlags, access};

use super::fix;
use super::journal::{Heard, Journal};
use super::road::PATIENCE;
use super::steps::{Findings, Step, Trouble};
use crate::failure::Failure;
use crate::road::Opened;
use crate::run::Stop;
use crate::sides::check_distinct;

/// Our host name in the run: it is greater than all real ones, so that the other side has to take
/// the lock (`spec/brain-and-tree.md` 4.1).
const HOST_NAME: &str = "~dsync-check";

/// How long the other side waits for its lock, in seconds.
const LOCK_TIMEOUT: u32 = 1;

/// Whose mail it is.
pub(super) struct Own<'a> {
    pub(super) settings: &'a Settings,
    pub(super) user: &'a User,
    pub(super) host_domain: &'a str,
}

impl Own<'_> {
    fn options<'a>(
        &'a self,
        settings: &'a Settings,
        separator: Option<char>,
    ) -> AccountOptions<'a> {
        AccountOptions {
            settings,
            user: self.user,
            host_domain: self.host_domain,
            create: false,
            separator,
        }
    }

    /// The mail here can be opened, and nobody else syncs it.
    pub(super) fn check(&self, journal: &mut Journal<'_>) -> Result<OpenAccount, Trouble> {
        let open = self.options(self.settings, None).open();
        let open = open.map_err(|error| {
            let fix = fix::own(&error);
            Trouble::new(Step::Mail, error.into(), fix)
        })?;
        journal.passed(Step::Mail, in_words(&open.roots));
        match self.user.home() {
            Some(home) if home.is_dir() => {
                let mut lock = HomeLock::new(self.user);
                lock.lock(Duration::ZERO).map_err(|error| {
                    let failure = Failure::new(error.class.exit_code(), error.message);
                    let fix = "wait until the other run for this user has ended";
                    Trouble::new(Step::Lock, failure, fix)
                })?;
                journal.passed(Step::Lock, format!("nobody syncs {}", self.user.name));
            }
            Some(_) => journal.passed(Step::Lock, "the home directory will be created for it"),
            None => journal.passed(Step::Lock, "there is no home directory: -l cannot be used"),
        }
        Ok(open)
    }

    /// A location on this host is there, or can be created.
    pub(super) fn check_location(
        &self,
        location: &str,
        own: &OpenAccount,
        journal: &mut Journal<'_>,
    ) -> Result<(), Trouble> {
        let trouble = |error: Failure, fix| Trouble::new(Step::Destination, error, fix);
        let wrong = |error: ConfigError| {
            let fix = fix::own(&error);
            trouble(error.into(), fix)
        };
        let mut settings = self.settings.clone();
        settings
            .set("mail_location", location, &Origin::Argument("DESTINATION"))
            .map_err(wrong)?;
        let options = self.options(&settings, Some(own.separator));
        let text = match options.open() {
            Ok(other) => {
                check_distinct(own, &other)
                    .map_err(|failure| trouble(failure, "give another destination"))?;
                in_words(&other.roots)
            }
            Err(ConfigError::Store(error)) if error.class == MailErrorClass::NotFound => {
                let root = Location::parse(location, &self.user.variables())
                    .map_err(|error| wrong(ConfigError::Store(error)))?
                    .root;
                let parent = root.ancestors().find(|path| path.exists());
                let may_create = AccessFlags::W_OK | AccessFlags::X_OK;
                if parent.is_none_or(|parent| access(parent, may_create).is_err()) {
                    let parent = parent.unwrap_or(Path::new("/")).display();
                    let text = format!("{} cannot be created in {parent}", root.display());
                    let fix = "create it, or give its owner the right to do so";
                    return Err(trouble(Failure::new(77, text), fix));
                }
                format!("{} will be created", root.display())
            }
            Err(error) => return Err(wrong(error)),
        };
        journal.passed(Step::Destination, text);
        Ok(())
    }

    /// A whole run: a backup of the other side's mailbox names, in a store that is forgotten. The
    /// other side is its source, and changes nothing.
    pub(super) async fn meet(
        &self,
        opened: Opened,
        stop: Stop,
        heard: &Heard,
        journal: &mut Journal<'_>,
    ) -> Result<(), Trouble> {
        let settings = self.options(self.settings, None).store_settings();
        let unique = settings
            .map_err(|error| {
                let fix = fix::own(&error);
                Trouble::new(Step::Mail, error.into(), fix)
            })?
            .unique();
        let store = MemoryStore::new(MemoryOptions::dbox(1));
        let account = Account::new(vec![Box::new(store.clone())]);
        let environment = Environment::new(HOST_NAME, move || unique.guid());
        let options = SyncOptions {
            mode: Mode::Backup,
            reverse: true,
            tree_only: true,
            lock_timeout: LOCK_TIMEOUT,
            ..SyncOptions::default()
        };
        let brain = Brain::client(options, account, environment);
        let session = SessionOptions {
            role: Role::Client,
            peer_name: opened.peer_name,
            timeout: PATIENCE,
            rawlog: None,
        };
        let session = drive(brain, opened.reader, opened.writer, session, stop.wait()).await;
        if let Some(command) = opened.command {
            // How it ends is of no interest: it has said what it had to say.
            command.finish(crate::drive::grace(true)).await;
        }
        let mailboxes = store.dump().mailboxes.len();
        understand(&session, mailboxes, &heard.text(), journal)
    }
}

fn understand(
    session: &Session,
    mailboxes: usize,
    heard: &str,
    journal: &mut Journal<'_>,
) -> Result<(), Trouble> {
    const NOBODY: &str = "nobody syncs the user there";
    let greeted = session.peer.as_ref();
    if let Some(peer) = greeted {
        journal.passed(Step::Version, version(peer));
    }
    let Some(error) = &session.outcome.error else {
        journal.passed(Step::LockThere, NOBODY);
        let text = match mailboxes {
            1 => "1 mailbox".to_owned(),
            count => format!("{count} mailboxes"),
        };
        journal.passed(Step::MailThere, text);
        return Ok(());
    };
    // One of ours refuses to be the source of an account that is not there.
    if greeted.is_some() && error.class == MailErrorClass::NotFound {
        journal.passed(Step::LockThere, NOBODY);
        let text = format!("there is none yet, a sync creates it ({})", error.message);
        journal.passed(Step::MailThere, text);
        return Ok(());
    }
    let mut failure = Failure::new(error.class.exit_code(), error.message.clone());
    if !heard.is_empty() {
        failure.message = format!("{}: {heard}", failure.message);
    }
    let (step, fix) = fix::session(greeted.is_some(), &failure.message);
    Err(Trouble::new(step, failure, fix))
}

fn version(peer: &PeerInfo) -> String {
    let kind = if peer.is_ours { "dsync" } else { "Dovecot" };
    let host = match peer.host.as_str() {
        "" => "a host without a name",
        host => host,
    };
    format!("{kind} on {host}, protocol 3.{}", peer.minor)
}

fn in_words(roots: &[PathBuf]) -> String {
    let roots: Vec<String> = roots.iter().map(|it| it.display().to_string()).collect();
    roots.join(", ")
}

/// What is heard by a process that does not talk to the other side itself says more about a
/// failure of it.
pub(super) fn with_heard(plan: &[Step], findings: Findings, heard: &str) -> Findings {
    let failed = findings.steps.iter().rposition(|it| it.good == Some(false));
    let Some(last) = failed.and_then(|at| findings.steps.get(at)) else {
        return findings;
    };
    if heard.is_empty() || !matches!(last.step, Step::Version | Step::MailThere) {
        return findings;
    }
    let (step, fix) = fix::session(last.step == Step::MailThere, heard);
    let failure = Failure::new(findings.exit_code, format!("{}: {heard}", last.text));
    let trouble = Trouble::new(step, failure, fix);
    let mut explained = Findings::default();
    let good = findings.steps.into_iter();
    explained
        .steps
        .extend(good.filter(|finding| finding.good == Some(true)));
    explained.end(plan, Err(trouble));
    explained
}
