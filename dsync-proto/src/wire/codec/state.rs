//! `S` mailbox_state (`spec/wire.md` 7.1).

use crate::items::MailboxState;
use crate::wire::error::DecodeError;
use crate::wire::fields::Fields;
use crate::wire::row::Row;
use crate::wire::spec::{ItemSpec, optional, required};

pub(crate) static SPEC: ItemSpec = ItemSpec {
    letter: b'S',
    name: "mailbox_state",
    min_minor: 0,
    keys: &[
        required("mailbox_guid"),
        required("last_uidvalidity"),
        required("last_common_uid"),
        required("last_common_modseq"),
        required("last_common_pvt_modseq"),
        optional("last_messages_count"),
        optional("changes_during_sync"),
    ],
};

const MAILBOX_GUID: usize = 0;
const LAST_UIDVALIDITY: usize = 1;
const LAST_COMMON_UID: usize = 2;
const LAST_COMMON_MODSEQ: usize = 3;
const LAST_COMMON_PVT_MODSEQ: usize = 4;
const LAST_MESSAGES_COUNT: usize = 5;
const CHANGES_DURING_SYNC: usize = 6;

pub(crate) fn decode(fields: &Fields<'_>) -> Result<MailboxState, DecodeError> {
    Ok(MailboxState {
        mailbox_guid: fields.guid(MAILBOX_GUID)?,
        last_uidvalidity: fields.u32(LAST_UIDVALIDITY)?,
        last_common_uid: fields.u32(LAST_COMMON_UID)?,
        last_common_modseq: fields.u64(LAST_COMMON_MODSEQ)?,
        last_common_pvt_modseq: fields.u64(LAST_COMMON_PVT_MODSEQ)?,
        last_messages_count: fields.u32(LAST_MESSAGES_COUNT)?,
        changes_during_sync: fields.flag(CHANGES_DURING_SYNC),
    })
}

pub(crate) fn encode(state: &MailboxState, row: &mut Row) {
    row.guid(MAILBOX_GUID, &state.mailbox_guid);
    row.number(LAST_UIDVALIDITY, state.last_uidvalidity);
    row.number(LAST_COMMON_UID, state.last_common_uid);
    row.number(LAST_COMMON_MODSEQ, state.last_common_modseq);
    row.number(LAST_COMMON_PVT_MODSEQ, state.last_common_pvt_modseq);
    row.number(LAST_MESSAGES_COUNT, state.last_messages_count);
    row.flag(CHANGES_DURING_SYNC, state.changes_during_sync);
}
