//! Identity of a mailbox in its index, and whether the index can be trusted.

use std::path::Path;
use std::time::Duration;

use dsync_proto::types::{Guid, MailErrorClass};

use crate::index::{
    ExtensionSpec, HeaderField, Index, IndexSettings, IndexState, Origin, Transaction,
};
use crate::location::Driver;
use crate::opened::INDEX_PREFIX;
use crate::{MailboxIdentity, Result, StorageError, StoreSettings};

/// Longest wait for the lock of an index log.
pub(super) const INDEX_LOCK_TIMEOUT: Duration = Duration::from_secs(180);
/// Where the GUID is in the extension.
const GUID_OFFSET: usize = 4;
/// Where the flags about POP3 fields are.
pub(super) const FLAGS_OFFSET: usize = 20;
/// Index flag: records were lost in a repair; message files must be looked at.
const FSCKD: u32 = 4;

/// The extension that holds the identity.
pub(super) fn header_spec(driver: Driver) -> ExtensionSpec<'static> {
    match driver {
        Driver::Mdbox => ExtensionSpec::MDBOX_HDR,
        Driver::Sdbox | Driver::Maildir | Driver::Mbox => ExtensionSpec::DBOX_HDR,
    }
}

/// How indexes of dbox are kept.
pub(super) fn index_settings(settings: &StoreSettings) -> IndexSettings {
    IndexSettings {
        is_truth: true,
        ..settings.into()
    }
}

/// Opens the index of a mailbox.
pub(super) fn open_index(dir: &Path, settings: &StoreSettings) -> Result<Index> {
    Index::open(dir, INDEX_PREFIX, index_settings(settings))
}

/// GUID of the mailbox; zero if it has none yet.
pub(super) fn guid_of(state: &IndexState, driver: Driver) -> Guid {
    let bytes = state.extension(header_spec(driver).name).and_then(|known| {
        let bytes = known.header.get(GUID_OFFSET..GUID_OFFSET + 16)?;
        bytes.first_chunk::<16>().copied()
    });
    bytes.map_or(Guid::ZERO, Guid)
}

/// Identity of the mailbox, if it has one.
pub(super) fn identity_of(state: &IndexState, driver: Driver) -> Option<MailboxIdentity> {
    let identity = MailboxIdentity {
        guid: guid_of(state, driver),
        uid_validity: state.header().uid_validity(),
        uid_next: state.header().next_uid(),
    };
    (!identity.guid.is_zero() && identity.uid_validity != 0).then_some(identity)
}

/// Gives the mailbox this GUID.
pub(super) fn set_guid(transaction: &mut Transaction, driver: Driver, guid: Guid) {
    transaction.set_extension_header(header_spec(driver), GUID_OFFSET as u32, &guid.0);
}

/// Says which map an mdbox mailbox is made for.
pub(super) fn set_map(transaction: &mut Transaction, uid_validity: u32) {
    transaction.set_extension_header(ExtensionSpec::MDBOX_HDR, 0, &uid_validity.to_le_bytes());
}

/// The records that make a mailbox (`spec/dbox.md` 6). `map`: UIDVALIDITY of the map (mdbox).
pub(super) fn first_records(
    driver: Driver,
    guid: Guid,
    uid_validity: u32,
    map: u32,
    is_inbox: bool,
) -> Transaction {
    let mut first = Transaction::new(Origin::FACT);
    let mut header = [0; 24];
    header[..4].copy_from_slice(&map.to_le_bytes());
    header[GUID_OFFSET..GUID_OFFSET + 16].copy_from_slice(&guid.0);
    first.set_extension_header(header_spec(driver), 0, &header);
    if is_inbox {
        first.set_extension_header(ExtensionSpec::HDR_POP3_UIDL, 0, &[0; 4]);
    }
    first.set_uid_validity(uid_validity);
    first.enable_modseqs();
    first
}

/// Whether a repair of the index lost something: the message files must be looked at.
pub(super) fn is_fsckd(state: &IndexState) -> bool {
    state.header().get(HeaderField::Flags) & FSCKD != 0
}

/// UIDVALIDITY of the map that an mdbox mailbox was made for.
pub(super) fn map_of(state: &IndexState, driver: Driver) -> u32 {
    let known = state.extension(header_spec(driver).name);
    let bytes = known.and_then(|known| known.header.first_chunk::<4>().copied());
    bytes.map_or(0, u32::from_le_bytes)
}

/// Refuses an index that does not tell which messages there are.
pub(super) fn check(index: &Index, mailbox: &str) -> Result<()> {
    let state = index.state();
    if index.needs_rebuild() || is_fsckd(state) {
        return Err(StorageError::new(
            MailErrorClass::InvalidData,
            format!(
                "the index of mailbox {mailbox} is damaged, and flags are kept in it only: \
                 run `doveadm force-resync` for this mailbox"
            ),
        ));
    }
    if state.is_deleted() {
        return Err(StorageError::new(
            MailErrorClass::NotFound,
            format!("Mailbox was deleted under us: {mailbox}"),
        ));
    }
    Ok(())
}
