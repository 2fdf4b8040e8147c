//! What can be typed: the one definition behind `--help`, manual pages and completions.

use std::path::PathBuf;

use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand};

/// The definition of the command, for manual pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

const EXAMPLES: &str = "\
Examples:
  Keep two Maildirs equal, both on this host:
    dsync sync --source maildir:~/Maildir maildir:/srv/copy/joe
  Two-way with another host; there is dsync-server or a Dovecot:
    dsync -v sync mail.example.org
  The same, the other side is a Dovecot:
    dsync sync ssh root@mail.example.org doveadm dsync-server -u joe
  Make a backup (the destination becomes equal to the source), then restore it:
    dsync backup maildir:/srv/backup/joe
    dsync backup -R maildir:/srv/backup/joe
  Run often, and look only at what changed since the last time:
    dsync sync -s \"$(cat state)\" ssh host dsync-server > state.new && mv state.new state

Exit codes:
  0 done, 2 done but run it again (something changed meanwhile, or single messages had problems),
  64 wrong usage, 65 impossible or damaged data, 67 unknown user, 68 not found,
  73 over quota or disk full, 75 failed, try again, 77 no permission, 78 configuration";

const SYNC_EXAMPLES: &str = "\
DESTINATION is one of
  maildir:PATH            a mail location on this host (also with options: maildir:PATH:LAYOUT=fs)
  PROGRAM [ARGUMENT...]   a command that speaks dsync on its stdin and stdout; if the last word is
                          not dsync-server, that word is added, as doveadm does
  [USER@]HOST             another host, by ssh (dsync_remote_cmd): dsync-server there, or Dovecot
                          USER is whose mail it is there; remote:LOGIN@HOST tells who logs in
  remoteprefix:HOST       the same for a command there that reads the user's name from its input
  tcp:HOST[:PORT]         a doveadm server, dsync-server's or Dovecot's (doveadm_password,
                          doveadm_port); also the path of its UNIX socket
  tcps:HOST[:PORT]        the same with TLS (ssl_client_ca_file)
Options end where DESTINATION begins: everything after it belongs to the command.

Examples:
  dsync sync maildir:/srv/copy/joe
  dsync sync ssh mail.example.org dsync-server -o mail_location=maildir:~/Maildir
  dsync sync -m INBOX -t 30days ssh mail.example.org doveadm dsync-server -u joe
  dsync -c /etc/dsync.toml sync -u joe tcps:mail.example.org:4711
  dsync sync -u joe remote:vmail@mail.example.org
  dsync sync -A -d                          every user of this host with its mail_replica
  dsync sync -1 maildir:/srv/archive        only add, delete nothing in the destination";

const BACKUP_EXAMPLES: &str = "\
The destination becomes equal to the source: what was changed there is undone, what exists only
there is deleted. With -R the other side is the source and the own store is overwritten.

DESTINATION is a mail location (maildir:PATH), a command that speaks dsync on its stdin and
stdout, or a doveadm server (tcps:HOST:PORT); see dsync sync --help.

Examples:
  dsync backup maildir:/srv/backup/joe
  dsync backup ssh backup.example.org dsync-server -o mail_location=maildir:/srv/backup/joe
  dsync backup -R maildir:/srv/backup/joe   restore";

const INDEX_DUMP_HELP: &str = "\
Only reads: nothing is locked, repaired or created, so it can be used beside a running Dovecot.

The snapshot (dovecot.index) comes first: header fields, extensions with their header bytes in hex,
keyword names by bit number, then one line for each message. The logs follow, the older one first:
one line for each record with its offset in the file and the HIGHESTMODSEQ behind it.
  external   is a fact; without it, a request that the owner of the storage has yet to carry out
  sync       was written while synchronising, and is no news for dsync
  +0x08      flags: 0x01 Answered, 0x02 Flagged, 0x04 Deleted, 0x08 Seen, 0x10 Draft
A log that ends with \"damaged\" or \"unfinished\" has a torn tail; whoever locks it next cuts it.

Examples:
  dsync index dump maildir:~/Maildir INBOX | less
  dsync index dump sdbox:/srv/mail/joe Work/Clients";

