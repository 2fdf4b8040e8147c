//! From what was typed to what the run shall do.

use std::path::PathBuf;
use std::time::Duration;

use bstr::BString;
use dsync_config::{
    DSYNC_ALT_CHAR, DSYNC_COMMIT_MSGS_INTERVAL, DSYNC_FEATURES, DSYNC_HASHED_HEADERS, Settings,
};
use dsync_engine::{Filters, Mode, SyncOptions};
use dsync_proto::items::SyncType;
use jiff::Timestamp;

use crate::cli::{GlobalArguments, SyncArguments};
use crate::{Destination, UsageError, parse_destination, values};

/// Seconds without any progress after which a run is given up.
const DEFAULT_TIMEOUT: u32 = 600;

/// Everything about one run, checked.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// What the brain needs to know; `state` is still empty.
    pub sync: SyncOptions,
    /// The other side.
    pub destination: Destination,
    /// `-s`: the state as given, empty for the first run. If set, the new state is printed.
    pub state: Option<String>,
    /// `-T`
    pub timeout: Duration,
    /// `-r`
    pub rawlog: Option<PathBuf>,
    /// `-p`, as given.
    pub destination_settings: Vec<String>,
}

/// What the person wants to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputOptions {
    /// `--json`
    pub json: bool,
    /// `-q`
    pub quiet: bool,
    /// `-v`
    pub verbose: bool,
    /// `-D`
    pub debug: bool,
    /// A bar is wanted if there is a terminal.
    pub progress: bool,
}

impl OutputOptions {
    /// From the global options; `-D` implies `-v`.
    pub fn new(global: &GlobalArguments) -> Self {
        Self {
            json: global.json,
            quiet: global.quiet,
            verbose: global.verbose || global.debug,
            debug: global.debug,
            progress: !global.no_progress && !global.quiet && !global.json,
        }
    }
}

impl RunOptions {
    /// Checks all options of a run.
    ///
    /// # Errors
    ///
    /// The first wrong one, with the exit code that Dovecot gives for it.
    pub fn new(
        mode: Mode,
        arguments: &SyncArguments,
        settings: &Settings,
        debug: bool,
        now: Timestamp,
    ) -> Result<Self, UsageError> {
        let seconds = |option, text: &Option<String>, default| {
            text.as_deref()
                .map_or(Ok(default), |text| values::seconds(option, text))
        };
        let timeout = seconds("-T", &arguments.timeout, DEFAULT_TIMEOUT)?;
        if timeout == 0 {
            return Err(UsageError::new(
                "-T 0 would end every run at once; give a number of seconds",
            ));
        }
        let lock_timeout = seconds("-l", &arguments.lock_timeout, 0)?;
        let destination = parse_destination(&arguments.destination, arguments.default_destination)?;
        if arguments.all_namespaces && matches!(destination, Destination::Location(_)) {
            return Err(UsageError::value(
                "-N parameter requires syncing with remote host (use -n PREFIX here)",
            ));
        }
        Ok(Self {
            sync: SyncOptions {
                lock_timeout,
                debug,
                ..sync_options(mode, arguments, settings, now)?
            },
            destination,
            state: arguments.state.clone(),
            timeout: Duration::from_secs(timeout.into()),
            rawlog: arguments.rawlog.clone(),
            destination_settings: arguments.destination_option.clone(),
        })
    }
}

fn sync_options(
    mode: Mode,
    arguments: &SyncArguments,
    settings: &Settings,
    now: Timestamp,
) -> Result<SyncOptions, UsageError> {
    let bytes = |text: &String| BString::from(text.as_str());
    let list = |texts: &[String]| texts.iter().map(bytes).collect::<Vec<_>>();
    let mailbox_guid = match &arguments.mailbox_guid {
        Some(text) => values::guid("-g", text)?,
        None => None,
    };
    let is_empty = |text: &Option<String>| text.as_ref().is_some_and(String::is_empty);
    Ok(SyncOptions {
        mode,
        reverse: arguments.reverse_sync,
        sync_type: match &arguments.state {
            _ if arguments.full_sync => SyncType::Full,
            Some(state) if !state.is_empty() => SyncType::State,
            _ => SyncType::Changed,
        },
        mailbox: arguments
            .mailbox
            .as_ref()
            .filter(|name| !name.is_empty())
            .map(bytes),
        mailbox_guid,
        exclude: list(&arguments.exclude_mailbox),
        namespaces: (!arguments.namespace.is_empty()).then(|| list(&arguments.namespace)),
        all_namespaces: arguments.all_namespaces,
        tree_only: is_empty(&arguments.mailbox) || is_empty(&arguments.mailbox_guid),
        purge_remote: arguments.purge_remote,
        virtual_all: arguments.all_mailbox.as_ref().map(bytes),
        filters: filters(arguments, now)?,
        empty_hdr_workaround: settings
            .words(&DSYNC_FEATURES)
            .any(|word| word == "empty-header-workaround"),
        hashed_headers: settings
            .words(&DSYNC_HASHED_HEADERS)
            .map(BString::from)
            .collect(),
        alt_char: settings
            .text(&DSYNC_ALT_CHAR)
            .bytes()
            .next()
            .unwrap_or(b'_'),
        commit_interval: settings.number(&DSYNC_COMMIT_MSGS_INTERVAL),
        ..SyncOptions::default()
    })
}

