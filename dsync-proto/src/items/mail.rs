//! `R` mail_request and `M` mail.

use bstr::BString;

use crate::types::{MailGuid, Uid};

/// A request for a message that the peer announced (`spec/wire.md` 7.7).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailRequest {
    /// GUID; wins over the UID.
    pub guid: Option<MailGuid>,
    /// UID in the mailbox of the side that sends the message; 0 if absent.
    pub uid: Uid,
}

/// Metadata of a message; its body follows if `stream` is set (`spec/wire.md` 7.8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mail {
    /// GUID; empty when requested by UID.
    pub guid: Option<MailGuid>,
    /// UID in the sender's mailbox, only when requested by UID; else 0.
    pub uid: Uid,
    /// POP3 UIDL; Dovecot always sends the key, empty for none.
    pub pop3_uidl: BString,
    /// POP3 order, 0 for none.
    pub pop3_order: u32,
    /// INTERNALDATE in seconds since the epoch. Always send it: a Dovecot takes 0 as 1970.
    pub received_date: i64,
    /// Save date in seconds since the epoch, 0 if unknown.
    pub saved_date: i64,
    /// A body follows; if not, the message was expunged meanwhile.
    pub stream: bool,
}
