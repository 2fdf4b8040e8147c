//! Which messages are synced (`spec/mailbox-sync.md` 8).

use bstr::ByteSlice;
use dsync_proto::items::Change;
use dsync_proto::types::{Flags, KeywordOp};

use crate::Filters;

impl Filters {
    /// Whether changes must carry received dates.
    pub fn by_date(&self) -> bool {
        self.since != 0 || self.until != 0
    }

    /// Whether the message of this change may be saved. A missing date or size passes: better a
    /// message too many than one that is lost.
    pub(crate) fn accept(&self, change: &Change) -> bool {
        if let Some(received) = change.received_timestamp {
            let received = i64::try_from(received).unwrap_or(i64::MAX);
            if (self.since != 0 && received < self.since)
                || (self.until != 0 && received > self.until)
            {
                return false;
            }
        }
        let size = change.virtual_size.filter(|size| *size != u64::MAX);
        if self.max_size != 0 && size.is_some_and(|size| size > self.max_size) {
            return false;
        }
        self.flag
            .as_ref()
            .is_none_or(|flag| flag_matches(flag, change))
    }
}

fn flag_matches(flag: &[u8], change: &Change) -> bool {
    let (name, wanted) = match flag.strip_prefix(b"-") {
        Some(name) => (name, false),
        None => (flag, true),
    };
    let has = if name.starts_with(b"\\") {
        let known = name.to_str().ok().and_then(Flags::from_name);
        known.is_some_and(|known| change.final_flags.contains(known))
    } else {
        change.keyword_changes.iter().any(|keyword| {
            matches!(keyword.op, KeywordOp::Final | KeywordOp::AddFinal)
                && keyword.name.eq_ignore_ascii_case(name)
        })
    };
    has == wanted
}

#[cfg(test)]
mod tests {
    use dsync_proto::items::ChangeKind;
    use dsync_proto::types::KeywordChange;

    use super::*;

    fn change() -> Change {
        let mut change = Change::new(ChangeKind::Save, 7);
        change.received_timestamp = Some(1000);
        change.virtual_size = Some(500);
        change.final_flags = Flags::SEEN;
        change.keyword_changes = vec![
            KeywordChange::new(KeywordOp::Final, "Work"),
            KeywordChange::new(KeywordOp::Add, "gone"),
        ];
        change
    }

    #[test]
    fn limits_are_inclusive() {
        let accept = |since, until, max_size| {
            Filters {
                since,
                until,
                max_size,
                flag: None,
            }
            .accept(&change())
        };
        assert!(accept(0, 0, 0));
        assert!(accept(1000, 1000, 500));
        assert!(!accept(1001, 0, 0));
        assert!(!accept(0, 999, 0));
        assert!(!accept(0, 0, 499));
    }

    #[test]
    fn flags_and_keywords() {
        for (flag, accepted) in [
            ("\\Seen", true),
            ("\\SEEN", true),
            ("-\\Seen", false),
            ("\\Flagged", false),
            ("-\\Flagged", true),
            ("work", true),
            ("-work", false),
            ("gone", false),
            ("-gone", true),
        ] {
            let filters = Filters {
                flag: Some(flag.into()),
                ..Filters::default()
            };
            assert_eq!(filters.accept(&change()), accepted, "{flag}");
        }
    }

    #[test]
    fn unknown_values_pass() {
        let mut change = change();
        change.received_timestamp = None;
        change.virtual_size = Some(u64::MAX);
        let filters = Filters {
            since: 5,
            until: 6,
            max_size: 7,
            flag: None,
        };
        assert!(filters.accept(&change));
    }
}
