//! What was done to which mail, and what may have become of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use anyhow::{Context, Result, anyhow, ensure};

use super::client::mails;
use crate::Side;

/// What everybody did, kept while they work.
#[derive(Default)]
pub(super) struct Ledger(Mutex<Deeds>);

/// Mails have names of their own; UIDs are those of INBOX as somebody saw them.
#[derive(Default)]
pub(super) struct Deeds {
    /// All that were saved.
    pub(super) saved: BTreeSet<String>,
    /// Those that somebody wanted to remove, and the UID under which a session did so.
    pub(super) removed: BTreeMap<String, Vec<u32>>,
    /// Those that a session moved to `Work`, and the UIDs under which it did so.
    moved: BTreeMap<String, Vec<u32>>,
}

/// Where a mail is in the end.
#[derive(Debug, Default)]
struct Found {
    /// UIDs in INBOX.
    inbox: Vec<u32>,
    /// How often it is in `Work`.
    work: usize,
}

impl Ledger {
    fn note(&self, deed: impl FnOnce(&mut Deeds)) -> Result<()> {
        deed(&mut *self.0.lock().map_err(|_| anyhow!("somebody panicked"))?);
        Ok(())
    }

    /// A mail was saved.
    pub(super) fn saved(&self, name: &str) -> Result<()> {
        self.note(|deeds| {
            deeds.saved.insert(name.to_owned());
        })
    }

    /// A mail is about to be removed, under this UID if that is known.
    pub(super) fn removes(&self, name: &str, uid: Option<u32>) -> Result<()> {
        self.note(|deeds| {
            deeds
                .removed
                .entry(name.to_owned())
                .or_default()
                .extend(uid);
        })
    }

    /// A mail is about to be moved to `Work`.
    pub(super) fn moves(&self, name: &str, uid: u32) -> Result<()> {
        self.note(|deeds| deeds.moved.entry(name.to_owned()).or_default().push(uid))
    }

    /// Nobody works any more.
    pub(super) fn close(self) -> Result<Deeds> {
        self.0
            .into_inner()
            .map_err(|_| anyhow!("somebody panicked"))
    }
}

impl Deeds {
    /// Every mail is on this side where it must be, and nowhere else.
    ///
    /// A session that moves or removes a mail which has got another UID since it looked last hits
    /// nothing: Dovecot says OK, and the mail stays (a move may have copied it before). That is so
    /// with Dovecot's own dsync, too. But under the UID that the session named it must be gone.
    pub(super) fn check(&self, side: &Side<'_>) -> Result<()> {
        let found = look(side)?;
        let wrong: Vec<String> = found
            .iter()
            .filter_map(|(name, found)| {
                Some(format!("{name} {}: {found:?}", self.fault(name, found)?))
            })
            .collect();
        ensure!(wrong.is_empty(), "{wrong:#?}");
        let lost: Vec<_> = self
            .saved
            .iter()
            .filter(|name| !found.contains_key(*name) && !self.removed.contains_key(*name))
            .collect();
        ensure!(lost.is_empty(), "lost: {lost:?}");
        Ok(())
    }

    /// How many of the moves above have made two mails of one.
    pub(super) fn doubled_by_moves(&self, side: &Side<'_>) -> Result<usize> {
        let found = look(side)?;
        let doubled = |found: &&Found| found.inbox.len() + found.work > 1;
        Ok(found.values().filter(doubled).count())
    }

    fn fault(&self, name: &str, found: &Found) -> Option<&'static str> {
        let uids = |of: &BTreeMap<String, Vec<u32>>| of.get(name).cloned().unwrap_or_default();
        let (moved, removed) = (uids(&self.moved), uids(&self.removed));
        if !self.saved.contains(name) {
            return Some("was never saved");
        }
        if found.inbox.len() > 1 || found.work > moved.len() {
            return Some("is there too often");
        }
        let has = |uids: &[u32]| found.inbox.iter().any(|uid| uids.contains(uid));
        if has(&moved) {
            return Some("was moved and is still there");
        }
        has(&removed).then_some("was removed and is still there")
    }
}

fn look(side: &Side<'_>) -> Result<BTreeMap<String, Found>> {
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    let mut session = side.imap()?;
    session.ok("EXAMINE INBOX")?;
    for (uid, name) in mails(&mut session)? {
        found.entry(name).or_default().inbox.push(uid);
    }
    session.ok("EXAMINE Work")?;
    for name in mails(&mut session)?.into_values() {
        found.entry(name).or_default().work += 1;
    }
    session.logout().context("at the end")?;
    Ok(found)
}
