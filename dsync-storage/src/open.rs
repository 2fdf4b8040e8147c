//! From a location to a store.

use crate::dbox::DboxStore;
use crate::location::{Driver, Location};
use crate::maildir::MaildirStore;
use crate::mbox::MboxStore;
use crate::{Namespace, Result, Store, StoreSettings};

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
        Driver::Mbox => Ok(Box::new(MboxStore::open(location, namespace, settings)?)),
    }
}
