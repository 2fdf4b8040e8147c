//! Identity of a mailbox from the two ends of its `dovecot-uidlist` (`spec/maildir.md` 10),
//! without reading what is between.

use std::fs::File;
use std::io;
use std::path::Path;

use super::uidlist::UidList;
use crate::{MailboxIdentity, Result, StorageError, path_io};

/// The header is far shorter, and so is a record.
const CHUNK: u64 = 4096;

/// Reads the identity; `None` if the file is missing, damaged, or has no GUID yet: then the
/// mailbox has to be synced, which repairs it.
pub(crate) fn read(path: &Path) -> Result<Option<MailboxIdentity>> {
    let read = || -> io::Result<Option<MailboxIdentity>> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let head = path_io::read_range(&file, 0, size.min(CHUNK))?;
        if size <= CHUNK {
            return Ok(parse(&head, &head));
        }
        let tail = path_io::read_range(&file, size - CHUNK, size)?;
        Ok(parse(&head, &tail))
    };
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map_err(|error| StorageError::io("read", path, &error)),
    }
}

fn parse(head: &[u8], tail: &[u8]) -> Option<MailboxIdentity> {
    let header_end = memchr::memchr(b'\n', head)? + 1;
    let header = UidList::parse(&head[..header_end]);
    if header.rewrite || header.uid_validity == 0 || header.guid.is_zero() {
        return None;
    }
    // The last complete line; if it is the header, there are no records.
    let tail = tail.strip_suffix(b"\n")?;
    let last_line = match memchr::memrchr(b'\n', tail) {
        Some(start) => &tail[start + 1..],
        None if header_end == tail.len() + 1 => b"",
        // A line longer than any record.
        None => return None,
    };
    let last_uid = match last_line {
        b"" => 0,
        line => number_before_space(line)?,
    };
    Some(MailboxIdentity {
        guid: header.guid,
        uid_validity: header.uid_validity,
        uid_next: header.stored_next.max(last_uid.saturating_add(1)),
    })
}

fn number_before_space(line: &[u8]) -> Option<u32> {
    let digits = &line[..memchr::memchr(b' ', line)?];
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "3 V1795447313 N41 Gdf52340f115a046b5c6b000083ecc375\n";

    fn identity(content: &str) -> Option<(u32, u32)> {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("dovecot-uidlist");
        std::fs::write(&path, content).unwrap();
        read(&path)
            .unwrap()
            .map(|identity| (identity.uid_validity, identity.uid_next))
    }

    #[test]
    fn next_uid_is_the_greater_of_header_and_last_record() {
        assert_eq!(identity(HEADER), Some((1_795_447_313, 41)));
        assert_eq!(
            identity(&format!("{HEADER}1 :a\n7 :b\n")),
            Some((1_795_447_313, 41))
        );
        assert_eq!(
            identity(&format!("{HEADER}1 :a\n50 Gx :b\n")),
            Some((1_795_447_313, 51))
        );
        let mut long = HEADER.to_owned();
        for uid in 1..=2000 {
            long.push_str(&format!("{uid} :1795447313.M251103P27484.vm,S=44,W=48\n"));
        }
        assert_eq!(identity(&long), Some((1_795_447_313, 2001)));
    }

    #[test]
    fn everything_else_needs_a_sync() {
        for content in [
            "",
            "3 V1 N1\n",
            "3 V1 N1 Gxyz\n",
            "1 5 6\n",
            "3 V0 N1 Gdf52340f115a046b5c6b000083ecc375\n",
            "3 V1795447313 N41 Gdf52340f115a046b5c6b000083ecc375",
        ] {
            assert_eq!(identity(content), None, "{content}");
        }
        assert_eq!(identity(&format!("{HEADER}1 :a\n2 Gtorn")), None);
        assert_eq!(identity(&format!("{HEADER}junk\n")), None);
        assert_eq!(
            read(Path::new("/nonexistent/dovecot-uidlist")).unwrap(),
            None
        );
    }
}
