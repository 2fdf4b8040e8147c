//! The `dsync-server` command line. The program itself is `main.rs`.

mod prefix;

use std::path::PathBuf;

use clap::{CommandFactory, Parser};

pub use prefix::{PrefixError, read_user_prefix};

/// The definition of the command, for manual pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// The name of the command in doveadm.
const SERVER_WORD: &str = "dsync-server";

const EXAMPLES: &str = "\
It is not started by hand but by the other side:
  dsync sync ssh mail.example.org dsync-server -o mail_location=maildir:~/Maildir
  doveadm sync -u joe ssh mail.example.org dsync-server

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
    max_term_width = 100
)]
pub struct Cli {
    /// Read settings from this TOML file
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Set a setting, such as mail_location=maildir:~/Maildir; may be repeated
    #[arg(short = 'o', long = "option", value_name = "NAME=VALUE")]
    pub option: Vec<String>,

    /// Whose mail: fills in %u in settings and finds the home directory
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,

    /// Read whose mail it is from the first line of standard input (destination remoteprefix:)
    #[arg(long, conflicts_with = "user")]
    pub remoteprefix: bool,

    /// Give up when nothing was sent or received for this long
    #[arg(short = 'T', long, value_name = "SECONDS", default_value_t = 600,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub timeout: u32,

    /// Append everything that is sent and received to this file
    #[arg(short, long, value_name = "PATH")]
    pub rawlog: Option<PathBuf>,

    /// Say what is done
    #[arg(short, long)]
    pub verbose: bool,

    /// Say everything
    #[arg(short = 'D', long)]
    pub debug: bool,

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
        ] {
            assert!(Cli::try_parse_from(arguments).is_err(), "{arguments:?}");
        }
    }
}
