//! The state string of `-s`: what both sides had in common after a run (`spec/wire.md` 10).

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, BufMut};
use thiserror::Error;

use crate::items::MailboxState;
use crate::limits;
use crate::types::Guid;

const HEADER: [u8; 4] = [1, 0, 0, 0];
const RECORD_SIZE: usize = 44;
const V0_RECORD_SIZE: usize = 40;
const CRC_SIZE: usize = 4;

/// The given state cannot be used; do a full sync instead, as Dovecot does:
/// `Saved sync state is invalid, falling back to full sync: <text>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StateError {
    /// Not base64, or its padding is missing.
    #[error("Invalid base64 data")]
    InvalidBase64,
    /// Shorter than header and checksum.
    #[error("Input too small")]
    TooSmall,
    /// Not a whole number of records.
    #[error("Invalid input size")]
    InvalidSize,
    /// Damaged.
    #[error("CRC32 mismatch")]
    CrcMismatch,
    /// Larger than [`limits::STATE_STRING`].
    #[error("Input too large")]
    TooLarge,
}

/// Reads a state string; blanks around it are ignored.
///
/// If it names a mailbox twice, the last record counts. The string of a Dovecot that did not
/// know message counts yet (version 0) is valid and empty.
///
/// # Errors
///
/// It is damaged or not a state string.
pub fn import(text: &[u8]) -> Result<Vec<MailboxState>, StateError> {
    let text = text.trim_ascii();
    if text.len() > limits::STATE_STRING {
        return Err(StateError::TooLarge);
    }
    let data = STANDARD
        .decode(text)
        .map_err(|_| StateError::InvalidBase64)?;
    if data == [0; 4] {
        return Ok(Vec::new()); // an old empty state
    }
    if data.len() < HEADER.len() + CRC_SIZE {
        return Err(StateError::TooSmall);
    }
    match checked_records(&data, HEADER.len(), RECORD_SIZE) {
        Ok(records) => Ok(without_duplicates(
            records.chunks_exact(RECORD_SIZE).map(parse_record),
        )),
        Err(error) => match checked_records(&data, 0, V0_RECORD_SIZE) {
            Ok(_) => Ok(Vec::new()),
            Err(_) => Err(error),
        },
    }
}

/// Writes a state string. If a mailbox is given twice, the last entry counts.
pub fn export(states: &[MailboxState]) -> String {
    let states = without_duplicates(states.iter().copied());
    let mut data = Vec::with_capacity(HEADER.len() + states.len() * RECORD_SIZE + CRC_SIZE);
    data.put_slice(&HEADER);
    for state in &states {
        data.put_slice(&state.mailbox_guid.0);
        data.put_u32_le(state.last_uidvalidity);
        data.put_u32_le(state.last_common_uid);
        data.put_u64_le(state.last_common_modseq);
        data.put_u64_le(state.last_common_pvt_modseq);
        data.put_u32_le(state.last_messages_count);
    }
    data.put_u32_le(crc32fast::hash(&data));
    STANDARD.encode(data)
}

/// The records of a string with a header of this size, if size and checksum are right.
fn checked_records(data: &[u8], header: usize, record: usize) -> Result<&[u8], StateError> {
    let (checked, mut crc) = data.split_at(data.len().saturating_sub(CRC_SIZE));
    let records = checked.get(header..).ok_or(StateError::TooSmall)?;
    if records.len() % record != 0 {
        return Err(StateError::InvalidSize);
    }
    if crc.try_get_u32_le() != Ok(crc32fast::hash(checked)) {
        return Err(StateError::CrcMismatch);
    }
    Ok(records)
}

/// The record has its full size, so that no read can fail.
fn parse_record(mut record: &[u8]) -> MailboxState {
    let mut mailbox_guid = Guid::ZERO;
    record.copy_to_slice(&mut mailbox_guid.0);
    MailboxState {
        mailbox_guid,
        last_uidvalidity: record.get_u32_le(),
        last_common_uid: record.get_u32_le(),
        last_common_modseq: record.get_u64_le(),
        last_common_pvt_modseq: record.get_u64_le(),
        last_messages_count: record.get_u32_le(),
        changes_during_sync: false,
    }
}

/// One state per mailbox, at the place of its first entry, with the values of the last. The same
/// mailbox twice makes a Dovecot server crash.
fn without_duplicates(states: impl Iterator<Item = MailboxState>) -> Vec<MailboxState> {
    let mut unique: Vec<MailboxState> = Vec::new();
    let mut places = HashMap::new();
    for state in states {
        let place = *places.entry(state.mailbox_guid).or_insert(unique.len());
        match unique.get_mut(place) {
            Some(earlier) => *earlier = state,
            None => unique.push(state),
        }
    }
    unique
}
