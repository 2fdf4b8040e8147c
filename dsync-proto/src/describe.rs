//! Items in one line for debug logs, without anything that a user wrote in a message.

use std::fmt::{self, Display, Formatter};

use bstr::{BStr, BString};

use crate::items::{
    Attribute, AttributeKind, AttributeValue, Change, ChangeKind, Handshake, Item, Mail,
    MailboxInfo, MailboxState, TreeNode,
};
use crate::types::KeywordOp;

/// Shows what kind of item it is and its most telling values; bodies and attribute values only by
/// their size. Text of a peer is shown escaped, so that it cannot forge log lines.
impl Display for Item {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Handshake(handshake) => describe_handshake(handshake, f),
            Self::State(state) => describe_state(state, f),
            Self::Node(node) => describe_node(node, f),
            Self::Deletes(deletes) => write!(
                f,
                " separator={} mailboxes={} dirs={} unsubscribes={}",
                deletes.hierarchy_sep.escape_ascii(),
                deletes.mailboxes.len(),
                deletes.dirs.len(),
                deletes.unsubscribes.len()
            ),
            Self::Mailbox(mailbox) => describe_mailbox(mailbox, f),
            Self::Attribute(attribute) => describe_attribute(attribute, f),
            Self::Change(change) => describe_change(change, f),
            Self::Request(request) => {
                optional(
                    f,
                    "guid",
                    request.guid.as_ref().map(|g| BStr::new(g.as_bytes())),
                )?;
                nonzero(f, "uid", request.uid)
            }
            Self::Mail(mail) => describe_mail(mail, f),
            Self::BodyChunk(chunk) => write!(f, " bytes={}", chunk.len()),
            Self::BodyEnd => f.write_str(" end"),
            Self::Finish(finish) => {
                optional(f, "error", finish.error.as_ref())?;
                optional(f, "mail_error", finish.mail_error)?;
                flag(f, "require_full_resync", finish.require_full_resync)
            }
            Self::EndOfList | Self::Done => Ok(()),
        }
    }
}

fn describe_handshake(handshake: &Handshake, f: &mut Formatter<'_>) -> fmt::Result {
    write!(f, " hostname={:?}", handshake.hostname)?;
    optional(f, "sync_type", handshake.sync_type)?;
    optional(f, "sync_box", handshake.sync_box.as_ref())?;
    flag(f, "backup_send", handshake.backup_send)?;
    flag(f, "backup_recv", handshake.backup_recv)?;
    flag(f, "no_backup_overwrite", handshake.no_backup_overwrite)?;
    flag(f, "no_mail_sync", handshake.no_mail_sync)?;
    nonzero(f, "lock_timeout", handshake.lock_timeout)?;
    for (name, value) in &handshake.extensions {
        write!(f, " {name:?}={value:?}")?;
    }
    Ok(())
}

fn describe_state(state: &MailboxState, f: &mut Formatter<'_>) -> fmt::Result {
    write!(
        f,
        " guid={} uidvalidity={} common_uid={} common_modseq={} messages={}",
        state.mailbox_guid,
        state.last_uidvalidity,
        state.last_common_uid,
        state.last_common_modseq,
        state.last_messages_count
    )?;
    nonzero(f, "common_pvt_modseq", state.last_common_pvt_modseq)?;
    flag(f, "changes_during_sync", state.changes_during_sync)
}

fn describe_node(node: &TreeNode, f: &mut Formatter<'_>) -> fmt::Result {
    write!(
        f,
        " {:?} {:?}",
        BString::from(bstr::join("/", &node.name)),
        node.existence
    )?;
    if !node.mailbox_guid.is_zero() {
        write!(f, " guid={}", node.mailbox_guid)?;
    }
    nonzero(f, "uid_validity", node.uid_validity)?;
    nonzero(f, "uid_next", node.uid_next)?;
    flag(f, "subscribed", node.subscribed)
}

fn describe_mailbox(mailbox: &MailboxInfo, f: &mut Formatter<'_>) -> fmt::Result {
    write!(
        f,
        " guid={} uid_validity={} uid_next={} messages={} highest_modseq={}",
        mailbox.mailbox_guid,
        mailbox.uid_validity,
        mailbox.uid_next,
        mailbox.messages_count,
        mailbox.highest_modseq
    )?;
    flag(f, "lost", mailbox.mailbox_lost)?;
    flag(f, "ignore", mailbox.mailbox_ignore)?;
    flag(f, "have_guids", mailbox.have_guids)?;
    flag(f, "have_save_guids", mailbox.have_save_guids)?;
    flag(f, "have_only_guid128", mailbox.have_only_guid128)
}

fn describe_attribute(attribute: &Attribute, f: &mut Formatter<'_>) -> fmt::Result {
    let kind = match attribute.kind {
        AttributeKind::Private => "private",
        AttributeKind::Shared => "shared",
    };
    write!(f, " {kind} {:?}", attribute.key)?;
    match &attribute.value {
        AttributeValue::Inline(value) => write!(f, " bytes={}", value.len()),
        AttributeValue::Stream => f.write_str(" stream"),
        AttributeValue::Deleted => f.write_str(" deleted"),
    }
}

fn describe_change(change: &Change, f: &mut Formatter<'_>) -> fmt::Result {
    let kind = match change.kind {
        ChangeKind::Save => "save",
        ChangeKind::Flags => "flags",
        ChangeKind::Expunge => "expunge",
    };
    write!(f, " {kind} uid={}", change.uid)?;
    optional(
        f,
        "guid",
        change.guid.as_ref().map(|g| BStr::new(g.as_bytes())),
    )?;
    optional(f, "hdr_hash", change.hdr_hash.as_ref())?;
    nonzero(f, "modseq", change.modseq)?;
    nonzero(f, "pvt_modseq", change.pvt_modseq)?;
    for (name, flags) in [
        ("add", change.add_flags),
        ("remove", change.remove_flags),
        ("final", change.final_flags),
    ] {
        if !flags.is_empty() {
            write!(f, " {name}={:02x}", flags.0)?;
        }
    }
    flag(f, "keywords_reset", change.keywords_reset)?;
    for keyword in &change.keyword_changes {
        let operator = match keyword.op {
            KeywordOp::Add => '+',
            KeywordOp::Remove => '-',
            KeywordOp::Final => '=',
            KeywordOp::AddFinal => '&',
        };
        write!(f, " {operator}{}", keyword.name.escape_ascii())?;
    }
    Ok(())
}

fn describe_mail(mail: &Mail, f: &mut Formatter<'_>) -> fmt::Result {
    optional(
        f,
        "guid",
        mail.guid.as_ref().map(|g| BStr::new(g.as_bytes())),
    )?;
    nonzero(f, "uid", mail.uid)?;
    write!(
        f,
        " received={} saved={}",
        mail.received_date, mail.saved_date
    )?;
    flag(f, "expunged", !mail.stream)
}

fn optional(f: &mut Formatter<'_>, name: &str, value: Option<impl fmt::Debug>) -> fmt::Result {
    value.map_or(Ok(()), |value| write!(f, " {name}={value:?}"))
}

fn nonzero(f: &mut Formatter<'_>, name: &str, value: impl Into<u64>) -> fmt::Result {
    match value.into() {
        0 => Ok(()),
        value => write!(f, " {name}={value}"),
    }
}

fn flag(f: &mut Formatter<'_>, name: &str, value: bool) -> fmt::Result {
    if value { write!(f, " {name}") } else { Ok(()) }
}
