//! All stores of one user.

use dsync_proto::types::Guid;

use crate::{Result, Store};

/// The stores of a user's namespaces, by rising length of their prefix.
pub struct Account {
    stores: Vec<Box<dyn Store>>,
}

impl Account {
    /// Joins the stores.
    pub fn new(mut stores: Vec<Box<dyn Store>>) -> Self {
        stores.sort_by_key(|store| store.namespace().prefix.len());
        Self { stores }
    }

    /// All stores, by rising length of their prefix.
    pub fn stores(&self) -> impl Iterator<Item = &dyn Store> {
        self.stores.iter().map(AsRef::as_ref)
    }

    /// All stores, by rising length of their prefix.
    pub fn stores_mut(&mut self) -> impl Iterator<Item = &mut Box<dyn Store>> {
        self.stores.iter_mut()
    }

    /// The store at this position.
    pub fn store(&mut self, index: usize) -> Option<&mut dyn Store> {
        match self.stores.get_mut(index) {
            Some(store) => Some(store.as_mut()),
            None => None,
        }
    }

    /// Keeps only the stores that `selected` accepts.
    pub fn retain(&mut self, mut selected: impl FnMut(&dyn Store) -> bool) {
        self.stores.retain(|store| selected(store.as_ref()));
    }

    /// Position of the store that serves this name: the longest matching prefix, or for `INBOX`
    /// the inbox namespace.
    pub fn index_for(&self, name: &str) -> Option<usize> {
        if name == "INBOX"
            && let Some(index) = self.stores.iter().position(|store| store.namespace().inbox)
        {
            return Some(index);
        }
        self.stores.iter().rposition(|store| {
            let namespace = store.namespace();
            name.starts_with(&namespace.prefix)
                || (!namespace.prefix.is_empty() && name == namespace.prefix_name())
        })
    }

    /// The store that serves this name.
    pub fn store_for(&mut self, name: &str) -> Option<&mut dyn Store> {
        let index = self.index_for(name)?;
        self.store(index)
    }

    /// Position of the store and name of the mailbox with this GUID.
    pub fn find_guid(&mut self, guid: Guid) -> Result<Option<(usize, String)>> {
        for (index, store) in self.stores.iter_mut().enumerate() {
            if let Some(name) = store.find_guid(guid)? {
                return Ok(Some((index, name)));
            }
        }
        Ok(None)
    }
}
