//! The `subscriptions` file (`spec/maildir.md` 15).

use std::path::Path;

use dsync_proto::types::MailErrorClass;

use crate::lock::{DotlockSettings, ReplaceLock};
use crate::names::tab_escape::{escape_into, unescape};
use crate::names::{NameMapping, split};
use crate::{Result, StorageError, path_io};

const VERSION_2: &[u8] = b"V\t2\n\n";
/// Biggest file that is read: a hundred thousand long names.
const MAX_FILE_SIZE: u64 = 16 << 20;

/// The file's content. Lines that cannot be understood stay in it untouched.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Subscriptions {
    /// Parts are separated by TAB and escaped; otherwise a line is a raw storage name.
    version_2: bool,
    lines: Vec<Vec<u8>>,
}

/// All subscribed names, in the order of the file, each once.
pub(crate) fn read(path: &Path, mapping: &NameMapping) -> Result<Vec<String>> {
    let content = load(path)?;
    let mut names = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for line in &content.lines {
        match content.vname(line, mapping) {
            Some(name) if seen.insert(name.clone()) => names.push(name),
            Some(_) => {}
            None => tracing::warn!(
                "{}: ignoring the invalid entry {}",
                path.display(),
                String::from_utf8_lossy(line)
            ),
        }
    }
    Ok(names)
}

/// Subscribes or unsubscribes a name; `false`, without a change, if it was so already.
pub(crate) fn set(
    path: &Path,
    mapping: &NameMapping,
    name: &str,
    subscribed: bool,
    lock: &DotlockSettings,
    sync: bool,
) -> Result<bool> {
    let storage = mapping.storage_name(name)?;
    let is_unsafe = storage.contains(&b'\n');
    let lock = ReplaceLock::acquire(path, lock)?;
    let mut content = load(path)?;
    // `inbox` in any case is `INBOX`.
    let name = if storage == b"INBOX" && mapping.namespace.inbox {
        "INBOX"
    } else {
        name
    };
    let (matching, others): (Vec<_>, Vec<_>) = std::mem::take(&mut content.lines)
        .into_iter()
        .partition(|line| content.vname(line, mapping).as_deref() == Some(name));
    if matching.is_empty() != subscribed {
        return Ok(false);
    }
    content.lines = others;
    if subscribed && is_unsafe && !content.version_2 {
        return Err(StorageError::new(
            MailErrorClass::Params,
            format!(
                "{} has the old format, which cannot keep a name with a line end",
                path.display()
            ),
        ));
    }
    if subscribed {
        content.lines.push(content.line(&storage, mapping));
    }
    lock.replace(&content.format(), sync)?;
    Ok(true)
}

fn load(path: &Path) -> Result<Subscriptions> {
    let bytes = path_io::read(path, MAX_FILE_SIZE)?;
    Ok(Subscriptions::parse(bytes.as_deref().unwrap_or(VERSION_2)))
}

impl Subscriptions {
    fn parse(bytes: &[u8]) -> Self {
        let (version_2, rest) = match bytes.strip_prefix(VERSION_2) {
            Some(rest) => (true, rest),
            None => (false, bytes),
        };
        let lines = rest
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(<[u8]>::to_vec)
            .collect();
        Self { version_2, lines }
    }

    fn format(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.version_2 {
            out.extend_from_slice(VERSION_2);
        }
        for line in &self.lines {
            out.extend_from_slice(line);
            out.push(b'\n');
        }
        out
    }

    /// The vname that a line stands for; `None` if it is none.
    fn vname(&self, line: &[u8], mapping: &NameMapping) -> Option<String> {
        let separator = mapping.list_separator;
        let mut storage = Vec::new();
        if self.version_2 {
            for (index, part) in line.split(|byte| *byte == b'\t').enumerate() {
                if index > 0 {
                    storage.extend_from_slice(separator.encode_utf8(&mut [0; 4]).as_bytes());
                }
                storage.extend_from_slice(&unescape(part));
            }
        } else {
            storage.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        }
        while storage
            .last()
            .is_some_and(|last| char::from(*last) == separator)
        {
            storage.pop();
        }
        if storage.eq_ignore_ascii_case(b"INBOX") && mapping.namespace.inbox {
            return Some("INBOX".into());
        }
        if storage.is_empty() {
            return None;
        }
        mapping.subscribed_vname(&storage)
    }

