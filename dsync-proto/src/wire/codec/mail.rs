//! `R` mail_request and `M` mail (`spec/wire.md` 7.7, 7.8).

use crate::items::{Mail, MailRequest};
use crate::types::MailGuid;
use crate::wire::error::DecodeError;
use crate::wire::fields::Fields;
use crate::wire::row::Row;
use crate::wire::spec::{ItemSpec, optional};

pub(crate) static REQUEST_SPEC: ItemSpec = ItemSpec {
    letter: b'R',
    name: "mail_request",
    min_minor: 0,
    keys: &[optional("guid"), optional("uid")],
};

pub(crate) static SPEC: ItemSpec = ItemSpec {
    letter: b'M',
    name: "mail",
    min_minor: 0,
    keys: &[
        optional("guid"),
        optional("uid"),
        optional("pop3_uidl"),
        optional("pop3_order"),
        optional("received_date"),
        optional("saved_date"),
        optional("stream"),
    ],
};

const GUID: usize = 0;
const UID: usize = 1;
const POP3_UIDL: usize = 2;
const POP3_ORDER: usize = 3;
const RECEIVED_DATE: usize = 4;
const SAVED_DATE: usize = 5;
const STREAM: usize = 6;

pub(crate) fn decode_request(fields: &Fields<'_>) -> Result<MailRequest, DecodeError> {
    let guid = fields.text(GUID).map(MailGuid::new);
    let uid = fields.u32(UID)?;
    if guid.is_none() && uid == 0 {
        // Dovecot crashes here.
        return Err(fields.invalid(UID));
    }
    Ok(MailRequest { guid, uid })
}

pub(crate) fn encode_request(request: &MailRequest, row: &mut Row) {
    row.optional_text(GUID, request.guid.as_ref().map(MailGuid::as_bytes));
    row.nonzero(UID, request.uid);
}

pub(crate) fn decode(fields: &Fields<'_>) -> Result<Mail, DecodeError> {
    Ok(Mail {
        guid: fields.text(GUID).map(MailGuid::new),
        uid: fields.u32(UID)?,
        pop3_uidl: fields.bstring(POP3_UIDL).unwrap_or_default(),
        pop3_order: fields.u32(POP3_ORDER)?,
        received_date: fields.time(RECEIVED_DATE)?,
        saved_date: fields.time(SAVED_DATE)?,
        stream: fields.flag(STREAM),
    })
}

pub(crate) fn encode(mail: &Mail, row: &mut Row) {
    row.optional_text(GUID, mail.guid.as_ref().map(MailGuid::as_bytes));
    row.nonzero(UID, mail.uid);
    row.text(POP3_UIDL, &mail.pop3_uidl);
    row.nonzero(POP3_ORDER, mail.pop3_order);
    row.nonzero_time(RECEIVED_DATE, mail.received_date);
    row.nonzero_time(SAVED_DATE, mail.saved_date);
    row.flag(STREAM, mail.stream);
}
