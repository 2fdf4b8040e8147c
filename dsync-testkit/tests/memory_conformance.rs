//! The store in memory keeps every promise, in both layouts.

use dsync_storage::Store;
use dsync_storage::memory::{MemoryOptions, MemoryStore};
use dsync_testkit::conformance::{Account, Features, StoreFactory};

struct Memory(MemoryOptions);

impl StoreFactory for Memory {
    fn create(&self) -> Box<dyn Account> {
        let store = MemoryStore::new(self.0.clone());
        Box::new(move || Box::new(store.clone()) as Box<dyn Store>)
    }

    fn features(&self) -> Features {
        Features {
            lf_only: self.0.lf_only,
            directories: self.0.directories,
            inbox_deletable: self.0.inbox_deletable,
            attributes: self.0.attributes,
            ..Features::default()
        }
    }
}

mod dbox {
    use super::*;
    dsync_testkit::conformance_tests!(Memory(MemoryOptions::dbox(1)));
}

mod maildir {
    use super::*;
    dsync_testkit::conformance_tests!(Memory(MemoryOptions {
        lf_only: true,
        attributes: false,
        ..MemoryOptions::maildir(1)
    }));
}
