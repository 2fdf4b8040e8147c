//! Mailbox attributes in a `file:` dict (`mail_attribute_dict`, `spec/maildir.md` 18).
//!
//! The file has a line with the key and a line with the value for each attribute of each mailbox.
//! The key is `priv/` or `shared/`, the GUID of the mailbox in hex, `/`, and the name. The time of
//! a change is in the index log only.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bstr::BString;
use dsync_proto::items::AttributeKind;
use dsync_proto::types::{Guid, MailErrorClass};

use crate::lock::{DotlockSettings, ReplaceLock};
use crate::names::tab_escape::{escape_into, unescape};
use crate::permissions::CreateModes;
use crate::{AttributeName, Result, StorageError, StoreSettings, path_io};

/// Biggest file that is read into memory.
const MAX_FILE_SIZE: u64 = 256 * 1024 * 1024;
/// Names below this are Dovecot's own and hidden from users …
const INTERNAL: &[u8] = b"vendor/vendor.dovecot/pvt/";
/// … except these, which belong to the whole account and are kept under the GUID of INBOX.
const SERVER: &[u8] = b"vendor/vendor.dovecot/pvt/server/";
/// Names the active one of the Sieve scripts, which have names below `sieve/files/`.
const SIEVE_DEFAULT: &[u8] = b"vendor/vendor.dovecot/pvt/server/sieve/default";

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// The attributes of all mailboxes of a user, or of a store without `mail_attribute_dict`.
///
/// Shared by the store and its open mailboxes. The file is read again only when it has changed.
#[derive(Debug)]
pub struct AttributeDict {
    path: Option<PathBuf>,
    settings: StoreSettings,
    cache: Mutex<Option<(Stamp, Arc<Entries>)>>,
}

/// The file is replaced at each change, so its inode tells; size and time are for safety.
type Stamp = (u64, u64, u64, i64, i64);

impl AttributeDict {
    /// The dict of these settings.
    pub fn new(settings: &StoreSettings) -> Arc<Self> {
        Arc::new(Self {
            path: settings.attribute_dict.clone(),
            settings: settings.clone(),
            cache: Mutex::new(None),
        })
    }

    /// Whether attributes can be kept at all.
    pub fn is_enabled(&self) -> bool {
        self.path.is_some()
    }

    /// Fails if there is none.
    pub(crate) fn require(&self) -> Result<()> {
        if self.is_enabled() {
            return Ok(());
        }
        Err(StorageError::new(
            MailErrorClass::NotPossible,
            "attributes cannot be kept: mail_attribute_dict is not set",
        ))
    }

    /// Names of all attributes of a mailbox that users may see, private ones first. In each kind
    /// the active Sieve script is named last: it must be there before it can become active
    /// (`spec/mailbox-sync.md` 3.4).
    pub fn list(&self, mailbox: Guid) -> Result<Vec<AttributeName>> {
        let Some(path) = &self.path else {
            return Ok(Vec::new());
        };
        let entries = self.load(path)?;
        let mut names = Vec::new();
        for kind in [AttributeKind::Private, AttributeKind::Shared] {
            let prefix = key_prefix(kind, mailbox);
            let keys = with_prefix(&entries, &prefix).map(|(key, _)| &key[prefix.len()..]);
            let (last, mut keys): (Vec<_>, Vec<_>) = keys
                .filter(|key| is_accessible(key))
                .partition(|key| *key == SIEVE_DEFAULT);
            keys.extend(last);
            names.extend(keys.into_iter().map(|key| AttributeName {
                kind,
                key: BString::from(key),
            }));
        }
        Ok(names)
    }

    /// Value of an attribute; `None` if it is not set.
    pub fn get(&self, mailbox: Guid, name: &AttributeName) -> Result<Option<BString>> {
        let Some(path) = &self.path else {
            return Ok(None);
        };
        let entries = self.load(path)?;
        let value = entries.get(&key_of(mailbox, name));
        Ok(value.map(|value| BString::from(value.as_slice())))
    }

