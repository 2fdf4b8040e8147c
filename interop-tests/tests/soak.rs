//! A slice of `cargo xtask soak`.

use std::time::Duration;

use anyhow::{Result, ensure};
use interop_tests::soak::{Options, run};

#[test]
fn nothing_is_lost_or_doubled_while_everybody_works() -> Result<()> {
    let report = run(&Options {
        time: Duration::from_secs(20),
        seed: 1,
        formats: ["sdbox".to_owned(), "sdbox".to_owned()],
    })?;
    ensure!(report.runs > 2 && report.saved > 10, "{report:?}");
    Ok(())
}
