//! The `dsync-server` command: parse and dispatch. Its stdout carries only the protocol.

mod failure;
mod listen;
mod stdio;

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use dsync_config::{
    AUTH_SSL_REQUIRE_CLIENT_CERT, DOVEADM_PASSWORD, DOVEADM_PORT, SSL_MIN_PROTOCOL,
    SSL_SERVER_CA_FILE, SSL_SERVER_CERT_FILE, SSL_SERVER_KEY_FILE, Setting, Settings,
};
use dsync_server::{Action, Cli, CommonArguments, ListenArguments};
use dsync_transport::net::{TlsServer, TlsServerOptions, TlsVersion};
use dsync_transport::own_program;
use tracing::Level;

use crate::failure::{Failure, say};
use crate::listen::{Address, ChildOptions, ListenOptions};

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
    let common = cli.common_arguments();
    install_logging(&common);
    match run(&cli, &common) {
        Ok(code) => code.into(),
        Err(failure) => {
            say(&failure.message);
            failure.exit_code.into()
        }
    }
}

fn run(cli: &Cli, common: &CommonArguments) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let result = match &cli.action {
        Some(Action::Listen(_)) if cli.user.is_some() || cli.remoteprefix => {
            return Err(Failure::usage(
                "clients name their users: listen without -u",
            ));
        }
        Some(Action::Listen(arguments)) => {
            let options = listen_options(common, arguments)?;
            runtime.block_on(listen::listen(options)).map(|()| 0)
        }
        None if io::stdin().is_terminal() && io::stdout().is_terminal() => {
            return Err(Failure::usage(
                "this is the other end of dsync and speaks its protocol, not to people; see --help",
            ));
        }
        None => runtime.block_on(stdio::serve(cli)),
    };
    // A thread may hang in a read of stdin that nobody can interrupt.
    runtime.shutdown_background();
    result
}

fn listen_options(
    common: &CommonArguments,
    arguments: &ListenArguments,
) -> Result<ListenOptions, Failure> {
    let settings = Settings::load(common.config.as_deref(), &common.option)?;
    let mut addresses: Vec<Address> = Vec::new();
    for text in &arguments.addresses {
        let address = Address::parse(text, settings.number(&DOVEADM_PORT));
        addresses.push(address.map_err(|reason| Failure::usage(format!("{text}: {reason}")))?);
    }
    Ok(ListenOptions {
        addresses,
        password: settings.text(&DOVEADM_PASSWORD).as_bytes().to_vec(),
        tls: tls_server(&settings)?,
        max_sessions: arguments.max_sessions.into(),
        max_per_address: arguments.max_per_address.into(),
        served: arguments.serve.clone(),
        child: ChildOptions {
            program: own_program(env::args_os().next())?,
            arguments: session_arguments(common),
            timeout: common.timeout(),
        },
    })
}

/// Sessions read the same settings, but need no password.
fn session_arguments(common: &CommonArguments) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    if let Some(config) = &common.config {
        arguments.extend(["-c".into(), config.into()]);
    }
    let is_secret = |option: &str| option.trim_start().starts_with(DOVEADM_PASSWORD.name);
    for option in common.option.iter().filter(|option| !is_secret(option)) {
        arguments.extend(["-o".into(), option.into()]);
    }
    arguments
}

fn tls_server(settings: &Settings) -> Result<Option<TlsServer>, Failure> {
    let path = |setting: &Setting| {
        let text = settings.text(setting);
        (!text.is_empty()).then(|| PathBuf::from(text))
    };
    let Some(certificate) = path(&SSL_SERVER_CERT_FILE) else {
        return Ok(None);
    };
    let needs_client = settings.is_on(&AUTH_SSL_REQUIRE_CLIENT_CERT);
    let client_ca = path(&SSL_SERVER_CA_FILE).filter(|_| needs_client);
    if needs_client && client_ca.is_none() {
        return Err(Failure::config(
            "auth_ssl_require_client_cert = yes needs the clients' authorities: set ssl_server_ca_file",
        ));
    }
    Ok(Some(TlsServer::new(&TlsServerOptions {
        // A file may hold both.
        key: path(&SSL_SERVER_KEY_FILE).unwrap_or_else(|| certificate.clone()),
        certificate,
        client_ca,
        min_version: match settings.text(&SSL_MIN_PROTOCOL) {
            "TLSv1.3" | "LATEST" => TlsVersion::V13,
            _ => TlsVersion::V12,
        },
    })?))
}

fn install_logging(common: &CommonArguments) {
    let level = match (common.debug, common.verbose) {
        (true, _) => Level::DEBUG,
        (false, true) => Level::INFO,
        (false, false) => Level::WARN,
    };
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .without_time()
        .with_target(false)
        .with_ansi(false)
        .with_writer(io::stderr)
        .finish();
    // Fails only if there is one already.
    let _ = tracing::subscriber::set_global_default(subscriber);
}
