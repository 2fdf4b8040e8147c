//! A fixed slice of the differential generator.

use anyhow::Result;
use interop_tests::diff::{Case, Mode, Topology, Type};

fn slice(mode: Mode, sync_type: Type) -> Result<()> {
    for seed in 0..5 {
        Case::new(seed, mode, sync_type).check(&Topology::ALL)?;
    }
    Ok(())
}

macro_rules! slices {
    ($($name:ident $mode:ident $sync_type:ident)*) => {
        $(#[test]
        fn $name() -> Result<()> {
            slice(Mode::$mode, Type::$sync_type)
        })*
    };
}

// The other modes and types join once the harness copes with them (docs/ROADMAP.md).
slices! {
    one_way_changed OneWay Changed
    one_way_full OneWay Full
}
