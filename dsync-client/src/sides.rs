//! The stores of one side, and what both sides of a local run have to do with each other.

use std::path::PathBuf;
use std::sync::Arc;

use dsync_config::{AccountOptions, HomeLock, OpenAccount, Settings, User};
use dsync_engine::{Environment, Outcome, Progress};

use crate::failure::Failure;
use crate::run::Inputs;

/// One side: its stores, and what its brain needs.
pub(crate) struct Prepared {
    pub(crate) open: OpenAccount,
    pub(crate) environment: Environment,
    pub(crate) progress: Arc<Progress>,
}

/// Opens the stores of one side.
pub(crate) fn prepare(
    inputs: &Inputs,
    settings: &Settings,
    user: &User,
    create: bool,
    separator: Option<char>,
) -> Result<Prepared, Failure> {
    let options = AccountOptions {
        settings,
        user,
        host_domain: &inputs.host_domain,
        create,
        separator,
    };
    let open = options.open()?;
    tracing::debug!(
        "user {}, home {:?}, mail in {:?}, separator {}",
        user.name,
        user.home,
        open.roots,
        open.separator
    );
    let unique = options.store_settings()?.unique();
    let progress = Arc::new(Progress::default());
    let mut environment = Environment::new(inputs.host_domain.as_str(), move || unique.guid());
    environment.user_lock = Some(Box::new(HomeLock::new(user)));
    environment.progress = Arc::clone(&progress);
    environment.missing_roots = open.missing_roots.clone();
    environment.alt_char = inputs.options.sync.alt_char;
    Ok(Prepared {
        open,
        environment,
        progress,
    })
}

/// The same conditions as Dovecot's (`spec/transports-and-cli.md` 8).
pub(crate) fn check_distinct(own: &OpenAccount, other: &OpenAccount) -> Result<(), Failure> {
    let real = |root: &PathBuf| root.canonicalize().unwrap_or_else(|_| root.clone());
    if let Some(same) = own
        .roots
        .iter()
        .find(|root| other.roots.iter().any(|other| real(root) == real(other)))
    {
        return Err(Failure::temporary(format!(
            "Both source and destination mail_location points to same directory: {} \
             (give another DESTINATION, or another --source)",
            same.display()
        )));
    }
    if own.separator != other.separator {
        return Err(Failure::temporary(format!(
            "Mail locations must use the same hierarchy separator: the source has {}, \
             the destination {} (set the separator of its namespace with -p)",
            own.separator, other.separator
        )));
    }
    Ok(())
}

/// One verdict for both sides of a local run. The side that failed by itself is the one to
/// report; the other only noticed.
pub(crate) fn join(client: Outcome, server: Outcome) -> Outcome {
    let mut joined = client;
    let noticed = joined
        .error
        .as_ref()
        .is_none_or(|error| error.reported_by_peer);
    if let Some(error) = server
        .error
        .filter(|error| noticed && !error.reported_by_peer)
    {
        joined.error = Some(dsync_engine::RunError {
            message: format!("destination: {}", error.message),
            ..error
        });
    }
    joined.run_again = joined.run_again.or(server.run_again);
    joined.problems.extend(server.problems);
    joined
}