const CHECK_HELP: &str = "\
Goes the whole way that a sync would go, and prints one line for each step: user, name of the host,
port, TLS, login or command, user on the other side, mail and lock here, version, lock and mail
there. Steps that do not belong to the destination are left out. The first one that fails ends it,
and the last line says what to do about it. No mail is read or changed on either side: the other
side is asked for the names of its mailboxes only.

DESTINATION is what dsync sync takes. The exit code is the one that a sync would end with: 0 if
all is well, 67 for an unknown user, 75 for a host that does not answer, and so on.

Examples:
  dsync check mail.example.org
  dsync check -u joe tcps:mail.example.org:4711
  dsync check -u joe -d                     the mail_replica of joe
  dsync check --json remote:vmail@backup.example.org";

/// Synchronises mailboxes: two-way without losing changes of either side, or as a backup.
///
/// Speaks the dsync protocol of Dovecot 2.3 and 2.4: the other side may be dsync-server or a
/// Dovecot. UIDs, flags, keywords, dates, GUIDs and subscriptions are kept.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "dsync",
    version,
    after_help = EXAMPLES,
    args_override_self = true,
    infer_long_args = true,
    max_term_width = 100,
    disable_help_subcommand = true,
    subcommand_required = true
)]
pub struct Cli {
    /// Options for every command.
    #[command(flatten)]
    pub global: GlobalArguments,
    /// This program was started by itself, to become this user: its standard input is the way to
    /// the other side.
    #[arg(long, hide = true, value_name = "USER")]
    pub worker: Option<String>,
    /// The same for one of many users, who are named in messages.
    #[arg(long, hide = true, requires = "worker")]
    pub worker_of_many: bool,
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

impl Cli {
    /// The options for every command, from both places where they may stand.
    pub fn global_arguments(&self) -> GlobalArguments {
        let of_action = match &self.action {
            Action::Sync(command) => Some(&command.common.global),
            Action::Backup(arguments) => Some(&arguments.global),
            Action::Check(arguments) => Some(&arguments.global),
            Action::Config(arguments) => Some(&arguments.global),
            Action::Index(command) => {
                let IndexAction::Dump { global, .. } = &command.action;
                Some(global)
            }
            Action::DsyncServer { .. } => None,
        };
        let mut global = self.global.clone();
        if let Some(more) = of_action {
            global.add(more);
        }
        global
    }
}

/// Options for every command, before or after its name.
#[derive(Args, Clone, Debug, Default)]
pub struct GlobalArguments {
    /// Read settings from this TOML file, or dovecot.conf
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Set a setting, such as mail_location=maildir:~/Maildir; may be repeated
    #[arg(short = 'o', long = "option", value_name = "NAME=VALUE")]
    pub option: Vec<String>,

    /// Say what is done: one line for each mailbox
    #[arg(short, long)]
    pub verbose: bool,

    /// Say everything, on both sides
    #[arg(short = 'D', long)]
    pub debug: bool,

    /// Say nothing but errors
    #[arg(short, long)]
    pub quiet: bool,

    /// Print the result as one JSON object on stdout
    #[arg(long)]
    pub json: bool,

    /// No progress bar, also on a terminal
    #[arg(long)]
    pub no_progress: bool,
}

impl GlobalArguments {
    /// Adds those that stand further to the right.
    fn add(&mut self, more: &Self) {
        self.config = more.config.clone().or(self.config.take());
        self.option.extend(more.option.iter().cloned());
        self.verbose |= more.verbose;
        self.debug |= more.debug;
        self.quiet |= more.quiet;
        self.json |= more.json;
        self.no_progress |= more.no_progress;
    }
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub enum Action {
    /// Bring the changes of both sides together
    #[command(alias = "mirror", after_help = SYNC_EXAMPLES)]
    Sync(SyncCommand),

    /// Make the destination equal to the source
    #[command(after_help = BACKUP_EXAMPLES)]
    Backup(SyncArguments),

    /// Find out why a destination cannot be synced with, and what to do
    #[command(after_help = CHECK_HELP)]
    Check(CheckArguments),

    /// Show the settings that are in force, and where each was given
    Config(ConfigArguments),

    /// Look into the index files of a mailbox
    Index(IndexCommand),

    /// Run the program dsync-server with these arguments (see dsync-server --help)
    #[command(alias = "server", hide = true, disable_help_flag = true)]
    DsyncServer {
        /// Its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
}

/// Arguments of `check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArguments {
    /// The own store; short for -o mail_location=LOCATION. Default: ~/Maildir if it exists
    #[arg(long, value_name = "LOCATION")]
    pub source: Option<String>,

    /// Whose mail: a user of the userdb
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,

    /// The destination is the user's mail_replica
    #[arg(short = 'd', long)]
    pub default_destination: bool,

    /// Options for every command.
    #[command(flatten)]
    pub global: GlobalArguments,

    /// The other side, as dsync sync takes it
    #[arg(
        value_name = "DESTINATION",
        trailing_var_arg = true,
        action = ArgAction::Append
    )]
    pub destination: Vec<String>,
}