    /// Sets or removes attributes of a mailbox, all in one step. Nothing is written if all of
    /// them are as wanted already.
    ///
    /// # Errors
    ///
    /// `NotPossible` without a dict, and for values with NUL bytes, which the file cannot hold.
    pub fn set(&self, mailbox: Guid, changes: &[(AttributeName, Option<BString>)]) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        if changes
            .iter()
            .flat_map(|(_, value)| value)
            .any(|value| value.contains(&0))
        {
            return Err(StorageError::new(
                MailErrorClass::NotPossible,
                "Attribute string value has NULs",
            ));
        }
        self.update(|entries| {
            for (name, value) in changes {
                let key = key_of(mailbox, name);
                match value {
                    Some(value) => entries.insert(key, value.to_vec()),
                    None => entries.remove(&key),
                };
            }
        })
    }

    /// Forgets the attributes of a deleted mailbox. `keep_server` keeps those of the account,
    /// which INBOX carries.
    pub fn remove_mailbox(&self, mailbox: Guid, keep_server: bool) -> Result<()> {
        if !self.is_enabled() {
            return Ok(());
        }
        self.update(|entries| {
            for key in keys_of(entries, mailbox) {
                if !(keep_server && key.name.starts_with(SERVER)) {
                    entries.remove(&key.whole);
                }
            }
        })
    }

    /// Lets a mailbox keep its attributes when it gets another GUID.
    pub fn change_guid(&self, old: Guid, new: Guid) -> Result<()> {
        if !self.is_enabled() || old == new {
            return Ok(());
        }
        self.update(|entries| {
            for key in keys_of(entries, old) {
                if let Some(value) = entries.remove(&key.whole) {
                    let mut whole = key_prefix(key.kind, new);
                    whole.extend_from_slice(&key.name);
                    // What the new GUID has already is newer.
                    entries.entry(whole).or_insert(value);
                }
            }
        })
    }

    fn update(&self, change: impl FnOnce(&mut Entries)) -> Result<()> {
        let Some(path) = &self.path else {
            return Err(StorageError::new(
                MailErrorClass::NotPossible,
                "Mailbox attributes not enabled: the setting mail_attribute_dict is empty",
            ));
        };
        let modes =
            CreateModes::from_first([Some(path.as_path()), path.parent()].into_iter().flatten());
        let lock = ReplaceLock::acquire(path, &DotlockSettings::dict(&self.settings, modes))?;
        let old = self.load(path)?;
        let mut new = Entries::clone(&old);
        change(&mut new);
        if new == *old {
            return Ok(());
        }
        lock.replace(&format_entries(&new), self.settings.syncs())
    }

    fn load(&self, path: &Path) -> Result<Arc<Entries>> {
        let Some(file) = path_io::open(path)? else {
            return Ok(Arc::default());
        };
        let metadata = file
            .metadata()
            .map_err(|error| StorageError::io("stat", path, &error))?;
        let stamp = (
            metadata.dev(),
            metadata.ino(),
            metadata.len(),
            metadata.mtime(),
            metadata.mtime_nsec(),
        );
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((cached, entries)) = &*cache
            && *cached == stamp
        {
            return Ok(Arc::clone(entries));
        }
        let text = path_io::read_open(&file, path, MAX_FILE_SIZE)?;
        let entries = Arc::new(parse_entries(&text));
        *cache = Some((stamp, Arc::clone(&entries)));
        Ok(entries)
    }
}

/// Whether users may see and change an attribute of this name.
pub fn is_accessible(key: &[u8]) -> bool {
    match key.strip_prefix(SERVER) {
        Some(server_key) => !server_key.starts_with(INTERNAL),
        None => !key.starts_with(INTERNAL),
    }
}

struct MailboxKey {
    kind: AttributeKind,
    whole: Vec<u8>,
    name: Vec<u8>,
}

fn keys_of(entries: &Entries, mailbox: Guid) -> Vec<MailboxKey> {
    let mut keys = Vec::new();
    for kind in [AttributeKind::Private, AttributeKind::Shared] {
        let prefix = key_prefix(kind, mailbox);
        keys.extend(with_prefix(entries, &prefix).map(|(key, _)| MailboxKey {
            kind,
            whole: key.clone(),
            name: key[prefix.len()..].to_vec(),
        }));
    }
    keys
}

fn with_prefix<'a>(
    entries: &'a Entries,
    prefix: &[u8],
) -> impl Iterator<Item = (&'a Vec<u8>, &'a Vec<u8>)> {
    let prefix = prefix.to_vec();
    entries
        .range(prefix.clone()..)
        .take_while(move |(key, _)| key.starts_with(&prefix))
}

fn key_of(mailbox: Guid, name: &AttributeName) -> Vec<u8> {
    let mut key = key_prefix(name.kind, mailbox);
    key.extend_from_slice(&name.key);
    key
}

fn key_prefix(kind: AttributeKind, mailbox: Guid) -> Vec<u8> {
    let root = match kind {
        AttributeKind::Private => "priv",
        AttributeKind::Shared => "shared",
    };
    format!("{root}/{mailbox}/").into_bytes()
}

fn parse_entries(text: &[u8]) -> Entries {
    let mut entries = Entries::new();
    // What stands behind the last line feed is nothing, or torn.
    let end = memchr::memrchr(b'\n', text).unwrap_or(0);
    let mut lines = text[..end].split(|byte| *byte == b'\n');
    while let (Some(key), Some(value)) = (lines.next(), lines.next()) {
        if !key.is_empty() {
            entries.insert(unescape(key), unescape(value));
        }
    }
    entries
}

