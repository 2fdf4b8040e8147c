//! Attributes: whose value wins (`spec/mailbox-sync.md` 12).

use std::cmp::Ordering;
use std::sync::Arc;

use bstr::{BString, ByteSlice};
use dsync_proto::items::{Attribute, AttributeValue};
use dsync_proto::types::{MailErrorClass, ModSeq};
use dsync_storage::{AttributeData, AttributeName, LoggedAttribute, Mailbox};

use super::Importer;
use crate::Problem;
use crate::mailbox::{MailboxError, PeerFault, Result};

/// What is known of an attribute on one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Known<'a> {
    value: Option<&'a [u8]>,
    last_change: i64,
    modseq: ModSeq,
}

/// Whether the remote value replaces the local one. `local` is `None` if neither a value nor a
/// logged change is known; `common` is the last common modseq.
fn takes_remote(local: Option<Known<'_>>, remote: Known<'_>, common: ModSeq) -> bool {
    if remote.value.is_none() && local.is_none_or(|local| local.value.is_none()) {
        return false;
    }
    let Some(local) = local else { return true };
    if common > 0 {
        if local.modseq <= common && common < remote.modseq {
            return true;
        }
        if remote.modseq <= common && common < local.modseq {
            return false;
        }
    }
    match remote.last_change.cmp(&local.last_change) {
        Ordering::Greater => return true,
        Ordering::Less => return false,
        Ordering::Equal => {}
    }
    // No value is less than any.
    match remote.value.cmp(&local.value) {
        Ordering::Equal => false,
        order => match remote.modseq.cmp(&local.modseq) {
            Ordering::Greater => true,
            Ordering::Less => false,
            Ordering::Equal => order == Ordering::Greater,
        },
    }
}

/// Attributes of a backup source, in case that the mailbox is made anew.
#[derive(Debug, Default)]
pub(super) struct AttributeHistory {
    list: Vec<(Attribute, Option<Vec<u8>>)>,
    bytes: usize,
}

impl AttributeHistory {
    /// Most octets of values that are kept; the next run brings the rest.
    const MAX_BYTES: usize = 16 * 1024 * 1024;

    fn keep(&mut self, attribute: &Attribute, stream: Option<&Vec<u8>>) {
        let value = match (&attribute.value, stream) {
            (AttributeValue::Inline(value), _) => value.len(),
            (_, Some(value)) => value.len(),
            _ => 0,
        };
        let bytes = self.bytes + attribute.key.len() + value;
        if bytes <= Self::MAX_BYTES {
            self.bytes = bytes;
            self.list.push((attribute.clone(), stream.cloned()));
        }
    }
}

impl Importer {
    /// Applies to a new mailbox what came for the old one.
    pub(super) fn restore_attributes(
        &mut self,
        mailbox: &mut dyn Mailbox,
        history: AttributeHistory,
    ) -> Result<()> {
        for (attribute, stream) in history.list {
            self.attribute(mailbox, &attribute, stream)?;
        }
        Ok(())
    }

    /// An attribute; `stream` is its value if the item announces one.
    ///
    /// A store that cannot keep it is no reason to give up the messages: only this attribute is
    /// left out.
    pub fn attribute(
        &mut self,
        mailbox: &mut dyn Mailbox,
        attribute: &Attribute,
        stream: Option<Vec<u8>>,
    ) -> Result<()> {
        if self.error.is_some() {
            return Ok(());
        }
        if self.options.revert && !self.scan.is_stateful() {
            self.attribute_history.keep(attribute, stream.as_ref());
        }
        let is_stream = stream.is_some();
        let value: Option<BString> = match (&attribute.value, stream) {
            (AttributeValue::Deleted, _) => None,
            (AttributeValue::Inline(value), _) => Some(value.clone()),
            (AttributeValue::Stream, Some(bytes)) => Some(bytes.into()),
            (AttributeValue::Stream, None) => {
                let fault = PeerFault::AttributeWithoutValue {
                    key: attribute.key.to_string(),
                };
                let error = MailboxError::peer(&self.scan.name, fault);
                return self.remember(Err(error));
            }
        };
        let name = AttributeName {
            kind: attribute.kind,
            key: attribute.key.clone(),
        };
        let result = self.import_attribute(mailbox, &name, attribute, value, is_stream);
        match result {
            Err(error) if error.class != MailErrorClass::NotPossible => {
                let reason = format!("attribute {} cannot be set: {error}", name.key);
                self.problems
                    .push(Problem::in_mailbox(&self.scan.name, reason));
            }
            Err(error) if !self.warned_about_attributes => {
                tracing::warn!(
                    "Mailbox {}: attributes are not synced: {error}",
                    self.scan.name
                );
                self.warned_about_attributes = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn import_attribute(
        &mut self,
        mailbox: &mut dyn Mailbox,
        name: &AttributeName,
        attribute: &Attribute,
        value: Option<BString>,
        stream: bool,
    ) -> dsync_storage::Result<()> {
        let scan = Arc::clone(&self.scan);
        let is_this = |entry: &&LoggedAttribute| entry.kind == name.kind && entry.key == name.key;
        let logged = scan.log.attributes.iter().find(is_this);
        let present = mailbox.attribute(name)?;
        let local = (present.is_some() || logged.is_some()).then(|| Known {
            value: present.as_ref().map(|data| data.value.as_bytes()),
            last_change: present.as_ref().map_or(0, |data| data.last_change),
            modseq: logged.map_or(0, |entry| entry.modseq),
        });
        let remote = Known {
            value: value.as_ref().map(|value| value.as_bytes()),
            last_change: attribute.last_change,
            modseq: attribute.modseq,
        };
        if !takes_remote(local, remote, scan.state.last_common_modseq) {
            return Ok(());
        }
        let last_change = attribute.last_change;
        let data = value.map(|value| AttributeData {
            value,
            stream,
            last_change,
        });
        mailbox.set_attribute(name, data)?;
        self.changed = true;
        self.counters.attributes += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(value: Option<&str>, last_change: i64, modseq: ModSeq) -> Known<'_> {
        Known {
            value: value.map(str::as_bytes),
            last_change,
            modseq,
        }
    }

    #[test]
    fn who_wins() {
        let takes = |l, r, common| takes_remote(l, r, common);
        assert!(takes(None, known(Some("a"), 0, 0), 0), "unknown here");
        assert!(!takes(None, known(None, 0, 5), 0), "nothing to delete");
        assert!(
            !takes(Some(known(None, 0, 4)), known(None, 0, 5), 0),
            "deleted here, too"
        );
        let local = Some(known(Some("b"), 0, 3));
        assert!(
            takes(local, known(Some("a"), 0, 7), 5),
            "only the peer changed it"
        );
        assert!(
            !takes(Some(known(Some("b"), 0, 7)), known(Some("c"), 0, 3), 5),
            "only we did"
        );
        assert!(takes(local, known(Some("a"), 2, 0), 0), "changed later");
        assert!(
            !takes(Some(known(Some("b"), 3, 0)), known(Some("c"), 2, 9), 0),
            "earlier"
        );
        assert!(!takes(local, known(Some("b"), 0, 9), 0), "equal");
        assert!(takes(local, known(None, 0, 9), 0), "a later deletion");
        assert!(
            takes(Some(known(Some("aaa"), 0, 0)), known(Some("bbb"), 0, 0), 0),
            "S71"
        );
        assert!(
            !takes(Some(known(Some("bbb"), 0, 0)), known(Some("aaa"), 0, 0), 0),
            "S71 mirrored"
        );
    }
}