/// Arguments of `config`.
#[derive(Args, Clone, Debug)]
pub struct ConfigArguments {
    /// As they are for this user
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,

    /// Passwords too
    #[arg(short = 'P', long)]
    pub show_secrets: bool,

    /// Only the value of this setting
    #[arg(value_name = "NAME")]
    pub name: Option<String>,

    /// Options for every command.
    #[command(flatten)]
    pub global: GlobalArguments,
}

/// Arguments of `index`.
#[derive(Args, Clone, Debug)]
pub struct IndexCommand {
    /// What to do with them.
    #[command(subcommand)]
    pub action: IndexAction,
}

/// What can be done with index files.
#[derive(Clone, Debug, Subcommand)]
pub enum IndexAction {
    /// Print what stands in dovecot.index, dovecot.index.log.2 and dovecot.index.log
    #[command(after_help = INDEX_DUMP_HELP)]
    Dump {
        /// Where the mail is, such as maildir:~/Maildir
        location: String,
        /// Full name of the mailbox
        mailbox: String,
        /// Options for every command.
        #[command(flatten)]
        global: GlobalArguments,
    },
}

/// Arguments of `sync`.
#[derive(Args, Clone, Debug)]
pub struct SyncCommand {
    /// One way: the destination gets the changes, nothing is deleted there
    #[arg(short = '1', long = "oneway-sync", help_heading = "What is done")]
    pub one_way: bool,

    /// All others.
    #[command(flatten)]
    pub common: SyncArguments,
}

/// Arguments of `sync` and `backup`.
#[derive(Args, Clone, Debug, Default)]
pub struct SyncArguments {
    /// The own store; short for -o mail_location=LOCATION. Default: ~/Maildir if it exists
    #[arg(long, value_name = "LOCATION")]
    pub source: Option<String>,

    /// Whose mail: a user of the userdb, or a mask (*@example.org) for all that fit
    #[arg(short, long, value_name = "USER", help_heading = "Whose mail")]
    pub user: Option<String>,

    /// All users of the userdb
    #[arg(short = 'A', long, help_heading = "Whose mail", conflicts_with_all = ["user", "user_file"])]
    pub all_users: bool,

