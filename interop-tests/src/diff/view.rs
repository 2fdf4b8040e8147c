//! What is compared of an account: all facts, with attributes and the very bytes of messages.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use bstr::ByteSlice;

use super::look;
use crate::{Facts, MailboxFacts, Side};

/// An account.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    pub(super) facts: Facts,
    /// Content of message files by folder, sorted: doveadm's output is not exact.
    content: BTreeMap<String, Vec<Vec<u8>>>,
}

impl View {
    pub(super) fn read(side: &Side<'_>) -> Result<Self> {
        let mut facts = look::read(side).with_context(|| format!("facts of {}", side.name()))?;
        read_attributes(&mut facts, &side.outside("dovecot-attributes"))?;
        let mut content = BTreeMap::new();
        visit(&side.outside_mail_root(), &mut |path| {
            if let Some(folder) = message_folder(path) {
                let list: &mut Vec<_> = content.entry(folder).or_default();
                list.push(fs::read(path)?);
            }
            Ok(())
        })?;
        for list in content.values_mut() {
            list.sort_unstable();
        }
        Ok(Self { facts, content })
    }

    pub(super) fn without_attributes(mut self) -> Self {
        for mailbox in self.facts.0.values_mut() {
            mailbox.attributes.clear();
        }
        self
    }

    /// Without the attributes of these mailboxes.
    pub(super) fn without_attributes_of(&self, names: &[String]) -> Self {
        let mut view = self.clone();
        for (name, mailbox) in &mut view.facts.0 {
            if names.contains(name) {
                mailbox.attributes.clear();
            }
        }
        view
    }

    /// Without subscriptions.
    pub(super) fn without_subscriptions(&self) -> Self {
        let mut view = self.clone();
        for mailbox in view.facts.0.values_mut() {
            mailbox.subscribed = false;
        }
        let is_more = |mailbox: &MailboxFacts| mailbox.listed || mailbox.identity.is_some();
        view.facts.0.retain(|_, mailbox| is_more(mailbox));
        view
    }

    /// Without names that cannot be selected.
    pub(super) fn mailboxes_only(mut self) -> Self {
        self.facts.0.retain(|_, mailbox| mailbox.identity.is_some());
        self
    }

    /// For a comparison of two sides instead of two runs: of several carriage returns before a
    /// line end not all survive the way (`spec/wire.md`), with Dovecot neither.
    pub(super) fn as_sent(&self) -> Self {
        let mut view = self.clone();
        view.content.clear();
        for mailbox in view.facts.0.values_mut() {
            for message in &mut mailbox.messages {
                while message.text.contains_str("\r\n") {
                    message.text = message.text.replace("\r\n", "\n").into();
                }
            }
        }
        view
    }

    /// Without these mailboxes.
    pub(super) fn without(&self, names: &[String]) -> Self {
        let mut view = self.clone();
        view.content.clear();
        view.facts.0.retain(|name, _| !names.contains(name));
        view
    }

    /// These mailboxes.
    pub(super) fn only(&self, names: &[String]) -> Self {
        let mut view = self.clone();
        view.content.clear();
        view.facts.0.retain(|name, _| names.contains(name));
        view
    }

    /// Mailboxes that both have under one name, but not with one GUID.
    pub(super) fn other_guids(&self, other: &Self) -> Vec<String> {
        let mut names = Vec::new();
        for (name, mailbox) in &self.facts.0 {
            let twin = other
                .facts
                .0
                .get(name)
                .and_then(|twin| twin.identity.as_ref());
            if let (Some((one, ..)), Some((two, ..))) = (&mailbox.identity, twin)
                && one != two
            {
                names.push(name.clone());
            }
        }
        names
    }

    /// Names here of mailboxes that have another UIDVALIDITY in `other`.
    pub(super) fn other_uid_validity(&self, other: &Self) -> Vec<String> {
        let mut names = Vec::new();
        for mailbox in self.facts.0.values() {
            let Some((guid, uid_validity, _)) = &mailbox.identity else {
                continue;
            };
            if let (Some((other_value, _)), Some(name)) =
                (other.counters(guid), other.name_of(guid))
                && other_value != *uid_validity
            {
                names.push(name.to_owned());
            }
        }
        names
    }

    /// Names of mailboxes that became another one in `other`: with a GUID that was not here, in
    /// the place of one that is not there any more, and another UIDVALIDITY.
    pub(super) fn other_identity(&self, other: &Self) -> Vec<String> {
        let mut names = self.other_guids(other);
        names.retain(|name| {
            let identity = |view: &Self| view.facts.0.get(name).and_then(|it| it.identity.clone());
            let (Some(old), Some(new)) = (identity(self), identity(other)) else {
                return false;
            };
            other.name_of(&old.0).is_none() && self.name_of(&new.0).is_none() && old.1 != new.1
        });
        names
    }

    /// Names here of mailboxes whose counters happen to be those of `other`, but not their mail.
    pub(super) fn overlooked(&self, other: &Self) -> Vec<String> {
        let mut names = Vec::new();
        for (name, mailbox) in &self.facts.0 {
            let Some(identity) = &mailbox.identity else {
                continue;
            };
            let twin = other.with_guid(&identity.0);
            let is_overlooked = twin.is_some_and(|twin| {
                twin.identity.as_ref() == Some(identity)
                    && twin.messages.len() == mailbox.messages.len()
                    && twin.messages != mailbox.messages
            });
            if is_overlooked {
                names.push(name.clone());
            }
        }
        names
    }