fn filters(arguments: &SyncArguments, now: Timestamp) -> Result<Filters, UsageError> {
    let date = |option, text: &Option<String>| {
        text.as_deref()
            .map_or(Ok(0), |text| values::date(option, text, now))
    };
    let filters = Filters {
        since: date("-t", &arguments.sync_since_time)?,
        until: date("-e", &arguments.sync_until_time)?,
        max_size: match &arguments.sync_max_size {
            Some(text) => values::size("-I", text)?,
            None => 0,
        },
        flag: match &arguments.sync_flags {
            Some(text) => Some(values::flag("-O", text)?),
            None => None,
        },
    };
    if filters.until != 0 && filters.since > filters.until {
        return Err(UsageError::value(
            "start date is later than end date (-t is after -e; exchange them)",
        ));
    }
    Ok(filters)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{Action, Cli};

    fn run(arguments: &[&str]) -> Result<RunOptions, UsageError> {
        let all = ["dsync", "sync"].iter().chain(arguments);
        let Action::Sync(command) = Cli::try_parse_from(all).unwrap().action else {
            panic!("not sync");
        };
        let mode = if command.one_way {
            Mode::OneWay
        } else {
            Mode::TwoWay
        };
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        RunOptions::new(mode, &command.common, &Settings::default(), false, now)
    }

    #[test]
    fn defaults() {
        let run = run(&["maildir:/x"]).unwrap();
        assert_eq!(run.sync, SyncOptions::default());
        assert_eq!(run.timeout, Duration::from_secs(600));
        assert_eq!(run.state, None);
    }

    #[test]
    fn sync_types() {
        for (arguments, expected) in [
            (&["x:y"][..], SyncType::Changed),
            (&["-s", "", "x:y"], SyncType::Changed),
            (&["-s", "AAAA", "x:y"], SyncType::State),
            (&["-s", "AAAA", "-f", "x:y"], SyncType::Full),
            (&["-f", "-s", "AAAA", "x:y"], SyncType::Full),
        ] {
            assert_eq!(
                run(arguments).unwrap().sync.sync_type,
                expected,
                "{arguments:?}"
            );
        }
    }

    #[test]
    fn empty_mailbox_means_only_the_tree() {
        for arguments in [["-m", "", "x:y"], ["-g", "", "x:y"]] {
            let sync = run(&arguments).unwrap().sync;
            assert!(sync.tree_only && sync.mailbox.is_none() && sync.mailbox_guid.is_none());
        }
        assert!(!run(&["-m", "INBOX", "x:y"]).unwrap().sync.tree_only);
    }

    #[test]
    fn everything_reaches_the_brain() {
        let sync = run(&[
            "-1",
            "-R",
            "-P",
            "-m",
            "Work/*",
            "-x",
            "\\Trash",
            "-x",
            "Spam*",
            "-n",
            "",
            "-n",
            "a/",
            "-t",
            "1000",
            "-e",
            "2000",
            "-I",
            "2K",
            "-O",
            "-\\Seen",
            "-a",
            "All",
            "-l",
            "30",
            "-U",
            "/bin/wrap",
        ])
        .unwrap()
        .sync;
        let expected = SyncOptions {
            mode: Mode::OneWay,
            reverse: true,
            purge_remote: true,
            mailbox: Some("Work/*".into()),
            exclude: vec!["\\Trash".into(), "Spam*".into()],
            namespaces: Some(vec!["".into(), "a/".into()]),
            filters: Filters {
                since: 1000,
                until: 2000,
                max_size: 2048,
                flag: Some("-\\Seen".into()),
            },
            virtual_all: Some("All".into()),
            lock_timeout: 30,
            ..SyncOptions::default()
        };
        assert_eq!(sync, expected);
    }

    #[test]
    fn mistakes() {
        for (arguments, code, start) in [
            (&["-T", "0", "x:y"][..], 64, "-T 0 would end"),
            (
                &["-T", "x", "x:y"],
                64,
                "Invalid -T parameter: Invalid number: x",
            ),
            (
                &["-l", "-5", "x:y"],
                64,
                "Invalid -l parameter: Cannot be negative: -5",
            ),
            (&["-t", "foo", "x:y"], 75, "Invalid -t parameter: foo"),
            (
                &["-t", "2", "-e", "1", "x:y"],
                75,
                "start date is later than end date",
            ),
            (&["-g", "1", "x:y"], 75, "Invalid -g parameter: 1"),
            (&["-I", "1X", "x:y"], 75, "Invalid -I parameter '1X'"),
            (
                &["-O", "a b", "x:y"],
                75,
                "-O parameter doesn't support multiple",
            ),
            (
                &["-N", "x:y"],
                75,
                "-N parameter requires syncing with remote host",
            ),
            (&[], 64, "no destination: give a mail location"),
        ] {
            let error = run(arguments).unwrap_err();
            assert!(error.message.starts_with(start), "{arguments:?}: {error}");
            assert_eq!(error.exit_code, code, "{arguments:?}");
        }
    }
}
