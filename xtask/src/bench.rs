//! Ours beside its peers.

use anyhow::Result;
use clap::Args;

use crate::command::run as execute;
use crate::setup;

/// Options of `cargo xtask bench`.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// Passed on; --help tells them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

/// The `bench` command: builds the release programs and hands over.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::install_rivals()?;
    execute("cargo", &["build", "--release", "--locked", "--workspace"])?;
    let mut words = vec![
        "run",
        "--quiet",
        "--release",
        "--locked",
        "-p",
        "interop-tests",
    ];
    words.extend(["--bin", "bench", "--"]);
    words.extend(arguments.options.iter().map(String::as_str));
    execute("cargo", &words)
}
