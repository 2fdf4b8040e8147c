//! Writing the values of one line (`spec/wire.md` 2.3).

use std::ops::Range;

use bytes::{BufMut, BytesMut};

use super::escape::escape_into;
use super::number;
use super::spec::Layout;
use crate::types::Guid;

/// The encoded values of one item by key index; reused for every line.
#[derive(Debug, Default)]
pub(crate) struct Row {
    text: Vec<u8>,
    values: Vec<Option<Range<usize>>>,
}

impl Row {
    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.values.clear();
    }

    /// A present value of any bytes.
    pub(crate) fn text(&mut self, key: usize, value: &[u8]) {
        self.put(key, |text| {
            if value.first() == Some(&0x02) {
                text.push(0x02);
            }
            escape_into(value, text);
        });
    }

    /// A value, absent if `None`.
    pub(crate) fn optional_text(&mut self, key: usize, value: Option<impl AsRef<[u8]>>) {
        if let Some(value) = value {
            self.text(key, value.as_ref());
        }
    }

    /// Present and empty, or absent.
    pub(crate) fn flag(&mut self, key: usize, value: bool) {
        if value {
            self.put(key, |_| ());
        }
    }

    /// A decimal number.
    pub(crate) fn number(&mut self, key: usize, value: impl Into<u64>) {
        self.put(key, |text| number::write_u64(value.into(), text));
    }

    /// A decimal number, absent if 0.
    pub(crate) fn nonzero(&mut self, key: usize, value: impl Into<u64>) {
        let value = value.into();
        if value != 0 {
            self.number(key, value);
        }
    }

    /// Seconds since the epoch, absent if 0.
    pub(crate) fn nonzero_time(&mut self, key: usize, value: i64) {
        if value != 0 {
            self.put(key, |text| number::write_i64(value, text));
        }
    }

    /// A hexadecimal number.
    pub(crate) fn hex(&mut self, key: usize, value: u64) {
        self.put(key, |text| number::write_hex(value, text));
    }

    /// A GUID.
    pub(crate) fn guid(&mut self, key: usize, value: &Guid) {
        self.put(key, |text| number::write_guid(value, text));
    }

    /// A list(TAB), each element escaped by itself and the whole escaped again.
    pub(crate) fn list(
        &mut self,
        key: usize,
        elements: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) {
        let mut list = Vec::new();
        for (index, element) in elements.into_iter().enumerate() {
            if index > 0 {
                list.push(b'\t');
            }
            escape_into(element.as_ref(), &mut list);
        }
        self.text(key, &list);
    }

    fn put(&mut self, key: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.text.len();
        write(&mut self.text);
        if self.values.len() <= key {
            self.values.resize(key + 1, None);
        }
        if let Some(slot) = self.values.get_mut(key) {
            *slot = Some(start..self.text.len());
        }
    }

    /// Appends the values in the order of the layout; trailing absent ones are left out.
    pub(crate) fn write(&self, layout: &Layout, out: &mut BytesMut) {
        let value = |key: &u16| {
            let range = self.values.get(usize::from(*key))?.clone()?;
            self.text.get(range)
        };
        let value_is_empty = |key: Option<&u16>| key.and_then(value).is_some_and(<[u8]>::is_empty);
        let positions = layout.positions();
        let used = positions
            .iter()
            .rposition(|key| value(key).is_some())
            .map_or(0, |last| last + 1);
        for (index, key) in positions.iter().take(used).enumerate() {
            if index > 0 {
                out.put_u8(b'\t');
            }
            out.put_slice(value(key).unwrap_or(b"\x02"));
        }
        // A single empty value looks like no values, unless an absent one follows.
        if used == 1 && positions.len() > 1 && value_is_empty(positions.first()) {
            out.put_slice(b"\t\x02");
        }
    }
}
