//! Which attributes are sent, in which order (`spec/mailbox-sync.md` 3.4).

use std::collections::{BTreeMap, VecDeque};

use bstr::ByteSlice;
use dsync_proto::items::{Attribute, AttributeValue};
use dsync_proto::types::{MailErrorClass, ModSeq};
use dsync_storage::{AttributeData, AttributeName, Mailbox};

use super::{OutAttribute, Scan};
use crate::Problem;

/// An attribute that may have to be sent.
struct Planned {
    name: AttributeName,
    /// Modseq of its logged change, 0 without.
    modseq: ModSeq,
    /// The log says that it was deleted.
    deleted: bool,
}

/// The attributes still to be sent.
pub(super) struct Attributes(VecDeque<Planned>);

impl Attributes {
    /// Attributes that cannot be listed are no reason to give up the messages.
    pub(super) fn new(mailbox: &mut dyn Mailbox, scan: &Scan, problems: &mut Vec<Problem>) -> Self {
        let names = mailbox.attributes().unwrap_or_else(|error| {
            if error.class != MailErrorClass::NotPossible {
                problems.push(Problem::in_mailbox(
                    &scan.name,
                    format!("attributes cannot be read, not synced: {error}"),
                ));
            }
            Vec::new()
        });
        let all = scan.log.complete || scan.state.last_common_uid == 0;
        let mut logged: BTreeMap<AttributeName, (ModSeq, bool)> = scan
            .log
            .attributes
            .iter()
            .map(|entry| {
                let name = AttributeName {
                    kind: entry.kind,
                    key: entry.key.clone(),
                };
                (name, (entry.modseq, entry.deleted))
            })
            .collect();
        let mut planned = VecDeque::new();
        for name in names {
            match logged.remove(&name) {
                Some((modseq, deleted)) => planned.push_back(Planned {
                    name,
                    modseq,
                    deleted,
                }),
                None if all => planned.push_back(Planned {
                    name,
                    modseq: 0,
                    deleted: false,
                }),
                None => {}
            }
        }
        let gone = logged.into_iter().filter(|(_, (_, deleted))| *deleted);
        planned.extend(gone.map(|(name, (modseq, deleted))| Planned {
            name,
            modseq,
            deleted,
        }));
        Self(planned)
    }

    pub(super) fn next(
        &mut self,
        mailbox: &mut dyn Mailbox,
        problems: &mut Vec<Problem>,
    ) -> Option<OutAttribute> {
        loop {
            let planned = self.0.pop_front()?;
            match mailbox.attribute(&planned.name) {
                Ok(Some(data)) => return Some(planned.set(data)),
                Ok(None) if planned.deleted => return Some(planned.unset()),
                Ok(None) => {}
                Err(error) => problems.push(Problem::in_mailbox(
                    mailbox.name(),
                    format!(
                        "attribute {} cannot be read, not synced: {error}",
                        planned.name.key
                    ),
                )),
            }
        }
    }
}

impl Planned {
    fn item(self, value: AttributeValue, last_change: i64) -> Attribute {
        let AttributeName { kind, key } = self.name;
        Attribute {
            kind,
            key,
            value,
            last_change,
            modseq: self.modseq,
        }
    }

    fn set(self, data: AttributeData) -> OutAttribute {
        // A NUL cannot travel inside a line.
        if data.stream || data.value.find_byte(0).is_some() {
            let item = self.item(AttributeValue::Stream, data.last_change);
            return OutAttribute {
                item,
                body: Some(data.value),
            };
        }
        let item = self.item(AttributeValue::Inline(data.value), data.last_change);
        OutAttribute { item, body: None }
    }

    fn unset(self) -> OutAttribute {
        OutAttribute {
            item: self.item(AttributeValue::Deleted, 0),
            body: None,
        }
    }
}
