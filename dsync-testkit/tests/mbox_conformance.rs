//! mbox keeps every promise of the storage traits that its format can keep.
#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::path::PathBuf;
use std::sync::Arc;

use dsync_storage::location::{Location, Variables};
use dsync_storage::{Namespace, Store, StoreSettings, open_store};
use dsync_testkit::conformance::{Account, Features, StoreFactory};
use tempfile::TempDir;

struct Mbox {
    options: &'static str,
}

impl StoreFactory for Mbox {
    fn create(&self) -> Box<dyn Account> {
        let folder = Arc::new(TempDir::new().unwrap());
        let root: PathBuf = folder.path().join("mail");
        let options = self
            .options
            .replace("HOME", &folder.path().display().to_string());
        let text = format!("mbox:{}{options}", root.display());
        let location = Location::parse(&text, &Variables::default()).unwrap();
        let settings = StoreSettings {
            attribute_dict: Some(folder.path().join("attributes")),
            ..StoreSettings::default()
        };
        Box::new(move || {
            let _keep = &folder;
            let store: Box<dyn Store> =
                open_store(&location, Namespace::default(), &settings).unwrap();
            store
        })
    }

    fn features(&self) -> Features {
        Features {
            lf_only: true,
            ends_headers: true,
            mailboxes_have_children: false,
            pop3: false,
            ..Features::default()
        }
    }
}

mod mbox {
    use super::*;
    dsync_testkit::conformance_tests!(Mbox { options: "" });
}

mod mbox_apart {
    use super::*;
    dsync_testkit::conformance_tests!(Mbox {
        options: ":INDEX=HOME/index:CONTROL=HOME/control:INBOX=HOME/spool",
    });
}
