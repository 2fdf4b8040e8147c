//! One account, with the commands that read and change it.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dsync_storage::location::{Location, Variables};
use dsync_storage::{Namespace, Store, StoreSettings, open_store};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::imap::Imap;
use crate::world::{TIME_LIMIT, own_all};
use crate::{Facts, Version, World};

/// What a command printed and how it ended.
#[derive(Clone, Debug)]
pub struct Run {
    /// Exit code; 128 and more for a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// It had to be killed, after [`World::set_time_limit`].
    pub timed_out: bool,
}

impl Run {
    /// Fails unless the exit code is this one.
    pub fn expect_code(self, code: i32) -> Result<Self> {
        ensure!(
            self.code == code,
            "exit code {} instead of {code}\nstdout: {}\nstderr: {}",
            self.code,
            self.stdout,
            self.stderr
        );
        Ok(self)
    }

    /// Fails unless it ended well and had nothing to complain about.
    pub fn expect_quiet(self) -> Result<Self> {
        let run = self.expect_code(0)?;
        ensure!(run.stderr.is_empty(), "unexpected message: {}", run.stderr);
        Ok(run)
    }
}

/// A namespace beside the account's own location.
#[derive(Clone, Copy, Debug)]
pub struct ExtraNamespace {
    /// What both programs call it.
    pub name: &'static str,
    /// What its names begin with, the separator `/` at its end.
    pub prefix: &'static str,
    /// Where it is, below the home directory.
    pub folder: &'static str,
    /// Whether it is hidden, which also makes it unlisted.
    pub hidden: bool,
}

impl ExtraNamespace {
    /// The settings of both programs, by name.
    fn settings(&self, home: &Path) -> Vec<(&'static str, String)> {
        let location = format!("maildir:{}/{}", home.display(), self.folder);
        let mut settings = vec![
            ("prefix", self.prefix.to_owned()),
            ("separator", "/".to_owned()),
            ("location", location),
        ];
        if self.hidden {
            settings.push(("hidden", "yes".to_owned()));
            settings.push(("list", "no".to_owned()));
        }
        settings
    }
}

/// One account.
pub struct Side<'w> {
    world: &'w World,
    name: String,
    format: String,
    options: String,
    namespaces: Vec<ExtraNamespace>,
    settings: Vec<String>,
}

impl<'w> Side<'w> {
    pub(crate) fn new(world: &'w World, name: &str, format: &str, options: &str) -> Result<Self> {
        let side = Self {
            world,
            name: name.to_owned(),
            format: format.to_owned(),
            options: options.to_owned(),
            namespaces: Vec::new(),
            settings: Vec::new(),
        };
        world.make_folder(name)?;
        world.make_folder("run")?;
        side.add_settings("")?;
        Ok(side)
    }

    pub(crate) fn renamed(&self, name: &str) -> Result<Self> {
        Self::new(self.world, name, &self.format, &self.options)?.with_namespaces(&self.namespaces)
    }

    /// The same account with further namespaces; the separator of all is `/`. For Dovecot 2.3.
    pub fn with_namespaces(mut self, namespaces: &[ExtraNamespace]) -> Result<Self> {
        self.namespaces = namespaces.to_vec();
        self.add_settings("")?;
        Ok(self)
    }

    /// The same account with further settings of ours: `name=value`.
    pub fn with_settings(mut self, settings: &[&str]) -> Self {
        self.settings = settings
            .iter()
            .map(|setting| (*setting).to_owned())
            .collect();
        self
    }

    fn dovecot_namespaces(&self) -> String {
        if self.namespaces.is_empty() {
            return String::new();
        }
        let mut out = "namespace inbox {\n  inbox = yes\n  separator = /\n}\n".to_owned();
        for namespace in &self.namespaces {
            out += &format!("namespace {} {{\n", namespace.name);
            for (name, value) in namespace.settings(&self.home()) {
                out += &format!("  {name} = {value}\n");
            }
            out += "}\n";
        }
        out
    }

    fn dovecot_config(&self) -> String {
        let home = self.home();
        let home = home.display();
        let base = self.world.inside("run");
        let common = format!(
            "ssl = no\nlog_path = /dev/stderr\nbase_dir = {}\nstats_writer_socket_path =\n\
             first_valid_uid = 1\nmail_home = {home}\n",
            base.display()
        );
        match self.world.version() {
            Version::V23 => format!(
                "{common}mail_location = {}\n\
                 mail_attribute_dict = file:{home}/dovecot-attributes\n",
                self.location()
            ),
            Version::V24 => format!(
                "dovecot_config_version = 2.4.1\ndovecot_storage_version = 2.4.1\n{common}\
                 mail_driver = {}\nmail_path = {}\n{}\
                 mail_attribute {{\n  dict file {{\n    path = {home}/dovecot-attributes\n  }}\n}}\n",
                self.format,
                self.mail_root().display(),
                if self.options.contains("LAYOUT=fs") {
                    "mailbox_list_layout = fs\n"
                } else {
                    ""
                },
            ),
        }
    }

