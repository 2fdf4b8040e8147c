//! Copies of messages: hard links under names of their own (`spec/maildir.md` 20 d).

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use dsync_proto::types::{Flags, MailErrorClass, MailGuid, Uid};

use super::commit::PendingSave;
use super::disk::{Disk, Known};
use super::filename;
use super::save;
use crate::body_file::BodySize;
use crate::changes::{Changes, updated};
use crate::compression::looks_packed;
use crate::index::{Cached, IndexState, LockedIndex};
use crate::{Result, SaveMessage};

impl Disk {
    /// Links the file of a message to a name in `tmp/`. Gives the change time that it had before,
    /// in seconds since the epoch: the link makes another one. `None` if the message is gone.
    pub(super) fn copy(
        &self,
        known: &mut Known,
        source: Uid,
        mut message: SaveMessage,
    ) -> Result<Option<(PendingSave, i64)>> {
        let changed =
            self.with_file(
                known,
                source,
                "stat",
                |path| Ok(fs::metadata(path)?.ctime()),
            )?;
        let linked = self.with_file(known, source, "link", |path| {
            let tmp = save::link(path, &self.paths.box_dir, &self.unique, &self.paths.modes);
            tmp.map_err(|error| match error.class {
                MailErrorClass::NotFound => io::ErrorKind::NotFound.into(),
                _ => io::Error::other(error.message),
            })
        })?;
        let (Some(changed), Some(tmp)) = (changed, linked) else {
            return Ok(None);
        };
        let length = fs::metadata(tmp.path()).map_or(0, |metadata| metadata.len());
        let list = &known.uidlist;
        let entry = list.position(source).and_then(|at| list.get(at));
        let is_packed = || fs::File::open(tmp.path()).is_ok_and(|file| looks_packed(&file));
        let size = entry.and_then(|entry| right_size(entry.base, length, is_packed));
        (message.pop3_uidl, message.pop3_order) = known.pop3(source);
        let copy = PendingSave {
            tmp,
            size,
            source,
            message,
        };
        Ok(Some((copy, changed)))
    }

    /// Messages that get the next UIDs become copies of themselves, and go.
    ///
    /// A session that is open knows their names with their old UIDs: with new ones it would take
    /// them for a mistake.
    pub(super) fn reassign(
        &self,
        known: &mut Known,
        locked: &LockedIndex<'_>,
        changes: &mut Changes,
    ) -> Result<Vec<PendingSave>> {
        let uids = std::mem::take(&mut changes.reassign);
        if uids.is_empty() {
            return Ok(Vec::new());
        }
        let cached = locked.cached().ok();
        let mut copies = Vec::with_capacity(uids.len());
        for uid in uids {
            if changes.expunges.contains(&uid) {
                continue;
            }
            let Some(message) = itself(known, locked.state(), changes, uid) else {
                continue;
            };
            let Some((mut copy, changed)) = self.copy(known, uid, message)? else {
                continue;
            };
            copy.message.saved_date = saved_date(cached.as_ref(), locked.state(), uid, changed);
            changes.expunges.insert(uid);
            copies.push(copy);
        }
        Ok(copies)
    }
}

/// A message as it is to be saved once more. It is new to everybody: `\Recent`.
fn itself(known: &Known, state: &IndexState, changes: &Changes, uid: Uid) -> Option<SaveMessage> {
    let entry = known.uidlist.get(known.uidlist.position(uid)?)?;
    let message = state.message(uid)?;
    let (flags, keywords) = updated(&message, changes.flags.get(&uid));
    Some(SaveMessage {
        uid: 0,
        guid: MailGuid::new(entry.guid()),
        flags: flags | Flags::RECENT,
        keywords: keywords.into_iter().map(Into::into).collect(),
        ..SaveMessage::default()
    })
}

/// When a message was saved: what the cache knows, else the change time of its file.
pub(super) fn saved_date(
    cached: Option<&Cached>,
    state: &IndexState,
    uid: Uid,
    changed: i64,
) -> i64 {
    let date = cached.zip(state.message(uid));
    let date = date.and_then(|(cached, message)| cached.saved_date(&message));
    date.map_or(changed, i64::from)
}

/// The sizes in a file name, unless they cannot be right. With a wrong one Dovecot cannot read the
/// message or shows only a part of it; without them it counts by itself (`spec/maildir.md` 9).
/// Those of a packed file are the message's.
fn right_size(base: &[u8], length: u64, is_packed: impl Fn() -> bool) -> Option<BodySize> {
    let sizes = filename::sizes(base);
    let (physical, virtual_size) = (sizes.physical?, sizes.virtual_size?);
    let is_possible = (physical..=physical.saturating_mul(2)).contains(&virtual_size)
        && (physical == length || is_packed());
    is_possible.then_some(BodySize {
        physical,
        virtual_size,
    })
}