    /// With the messages of these mailboxes in the order of their GUIDs, without UIDs.
    pub(super) fn without_uids_of(&self, names: &[String]) -> Self {
        let mut view = self.clone();
        for name in names {
            let Some(mailbox) = view.facts.0.get_mut(name) else {
                continue;
            };
            if let Some((_, _, uid_next)) = &mut mailbox.identity {
                uid_next.clear();
            }
            mailbox.messages.sort_by(|one, two| one.guid.cmp(&two.guid));
            for (uid, message) in (1..).zip(&mut mailbox.messages) {
                message.uid = uid;
            }
        }
        view.content.clear();
        view
    }

    /// Both, with the messages that only one of them has in these mailboxes.
    pub(super) fn united(&self, other: &Self, names: &[String]) -> (Self, Self) {
        let (mut one, mut two) = (self.clone(), other.clone());
        one.content.clear();
        two.content.clear();
        for name in names {
            if let (Some(left), Some(right)) =
                (one.facts.0.get_mut(name), two.facts.0.get_mut(name))
            {
                let mut all = left.messages.clone();
                all.extend(right.messages.iter().cloned());
                all.sort_by(|a, b| a.guid.cmp(&b.guid));
                all.dedup_by(|a, b| a.guid == b.guid);
                left.messages.clone_from(&all);
                right.messages = all;
            }
        }
        (one.without_uids_of(names), two.without_uids_of(names))
    }

    /// The mailbox with this GUID.
    pub(super) fn with_guid(&self, guid: &str) -> Option<&MailboxFacts> {
        let name = self.name_of(guid)?;
        self.facts.0.get(name)
    }

    /// Name of the mailbox with this GUID.
    pub(super) fn name_of(&self, guid: &str) -> Option<&str> {
        let is_it = |identity: &(String, String, String)| identity.0 == guid;
        let mut mailboxes = self.facts.0.iter();
        let found = mailboxes.find(|(_, mailbox)| mailbox.identity.as_ref().is_some_and(is_it));
        found.map(|(name, _)| name.as_str())
    }

    /// UIDVALIDITY and UIDNEXT of the mailbox with this GUID.
    pub(super) fn counters(&self, guid: &str) -> Option<(String, String)> {
        let identities = self.facts.0.values().flat_map(|mailbox| &mailbox.identity);
        identities
            .filter(|(own, ..)| own == guid)
            .map(|(_, uid_validity, uid_next)| (uid_validity.clone(), uid_next.clone()))
            .next()
    }

    /// Each difference as a line.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        let mut lines = self.facts.differences(&other.facts);
        if lines.is_empty() && self.content != other.content {
            for folder in self.content.keys().chain(other.content.keys()) {
                if self.content.get(folder) != other.content.get(folder) {
                    lines.push(format!("{folder}: bytes of messages"));
                }
            }
        }
        lines
    }
}

/// `FOLDER` of `.../FOLDER/cur/MESSAGE`.
fn message_folder(path: &Path) -> Option<String> {
    let parent = path.parent()?;
    let kind = parent.file_name()?;
    let folder = parent.parent()?.file_name()?;
    (kind == "cur" || kind == "new").then(|| folder.to_string_lossy().into_owned())
}

/// From the file, since doveadm needs a call for each of them.
fn read_attributes(facts: &mut Facts, file: &Path) -> Result<()> {
    if !file.exists() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&fs::read(file)?).into_owned();
    let mut lines = text.lines();
    while let (Some(key), Some(value)) = (lines.next(), lines.next()) {
        let mut parts = key.splitn(3, '/');
        let (Some(kind), Some(guid), Some(name)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        for mailbox in facts.0.values_mut() {
            if mailbox
                .identity
                .as_ref()
                .is_some_and(|(own, ..)| own == guid)
            {
                mailbox
                    .attributes
                    .insert(format!("{kind}/{name}"), value.to_owned());
            }
        }
    }
    Ok(())
}

/// What tells whether anything was written: names of all files, content of those that hold no
/// cache and no times.
pub(super) fn fingerprint(side: &Side<'_>) -> Result<BTreeMap<String, Vec<u8>>> {
    const WHOLE: [&str; 5] = [
        "dovecot-uidlist",
        "subscriptions",
        "dovecot-attributes",
        "dovecot.mailbox.log",
        "dovecot.index.log",
    ];
    let mut files = BTreeMap::new();
    visit(&side.outside(""), &mut |path| {
        let whole = path
            .file_name()
            .is_some_and(|name| WHOLE.iter().any(|whole| name == *whole));
        let content = match whole {
            true => fs::read(path)?,
            false => Vec::new(),
        };
        files.insert(path.display().to_string(), content);
        Ok(())
    })?;
    Ok(files)
}

fn visit(folder: &Path, file: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => visit(&entry.path(), file)?,
            false => file(&entry.path())?,
        }
    }
    Ok(())
}
