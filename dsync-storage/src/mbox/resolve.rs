//! Which UIDs the messages of a file have (`spec/mbox.md` 3).

use std::collections::BTreeMap;

use dsync_proto::types::Uid;

use super::headers::Base;
use super::scan::Entry;
use crate::index::{ExtensionSpec, IndexState};

/// What the index remembers.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// 0 for an index that was never used.
    pub(super) uid_validity: u32,
    pub(super) next_uid: Uid,
    /// MD5 of all messages, if it is known.
    pub(super) messages: BTreeMap<Uid, Option<[u8; 16]>>,
    pub(super) keywords: Vec<Vec<u8>>,
}

impl Known {
    pub(super) fn of(state: &IndexState) -> Self {
        let md5 = |message: &crate::index::Message<'_>| {
            let bytes = message.extension(ExtensionSpec::HEADER_MD5.name)?;
            bytes
                .first_chunk::<16>()
                .copied()
                .filter(|md5| *md5 != [0; 16])
        };
        let messages = state.messages();
        Self {
            uid_validity: state.header().uid_validity(),
            next_uid: state.header().next_uid(),
            messages: messages
                .map(|message| (message.uid(), md5(&message)))
                .collect(),
            keywords: state
                .keyword_names()
                .iter()
                .map(|name| name.to_vec())
                .collect(),
        }
    }
}

/// UIDs of the messages of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Resolved {
    /// UIDVALIDITY, highest UID that was ever used, keywords. A UIDVALIDITY of 0 must be chosen.
    pub(super) base: Base,
    /// Of each message but the pseudo message, rising.
    pub(super) uids: Vec<Uid>,
    /// The index speaks of another mailbox: the file has another UIDVALIDITY.
    pub(super) index_is_foreign: bool,
    /// Something of this is missing in the file.
    pub(super) incomplete: bool,
}

/// Finds the UIDs.
pub(super) fn resolve(entries: &[Entry], known: &Known) -> Resolved {
    let first = entries.first();
    let in_file = first.and_then(|entry| entry.meta.base.clone());
    let foreign = in_file
        .as_ref()
        .is_some_and(|base| known.uid_validity != 0 && base.uid_validity != known.uid_validity);
    let nothing = Known::default();
    let known = if foreign { &nothing } else { known };
    let has_base = in_file.is_some();
    let mut base = in_file.unwrap_or_else(|| Base {
        uid_validity: known.uid_validity,
        ..Base::default()
    });
    for name in &known.keywords {
        if !base
            .keywords
            .iter()
            .any(|have| have.eq_ignore_ascii_case(name))
        {
            base.keywords.push(name.clone());
        }
    }
    let mut resolved = Resolved {
        index_is_foreign: foreign,
        incomplete: !has_base && !entries.is_empty(),
        ..Resolved::default()
    };
    let mut next = known.next_uid.max(base.last_uid.saturating_add(1)).max(1);
    let mut previous = 0;
    let fresh = known.uid_validity == 0;
    for entry in entries.iter().filter(|entry| !entry.meta.is_pseudo) {
        let said = entry.meta.uid.filter(|uid| {
            has_base
                && *uid > previous
                && (fresh
                    || *uid == next
                    || (*uid < next
                        && (*uid >= known.next_uid || known.messages.contains_key(uid))))
        });
        let uid = said.or_else(|| {
            let later = known.messages.range(previous.saturating_add(1)..);
            let same = |md5: &Option<[u8; 16]>| *md5 == Some(entry.meta.md5);
            later
                .into_iter()
                .find(|(_, md5)| same(md5))
                .map(|(uid, _)| *uid)
        });
        let uid = uid.unwrap_or(next);
        resolved.incomplete |= said.is_none();
        next = next.max(uid.saturating_add(1));
        previous = uid;
        resolved.uids.push(uid);
    }
    base.last_uid = next - 1;
    resolved.base = base;
    resolved
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mbox::headers::Meta;

    fn entry(headers: &str, is_first: bool) -> Entry {
        Entry {
            start: 0,
            headers: 0,
            body: 0,
            body_len: 0,
            end: 0,
            received: 0,
            meta: Meta::parse(headers.as_bytes(), is_first),
            fingerprint: [0; 16],
        }
    }

    /// Reads a file with this uidlist in its base (0: no base) and these X-UIDs (0: none).
    fn uids(last: u32, uids: &[u32], known: &Known) -> (Vec<Uid>, Uid) {
        let mut entries = Vec::new();
        for (place, uid) in uids.iter().enumerate() {
            let mut headers = String::new();
            if place == 0 && last > 0 {
                headers = format!("X-IMAPbase: 7 {last:010}\n");
            }
            if *uid > 0 {
                headers += &format!("X-UID: {uid}\n");
            }
            headers += &format!("Message-ID: {place}\n");
            entries.push(entry(&headers, place == 0));
        }
        let resolved = resolve(&entries, known);
        (resolved.uids, resolved.base.last_uid + 1)
    }

    fn known(next_uid: Uid, uids: &[Uid]) -> Known {
        Known {
            uid_validity: 7,
            next_uid,
            messages: uids.iter().map(|uid| (*uid, None)).collect(),
            keywords: Vec::new(),
        }
    }

    #[test]
    fn rules_of_the_specification() {
        let none = Known::default();
        assert_eq!(uids(0, &[0, 0], &none), (vec![1, 2], 3));
        assert_eq!(uids(3, &[1, 3], &none), (vec![1, 3], 4));
        assert_eq!(uids(5, &[7], &none), (vec![7], 8));
        assert_eq!(uids(5, &[3, 2, 5], &none), (vec![3, 6, 7], 8));
        // Known to the index, or new at the end.
        assert_eq!(
            uids(3, &[1, 3, 4], &known(4, &[1, 2, 3])),
            (vec![1, 3, 4], 5)
        );
        assert_eq!(uids(3, &[1, 9], &known(4, &[1, 2, 3])), (vec![1, 4], 5));
        // Expunged, and there again.
        assert_eq!(uids(3, &[1, 2], &known(4, &[1, 3])), (vec![1, 4], 5));
        // A commit was killed before the index knew of it.
        assert_eq!(uids(9, &[1, 6, 9], &known(4, &[1])), (vec![1, 6, 9], 10));
        // The base is lost.
        assert_eq!(uids(0, &[1, 2], &known(4, &[1, 2])), (vec![4, 5], 6));
    }

    #[test]
    fn headers_tell_messages_apart_where_uids_are_missing() {
        let mut known = known(9, &[]);
        for (uid, id) in [(2, 0), (5, 1)] {
            let md5 = Meta::parse(format!("Message-ID: {id}\n").as_bytes(), false).md5;
            known.messages.insert(uid, Some(md5));
        }
        assert_eq!(uids(8, &[0, 0, 0], &known), (vec![2, 5, 9], 10));
    }
}
