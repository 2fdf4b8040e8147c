//! Reading the files of `spec/vectors/` (their `*.README.md` tell the fields).

pub mod scenarios;

use dsync_engine::{Mode, SyncOptions};
use dsync_proto::items::{AttributeKind, MailboxState, SyncType};
use dsync_proto::types::{Flags, Guid};
use dsync_storage::AttributeName;
use dsync_storage::memory::{
    FlagRange, LoadMailbox, LoadMessage, LogRecord, MailboxDump, MessageDump, RecordChange,
    UidRange,
};
use serde_json::Value;

/// A number.
pub fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

/// A UID or another number of 32 bits.
pub fn uid(value: &Value) -> u32 {
    number(value).try_into().expect("a UID")
}

/// An octet in hex digits.
pub fn hex(value: &Value) -> u8 {
    let text = value.as_str().expect("hex digits");
    u8::from_str_radix(text, 16).expect("hex digits")
}

/// A list; nothing is an empty one.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A list of texts.
pub fn strings(value: &Value) -> Vec<String> {
    list(value)
        .iter()
        .map(|text| text.as_str().unwrap().to_owned())
        .collect()
}

/// A mailbox GUID in hex digits.
pub fn guid(value: &Value) -> Guid {
    Guid::from_hex(value.as_str().expect("hex digits").as_bytes()).expect("a GUID")
}

/// A list of names of system flags.
pub fn flags(value: &Value) -> Flags {
    let all = strings(value);
    all.iter().fold(Flags::NONE, |flags, name| {
        flags | Flags::from_name(name).expect("a flag")
    })
}

/// A mailbox of a scenario, with these messages.
pub fn mailbox(value: &Value, messages: Vec<LoadMessage>) -> LoadMailbox {
    LoadMailbox {
        guid: guid(&value["guid"]),
        uid_validity: uid(&value["uidvalidity"]),
        uid_next: uid(&value["uidnext"]),
        first_recent_uid: 1,
        highest_modseq: number(&value["highest_modseq"]),
        messages,
        initial_modseq: value["log"]["initial_modseq"].as_u64().unwrap_or(0),
        records: list(&value["log"]["records"]).iter().map(record).collect(),
        ..LoadMailbox::default()
    }
}

/// `UID` or `UID-UID`.
pub fn range(text: &str) -> UidRange {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    first.parse().unwrap()..=last.parse().unwrap()
}

/// Ranges with commas between them.
pub fn range_list(value: &Value) -> Vec<UidRange> {
    value.as_str().unwrap().split(',').map(range).collect()
}

/// A record of a change log.
pub fn record(value: &Value) -> LogRecord {
    let request_only = value["request_only"].as_bool().unwrap_or(false);
    let change = match value["type"].as_str().unwrap() {
        "append" => {
            let uids = list(&value["uids"]).iter().map(uid);
            RecordChange::Append(uids.map(|uid| uid..=uid).collect())
        }
        "expunge-guid" => RecordChange::ExpungeGuid {
            mails: list(&value["mails"])
                .iter()
                .map(|mail| {
                    let guid = mail["guid128"].as_str().unwrap_or_default();
                    let guid = Guid::from_hex(guid.as_bytes()).unwrap_or(Guid::ZERO);
                    (uid(&mail["uid"]), guid)
                })
                .collect(),
            request_only,
        },
        "flag-update" => RecordChange::Flags(
            list(&value["updates"])
                .iter()
                .map(|update| FlagRange {
                    uids: range(update["uids"].as_str().unwrap()),
                    add: Flags(hex(&update["add"])),
                    remove: Flags(hex(&update["remove"])),
                })
                .collect(),
        ),
        "keyword-update" => RecordChange::Keyword {
            removed: value["op"] == "remove",
            name: value["keyword"].as_str().unwrap().into(),
            uids: range_list(&value["uids"]),
        },
        "modseq-update" => RecordChange::Modseq(
            list(&value["updates"])
                .iter()
                .map(|update| (uid(&update["uid"]), number(&update["modseq"])))
                .collect(),
        ),
        "attribute-update" => RecordChange::Attributes(
            list(&value["changes"])
                .iter()
                // Dovecot's dump tool cannot show deletions: they are "broken entry" there.
                .filter_map(|change| change.as_str()?.strip_prefix("add: "))
                .map(attribute_name)
                .map(|name| (name.kind, name.key, false))
                .collect(),
        ),
        "expunge" => RecordChange::Expunge {
            uids: range_list(&value["uids"]),
            request_only,
        },
        other => panic!("unknown record {other}"),
    };
    LogRecord {
        modseq: number(&value["modseq"]),
        by_sync: value["by_dsync"].as_bool().unwrap_or(false),
        change,
    }
}

/// `/private/NAME` or `private/NAME`.
pub fn attribute_name(text: &str) -> AttributeName {
    let (kind, key) = text.trim_start_matches('/').split_once('/').unwrap();
    let kind = match kind {
        "private" => AttributeKind::Private,
        "shared" => AttributeKind::Shared,
        other => panic!("unknown kind of attribute {other}"),
    };
    AttributeName {
        kind,
        key: key.into(),
    }
}

/// A saved state for these counters.
pub fn state(mailbox_guid: Guid, value: &Value) -> MailboxState {
    MailboxState {
        mailbox_guid,
        last_uidvalidity: uid(&value["last_uidvalidity"]),
        last_common_uid: uid(&value["last_common_uid"]),
        last_common_modseq: number(&value["last_common_modseq"]),
        last_common_pvt_modseq: value["last_common_pvt_modseq"].as_u64().unwrap_or(0),
        last_messages_count: uid(&value["last_messages_count"]),
        ..MailboxState::default()
    }
}

/// Mode and direction of a command such as `sync -1 -R`.
pub fn mode(command: &str) -> SyncOptions {
    let words: Vec<&str> = command.split(' ').collect();
    SyncOptions {
        mode: match words[..] {
            ["backup", ..] => Mode::Backup,
            ["sync", "-1", ..] => Mode::OneWay,
            _ => Mode::TwoWay,
        },
        reverse: words.contains(&"-R"),
        sync_type: SyncType::Full,
        ..SyncOptions::default()
    }
}

/// UID, GUID, user flags and keywords of all messages.
pub type Row = (u32, String, u8, Vec<String>);

/// Those of a mailbox, by UID.
pub fn rows(mailbox: &MailboxDump) -> Vec<Row> {
    let row = |(uid, mail): (&u32, &MessageDump)| {
        let keywords = mail.keywords.iter().map(ToString::to_string).collect();
        (*uid, mail.guid.to_string(), mail.flags.0, keywords)
    };
    mailbox.messages.iter().map(row).collect()
}
