//! The running modseq of a log (`spec/dovecot-index.md` 7.1).

use dsync_proto::types::ModSeq;

use super::extension::ExtensionSpec;
use super::payload::{ext_intros, flag_updates, modseq_updates};
use super::record::{Record, RecordKind};

/// The running modseq after this record, from the value before it.
pub(crate) fn advance(before: ModSeq, record: &Record<'_>, log_minor_version: u8) -> ModSeq {
    let Some(kind) = record.kind else {
        return before;
    };
    if before == 0 {
        let starts = kind == RecordKind::ExtIntro
            && ext_intros(record.payload)
                .flatten()
                .any(|intro| intro.name == ExtensionSpec::MODSEQ.name.as_bytes());
        return ModSeq::from(starts);
    }
    let raises = match kind {
        RecordKind::Append
        | RecordKind::KeywordUpdate
        | RecordKind::KeywordReset
        | RecordKind::AttributeUpdate => true,
        RecordKind::Expunge | RecordKind::ExpungeGuid => record.external,
        RecordKind::FlagUpdate => {
            log_minor_version < 3 || !flag_updates(record.payload).all(|flags| flags.is_internal())
        }
        RecordKind::ModseqUpdate => {
            return modseq_updates(record.payload)
                .map(|(_, modseq)| modseq)
                .fold(before, ModSeq::max);
        }
        _ => false,
    };
    before.saturating_add(raises.into())
}
