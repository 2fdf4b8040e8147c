//! We sync while everybody works on both sides.

use anyhow::Result;
use clap::Args;

use crate::command::run as execute;

/// Options of `cargo xtask soak`.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// Passed on; --help tells them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

/// The `soak` command: builds the programs and hands over.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    execute("cargo", &["build", "--locked", "--workspace"])?;
    let mut words = vec![
        "run",
        "--quiet",
        "--locked",
        "-p",
        "interop-tests",
        "--bin",
        "soak",
        "--",
    ];
    words.extend(arguments.options.iter().map(String::as_str));
    execute("cargo", &words)
}
