//! Programs of `interop-tests` that a person runs.

use anyhow::Result;
use clap::Args;

use crate::command::run as execute;

/// Options of such a command.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// Passed on; --help tells them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

/// Builds everything and hands over to this program.
pub(crate) fn run(program: &str, arguments: &Arguments) -> Result<()> {
    execute("cargo", &["build", "--locked", "--workspace"])?;
    let start = ["run", "--quiet", "--locked", "-p", "interop-tests", "--bin"];
    let mut words = start.to_vec();
    words.extend([program, "--"]);
    words.extend(arguments.options.iter().map(String::as_str));
    execute("cargo", &words)
}
