//! sdbox and mdbox keep every promise of the storage traits.
#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::path::PathBuf;
use std::sync::Arc;

use dsync_storage::location::{Location, Variables};
use dsync_storage::{Namespace, Store, StoreSettings, open_store};
use dsync_testkit::conformance::{Account, Features, StoreFactory};
use tempfile::TempDir;

struct Dbox {
    driver: &'static str,
    options: &'static str,
}

impl StoreFactory for Dbox {
    fn create(&self) -> Box<dyn Account> {
        let folder = Arc::new(TempDir::new().unwrap());
        let root: PathBuf = folder.path().join("mail");
        let options = self
            .options
            .replace("HOME", &folder.path().display().to_string());
        let text = format!("{}:{}{options}", self.driver, root.display());
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
            ..Features::default()
        }
    }
}

mod sdbox {
    use super::*;
    dsync_testkit::conformance_tests!(Dbox {
        driver: "sdbox",
        options: "",
    });
}

mod sdbox_apart {
    use super::*;
    dsync_testkit::conformance_tests!(Dbox {
        driver: "sdbox",
        options: ":INDEX=HOME/index:CONTROL=HOME/control",
    });
}

mod mdbox {
    use super::*;
    dsync_testkit::conformance_tests!(Dbox {
        driver: "mdbox",
        options: "",
    });
}

mod mdbox_apart {
    use super::*;
    dsync_testkit::conformance_tests!(Dbox {
        driver: "mdbox",
        options: ":INDEX=HOME/index:CONTROL=HOME/control",
    });
}