    /// The users in this file, one per line; - for standard input
    #[arg(
        short = 'F',
        long,
        value_name = "FILE",
        help_heading = "Whose mail",
        conflicts_with = "user"
    )]
    pub user_file: Option<PathBuf>,

    /// So many users at one time (-A, -F, a mask). Default: one for each processor, at most 8; an
    /// sshd allows 10 for each connection
    #[arg(long, value_name = "NUMBER", help_heading = "Whose mail",
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub jobs: Option<u16>,

    /// The other side is the source, the own store the destination (backup and -1)
    #[arg(short = 'R', long, help_heading = "What is done")]
    pub reverse_sync: bool,

    /// Compare everything, also where the counters of both sides are equal
    #[arg(short = 'f', long, help_heading = "What is done")]
    pub full_sync: bool,

    /// State printed by an earlier run, or '' for the first; the new state is printed on stdout
    #[arg(short, long, value_name = "STATE", help_heading = "What is done")]
    pub state: Option<String>,

    /// Purge the other side's storage afterwards (mdbox)
    #[arg(short = 'P', long, help_heading = "What is done")]
    pub purge_remote: bool,

    /// Only this mailbox, pattern (Work/*) or special use (\Sent); '' for names without mail
    #[arg(short, long, value_name = "NAME", help_heading = "Which mail")]
    pub mailbox: Option<String>,

    /// Only the mailbox with this GUID; '' for names without mail
    #[arg(short = 'g', long, value_name = "GUID", help_heading = "Which mail")]
    pub mailbox_guid: Option<String>,

    /// Not these mailboxes: a name, a mask (Spam*) or a special use (\Trash); may be repeated
    #[arg(short = 'x', long, value_name = "MASK", help_heading = "Which mail")]
    pub exclude_mailbox: Vec<String>,

    /// Only the namespace with this prefix; may be repeated
    #[arg(short, long, value_name = "PREFIX", help_heading = "Which mail")]
    pub namespace: Vec<String>,

    /// All visible namespaces (with a command as destination)
    #[arg(short = 'N', long, help_heading = "Which mail")]
    pub all_namespaces: bool,

    /// Only messages received since: 2026-11-24, 24-Nov-2026, Unix time, or an age (30days)
    #[arg(
        short = 't',
        long,
        value_name = "DATE",
        allow_hyphen_values = true,
        help_heading = "Which mail"
    )]
    pub sync_since_time: Option<String>,

    /// Only messages received until then
    #[arg(
        short = 'e',
        long,
        value_name = "DATE",
        allow_hyphen_values = true,
        help_heading = "Which mail"
    )]
    pub sync_until_time: Option<String>,

    /// Only messages with this flag (\Flagged) or keyword; with a leading - those without it
    #[arg(
        short = 'O',
        long,
        value_name = "FLAG",
        allow_hyphen_values = true,
        help_heading = "Which mail"
    )]
    pub sync_flags: Option<String>,

    /// Only messages of at most this size, such as 500K or 20M
    #[arg(
        short = 'I',
        long,
        value_name = "SIZE",
        allow_hyphen_values = true,
        help_heading = "Which mail"
    )]
    pub sync_max_size: Option<String>,

    /// Virtual mailbox with all messages, from which the other side copies instead of fetching
    #[arg(short, long, value_name = "NAME", help_heading = "Which mail")]
    pub all_mailbox: Option<String>,

    /// Allow one run per user at a time, and wait this many seconds for another one to end
    #[arg(
        short = 'l',
        long,
        value_name = "SECONDS",
        allow_hyphen_values = true,
        help_heading = "How"
    )]
    pub lock_timeout: Option<String>,

    /// Give up when nothing was sent or received for this long (default 600); until a doveadm
    /// server has let us in, after 30 seconds at the latest
    #[arg(
        short = 'T',
        long,
        value_name = "SECONDS",
        allow_hyphen_values = true,
        help_heading = "How"
    )]
    pub timeout: Option<String>,

    /// Append everything that is sent and received to this file
    #[arg(short, long, value_name = "PATH", help_heading = "How")]
    pub rawlog: Option<PathBuf>,

    /// Setting for the destination only, if it is a location; may be repeated
    #[arg(short = 'p', long, value_name = "NAME=VALUE", help_heading = "How")]
    pub destination_option: Vec<String>,

    /// Accepted for doveadm's sake: marks a run that nobody started by hand
    #[arg(short = 'U', long, hide = true)]
    pub replicator_notify: bool,

    /// Accepted for doveadm's sake.
    #[arg(long, hide = true)]
    pub no_userdb_lookup: bool,

    /// The destination is the user's mail_replica
    #[arg(short = 'd', long)]
    pub default_destination: bool,

    /// Let a doveadm server do the whole command: path of its UNIX socket, or HOST:PORT
    #[arg(short = 'S', long, value_name = "SERVER", help_heading = "How")]
    pub socket_path: Option<String>,

    /// Options for every command.
    #[command(flatten)]
    pub global: GlobalArguments,

    /// The other side: a mail location, or a command with its arguments
    #[arg(
        value_name = "DESTINATION",
        trailing_var_arg = true,
        action = ArgAction::Append
    )]
    pub destination: Vec<String>,
}

#[cfg(test)]
mod tests;
