//! Maildir keeps every promise of the storage traits, in both layouts.
#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::path::PathBuf;
use std::sync::Arc;

use dsync_storage::location::{Location, Variables};
use dsync_storage::{Namespace, Store, StoreSettings, open_store};
use dsync_testkit::conformance::{Account, Features, StoreFactory};
use tempfile::TempDir;

struct Maildir {
    options: &'static str,
    separator: char,
    directories: bool,
}

impl StoreFactory for Maildir {
    fn create(&self) -> Box<dyn Account> {
        let folder = Arc::new(TempDir::new().unwrap());
        let root: PathBuf = folder.path().join("mail");
        let text = format!("maildir:{}{}", root.display(), self.options);
        let location = Location::parse(&text, &Variables::default()).unwrap();
        let namespace = Namespace {
            separator: self.separator,
            ..Namespace::default()
        };
        let settings = StoreSettings {
            attribute_dict: Some(folder.path().join("attributes")),
            ..StoreSettings::default()
        };
        Box::new(move || {
            let _keep = &folder;
            let store: Box<dyn Store> =
                open_store(&location, namespace.clone(), &settings).unwrap();
            store
        })
    }

    fn features(&self) -> Features {
        Features {
            lf_only: true,
            directories: self.directories,
            inbox_deletable: false,
            attributes: true,
            ..Features::default()
        }
    }
}

mod plus_plus {
    use super::*;
    dsync_testkit::conformance_tests!(Maildir {
        options: "",
        separator: '/',
        directories: false
    });
}

mod fs {
    use super::*;
    dsync_testkit::conformance_tests!(Maildir {
        options: ":LAYOUT=fs",
        separator: '/',
        directories: true,
    });
}
