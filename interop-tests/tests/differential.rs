//! A fixed slice of the differential generator: seeds 1 to 4 without a gap, each in every
//! direction, type and topology. `cargo xtask diff` plays any others.

use anyhow::{Result, ensure};
use interop_tests::Version;
use interop_tests::diff::{Kind, Mode, Options, Topology, play};

fn seed(seed: u64) -> Result<()> {
    let options = Options {
        peer: Version::V23,
        modes: Mode::ALL.to_vec(),
        kinds: Kind::ALL.to_vec(),
        topologies: Topology::ALL.to_vec(),
    };
    let report = play(seed, &options)?;
    let failures: Vec<String> = report.failures.iter().map(ToString::to_string).collect();
    ensure!(
        failures.is_empty(),
        "{}\n{}",
        failures.join("\n"),
        report.script
    );
    ensure!(report.cases == 5 * 3 * 4, "{} cases", report.cases);
    Ok(())
}

#[test]
fn seed_1() -> Result<()> {
    seed(1)
}

#[test]
fn seed_2() -> Result<()> {
    seed(2)
}

#[test]
fn seed_3() -> Result<()> {
    seed(3)
}

#[test]
fn seed_4() -> Result<()> {
    seed(4)
}