    /// Adds settings to those of its Dovecot; later ones win.
    pub fn add_settings(&self, settings: &str) -> Result<()> {
        let config = self.dovecot_config() + &self.dovecot_namespaces() + settings;
        self.world
            .write(&format!("{}.conf", self.name), config.as_bytes())
    }

    /// The name it was made with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Home directory, as programs inside see it.
    pub fn home(&self) -> PathBuf {
        self.world.inside(&self.name)
    }

    /// Root of the mail store, as programs inside see it.
    pub fn mail_root(&self) -> PathBuf {
        self.home().join("mail")
    }

    /// Root of the mail store, from outside.
    pub fn outside_mail_root(&self) -> PathBuf {
        self.world.outside(&self.name).join("mail")
    }

    /// Location string.
    pub fn location(&self) -> String {
        format!(
            "{}:{}{}",
            self.format,
            self.mail_root().display(),
            self.options
        )
    }

    /// Command line of a Dovecot that serves this account on its standard input and output.
    pub fn dovecot_server(&self) -> Vec<String> {
        let mut words: Vec<String> = ["env", "-i", "PATH=/usr/bin:/bin:/usr/sbin", "USER=u"]
            .map(str::to_owned)
            .to_vec();
        words.push(format!("HOME={}", self.home().display()));
        let settings = self.settings_as_environment().into_iter();
        words.extend(settings.map(|(name, value)| format!("{name}={value}")));
        words.extend(["doveadm".into(), "-c".into(), self.config()]);
        words.push("dsync-server".into());
        if self.world.version() == Version::V24 {
            words.push("--no-userdb-lookup".into());
            // Dovecot appends the command's name unless it stands last.
            words.push("dsync-server".into());
        }
        words
    }

    /// Command line of our server for this account.
    pub fn our_server(&self) -> Result<Vec<String>> {
        let program = self.world.program("dsync-server")?;
        let mut words: Vec<String> = ["env", "-i", "PATH=/usr/bin:/bin", "USER=u"]
            .map(str::to_owned)
            .to_vec();
        words.push(format!("HOME={}", self.home().display()));
        words.push(program.display().to_string());
        words.extend(self.our_options());
        words.push("dsync-server".into());
        Ok(words)
    }

    /// Options that tell one of our programs about this account.
    pub fn our_options(&self) -> Vec<String> {
        let mut settings = vec![
            format!("mail_location={}", self.location()),
            format!(
                "mail_attribute_dict=file:{}/dovecot-attributes",
                self.home().display()
            ),
        ];
        settings.extend_from_slice(&self.settings);
        if !self.namespaces.is_empty() {
            settings.push("namespace/inbox/inbox=yes".to_owned());
            settings.push("namespace/inbox/separator=/".to_owned());
        }
        for namespace in &self.namespaces {
            for (name, value) in namespace.settings(&self.home()) {
                settings.push(format!("namespace/{}/{name}={value}", namespace.name));
            }
        }
        let options = settings
            .into_iter()
            .flat_map(|setting| ["-o".into(), setting]);
        // Nothing from the Dovecot of this host.
        ["-c".into(), "/dev/null".into()]
            .into_iter()
            .chain(options)
            .collect()
    }

    /// In a world in memory, the settings as `doveconf` leaves them in the environment for
    /// Dovecot 2.3: a command does not start it, and then itself again, to read them. Nothing if
    /// the configuration has blocks.
    fn settings_as_environment(&self) -> Vec<(String, String)> {
        let config = self.world.outside(&format!("{}.conf", self.name));
        let config = fs::read_to_string(config).unwrap_or_default();
        if !self.world.is_in_memory() || config.contains('{') {
            return Vec::new();
        }
        let settings = config.lines().filter_map(|line| line.split_once('='));
        let settings = settings
            .map(|(name, value)| (name.trim().to_uppercase(), value.trim().to_owned()))
            .chain([("DOVECONF_ENV".to_owned(), "1".to_owned())]);
        settings.collect()
    }

    fn config(&self) -> String {
        self.world
            .inside(&format!("{}.conf", self.name))
            .display()
            .to_string()
    }

    /// Runs `doveadm COMMAND ARGUMENTS` whatever comes of it. `command` may be several words.
    pub fn doveadm_run<S: AsRef<OsStr>>(
        &self,
        command: &str,
        arguments: &[S],
        input: &[u8],
    ) -> Result<Run> {
        let mut process = self.doveadm_command(&format!("-f json {command}"));
        if self.world.version() == Version::V24 {
            process.arg("--no-userdb-lookup");
        }
        process.args(arguments);
        run_within(process, input, self.world.time_limit())
    }

