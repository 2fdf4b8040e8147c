//! Header hashes of real Dovecots (`spec/transcripts/hdr-hash-vectors.json`).

#![allow(clippy::unwrap_used)] // clippy knows only test functions, not their helpers

mod common;

use base64::Engine;
use bstr::BString;
use common::{CUTS, Cut};
use dsync_proto::header_hash::{HashVersion, HashedHeaders, HeaderHash};
use serde_json::Value;

fn hash(headers: &HashedHeaders, message: &[u8], cut: Cut) -> HeaderHash {
    let mut hasher = headers.hasher();
    for chunk in cut.chunks(message) {
        if hasher.push(&chunk) {
            break;
        }
    }
    hasher.finish()
}

fn names() -> Vec<BString> {
    vec!["Date".into(), "Message-ID".into()]
}

#[test]
fn vectors() {
    let path = common::transcripts().join("hdr-hash-vectors.json");
    let json: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let vectors = json["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 18);
    let kinds = [
        ("v1", HashedHeaders::new(HashVersion::V1, &names())),
        ("v2_computed", HashedHeaders::new(HashVersion::V2, &names())),
        ("v3", HashedHeaders::new(HashVersion::V3, &names())),
        (
            "v3_dovecot_server",
            HashedHeaders::as_dovecot_server(HashVersion::V3, &names()),
        ),
    ];
    for vector in vectors {
        let message = base64::engine::general_purpose::STANDARD
            .decode(vector["message_base64"].as_str().unwrap())
            .unwrap();
        for (kind, headers) in &kinds {
            for cut in CUTS {
                let hash = hash(headers, &message, cut).to_string();
                assert_eq!(
                    hash,
                    vector[*kind].as_str().unwrap(),
                    "{kind} {}",
                    vector["name"]
                );
            }
        }
    }
}

#[test]
fn empty_names_are_ignored() {
    let with_empty: Vec<BString> = vec!["Date".into(), "Message-ID".into(), "".into()];
    let headers = HashedHeaders::new(HashVersion::V3, &with_empty);
    assert_eq!(headers, HashedHeaders::new(HashVersion::V3, &names()));
}

#[test]
fn nothing_to_hash() {
    let headers = HashedHeaders::new(HashVersion::V3, &names());
    for message in [
        &b""[..],
        b"\n",
        b"\r\nDate: x\n",
        b"From: x\n\nDate: x\n",
        b" Date: x\n",
    ] {
        assert_eq!(hash(&headers, message, Cut::Bytes), HeaderHash::EMPTY);
    }
}

/// The fifth row of the table in `spec/wire.md` 9.3, and its normalised block.
#[test]
fn runs_of_special_bytes() {
    let message = b"Date: Mon, 02 Nov 2026 10:00:00 +0000\n\
        Message-ID: <h6\x00\x07\x7f\x3f\x20\x3f\x80@example.org>\n\nbody";
    let normalised = b"Date:Mon,02Nov202610:00:00+0000\nMessage-ID:<h6??@example.org>\n\n";
    let v3 = HashedHeaders::new(HashVersion::V3, &names());
    let v1 = HashedHeaders::new(HashVersion::V1, &names());
    let expected = HeaderHash::from_hex(b"06e16ae1ebe5d25b3a17f004662f9e09").unwrap();
    assert_eq!(hash(&v3, message, Cut::Whole), expected);
    assert_eq!(hash(&v1, normalised, Cut::Whole), expected);
}

#[test]
fn says_when_the_header_is_complete() {
    let headers = HashedHeaders::new(HashVersion::V3, &names());
    let mut hasher = headers.hasher();
    assert!(!hasher.push(b"Date: x\r\n"));
    assert!(!hasher.push(b"\r"));
    assert!(hasher.push(b"\n"));
    assert!(hasher.push(b"Date: in the body\n"));
    assert_eq!(
        hasher.finish(),
        hash(&headers, b"Date: x", Cut::Whole),
        "line ends and body do not count"
    );
}

#[test]
fn endless_name_is_not_kept_in_memory() {
    let headers = HashedHeaders::as_dovecot_server(HashVersion::V3, &names());
    let mut message = vec![b'x'; 5_000_000];
    message.extend_from_slice(b"\n folded\nDate: x\n\n");
    assert_eq!(
        hash(&headers, &message, Cut::Whole),
        hash(&headers, b"Date: x\n\n", Cut::Whole)
    );
}