fn format_entries(entries: &Entries) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in entries {
        escape_into(&mut out, key);
        out.push(b'\n');
        escape_into(&mut out, value);
        out.push(b'\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dict(root: &Path) -> Arc<AttributeDict> {
        AttributeDict::new(&StoreSettings {
            attribute_dict: Some(root.join("dovecot-attributes")),
            ..StoreSettings::default()
        })
    }

    fn name(kind: AttributeKind, key: &str) -> AttributeName {
        AttributeName {
            kind,
            key: key.into(),
        }
    }

    const BOX: Guid = Guid([0x68; 16]);
    const OTHER: Guid = Guid([0x69; 16]);

    #[test]
    fn a_sieve_script_comes_before_the_word_that_it_is_active() {
        let root = tempfile::tempdir().unwrap();
        let dict = dict(root.path());
        let names = ["zz", "sieve/default", "sieve/files/s1"].map(|key| AttributeName {
            kind: AttributeKind::Private,
            key: BString::from([SERVER, key.as_bytes()].concat()),
        });
        let all: Vec<_> = names
            .iter()
            .map(|name| (name.clone(), Some("x".into())))
            .collect();
        dict.set(BOX, &all).unwrap();
        let [zz, default, script] = names;
        assert_eq!(dict.list(BOX).unwrap(), [script, zz, default]);
    }

    #[test]
    fn reads_what_dovecot_writes() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(
            root.path().join("dovecot-attributes"),
            b"priv/682bec25615c046b8044000083ecc375/comment\nmy private\n\
              shared/682bec25615c046b8044000083ecc375/vendor/vendor.dovecot/foo\n\
              multi\x01nline\x01ttab\npriv/682bec25615c046b8044000083ecc375/odd\n",
        )
        .unwrap();
        let dict = dict(root.path());
        let guid = Guid::from_hex(b"682bec25615c046b8044000083ecc375").unwrap();
        let names = dict.list(guid).unwrap();
        assert_eq!(
            names,
            [
                name(AttributeKind::Private, "comment"),
                name(AttributeKind::Shared, "vendor/vendor.dovecot/foo")
            ]
        );
        assert_eq!(dict.get(guid, &names[0]).unwrap().unwrap(), "my private");
        assert_eq!(
            dict.get(guid, &names[1]).unwrap().unwrap(),
            "multi\nline\ttab"
        );
        assert_eq!(dict.list(BOX).unwrap(), []);
    }

    #[test]
    fn sets_removes_and_moves() {
        let root = tempfile::tempdir().unwrap();
        let dict = dict(root.path());
        let comment = name(AttributeKind::Private, "comment");
        let sieve = name(
            AttributeKind::Private,
            "vendor/vendor.dovecot/pvt/server/sieve",
        );
        let hidden = name(AttributeKind::Private, "vendor/vendor.dovecot/pvt/x");
        let changes: Vec<_> = [&comment, &sieve, &hidden]
            .map(|name| (name.clone(), Some("v".into())))
            .into();
        dict.set(BOX, &changes).unwrap();
        assert_eq!(dict.list(BOX).unwrap(), [comment.clone(), sieve.clone()]);

        dict.change_guid(BOX, OTHER).unwrap();
        assert_eq!(dict.list(BOX).unwrap(), []);
        assert_eq!(dict.get(OTHER, &hidden).unwrap().unwrap(), "v");

        dict.remove_mailbox(OTHER, true).unwrap();
        assert_eq!(dict.list(OTHER).unwrap(), std::slice::from_ref(&sieve));
        dict.set(OTHER, &[(sieve, None)]).unwrap();
        assert_eq!(
            std::fs::read(root.path().join("dovecot-attributes")).unwrap(),
            b""
        );
    }

    #[test]
    fn says_what_it_cannot_do() {
        let none = AttributeDict::new(&StoreSettings::default());
        let comment = name(AttributeKind::Shared, "comment");
        let change = [(comment.clone(), Some("v".into()))];
        assert_eq!(
            none.set(BOX, &change).unwrap_err().class,
            MailErrorClass::NotPossible
        );
        assert_eq!(none.get(BOX, &comment).unwrap(), None);
        none.remove_mailbox(BOX, false).unwrap();

        let root = tempfile::tempdir().unwrap();
        let nul = [(comment, Some(BString::from(b"a\0b")))];
        let error = dict(root.path()).set(BOX, &nul).unwrap_err();
        assert_eq!(error.class, MailErrorClass::NotPossible);
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_change_by_others_is_seen() {
        let root = tempfile::tempdir().unwrap();
        let (one, two) = (dict(root.path()), dict(root.path()));
        let comment = name(AttributeKind::Shared, "comment");
        for value in ["a", "b"] {
            one.set(BOX, &[(comment.clone(), Some(value.into()))])
                .unwrap();
            assert_eq!(two.get(BOX, &comment).unwrap().unwrap(), value);
        }
    }

    proptest! {
        #[test]
        fn any_file_can_be_read_and_written_again(text: Vec<u8>) {
            let entries = parse_entries(&text);
            prop_assert_eq!(parse_entries(&format_entries(&entries)), entries);
        }
    }
}
