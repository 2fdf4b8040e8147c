//! Shape of the tables that describe the item types; the tables are in [`super::codec`].

use bstr::BString;

/// One key of an item type.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) required: bool,
    /// Ours, unknown to Dovecot: announced only together with an extended handshake.
    pub(crate) extension: bool,
}

/// A key that must be announced and present in every item.
pub(crate) const fn required(name: &'static str) -> Key {
    Key {
        name,
        required: true,
        extension: false,
    }
}

/// A key that may be absent.
pub(crate) const fn optional(name: &'static str) -> Key {
    Key {
        name,
        required: false,
        extension: false,
    }
}

/// A key that only our own peers know.
pub(crate) const fn extension(name: &'static str) -> Key {
    Key {
        name,
        required: false,
        extension: true,
    }
}

/// Name, letter and keys of an item type (`spec/wire.md` 4).
#[derive(Debug)]
pub(crate) struct ItemSpec {
    pub(crate) letter: u8,
    pub(crate) name: &'static str,
    /// Peers below this minor version need not announce it.
    pub(crate) min_minor: u32,
    /// In the order in which Dovecot 2.3 announces them.
    pub(crate) keys: &'static [Key],
}

/// Most keys of any item type.
pub(crate) const MAX_KEYS: usize = 32;

/// Where the values of a sender's lines belong: for every position the index into
/// [`ItemSpec::keys`], or [`Layout::UNKNOWN`].
#[derive(Clone, Debug)]
pub(crate) struct Layout(Box<[u16]>);

impl Layout {
    pub(crate) const UNKNOWN: u16 = u16::MAX;

    /// Maps the keys of a header line. Of a key named twice, the first position counts.
    pub(crate) fn new(spec: &ItemSpec, keys: &[BString]) -> Self {
        let mut seen = [false; MAX_KEYS];
        let positions = keys.iter().map(|name| {
            let index = spec.keys.iter().position(|key| name == key.name);
            match index.and_then(|index| Some((index, seen.get_mut(index)?))) {
                Some((index, seen)) if !*seen => {
                    *seen = true;
                    index as u16
                }
                _ => Self::UNKNOWN,
            }
        });
        Self(positions.collect())
    }

    /// As [`Layout::new`]; keys that are not in the table but among the extensions get the
    /// indexes after those of the table.
    pub(crate) fn with_extensions(
        spec: &ItemSpec,
        keys: &[BString],
        extensions: &[(BString, BString)],
    ) -> Self {
        let mut layout = Self::new(spec, keys);
        for (position, key) in layout.0.iter_mut().zip(keys) {
            let extension = extensions.iter().position(|(name, _)| name == key);
            if let (Self::UNKNOWN, Some(index)) = (*position, extension) {
                *position = (spec.keys.len() + index) as u16;
            }
        }
        layout
    }

    /// Key indexes by position.
    pub(crate) fn positions(&self) -> &[u16] {
        &self.0
    }

    /// The first required key that no position holds.
    pub(crate) fn missing_required(&self, spec: &ItemSpec) -> Option<&'static str> {
        spec.keys
            .iter()
            .enumerate()
            .find(|(index, key)| key.required && !self.0.contains(&(*index as u16)))
            .map(|(_, key)| key.name)
    }
}

/// The layouts of one sender by item letter; none for item types that it did not announce.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layouts(Vec<Option<Layout>>);

impl Layouts {
    pub(crate) fn insert(&mut self, letter: u8, layout: Layout) {
        let index = usize::from(letter);
        if self.0.len() <= index {
            self.0.resize(index + 1, None);
        }
        if let Some(slot) = self.0.get_mut(index) {
            *slot = Some(layout);
        }
    }

    pub(crate) fn get(&self, letter: u8) -> Option<&Layout> {
        self.0.get(usize::from(letter))?.as_ref()
    }
}
