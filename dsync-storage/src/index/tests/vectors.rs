//! Bytes of the specification, made or accepted by Dovecot.

use dsync_proto::types::{Flags, Guid};

use super::super::encode::{RecordWriter, encode};
use super::super::pending::LogCursor;
use super::super::record::{Record, RecordKind, RecordReader};
use super::super::snapshot;
use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|char| char.to_digit(16).map(|digit| digit as u8))
        .collect();
    digits
        .chunks_exact(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

/// `spec/dovecot-index.md` 3.6.
fn annotated_snapshot() -> Vec<u8> {
    let mut file = hex("07037800 08020000 18000000 01000000
        ae60046b 00000000 ae60046b 03000000
        01000000 00000000 00000000 00000000
        01000000 00000000 00000000 02000000
        d4040000 d4040000 00000000 ffffffff
        ae60046b 0082036b 01000000");
    file.resize(0x78, 0);
    file.extend(hex("18000000 00000000 0000 0000 0000 0800"));
    file.extend(b"dbox-hdr");
    file.extend(hex("00000000 dfc75d3bae60046bec50000083ecc375 00000000"));
    file.extend(hex("04000000 00000000 0000 0000 0000 0d00"));
    file.extend(b"hdr-pop3-uidl\0\0\0\0\0\0\0\0\0\0\0");
    file.extend(hex("00000000 ae60046b 1000 0400 0400 0500"));
    file.extend(b"cache\0\0\0");
    file.extend(hex("94000000 00000000 0500 0200 0100 0800"));
    file.extend(b"keywords");
    file.extend(hex("02000000 00000000 00000000 00000000 08000000"));
    file.extend(b"$Label1\0Work\0");
    file.resize(0x198, 0);
    file.extend(hex("10000000 00000000 0800 0800 0800 0600"));
    file.extend(b"modseq\0\0");
    file.extend(hex("0a00000000000000 02000000 d4040000"));
    file.extend(hex("10000000 00000000 0000 0000 0800 0900"));
    file.extend(b"hdr-vsize\0\0\0\0\0\0\0");
    file.extend(hex("2900000000000000 02000000 01000000"));
    file.extend(hex("00000000 00000000 1400 0400 0400 0500"));
    file.extend(b"vsize\0\0\0");
    file.extend(hex(
        "02000000 13 0200 00 0a00000000000000 74020000 2a000000",
    ));
    file
}

#[test]
fn snapshot_by_dovecot() {
    let bytes = annotated_snapshot();
    assert_eq!(bytes.len(), 0x220);
    let read = snapshot::decode(&bytes).unwrap();
    assert_eq!(read.repaired, None);
    let state = &read.state;
    assert_eq!(state.header().uid_validity(), 0x6b04_60ae);
    assert_eq!(state.header().next_uid(), 3);
    assert_eq!(state.header().first_recent_uid(), 1);
    assert_eq!(state.highest_modseq(), 10);
    let message = state.message(2).unwrap();
    assert_eq!(
        message.flags(),
        Flags::ANSWERED | Flags::FLAGGED | Flags::DRAFT | Flags::RECENT
    );
    assert_eq!(message.keywords().collect::<Vec<_>>(), ["Work"]);
    assert_eq!(message.modseq(), 10);
    assert_eq!(message.extension("vsize"), Some(&[42, 0, 0, 0][..]));
    assert_eq!(state.extension("hdr-vsize").unwrap().header[0], 41);
    assert_eq!(snapshot::encode(state, read.position), bytes);
}

/// `spec/dovecot-index.md` 4.5: a new sdbox INBOX, and one message appended to it.
const NEW_LOG: &str = "01032800 00f15365 02000000 00000000 00000000 00f15365 01000000 00000000
    01000000 00000000
    80808083 00000810 d8000000
    80808089 40000010 ffffffff 00000000 18000000 00000000 01000800 64626f78 2d686472
    80808089 00010010 00001800 00000000 00112233 44556677 8899aabb ccddeeff 00000000
    80808089 40000010 ffffffff 00000000 10000000 08000800 01000600 6d6f6473 65710000
    80808087 00010010 00001000 01000000 00000000 00000000 00000000
    80808084 20000010 18000400 d2029649
    80808084 20000010 1c000400 65000000
    80808085 00800010 00000000 d0070000 00000000
    80808084 20000010 30000400 65000000";
const ONE_MESSAGE: &str = "80808083 00000830 50000000
    80808084 02000030 65000000 08000000
    80808088 00040030 00000a00 24466f72 77617264 65640000 65000000 65000000
    80808085 00800030 65000000 b80b0000 00000000";

#[test]
fn log_of_a_new_mailbox() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(file(&dir, ".log"), hex(NEW_LOG)).unwrap();
    let mut index = open(&dir);
    assert!(index.damage().is_empty(), "{:?}", index.damage());
    assert_eq!(index.state().header().uid_validity(), 1_234_567_890);
    assert_eq!(index.state().header().next_uid(), 101);
    assert_eq!(index.state().header().first_recent_uid(), 101);
    assert_eq!(index.state().highest_modseq(), 2000);
    assert!(index.state().is_empty());
    let guid = &index.state().extension("dbox-hdr").unwrap().header[4..20];
    assert_eq!(
        Guid(guid.try_into().unwrap()).to_string(),
        "00112233445566778899aabbccddeeff"
    );

    let mut transaction = Transaction::new(Origin::DSYNC_FACT);
    transaction.append(101, Flags::SEEN);
    transaction.add_keyword(b"$Forwarded", 101..=101);
    transaction.min_modseq(101, 3000);
    let end = index.log_size();
    let bytes = encode(&transaction, index.state(), end).unwrap();
    assert_eq!(bytes, hex(ONE_MESSAGE));
    append(&mut index, &transaction);
    let message = index.state().message(101).unwrap();
    assert_eq!(message.flags(), Flags::SEEN | Flags::RECENT);
    assert_eq!(message.keywords().collect::<Vec<_>>(), ["$Forwarded"]);
    assert_eq!(message.modseq(), 3000);
    assert_eq!(index.state().highest_modseq(), 3000);
    assert_eq!(index.state().header().next_uid(), 102);
    assert_eq!(std::fs::read(file(&dir, ".log")).unwrap()[256..], bytes);
}

/// Records of `spec/dovecot-index.md` 4.4 and 16.
#[test]
fn records_of_the_annotated_log() {
    let records = hex("80808085 04000000 01000000 01000000 08 00 00 00
        80808087 00040000 00 00 0700 244c6162656c31 00 01000000 01000000
        80808087 90ed0000 01000000 e1c75d3bae60046bec50000083ecc375
        80808087 90ed0010 01000000 00000000 00000000 00000000 00000000
        80808087 00001000 2b70636f6d6d656e74 00 00 00 e960046b 05000000
        80808086 00001000 2d70636f6d6d656e74 00 00 00 e960046b");
    let mut reader = RecordReader::new(&records, 0x1ec);
    let kinds: Vec<(RecordKind, bool)> = reader
        .by_ref()
        .map(|record| record.map(|record| (record.kind.unwrap(), record.external)))
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(
        kinds,
        [
            (RecordKind::FlagUpdate, false),
            (RecordKind::KeywordUpdate, false),
            (RecordKind::ExpungeGuid, false),
            (RecordKind::ExpungeGuid, true),
            (RecordKind::AttributeUpdate, false),
            (RecordKind::AttributeUpdate, false),
        ]
    );
    assert_eq!(reader.offset() as usize, 0x1ec + records.len());
}

#[test]
fn running_modseq() {
    let header = LogHeader {
        minor_version: 3,
        header_size: 40,
        index_id: 1,
        file_seq: 2,
        prev_file_seq: 0,
        prev_file_offset: 0,
        create_stamp: 1,
        initial_modseq: 1,
    };
    let log = hex(NEW_LOG);
    let mut cursor = LogCursor::new(&header, None);
    for record in RecordReader::new(&log[40..], 40) {
        cursor.step(&record.unwrap(), &header);
    }
    assert_eq!(
        (cursor.modseq, cursor.offset, cursor.max_tail),
        (2000, 256, 256)
    );
    let steps: [(&str, u64); 6] = [
        ("80808085 04000000 01000000 01000000 08 00 00 00", 1),
        ("80808085 04000000 01000000 01000000 80 00 00 00", 0),
        ("80808085 04000000 01000000 01000000 00 00 01 00", 1),
        (
            "80808087 90ed0000 01000000 00000000 00000000 00000000 00000000",
            0,
        ),
        (
            "80808087 90ed0010 01000000 00000000 00000000 00000000 00000000",
            1,
        ),
        ("80808084 20000010 18000400 d2029649", 0),
    ];
    for (bytes, difference) in steps {
        let bytes = hex(bytes);
        let mut reader = RecordReader::new(&bytes, 256);
        let record: Record<'_> = reader.next().unwrap().unwrap();
        let before = cursor.modseq;
        cursor.step(&record, &header);
        assert_eq!(cursor.modseq - before, difference, "{record:?}");
    }
}

#[test]
fn rules_of_validity() {
    let bad = [
        ("80808082 04000000", "empty"),
        ("80808084 04000000 01000000 01000000", "half an entry"),
        ("80808085 04000000 00000000 01000000 08 00 00 00", "UID 0"),
        (
            "80808085 04000000 02000000 01000000 08 00 00 00",
            "first > last",
        ),
        ("80808084 01000010 01000000 01000000", "no protection"),
        ("80808084 00200010 01000000 01000000", "no protection"),
        (
            "80808086 91cd0010 03000000 04000000 04000000 05000000",
            "overlap",
        ),
        ("80808084 00040000 00 00 0000 01000000", "no name"),
        ("80808083 00000810 04000000", "boundary too small"),
        ("80808084 00001000 2a700000 00000000", "attribute"),
    ];
    for (bytes, what) in bad {
        let bytes = hex(bytes);
        let mut reader = RecordReader::new(&bytes, 40);
        assert!(matches!(reader.next(), Some(Err(_))), "{what}");
    }
    let unfinished = [
        "",
        "808080",
        "80808085 04000000 01000000 01000000 08 00 00",
        "00000000 00000000",
        "80808083 00000810 28000000 80808085 04000000 01000000 01000000 08 00 00 00",
    ];
    for bytes in unfinished {
        let bytes = hex(bytes);
        assert!(RecordReader::new(&bytes, 40).next().is_none());
    }
}

#[test]
fn many_changes_are_few_records() {
    let mut state = IndexState::new();
    let mut append = RecordWriter::new();
    append.record(RecordKind::Append, Origin::FACT, |out| {
        for uid in 1..=100_000_u32 {
            out.extend_from_slice(&uid.to_le_bytes());
            out.extend_from_slice(&[0; 4]);
        }
    });
    let bytes = append.finish(false);
    let record = RecordReader::new(&bytes, 40).next().unwrap().unwrap();
    state.apply(&record, 2).unwrap();
    assert_eq!(state.len(), 100_000);

    let mut transaction = Transaction::new(Origin::DSYNC_FACT);
    for uid in (1..=100_000).rev() {
        transaction.update_flags(uid..=uid, Flags::SEEN, Flags::NONE);
        transaction.add_keyword(b"Work", uid..=uid);
    }
    let bytes = encode(&transaction, &state, 40).unwrap();
    assert_eq!(bytes.len(), 12 + 20 + 24);
}

#[test]
fn dumps_are_readable() {
    let mut log = hex(NEW_LOG);
    log.extend(hex(ONE_MESSAGE));
    log.push(0x80);
    let text = dump(&log).unwrap();
    for line in [
        "file_seq: 2",
        "modseq=2000 ModseqUpdate external 0 2000",
        "HeaderUpdate external NextUid=65000000",
        "ExtIntro external dbox-hdr reset_id=0 header=24",
        "Append external sync 101 flags=0x08",
        "KeywordUpdate external sync +$Forwarded 101:101",
        "unfinished: 1 bytes at 336",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let text = dump(&annotated_snapshot()).unwrap();
    assert!(text.contains("message uid=2 flags=0x13 keywords=Work modseq=10"));
    assert_eq!(dump(b"something"), None);
}
