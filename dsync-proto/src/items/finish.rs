//! `F` finish, from the server.

use bstr::BString;

use crate::types::MailErrorClass;

/// Result of the server's side (`spec/wire.md` 12.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finish {
    /// Text of the error that ended the run.
    pub error: Option<BString>,
    /// Class of that error.
    pub mail_error: Option<MailErrorClass>,
    /// Some mailbox could not be synced incrementally.
    pub require_full_resync: bool,
}
