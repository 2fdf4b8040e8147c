//! One file per item type: its key table, reading and writing.

pub(crate) mod attribute;
pub(crate) mod change;
pub(crate) mod deletes;
pub(crate) mod finish;
pub(crate) mod handshake;
pub(crate) mod mail;
pub(crate) mod mailbox;
pub(crate) mod node;
pub(crate) mod state;

use super::spec::ItemSpec;
use crate::items::Item;

/// All item types in the order in which Dovecot 2.3 announces them.
pub(crate) static ALL_SPECS: [&ItemSpec; 11] = [
    &handshake::SPEC,
    &state::SPEC,
    &node::SPEC,
    &deletes::SPEC,
    &mailbox::SPEC,
    &attribute::SPEC,
    &change::SPEC,
    &mail::REQUEST_SPEC,
    &mail::SPEC,
    &finish::SPEC,
    &mailbox::CACHE_SPEC,
];

/// The table of an item with values.
pub(crate) fn spec_of(item: &Item) -> Option<&'static ItemSpec> {
    match item {
        Item::Handshake(_) => Some(&handshake::SPEC),
        Item::State(_) => Some(&state::SPEC),
        Item::Node(_) => Some(&node::SPEC),
        Item::Deletes(_) => Some(&deletes::SPEC),
        Item::Mailbox(_) => Some(&mailbox::SPEC),
        Item::Attribute(_) => Some(&attribute::SPEC),
        Item::Change(_) => Some(&change::SPEC),
        Item::Request(_) => Some(&mail::REQUEST_SPEC),
        Item::Mail(_) => Some(&mail::SPEC),
        Item::Finish(_) => Some(&finish::SPEC),
        Item::BodyChunk(_) | Item::BodyEnd | Item::EndOfList | Item::Done => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::spec::MAX_KEYS;

    #[test]
    fn all_keys_fit() {
        assert!(ALL_SPECS.iter().all(|spec| spec.keys.len() <= MAX_KEYS));
    }
}
