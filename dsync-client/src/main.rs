//! The `dsync` command: parse, build, drive, report.

mod check;
mod console;
mod doveadm;
mod drive;
mod ended;
mod failure;
mod hosts;
mod index;
mod json;
mod many;
mod report;
mod road;
mod run;
mod sides;
mod users;
mod worker;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::{env, io};

use clap::Parser;
use clap::error::ErrorKind;
use dsync_client::{
    Action, Cli, ConfigArguments, GlobalArguments, IndexCommand, OutputOptions, RunOptions,
};
use dsync_config::{Login, Origin, Settings, User};
use dsync_engine::Mode;

use crate::console::Console;
use crate::doveadm::Elsewhere;
use crate::failure::Failure;
use crate::hosts::Hosts;
use crate::run::{Inputs, Stop, run_user};
use crate::users::Selection;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A reader that is gone does not want to know.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(64),
            };
        }
    };
    let global = cli.global_arguments();
    let mut output = OutputOptions::new(&global);
    // Who started a worker reads its result.
    output.json |= cli.worker.is_some();
    let mut console = Console::new(output, env::var_os("NO_COLOR").is_some());
    if let Some(user) = cli.worker.as_ref().filter(|_| cli.worker_of_many) {
        console = console.about(user);
    }
    console.install_logging();
    match start(cli, &global, output, &console) {
        Ok(code) => code.into(),
        Err(failure) => {
            console.error(&failure.message);
            if output.json {
                console.result(&json::failure(None, &failure.message, failure.exit_code));
            }
            failure.exit_code.into()
        }
    }
}

fn start(
    cli: Cli,
    global: &GlobalArguments,
    output: OutputOptions,
    console: &Console,
) -> Result<u8, Failure> {
    let (mode, arguments, command) = match cli.action {
        Action::DsyncServer { arguments } => return Err(become_server(arguments)),
        Action::Check(arguments) => {
            let worker = cli.worker.as_deref();
            return check::start(&arguments, global, worker, output.json, console);
        }
        Action::Config(arguments) => return show_settings(&arguments, global, console),
        Action::Index(command) => return show_index(&command, global),
        Action::Backup(arguments) => (Mode::Backup, arguments, "backup"),
        Action::Sync(command) if command.one_way => (Mode::OneWay, command.common, "sync"),
        Action::Sync(command) => (Mode::TwoWay, command.common, "sync"),
    };
    let mut settings = Settings::load(global.config.as_deref(), &global.option)?;
    if cli.worker.is_some() {
        settings.forget_secrets();
    }
    if let Some(source) = &arguments.source {
        settings.set("mail_location", source, &Origin::Argument("--source"))?;
    }
    let now = jiff::Timestamp::now();
    let options = RunOptions::new(mode, &arguments, &settings, output.debug, now)?;
    let host_domain = dsync_config::host_domain(env::var("DOVECOT_HOSTDOMAIN").ok(), &settings);
    let selection = match &cli.worker {
        Some(user) => Selection::One(Some(user.clone())),
        None => Selection::new(&arguments, &settings)?,
    };
    let elsewhere = match &arguments.socket_path {
        None => None,
        Some(target) => Some(Elsewhere {
            road: Elsewhere::road(&settings, target)?,
            command,
            arguments: arguments.clone(),
            one_way: mode == Mode::OneWay,
            debug: output.debug,
            verbose: output.verbose,
        }),
    };
    let of_many = matches!(selection, Selection::Many(_));
    let mut inputs = Inputs {
        command,
        options,
        settings,
        login: login(),
        host_domain,
        arguments: env::args_os().skip(1).collect(),
        is_worker: cli.worker.is_some(),
        of_many,
        replicates: arguments.replicator_notify,
        hosts: Hosts::default(),
        elsewhere,
    };
    if of_many {
        inputs.hosts.folder = Some(env::temp_dir());
    }
    let jobs = many::jobs(arguments.jobs);
    block_on(run_all(Arc::new(inputs), &selection, jobs, output, console))
}

/// Runs the asynchronous part of a command.
fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::temporary(format!("cannot start: {error}")))?;
    let result = runtime.block_on(work);
    // A thread may hang in a read that nobody can interrupt.
    runtime.shutdown_background();
    result
}

fn login() -> Login {
    Login {
        user: env::var("USER").ok(),
        home: env::var_os("HOME").map(PathBuf::from),
    }
}

fn show_index(command: &IndexCommand, global: &GlobalArguments) -> Result<u8, Failure> {
    let settings = Settings::load(global.config.as_deref(), &global.option)?;
    let host_domain = dsync_config::host_domain(env::var("DOVECOT_HOSTDOMAIN").ok(), &settings);
    index::run(command, settings, &login(), &host_domain)?;
    Ok(0)
}

async fn run_all(
    inputs: Arc<Inputs>,
    selection: &Selection,
    jobs: usize,
    output: OutputOptions,
    console: &Console,
) -> Result<u8, Failure> {
    let stop = Stop::new(console)?;
    match selection {
        Selection::One(name) => {
            let ended = run_user(&inputs, name.as_deref(), stop, console).await;
            match &ended.state {
                _ if output.json => console.result(&ended.json),
                Some(state) => console.result(state),
                None => {}
            }
            Ok(ended.exit_code)
        }
        Selection::Many(names) => {
            let summary = many::run(&inputs, names, jobs, stop, output, console).await;
            inputs.hosts.close().await;
            summary.print(console);
            Ok(summary.exit_code())
        }
    }
}

/// `dsync config`.
fn show_settings(
    arguments: &ConfigArguments,
    global: &GlobalArguments,
    console: &Console,
) -> Result<u8, Failure> {
    let mut settings = Settings::load(global.config.as_deref(), &global.option)?;
    if arguments.user.is_some() {
        let user = User::find(arguments.user.as_deref(), &Login::default(), &settings)?;
        settings = user.settings(&settings)?;
    }
    let shown = match &arguments.name {
        None => settings.to_toml(arguments.show_secrets),
        Some(name) => settings.value(name, arguments.show_secrets)?,
    };
    console.result(shown.trim_end());
    Ok(0)
}

/// Replaces this program by the server that lies beside it, or in PATH. Returns only if that
/// failed.
fn become_server(arguments: Vec<std::ffi::OsString>) -> Failure {
    let beside = env::current_exe()
        .ok()
        .map(|path| path.with_file_name("dsync-server"))
        .filter(|path| path.exists());
    let program = beside.unwrap_or_else(|| "dsync-server".into());
    let error: io::Error = Command::new(&program).args(arguments).exec();
    Failure::temporary(format!("cannot start {}: {error}", program.display()))
}