    fn line(&self, storage: &[u8], mapping: &NameMapping) -> Vec<u8> {
        if !self.version_2 {
            return storage.to_vec();
        }
        let mut out = Vec::new();
        for (index, part) in split(storage, mapping.list_separator).enumerate() {
            if index > 0 {
                out.push(b'\t');
            }
            escape_into(&mut out, part);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::permissions::CreateModes;
    use crate::{Namespace, StoreSettings};

    fn mapping() -> NameMapping {
        NameMapping {
            namespace: Namespace::default(),
            list_separator: '.',
            utf8: false,
            broken_char: None,
            list_escape: None,
            directory_name: None,
            reserves_message_dirs: false,
            flat: true,
        }
    }

    fn change(path: &Path, name: &str, subscribed: bool) -> bool {
        let lock =
            DotlockSettings::subscriptions(&StoreSettings::default(), CreateModes::default());
        set(path, &mapping(), name, subscribed, &lock, false).unwrap()
    }

    #[test]
    fn a_new_file_has_version_2() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("subscriptions");
        assert_eq!(read(&path, &mapping()).unwrap(), [""; 0]);
        assert!(change(&path, "inbox", true));
        assert!(change(&path, "A/B", true));
        assert!(change(&path, "Ünï/ké", true));
        assert!(!change(&path, "A/B", true));
        assert_eq!(
            std::fs::read(&path).unwrap(),
            b"V\t2\n\nINBOX\nA\tB\n&ANw-n&AO8-\tk&AOk-\n"
        );
        assert_eq!(read(&path, &mapping()).unwrap(), ["INBOX", "A/B", "Ünï/ké"]);
        assert!(change(&path, "A/B", false));
        assert!(!change(&path, "A/B", false));
        assert_eq!(read(&path, &mapping()).unwrap(), ["INBOX", "Ünï/ké"]);
    }

    #[test]
    fn an_old_file_stays_version_1_and_keeps_what_it_has() {
        for start in ["", "Old.Style\ninbox\nbad..name\nTrail.\n"] {
            let root = tempfile::tempdir().unwrap();
            let path = root.path().join("subscriptions");
            std::fs::write(&path, start).unwrap();
            assert!(change(&path, "New/Name", true));
            assert_eq!(
                std::fs::read_to_string(&path).unwrap(),
                format!("{start}New.Name\n")
            );
            let names = read(&path, &mapping()).unwrap();
            if !start.is_empty() {
                assert_eq!(names, ["Old/Style", "INBOX", "Trail", "New/Name"]);
                assert!(!change(&path, "INBOX", true));
                assert!(change(&path, "INBOX", false));
                assert!(!std::fs::read_to_string(&path).unwrap().contains("inbox"));
            }
        }
    }

    #[test]
    fn a_file_without_end_is_not_read() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("subscriptions");
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(MAX_FILE_SIZE + 1).unwrap();
        let error = read(&path, &mapping()).unwrap_err();
        assert_eq!(error.class, MailErrorClass::Limit);
    }

    #[test]
    fn a_line_end_in_a_name_makes_no_second_line() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("subscriptions");
        let lock =
            DotlockSettings::subscriptions(&StoreSettings::default(), CreateModes::default());
        let raw = NameMapping {
            utf8: true,
            ..mapping()
        };
        let set = || set(&path, &raw, "a\nb", true, &lock, false);
        assert_eq!(set(), Ok(true));
        assert_eq!(read(&path, &raw).unwrap(), ["a\nb"]);
        std::fs::write(&path, "old\n").unwrap();
        assert_eq!(set().unwrap_err().class, MailErrorClass::Params);
        assert_eq!(read(&path, &raw).unwrap(), ["old"]);
    }

    proptest! {
        #[test]
        fn any_file_survives_a_change(bytes: Vec<u8>) {
            let content = Subscriptions::parse(&bytes);
            prop_assert_eq!(Subscriptions::parse(&content.format()), content.clone());
            for line in &content.lines {
                let _ = content.vname(line, &mapping());
            }
        }

        #[test]
        fn every_name_can_be_found_again(name in "[^\0./]{1,5}(/[^\0./]{1,5})?", version_2: bool) {
            let mapping = mapping();
            if let Ok(storage) = mapping.storage_name(&name) {
                let content = Subscriptions { version_2, lines: Vec::new() };
                let line = content.line(&storage, &mapping);
                let shown = if name.eq_ignore_ascii_case("INBOX") { "INBOX".into() } else { name };
                prop_assert_eq!(content.vname(&line, &mapping), Some(shown));
            }
        }
    }
}
