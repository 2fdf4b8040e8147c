//! Writing message files into `tmp/` (`spec/maildir.md` 8.4, 20 a).
//!
//! Killed anywhere in here: a file in `tmp/` stays behind that nobody sees; Dovecot and we
//! remove such files after 36 hours.

use std::fs::{self, FileTimes};
use std::io;
use std::path::Path;

use dsync_proto::types::MailErrorClass;

use super::scan::time;
use crate::body_file::{BodySink, BodySize, TmpFile};
use crate::permissions::CreateModes;
use crate::settings::Fsync;
use crate::unique::UniqueSource;
use crate::{Result, StorageError};

/// A name in `tmp/` of this mailbox that no file has yet.
fn reserve<T>(
    box_dir: &Path,
    unique: &UniqueSource,
    modes: &CreateModes,
    create: impl Fn(&Path) -> io::Result<T>,
) -> Result<(TmpFile, T)> {
    let tmp = box_dir.join("tmp");
    match TmpFile::reserve(&tmp, "", unique, &create) {
        // A mailbox that is open but lost its directories gets them again.
        Err(error)
            if error.class == MailErrorClass::NotFound && box_dir.is_dir() && !tmp.is_dir() =>
        {
            modes
                .create_dir_all(&tmp)
                .map_err(|error| StorageError::io("create", &tmp, &error))?;
            TmpFile::reserve(&tmp, "", unique, create)
        }
        reserved => reserved,
    }
}

/// A hard link to an existing message file: a copy for free.
pub(crate) fn link(
    source: &Path,
    box_dir: &Path,
    unique: &UniqueSource,
    modes: &CreateModes,
) -> Result<TmpFile> {
    Ok(reserve(box_dir, unique, modes, |path| fs::hard_link(source, path))?.0)
}

/// A message that is being written.
#[derive(Debug)]
pub(crate) struct BodyWriter {
    tmp: TmpFile,
    sink: BodySink,
}

impl BodyWriter {
    /// Creates the file.
    pub(crate) fn create(
        box_dir: &Path,
        unique: &UniqueSource,
        modes: &CreateModes,
    ) -> Result<Self> {
        let (tmp, file) = reserve(box_dir, unique, modes, |path| modes.create_new(path))?;
        let sink = BodySink::new(file, tmp.path());
        Ok(Self { tmp, sink })
    }

    /// Adds bytes; CRLF becomes LF, also across calls.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.sink.write(bytes)
    }

    /// Completes the file and sets its received date. The file is not on disk yet, see
    /// [`crate::body_file::sync_files`].
    pub(crate) fn finish(
        mut self,
        received_date: i64,
        fsync: Fsync,
    ) -> Result<(TmpFile, BodySize)> {
        let size = self.sink.end_body()?;
        self.sink.flush()?;
        let path = self.tmp.path();
        self.sink
            .file()
            .set_times(FileTimes::new().set_modified(time(received_date)))
            .map_err(|error| StorageError::io("set the time of", path, &error))?;
        if fsync == Fsync::Always {
            self.sink
                .file()
                .sync_all()
                .map_err(|error| StorageError::io("sync", path, &error))?;
        }
        Ok((self.tmp, size))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::StoreSettings;
    use crate::body_file::sync_files;
    use crate::maildir::scan::seconds;

    fn save(chunks: &[&[u8]]) -> (Vec<u8>, BodySize) {
        let root = tempfile::tempdir().unwrap();
        let unique = StoreSettings::default().unique();
        let mut writer = BodyWriter::create(root.path(), &unique, &CreateModes::default()).unwrap();
        for chunk in chunks {
            writer.write(chunk).unwrap();
        }
        let (tmp, size) = writer.finish(1_000_000_000, Fsync::Optimized).unwrap();
        sync_files(root.path(), &[tmp.path()], Fsync::Optimized).unwrap();
        let modified = fs::metadata(tmp.path()).unwrap().modified().unwrap();
        assert_eq!(seconds(modified), 1_000_000_000);
        let path = tmp.path().to_owned();
        let bytes = fs::read(&path).unwrap();
        drop(tmp);
        assert!(!path.exists());
        (bytes, size)
    }

    #[test]
    fn line_ends_become_lf() {
        for (chunks, stored, virtual_size) in [
            (vec!["a\r\nb\r\n"], "a\nb\n", 6),
            (vec!["a\r", "\nb\rc", "\r\r\n"], "a\nb\rc\r\n", 8),
            (vec!["x\r"], "x\r", 2),
            (vec!["", "\r", "", "\n", ""], "\n", 2),
            (vec![], "", 0),
        ] {
            let chunks: Vec<&[u8]> = chunks.iter().map(|chunk| chunk.as_bytes()).collect();
            let (bytes, size) = save(&chunks);
            assert_eq!(String::from_utf8(bytes).unwrap(), stored);
            assert_eq!(size.physical, stored.len() as u64);
            assert_eq!(size.virtual_size, virtual_size, "{stored:?}");
        }
    }

    #[test]
    fn big_bodies_pass_the_buffer() {
        let line = [b'x'; 1000];
        let mut body = Vec::new();
        for _ in 0..300 {
            body.extend_from_slice(&line);
            body.extend_from_slice(b"\r\n");
        }
        let (bytes, size) = save(&[&body[..100_000], &body[100_000..]]);
        assert_eq!(bytes.len(), 300 * 1001);
        assert_eq!(size.virtual_size, 300 * 1002);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn chunks_do_not_matter(body in "[ab\r\n]{0,40}", cut in 0_usize..40) {
            let bytes = body.as_bytes();
            let (start, end) = bytes.split_at(cut.min(bytes.len()));
            let whole = save(&[bytes]);
            prop_assert_eq!(&whole, &save(&[start, end]));
            let expected = body.replace("\r\n", "\n");
            prop_assert_eq!(whole.0, expected.into_bytes());
        }
    }
}
