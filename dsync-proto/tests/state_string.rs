//! State strings (`spec/wire.md` 10).

#![allow(clippy::unwrap_used)] // clippy knows only test functions, not their helpers

mod common;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dsync_proto::items::MailboxState;
use dsync_proto::state_string::{StateError, export, import};
use dsync_proto::types::Guid;
use proptest::prelude::*;

fn state(guid: u8, modseq: u64) -> MailboxState {
    MailboxState {
        mailbox_guid: Guid([guid; 16]),
        last_uidvalidity: 1_795_447_493,
        last_common_uid: 2,
        last_common_modseq: modseq,
        last_common_pvt_modseq: 0,
        last_messages_count: 2,
        changes_during_sync: false,
    }
}

#[test]
fn captured_states_come_back() {
    let mut files = 0;
    for entry in std::fs::read_dir(common::transcripts()).unwrap() {
        let path = entry.unwrap().path();
        let is_state = path
            .extension()
            .is_some_and(|extension| extension == "state-in" || extension == "state-out");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        if is_state && !text.is_empty() {
            let states = import(text.as_bytes()).unwrap();
            assert!(!states.is_empty(), "{path:?}");
            assert_eq!(export(&states), text, "{path:?}");
            files += 1;
        }
    }
    assert!(files >= 8, "only {files} states");
}

#[test]
fn the_example_of_the_specification() {
    let text = "AQAAAJ0R3ArFWgRriVIAAFG0eQzFWgRrAgAAAAkAAAAAAAAAAAAAAAAAAAACAAAA7yFBD8VaBGuaUgAAd+/2GsZaBGsBAAAAAgAAAAAAAAAAAAAAAAAAAAEAAAB0HNNG";
    let states = import(text.as_bytes()).unwrap();
    assert_eq!(
        states[0].mailbox_guid.to_string(),
        "9d11dc0ac55a046b8952000051b4790c"
    );
    assert_eq!(states[0].last_common_modseq, 9);
    assert_eq!(states[1].last_uidvalidity, 1_795_447_494);
    assert_eq!(states[1].last_messages_count, 1);
    assert_eq!(states.len(), 2);
}

#[test]
fn empty_states() {
    assert_eq!(export(&[]), "AQAAAHm4+Jk=");
    assert_eq!(import(b"AQAAAHm4+Jk="), Ok(vec![]));
    assert_eq!(import(b" \tAQAAAHm4+Jk=\r\n"), Ok(vec![]));
    assert_eq!(import(b"AAAAAA=="), Ok(vec![]));
}

#[test]
fn errors() {
    let with_crc = |data: &[u8]| {
        let crc = crc32fast::hash(data).to_le_bytes();
        STANDARD.encode([data, &crc].concat())
    };
    let damaged = {
        let mut data = STANDARD.decode(export(&[state(1, 1)])).unwrap();
        data[10] ^= 1;
        STANDARD.encode(data)
    };
    for (text, error) in [
        ("AQAAAHm4+Jk", StateError::InvalidBase64),
        ("!", StateError::InvalidBase64),
        ("AQAA AHm4+Jk=", StateError::InvalidBase64),
        ("", StateError::TooSmall),
        ("AAAAAAAA", StateError::TooSmall),
        (&with_crc(&[1, 0, 0]), StateError::TooSmall),
        (&with_crc(&[1, 0, 0, 0, 9]), StateError::InvalidSize),
        (&damaged, StateError::CrcMismatch),
    ] {
        assert_eq!(import(text.as_bytes()), Err(error), "{text}");
    }
    assert_eq!(StateError::InvalidBase64.to_string(), "Invalid base64 data");
    assert_eq!(StateError::TooSmall.to_string(), "Input too small");
    assert_eq!(StateError::InvalidSize.to_string(), "Invalid input size");
    assert_eq!(StateError::CrcMismatch.to_string(), "CRC32 mismatch");
}

#[test]
fn version_0_counts_as_empty() {
    let data = [7; 80];
    let crc = crc32fast::hash(&data).to_le_bytes();
    let text = STANDARD.encode([&data[..], &crc].concat());
    assert_eq!(import(text.as_bytes()), Ok(vec![]));
}

#[test]
fn the_version_is_not_checked() {
    let mut data = STANDARD.decode(export(&[state(1, 1)])).unwrap();
    data[0] = 9;
    let end = data.len() - 4;
    let crc = crc32fast::hash(&data[..end]).to_le_bytes();
    data[end..].copy_from_slice(&crc);
    assert_eq!(
        import(STANDARD.encode(data).as_bytes()),
        Ok(vec![state(1, 1)])
    );
}

#[test]
fn of_duplicates_the_last_counts() {
    let states = [state(1, 1), state(2, 2), state(1, 3)];
    let unique = vec![state(1, 3), state(2, 2)];
    assert_eq!(import(export(&states).as_bytes()), Ok(unique.clone()));
    // The same in a string that somebody else wrote.
    let mut data = vec![1, 0, 0, 0];
    for state in &states {
        let one = STANDARD.decode(export(&[*state])).unwrap();
        data.extend_from_slice(&one[4..48]);
    }
    data.extend_from_slice(&crc32fast::hash(&data).to_le_bytes());
    assert_eq!(import(STANDARD.encode(data).as_bytes()), Ok(unique));
}

proptest! {
    #[test]
    fn round_trip(guids in proptest::collection::hash_set(any::<[u8; 16]>(), 0..20), number in any::<u64>()) {
        let states: Vec<MailboxState> = guids
            .into_iter()
            .map(|guid| MailboxState {
                mailbox_guid: Guid(guid),
                last_uidvalidity: number as u32,
                last_common_uid: (number >> 32) as u32,
                last_common_modseq: number,
                last_common_pvt_modseq: !number,
                last_messages_count: (number >> 16) as u32,
                changes_during_sync: false,
            })
            .collect();
        prop_assert_eq!(import(export(&states).as_bytes()), Ok(states));
    }

    #[test]
    fn anything_is_an_error_or_a_state(text in any::<Vec<u8>>()) {
        if let Ok(states) = import(&text) {
            prop_assert_eq!(import(export(&states).as_bytes()), Ok(states));
        }
    }
}
