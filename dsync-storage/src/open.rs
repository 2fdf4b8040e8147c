//! From a location to a store.

use dsync_proto::types::MailErrorClass;

use crate::dbox::DboxStore;
use crate::location::{Driver, Location};
use crate::maildir::MaildirStore;
use crate::{Namespace, Result, StorageError, Store, StoreSettings};

/// Opens the store of a location for one namespace.
///
/// # Errors
///
/// `NotPossible` for formats and options that are not supported; `NotFound` if
/// [`StoreSettings::create`] is not set and the mail directory is missing.
pub fn open_store(
    location: &Location,
    namespace: Namespace,
    settings: &StoreSettings,
) -> Result<Box<dyn Store>> {
    match location.driver {
        Driver::Maildir => Ok(Box::new(MaildirStore::open(location, namespace, settings)?)),
        Driver::Sdbox | Driver::Mdbox => {
            Ok(Box::new(DboxStore::open(location, namespace, settings)?))
        }
        Driver::Mbox => Err(StorageError::new(
            MailErrorClass::NotPossible,
            format!(
                "mail format {} is not supported yet: {}",
                location.driver.name(),
                location.root.display()
            ),
        )),
    }
}
