//! `F` finish (`spec/wire.md` 12.3).

use crate::items::Finish;
use crate::types::MailErrorClass;
use crate::wire::error::DecodeError;
use crate::wire::fields::Fields;
use crate::wire::number;
use crate::wire::row::Row;
use crate::wire::spec::{ItemSpec, optional};

pub(crate) static SPEC: ItemSpec = ItemSpec {
    letter: b'F',
    name: "finish",
    min_minor: 3,
    keys: &[
        optional("error"),
        optional("mail_error"),
        optional("require_full_resync"),
    ],
};

const ERROR: usize = 0;
const MAIL_ERROR: usize = 1;
const REQUIRE_FULL_RESYNC: usize = 2;

pub(crate) fn decode(fields: &Fields<'_>) -> Result<Finish, DecodeError> {
    let mail_error = match fields.parsed_shown(MAIL_ERROR, number::parse_time)? {
        None | Some(0) => None,
        // A class that we do not know is still an error.
        Some(number) => Some(
            u32::try_from(number)
                .ok()
                .and_then(MailErrorClass::from_wire)
                .unwrap_or_default(),
        ),
    };
    Ok(Finish {
        error: fields.bstring(ERROR),
        mail_error,
        require_full_resync: fields.flag(REQUIRE_FULL_RESYNC),
    })
}

pub(crate) fn encode(finish: &Finish, row: &mut Row) {
    row.optional_text(ERROR, finish.error.as_ref());
    if let Some(class) = finish.mail_error {
        row.number(MAIL_ERROR, class.to_wire());
    }
    row.flag(REQUIRE_FULL_RESYNC, finish.require_full_resync);
}
