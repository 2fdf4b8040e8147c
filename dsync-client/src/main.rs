//! The `dsync` command: parse, build, drive, report.

mod console;
mod failure;
mod json;
mod report;
mod road;
mod run;
mod sides;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::{env, io};

use clap::Parser;
use clap::error::ErrorKind;
use dsync_client::{Action, Cli, GlobalArguments, OutputOptions, RunOptions};
use dsync_config::{Login, Origin, Settings};
use dsync_engine::Mode;

use crate::console::Console;
use crate::failure::Failure;
use crate::run::Inputs;

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
    let output = OutputOptions::new(&global);
    let console = Console::new(output, env::var_os("NO_COLOR").is_some());
    console.install_logging();
    match start(cli, &global, output, &console) {
        Ok(code) => code.into(),
        Err(failure) => {
            console.error(&failure.message);
            if output.json {
                console.result(&json::failure(&failure.message, failure.exit_code));
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
        Action::Backup(arguments) => (Mode::Backup, arguments, "backup"),
        Action::Sync(command) if command.one_way => (Mode::OneWay, command.common, "sync"),
        Action::Sync(command) => (Mode::TwoWay, command.common, "sync"),
    };
    let mut settings = Settings::load(global.config.as_deref(), &global.option)?;
    if let Some(source) = &arguments.source {
        settings.set("mail_location", source, &Origin::Argument("--source"))?;
    }
    let now = jiff::Timestamp::now();
    let options = RunOptions::new(mode, &arguments, &settings, output.debug, now)?;
    let host_domain = dsync_config::host_domain(env::var("DOVECOT_HOSTDOMAIN").ok(), &settings);
    let inputs = Inputs {
        command,
        options,
        settings,
        user: arguments.user,
        login: Login {
            user: env::var("USER").ok(),
            home: env::var_os("HOME").map(PathBuf::from),
        },
        host_domain,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::temporary(format!("cannot start: {error}")))?;
    let report = runtime.block_on(run::run(inputs, console));
    // A thread may hang in a read that nobody can interrupt.
    runtime.shutdown_background();
    let report = report?;
    report.print(console, output);
    Ok(report.exit_code)
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
