//! Reading the values of one line (`spec/wire.md` 2.3).

use std::borrow::Cow;

use bstr::BString;

use super::error::{DecodeError, excerpt};
use super::escape::unescape;
use super::number;
use super::spec::{ItemSpec, Layout, MAX_KEYS};
use crate::limits;
use crate::types::Guid;

/// The values of a line by key, still escaped; absent ones are `None`.
pub(crate) struct Fields<'a> {
    spec: &'static ItemSpec,
    values: [Option<&'a [u8]>; MAX_KEYS],
    /// Some value may contain escapes.
    is_escaped: bool,
}

impl<'a> Fields<'a> {
    /// Splits what follows the item letter, and checks that the required keys are there.
    pub(crate) fn parse(
        spec: &'static ItemSpec,
        layout: &Layout,
        rest: &'a [u8],
    ) -> Result<Self, DecodeError> {
        let mut values = [None; MAX_KEYS];
        for (index, value) in layout.positions().iter().zip(split_values(rest)) {
            if let Some(slot) = values.get_mut(usize::from(*index)) {
                *slot = value;
            }
        }
        let fields = Self {
            spec,
            values,
            is_escaped: memchr::memchr(0x01, rest).is_some(),
        };
        fields.check_required()?;
        Ok(fields)
    }

    fn check_required(&self) -> Result<(), DecodeError> {
        for (key, value) in self.spec.keys.iter().zip(&self.values) {
            if key.required && value.is_none() {
                return Err(DecodeError::MissingField {
                    item: self.spec.name,
                    key: key.name,
                });
            }
        }
        Ok(())
    }

    /// The decoded value.
    pub(crate) fn text(&self, key: usize) -> Option<Cow<'a, [u8]>> {
        let value = self.values.get(key).copied().flatten()?;
        if self.is_escaped {
            return Some(decode_value(value));
        }
        Some(Cow::Borrowed(value.strip_prefix(b"\x02").unwrap_or(value)))
    }

    /// The decoded value, empty if absent.
    pub(crate) fn text_or_empty(&self, key: usize) -> Cow<'a, [u8]> {
        self.text(key).unwrap_or_default()
    }

    /// The decoded value as a text of its own.
    pub(crate) fn bstring(&self, key: usize) -> Option<BString> {
        self.text(key).map(|text| text.into_owned().into())
    }

    /// Whether the key is present.
    pub(crate) fn flag(&self, key: usize) -> bool {
        self.values.get(key).is_some_and(Option::is_some)
    }

    /// A value read by `parse`; an error without the value if that fails.
    pub(crate) fn parsed<T>(
        &self,
        key: usize,
        parse: fn(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, DecodeError> {
        self.text(key)
            .map(|text| parse(&text).ok_or_else(|| self.invalid(key)))
            .transpose()
    }

    /// As [`Fields::parsed`]; the error repeats the value.
    pub(crate) fn parsed_shown<T>(
        &self,
        key: usize,
        parse: fn(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, DecodeError> {
        self.text(key)
            .map(|text| parse(&text).ok_or_else(|| self.invalid_shown(key)))
            .transpose()
    }

    /// A decimal number, 0 if absent.
    pub(crate) fn u32(&self, key: usize) -> Result<u32, DecodeError> {
        Ok(self.parsed(key, number::parse_u32)?.unwrap_or(0))
    }

    /// A decimal number, 0 if absent.
    pub(crate) fn u64(&self, key: usize) -> Result<u64, DecodeError> {
        Ok(self.parsed(key, number::parse_u64)?.unwrap_or(0))
    }

    /// Seconds since the epoch, 0 if absent.
    pub(crate) fn time(&self, key: usize) -> Result<i64, DecodeError> {
        Ok(self.parsed(key, number::parse_time)?.unwrap_or(0))
    }

    /// A GUID, zero if absent.
    pub(crate) fn guid(&self, key: usize) -> Result<Guid, DecodeError> {
        Ok(self.parsed(key, Guid::from_hex)?.unwrap_or_default())
    }

    /// The elements of a list(TAB); none if absent.
    pub(crate) fn list(&self, key: usize) -> Result<Vec<BString>, DecodeError> {
        let text = self.text_or_empty(key);
        let mut elements = Vec::new();
        for element in split_list(&text) {
            if elements.len() == limits::LIST {
                return Err(too_long_list());
            }
            elements.push(unescape(element).into_owned().into());
        }
        Ok(elements)
    }

    /// "Invalid KEY"
    pub(crate) fn invalid(&self, key: usize) -> DecodeError {
        DecodeError::InvalidValue {
            item: self.spec.name,
            key: self.key_name(key),
            value: None,
        }
    }

    /// "Invalid KEY: VALUE"
    pub(crate) fn invalid_shown(&self, key: usize) -> DecodeError {
        DecodeError::InvalidValue {
            item: self.spec.name,
            key: self.key_name(key),
            value: Some(excerpt(&self.text_or_empty(key))),
        }
    }

    fn key_name(&self, key: usize) -> &'static str {
        self.spec.keys.get(key).map_or("", |key| key.name)
    }
}

/// The error for a list with more than [`limits::LIST`] elements.
pub(crate) fn too_long_list() -> DecodeError {
    DecodeError::LimitExceeded {
        what: "the number of elements in a list",
        limit: limits::LIST,
    }
}

/// The elements of a list(TAB), each still escaped; none for the empty text.
pub(crate) fn split_list(text: &[u8]) -> Split<'_> {
    Split {
        rest: (!text.is_empty()).then_some(text),
        separator: b'\t',
    }
}

/// The values after an item letter by position, still escaped, `None` for absent ones.
pub(crate) fn split_values(rest: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    split_list(rest).map(|value| (!is_absent(value)).then_some(value))
}

/// Whether the value unescapes to the single byte 0x02.
fn is_absent(value: &[u8]) -> bool {
    matches!(value, [2] | [1, 2] | [2, 1] | [1, 2, 1])
}

/// Unescapes a value that is not absent, and drops the 0x02 that protects a leading 0x02.
pub(crate) fn decode_value(value: &[u8]) -> Cow<'_, [u8]> {
    match unescape(value) {
        Cow::Borrowed(text) => Cow::Borrowed(text.strip_prefix(b"\x02").unwrap_or(text)),
        Cow::Owned(mut text) => {
            if text.first() == Some(&0x02) {
                text.remove(0);
            }
            Cow::Owned(text)
        }
    }
}

/// `slice::split` by one byte. Values are short, so a plain loop is faster than a vector search.
pub(crate) struct Split<'a> {
    rest: Option<&'a [u8]>,
    separator: u8,
}

impl<'a> Split<'a> {
    pub(crate) fn new(text: &'a [u8], separator: u8) -> Self {
        Self {
            rest: Some(text),
            separator,
        }
    }
}

impl<'a> Iterator for Split<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let text = self.rest?;
        let Some(end) = text.iter().position(|byte| *byte == self.separator) else {
            self.rest = None;
            return Some(text);
        };
        let (part, tail) = text.split_at(end);
        self.rest = tail.get(1..);
        Some(part)
    }
}