    /// `doveadm WORDS` for this account, ready to be started.
    pub fn doveadm_command(&self, words: &str) -> Command {
        let mut process = self.world.command(&self.home(), "doveadm");
        process.envs(self.settings_as_environment());
        process.args(["-c", &self.config()]);
        process.args(words.split(' '));
        process
    }

    /// A new IMAP session of Dovecot on this account.
    pub fn imap(&self) -> Result<Imap> {
        Imap::new(self).with_context(|| format!("IMAP session on {}", self.name))
    }

    /// Runs `doveadm COMMAND ARGUMENTS`, which must end well and silently; returns its output.
    pub fn doveadm(&self, command: &str, arguments: &[&str]) -> Result<String> {
        self.doveadm_with_input(command, arguments, b"")
    }

    /// The same with standard input.
    pub fn doveadm_with_input(
        &self,
        command: &str,
        arguments: &[&str],
        input: &[u8],
    ) -> Result<String> {
        let run = self
            .doveadm_run(command, arguments, input)?
            .expect_quiet()
            .with_context(|| format!("doveadm {command} {arguments:?} on {}", self.name))?;
        Ok(run.stdout)
    }

    /// Saves a message by Dovecot.
    pub fn save(&self, mailbox: &str, message: &[u8]) -> Result<()> {
        self.doveadm_with_input("save", &["-m", mailbox], message)
            .map(drop)
    }

    /// Runs our `dsync` for this account: `arguments` start with `sync` or `backup`.
    pub fn dsync<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Run> {
        let process = self.dsync_command(arguments)?;
        run_within(process, b"", self.world.time_limit())
    }

    /// The same, ready to be started.
    pub fn dsync_command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Command> {
        let program = self.world.program("dsync")?;
        let mut process = self.world.command(&self.home(), program);
        process.args(self.our_options());
        process.args(arguments);
        Ok(process)
    }

    /// Works with the store in this process, then hands everything it made to the mail user.
    pub fn with_store<T>(&self, work: impl FnOnce(&mut dyn Store) -> Result<T>) -> Result<T> {
        // As we see it, from outside of the world.
        let (inside, outside) = (self.home(), self.outside(""));
        let (inside, outside) = (inside.display().to_string(), outside.display().to_string());
        let text = self
            .location()
            .replace(&inside, outside.trim_end_matches('/'));
        let location = Location::parse(&text, &Variables::default())?;
        let settings = StoreSettings {
            attribute_dict: Some(self.outside("dovecot-attributes")),
            ..StoreSettings::default()
        };
        let mut store = open_store(&location, Namespace::default(), &settings)?;
        let result = work(store.as_mut())?;
        drop(store);
        own_all(&self.outside(""))?;
        Ok(result)
    }

    /// Runs `doveadm sync` or `doveadm backup` for this account.
    pub fn dovecot_dsync<S: AsRef<OsStr>>(&self, command: &str, arguments: &[S]) -> Result<Run> {
        self.doveadm_run(command, arguments, b"")
    }

    /// Everything that an IMAP client could see, as Dovecot tells it.
    pub fn facts(&self) -> Result<Facts> {
        Facts::read(self).with_context(|| format!("facts of {}", self.name))
    }

    /// The world of this account.
    pub fn world(&self) -> &World {
        self.world
    }

    /// A file in the home directory, from outside.
    pub fn outside(&self, file: impl AsRef<Path>) -> PathBuf {
        self.world.outside(&self.name).join(file)
    }
}

/// Runs a program to its end.
pub fn run(process: Command, input: &[u8]) -> Result<Run> {
    run_within(process, input, TIME_LIMIT)
}

/// Runs a program in a process group of its own, so that one that hangs can be killed with all
/// that it started.
fn run_within(mut process: Command, input: &[u8], limit: Duration) -> Result<Run> {
    let mut child = process
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {process:?}"))?;
    let group = Pid::from_raw(child.id().try_into()?);
    let stdin = child.stdin.take();
    let (sender, ended) = mpsc::channel();
    let (output, timed_out) = thread::scope(|scope| {
        scope.spawn(move || {
            // A program that does not want its input closes it early.
            let _ = stdin.map(|mut stdin| stdin.write_all(input));
        });
        scope.spawn(move || sender.send(child.wait_with_output()));
        match ended.recv_timeout(limit) {
            Ok(output) => (Ok(output), false),
            Err(_) => {
                // It may have ended at this moment.
                let _ = killpg(group, Signal::SIGKILL);
                (ended.recv(), true)
            }
        }
    });
    let output = output??;
    Ok(Run {
        code: output.status.code().unwrap_or(128),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        timed_out,
    })
}

/// What has to follow the path of a location so that all formats have the same mailbox names.
pub fn layout(format: &str) -> &'static str {
    match format {
        "maildir" => ":LAYOUT=fs",
        _ => "",
    }
}
