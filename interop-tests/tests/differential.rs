//! A fixed slice of the differential generator; `cargo xtask diff` runs any other.

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

slices! {
    sync_changed Sync Changed
    sync_full Sync Full
    sync_stateful Sync Stateful
    backup_changed Backup Changed
    backup_full Backup Full
    backup_stateful Backup Stateful
    one_way_changed OneWay Changed
    one_way_full OneWay Full
    one_way_stateful OneWay Stateful
    backup_reverse_changed BackupReverse Changed
    backup_reverse_full BackupReverse Full
    backup_reverse_stateful BackupReverse Stateful
}
