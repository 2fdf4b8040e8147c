//! GUIDs that cannot be told from the mail itself.
//!
//! Dovecot makes the GUID of an mbox message from its headers: mails without or with the same
//! ones share it, and a GUID that came from another store is lost (`spec/mbox.md` 10.3). So a file
//! in the index directory, `dsync-guids`, has the GUID of every message for which it is another
//! one. An entry counts only for a message with the same UID, the same headers and the same size
//! of body: what a killed commit announced never becomes the GUID of another mail.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use bstr::{BString, ByteSlice};
use dsync_proto::types::{Guid, Uid};
use md5::{Digest, Md5};

use super::headers::md5_guid;
use super::scan::Entry;
use crate::permissions::CreateModes;
use crate::{Result, StorageError, path_io};

const FILE: &str = "dsync-guids";
const VERSION: &[u8] = b"1";
/// Far more than any mailbox has.
const MAX_FILE: u64 = 1 << 30;

/// What tells a message from another one.
pub(super) type Fingerprint = ([u8; 16], u64);

pub(super) fn fingerprint(entry: &Entry) -> Fingerprint {
    (entry.fingerprint, entry.body_len)
}

/// The GUIDs of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Guids {
    known: BTreeMap<Uid, (Fingerprint, BString)>,
    changed: bool,
}

impl Guids {
    /// Reads them. A line that is none is left out: its message has the GUID of its headers.
    pub(super) fn read(index_dir: &Path) -> Result<Self> {
        let mut guids = Self::default();
        let Some(bytes) = path_io::read(&index_dir.join(FILE), MAX_FILE)? else {
            return Ok(guids);
        };
        let mut lines = bytes.lines();
        if lines.next() != Some(VERSION) {
            return Ok(guids);
        }
        for line in lines {
            if let Some((uid, print, guid)) = parse(line) {
                guids.known.insert(uid, (print, guid));
            }
        }
        Ok(guids)
    }

    /// Remembers the GUID of a message.
    pub(super) fn set(&mut self, uid: Uid, print: Fingerprint, guid: BString) {
        let before = self.known.insert(uid, (print, guid.clone()));
        self.changed |= before != Some((print, guid));
    }

    /// GUIDs of messages in their order. Each but the first with the same headers gets one of its
    /// own, which is remembered.
    pub(super) fn of(&mut self, uid_validity: u32, messages: &[(Uid, &Entry)]) -> Vec<BString> {
        let mut taken = BTreeSet::new();
        let mut guids = Vec::with_capacity(messages.len());
        let said = |known: &BTreeMap<Uid, (Fingerprint, BString)>, uid, entry| {
            known
                .get(uid)
                .filter(|(print, _)| *print == fingerprint(entry))
                .map(|(_, guid)| guid.clone())
        };
        for (uid, entry) in messages {
            if let Some(guid) = said(&self.known, uid, entry) {
                taken.insert(guid);
            }
        }
        for (uid, entry) in messages {
            if let Some(guid) = said(&self.known, uid, entry) {
                guids.push(guid);
                continue;
            }
            let mut guid = BString::from(md5_guid(entry.meta.md5));
            if !taken.insert(guid.clone()) {
                let text = format!("{guid} {uid_validity} {uid}");
                guid = md5_guid(Md5::digest(text).into()).into();
                taken.insert(guid.clone());
                self.set(*uid, fingerprint(entry), guid.clone());
            }
            guids.push(guid);
        }
        guids
    }

    /// Forgets messages that are not there.
    pub(super) fn retain(&mut self, mut exists: impl FnMut(Uid) -> bool) {
        let before = self.known.len();
        self.known.retain(|uid, _| exists(*uid));
        self.changed |= self.known.len() != before;
    }

    /// Writes them, if they have changed. Killed at any moment: the old ones or the new ones.
    pub(super) fn write(
        &mut self,
        index_dir: &Path,
        modes: &CreateModes,
        sync: bool,
    ) -> Result<()> {
        if !self.changed {
            return Ok(());
        }
        let path = index_dir.join(FILE);
        let mut temp = path.as_os_str().to_owned();
        temp.push(".tmp");
        let temp = PathBuf::from(temp);
        let mut text = [VERSION, b"\n"].concat();
        for (uid, ((print, size), guid)) in &self.known {
            text.extend_from_slice(format!("{uid} {} {size} ", md5_guid(*print)).as_bytes());
            text.extend_from_slice(guid);
            text.push(b'\n');
        }
        let write = || -> std::io::Result<()> {
            let mut file = modes.create_truncated(&temp)?;
            file.write_all(&text)?;
            if sync {
                file.sync_data()?;
            }
            std::fs::rename(&temp, &path)
        };
        write().map_err(|error| StorageError::io("write", &path, &error))?;
        self.changed = false;
        Ok(())
    }
}

fn parse(line: &[u8]) -> Option<(Uid, Fingerprint, BString)> {
    let mut words = line.splitn(4, |byte| *byte == b' ');
    let number = |word: &[u8]| std::str::from_utf8(word).ok()?.parse::<u64>().ok();
    let uid = Uid::try_from(number(words.next()?)?).ok()?;
    let print = Guid::from_hex(words.next()?)?;
    let size = number(words.next()?)?;
    let guid = words.next().filter(|guid| !guid.is_empty())?;
    Some((uid, (print.0, size), guid.into()))
}
