//! The ways to run a sync.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};
use dsync_proto::state_string;

use crate::{Run, Side};

/// An enumeration whose members have names on the command line.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$member_doc:meta])* $member:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$member_doc])* $member,)* }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$member,)*];

            fn text(self) -> &'static str {
                match self { $(Self::$member => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.text())
            }
        }

        impl FromStr for $name {
            type Err = anyhow::Error;

            fn from_str(text: &str) -> Result<Self> {
                match text {
                    $($text => Ok(Self::$member),)*
                    _ => bail!("one of {}", Self::ALL.iter().map(|m| m.text()).collect::<Vec<_>>().join(", ")),
                }
            }
        }
    };
}

named! {
    /// Direction of a sync, from the view of the client on `a`.
    Mode {
        /// Two-way.
        Sync = "sync",
        /// Changes of `a` are merged into `b`.
        SyncOneWay = "sync-1",
        /// Changes of `b` are merged into `a`.
        SyncOneWayReverse = "sync-1-R",
        /// `b` is made equal to `a`.
        Backup = "backup",
        /// `a` is made equal to `b`.
        BackupReverse = "backup-R",
    }
}

named! {
    /// Which mailboxes are looked at.
    Kind {
        /// Those whose counters differ.
        Changed = "changed",
        /// All (`-f`).
        Full = "full",
        /// Those that changed since the last run (`-s`).
        Stateful = "stateful",
    }
}

named! {
    /// Who takes part: client on `a`, server on `b`.
    Topology {
        /// One process of ours.
        OursAlone = "ours-alone",
        /// Our client.
        OursDovecot = "ours-dovecot",
        /// Our server.
        DovecotOurs = "dovecot-ours",
        /// Both.
        OursOurs = "ours-ours",
    }
}

impl Mode {
    fn words(self) -> &'static [&'static str] {
        match self {
            Self::Sync => &["sync"],
            Self::SyncOneWay => &["sync", "-1"],
            Self::SyncOneWayReverse => &["sync", "-1", "-R"],
            Self::Backup => &["backup"],
            Self::BackupReverse => &["backup", "-R"],
        }
    }

    /// Whether both sides may be changed.
    pub(super) fn is_two_way(self) -> bool {
        self == Self::Sync
    }

    /// Whether one side is to be as the other, not merged with it.
    pub(super) fn is_backup(self) -> bool {
        matches!(self, Self::Backup | Self::BackupReverse)
    }

    /// Whether `b` is the source.
    pub(super) fn is_reverse(self) -> bool {
        matches!(self, Self::SyncOneWayReverse | Self::BackupReverse)
    }
}

impl Topology {
    pub(super) fn client_is_ours(self) -> bool {
        self != Self::DovecotOurs
    }

    /// Whether there is no Dovecot.
    pub fn both_are_ours(self) -> bool {
        self.client_is_ours() && self.server_is_ours()
    }

    pub(super) fn server_is_ours(self) -> bool {
        self != Self::OursDovecot
    }
}

/// Runs it. `None`: Dovecot with itself.
pub(super) fn run(
    a: &Side<'_>,
    b: &Side<'_>,
    topology: Option<Topology>,
    mode: Mode,
    kind: Kind,
    state: &str,
) -> Result<Run> {
    let mut words: Vec<String> = mode.words().iter().map(ToString::to_string).collect();
    match kind {
        Kind::Changed => {}
        Kind::Full => words.push("-f".into()),
        Kind::Stateful => words.extend(["-s".into(), state.into()]),
    }
    sync(a, b, topology, words)
}

/// Runs `sync` or `backup` with these options on `a`, with a server for `b`. `None`: Dovecot with
/// itself.
///
/// # Errors
///
/// A program cannot be started.
pub fn sync(
    a: &Side<'_>,
    b: &Side<'_>,
    topology: Option<Topology>,
    mut words: Vec<String>,
) -> Result<Run> {
    match topology {
        Some(Topology::OursAlone) => words.push(b.location()),
        Some(Topology::DovecotOurs | Topology::OursOurs) => words.extend(b.our_server()?),
        Some(Topology::OursDovecot) | None => words.extend(b.dovecot_server()),
    }
    match topology {
        Some(Topology::DovecotOurs) | None => a.dovecot_dsync(&words[0], &words[1..]),
        _ => a.dsync(&words),
    }
}

/// The state that a run printed: Dovecot in the format that the harness asks for, ours as it is.
pub fn printed_state(run: &Run) -> String {
    run.stdout
        .split(|c: char| !(c.is_ascii_alphanumeric() || "+/=".contains(c)))
        .find(|word| state_string::import(word.as_bytes()).is_ok())
        .unwrap_or_default()
        .to_owned()
}
