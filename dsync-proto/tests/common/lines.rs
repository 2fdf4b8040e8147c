//! Single lines after a normal start block.

use bytes::BytesMut;
use dsync_proto::items::{Handshake, Item, Mail};
use dsync_proto::types::MailGuid;
use dsync_proto::wire::{DecodeError, Encoder};

use super::{Cut, decode};

/// Banner and header lines of Dovecot 2.3.
pub(crate) const HEADERS: &str = "VERSION\tdsync\t3\t5
Hhostname\tsync_ns_prefix\tsync_box\tsync_box_guid\tsync_type\tdebug\tsync_visible_namespaces\texclude_mailboxes\tsend_mail_requests\tbackup_send\tbackup_recv\tlock_timeout\tno_mail_sync\tno_backup_overwrite\tpurge_remote\tno_notify\tsync_since_timestamp\tsync_max_size\tsync_flags\tsync_until_timestamp\tvirtual_all_box\tempty_hdr_workaround\timport_commit_msgs_interval\thashed_headers\talt_char
Smailbox_guid\tlast_uidvalidity\tlast_common_uid\tlast_common_modseq\tlast_common_pvt_modseq\tlast_messages_count\tchanges_during_sync
Nname\texistence\tmailbox_guid\tuid_validity\tuid_next\tlast_renamed_or_created\tsubscribed\tlast_subscription_change
Dhierarchy_sep\tescape_char\tmailboxes\tdirs\tunsubscribes
Bmailbox_guid\tuid_validity\tuid_next\tmessages_count\tfirst_recent_uid\thighest_modseq\thighest_pvt_modseq\tmailbox_lost\tmailbox_ignore\tcache_fields\thave_guids\thave_save_guids\thave_only_guid128
Atype\tkey\tvalue\tstream\tdeleted\tlast_change\tmodseq
Ctype\tuid\tguid\thdr_hash\tmodseq\tpvt_modseq\tadd_flags\tremove_flags\tfinal_flags\tkeywords_reset\tkeyword_changes\treceived_timestamp\tvirtual_size
Rguid\tuid
Mguid\tuid\tpop3_uidl\tpop3_order\treceived_date\tsaved_date\tstream
Ferror\tmail_error\trequire_full_resync
cname\tdecision\tlast_used
.
";

/// Decodes what follows a normal start block.
pub(crate) fn decode_lines(lines: &[u8]) -> Result<Vec<Item>, DecodeError> {
    let start = format!("{HEADERS}Hpeer\n");
    let (_, items, _) = decode(&[start.as_bytes(), lines].concat(), Cut::Whole)?;
    Ok(items[1..].to_vec())
}

pub(crate) fn decode_one(line: &[u8]) -> Item {
    let items = decode_lines(line).unwrap();
    assert_eq!(items.len(), 1, "{items:?}");
    items[0].clone()
}

pub(crate) fn handshake(line: &str) -> Result<Handshake, DecodeError> {
    let (_, items, _) = decode(format!("{HEADERS}{line}\n").as_bytes(), Cut::Whole)?;
    match &items[0] {
        Item::Handshake(handshake) => Ok(*handshake.clone()),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn start(handshake: &Handshake) -> (Encoder, String) {
    let mut encoder = Encoder::default();
    let mut out = BytesMut::new();
    encoder.start(handshake, &mut out);
    (encoder, String::from_utf8(out.to_vec()).unwrap())
}

pub(crate) fn encode_one(item: &Item) -> Vec<u8> {
    let (mut encoder, _) = start(&Handshake::default());
    let mut out = BytesMut::new();
    encoder.encode(item, &mut out).unwrap();
    out.to_vec()
}

pub(crate) fn error(lines: &str) -> String {
    decode_lines(format!("{lines}\n").as_bytes())
        .unwrap_err()
        .to_string()
}

pub(crate) fn mail_with_body() -> Item {
    Item::Mail(Mail {
        guid: Some(MailGuid::from("g")),
        stream: true,
        ..Mail::default()
    })
}
