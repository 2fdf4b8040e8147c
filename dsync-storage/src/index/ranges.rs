//! A map from ranges of UIDs to values.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use dsync_proto::types::Uid;

/// Values for ranges of UIDs that do not overlap. Equal neighbours are merged, so that a change
/// of 100,000 messages is one entry, in whatever order it was collected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RangeMap<T> {
    /// First UID → last UID and value.
    ranges: BTreeMap<Uid, (Uid, T)>,
}

impl<T> Default for RangeMap<T> {
    fn default() -> Self {
        Self {
            ranges: BTreeMap::new(),
        }
    }
}

impl<T: Copy + Eq> RangeMap<T> {
    /// Sets a value; where there is one already, `combine(old, new)`.
    pub(crate) fn update(
        &mut self,
        uids: RangeInclusive<Uid>,
        value: T,
        combine: impl Fn(T, T) -> T,
    ) {
        let (first, last) = uids.into_inner();
        let first = first.max(1); // there is no UID 0
        if first > last {
            return;
        }
        if self.extend_last(first, last, value) {
            return;
        }
        self.split_before(first);
        if let Some(after) = last.checked_add(1) {
            self.split_before(after);
        }
        let mut inside = Vec::new();
        let mut next = Some(first);
        for (start, (end, old)) in self.ranges.range(first..=last) {
            if let Some(gap) = next.filter(|gap| gap < start) {
                inside.push((gap, (start - 1, value)));
            }
            inside.push((*start, (*end, combine(*old, value))));
            next = end.checked_add(1);
        }
        if let Some(gap) = next.filter(|gap| *gap <= last) {
            inside.push((gap, (last, value)));
        }
        self.ranges.extend(inside);
    }

    /// The usual case: changes come by rising UID.
    fn extend_last(&mut self, first: Uid, last: Uid, value: T) -> bool {
        let Some(mut entry) = self.ranges.last_entry() else {
            self.ranges.insert(first, (last, value));
            return true;
        };
        let (end, old) = entry.get_mut();
        if *end >= first {
            return false;
        }
        if *end + 1 == first && *old == value {
            *end = last;
        } else {
            self.ranges.insert(first, (last, value));
        }
        true
    }

    fn split_before(&mut self, at: Uid) {
        let Some((_, (end, value))) = self.ranges.range_mut(..at).next_back() else {
            return;
        };
        if *end >= at {
            let rest = (*end, *value);
            *end = at - 1;
            self.ranges.insert(at, rest);
        }
    }

    /// Ranges by rising UID, equal neighbours merged.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Uid, Uid, T)> + '_ {
        let mut rest = self
            .ranges
            .iter()
            .map(|(first, (last, value))| (*first, *last, *value))
            .peekable();
        std::iter::from_fn(move || {
            let (first, mut last, value) = rest.next()?;
            while let Some((_, end, _)) = rest
                .next_if(|(start, _, other)| last.checked_add(1) == Some(*start) && *other == value)
            {
                last = end;
            }
            Some((first, last, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_and_splits() {
        let mut map = RangeMap::default();
        for uid in 1..=1000 {
            map.update(uid..=uid, 'a', |_, new| new);
        }
        assert_eq!(map.iter().collect::<Vec<_>>(), [(1, 1000, 'a')]);
        map.update(10..=20, 'b', |_, new| new);
        map.update(990..=1010, 'c', |_, new| new);
        assert_eq!(
            map.iter().collect::<Vec<_>>(),
            [(1, 9, 'a'), (10, 20, 'b'), (21, 989, 'a'), (990, 1010, 'c')]
        );
        map.update(10..=20, 'a', |_, new| new);
        assert_eq!(map.iter().count(), 2);
        map.update(u32::MAX..=u32::MAX, 'z', |_, new| new);
        map.update(2000..=u32::MAX, 'y', |_, new| new);
        assert_eq!(map.iter().last(), Some((2000, u32::MAX, 'y')));
    }

    #[test]
    fn backwards_order_is_one_range_too() {
        let mut map = RangeMap::default();
        for uid in (1..=100).rev() {
            map.update(uid..=uid, (), |(), ()| ());
        }
        assert_eq!(map.iter().collect::<Vec<_>>(), [(1, 100, ())]);
    }
}
