//! The `dsync-server` command line. The program itself is `main.rs`.

mod prefix;

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};

pub use prefix::{PrefixError, read_user_prefix};

/// The definition of the command, for manual pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// The name of the command in doveadm.
const SERVER_WORD: &str = "dsync-server";

/// Seconds without progress after which a session is given up.
const DEFAULT_TIMEOUT: u32 = 600;

const LISTEN_EXAMPLES: &str = "\
Clients log in with doveadm_password, which has to be set. tcps: speaks TLS from the first byte
(ssl_server_cert_file, ssl_server_key_file); on tcp: a client may start it. A UNIX socket that only
its owner can open (mode 0600, the default) needs no password. Sockets of systemd are used too; one
with FileDescriptorName=tcps speaks TLS. Each session is a process of its own.
A wrong password costs a second; after ten of them nobody from that address is let in for a minute.

Examples:
  dsync-server listen tcps:*:4711
  dsync-server listen tcp:127.0.0.1:4711 tcp:[::1]:4711 unix:/run/dsync/doveadm-server";

const EXAMPLES: &str = "\
It is not started by hand but by the other side:
  dsync sync ssh mail.example.org dsync-server -o mail_location=maildir:~/Maildir
  doveadm sync -u joe ssh mail.example.org dsync-server
or listens, for dsync and for doveadm sync:
  dsync-server -c /etc/dsync.toml listen tcps:*:4711 unix:/run/dsync/doveadm-server

Exit codes: 0 done, 64 wrong usage, 65 impossible or damaged data, 67 unknown user,
  68 not found, 73 over quota or disk full, 75 failed, 77 no permission, 78 configuration";

/// Serves the mail of one user to dsync, or to doveadm sync and backup, on stdin and stdout.
///
/// All options of the run come from the other side. Only messages for people go to stderr.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "dsync-server",
    version,
    after_help = EXAMPLES,
    args_override_self = true,
    infer_long_args = true,
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// Options that count for listening too.
    #[command(flatten)]
    pub common: CommonArguments,

    /// Whose mail: fills in %u in settings and finds the home directory
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,

    /// Read whose mail it is from the first line of standard input (destination remoteprefix:)
    #[arg(long, conflicts_with = "user")]
    pub remoteprefix: bool,

    /// Append everything that is sent and received to this file
    #[arg(short, long, value_name = "PATH")]
    pub rawlog: Option<PathBuf>,

    /// Accepted for doveadm's sake: marks a run that nobody started by hand
    #[arg(short = 'U', long, hide = true)]
    pub replicator_notify: bool,

    /// Accepted for doveadm's sake.
    #[arg(short = 'E', long, hide = true)]
    pub legacy_dsync: bool,

    /// Words dsync-server: the name of the command if this program stands in for doveadm, and
    /// the one that doveadm appends to commands.
    #[arg(hide = true, num_args = 0..=2, value_parser = [SERVER_WORD])]
    pub ignored: Vec<String>,

    /// What to do instead of serving one user on standard input and output.
    #[command(subcommand)]
    pub action: Option<Action>,
}

impl Cli {
    /// The options that count for everything, from both places where they may stand.
    pub fn common_arguments(&self) -> CommonArguments {
        let mut common = self.common.clone();
        if let Some(Action::Listen(arguments)) = &self.action {
            common.add(&arguments.common);
        }
        common
    }
}

/// Options for one session and for listening.
#[derive(Args, Clone, Debug, Default)]
pub struct CommonArguments {
    /// Read settings from this TOML file, or dovecot.conf
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Set a setting, such as mail_location=maildir:~/Maildir; may be repeated
    #[arg(short = 'o', long = "option", value_name = "NAME=VALUE")]
    pub option: Vec<String>,

    /// Give up when nothing was sent or received for this long (default 600)
    #[arg(short = 'T', long, value_name = "SECONDS",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub timeout: Option<u32>,

    /// Say what is done
    #[arg(short, long)]
    pub verbose: bool,

    /// Say everything
    #[arg(short = 'D', long)]
    pub debug: bool,
}

impl CommonArguments {
    /// Seconds without progress after which a session is given up.
    pub fn timeout(&self) -> u32 {
        self.timeout.unwrap_or(DEFAULT_TIMEOUT)
    }

    /// Adds those that stand further to the right.
    fn add(&mut self, more: &Self) {
        self.config = more.config.clone().or(self.config.take());
        self.option.extend(more.option.iter().cloned());
        self.timeout = more.timeout.or(self.timeout);
        self.verbose |= more.verbose;
        self.debug |= more.debug;
    }
}

/// What to do instead of serving one user on standard input and output.
#[derive(Clone, Debug, Subcommand)]
pub enum Action {
    /// Listen for dsync and doveadm sync, with the doveadm protocol, until a signal comes
    #[command(after_help = LISTEN_EXAMPLES)]
    Listen(ListenArguments),
}

/// Arguments of `listen`.
#[derive(Args, Clone, Debug)]
pub struct ListenArguments {
    /// Most sessions at one time
    #[arg(long, value_name = "NUMBER", default_value_t = 100,
          value_parser = clap::value_parser!(u16).range(1..))]
    pub max_sessions: u16,

    /// Most connections of one address (of IPv6: one /64 network) at one time
    #[arg(long, value_name = "NUMBER", default_value_t = 100,
          value_parser = clap::value_parser!(u16).range(1..))]
    pub max_per_address: u16,

    /// Serve only users that fit this mask (*@example.org); may be repeated
    #[arg(long, value_name = "MASK")]
    pub serve: Vec<String>,

    /// Where: tcp:HOST:PORT, tcps:HOST:PORT or unix:PATH[:MODE]; * as HOST for all addresses
    #[arg(value_name = "ADDRESS")]
    pub addresses: Vec<String>,

    /// Options for everything.
    #[command(flatten)]
    pub common: CommonArguments,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn what_doveadm_passes_is_accepted() {
        for arguments in [
            &["dsync-server", "-u", "joe", "-U"][..],
            &[
                "dsync-server",
                "-ujoe@example.org",
                "-U",
                "-E",
                "dsync-server",
            ],
            &["dsync-server", "-r", "/tmp/x", "-T", "60", "dsync-server"],
            &["doveadm", "dsync-server", "-o", "a=b", "-D"],
            &["doveadm", "-D", "dsync-server", "-ujoe", "dsync-server"],
            &["dsync-server", "--remoteprefix"],
            &["dsync-server", "listen", "tcp:h:1", "unix:/x", "-c", "/x"],
        ] {
            Cli::try_parse_from(arguments).unwrap();
        }
        for arguments in [
            &["dsync-server", "again"][..],
            &[
                "dsync-server",
                "dsync-server",
                "dsync-server",
                "dsync-server",
            ],
            &["dsync-server", "-u", "joe", "--remoteprefix"],
            &["dsync-server", "-T", "0"],
            &["dsync-server", "-T", "x"],
            &["dsync-server", "-Z"],
            &["dsync-server", "listen", "--max-sessions", "0"],
        ] {
            assert!(Cli::try_parse_from(arguments).is_err(), "{arguments:?}");
        }
    }
}
