//! Modes and groups of what we create (`spec/maildir.md` 6).

use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::unistd::{Gid, chown, fchown, getegid};

/// Mode and group for new files and directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreateModes {
    /// Mode of files.
    pub file: u32,
    /// Mode of directories.
    pub dir: u32,
    /// Group to give them to, if it would not come by itself.
    pub group: Option<u32>,
}

impl Default for CreateModes {
    /// For the owner only.
    fn default() -> Self {
        Self {
            file: 0o600,
            dir: 0o700,
            group: None,
        }
    }
}

impl CreateModes {
    /// Modes copied from the first of these paths that exists; the default if none does.
    pub fn from_first<'a>(sources: impl IntoIterator<Item = &'a Path>) -> Self {
        sources
            .into_iter()
            .find_map(|path| std::fs::metadata(path).ok())
            .map_or_else(Self::default, |metadata| Self::from_metadata(&metadata))
    }

    /// Modes for things created inside or beside this directory or file.
    pub fn from_metadata(metadata: &Metadata) -> Self {
        Self::from_parts(
            metadata.mode(),
            metadata.gid(),
            metadata.is_dir(),
            getegid().as_raw(),
        )
    }

    fn from_parts(mode: u32, gid: u32, is_dir: bool, own_gid: u32) -> Self {
        let mut dir = (mode & 0o777) | 0o700;
        if !is_dir {
            // Whoever may read or write the file may enter a directory made after it.
            dir |= ((dir & 0o444) >> 2) | ((dir & 0o222) >> 1);
        }
        let setgid = is_dir && mode & 0o2000 != 0;
        let group_is_other = (mode >> 3) & 7 == mode & 7;
        Self {
            file: (mode & 0o666) | 0o600,
            dir,
            group: (!setgid && !group_is_other && gid != own_gid).then_some(gid),
        }
    }

    /// Creates a file that must not exist yet, opened for reading and writing.
    pub fn create_new(&self, path: &Path) -> io::Result<File> {
        self.open(path, OpenOptions::new().create_new(true))
    }

    /// Creates a file, or empties the one that is there.
    pub fn create_truncated(&self, path: &Path) -> io::Result<File> {
        self.open(path, OpenOptions::new().create(true).truncate(true))
    }

    fn open(&self, path: &Path, options: &mut OpenOptions) -> io::Result<File> {
        let file = options.read(true).write(true).mode(0o600).open(path)?;
        self.apply_to_file(&file, path)?;
        Ok(file)
    }

    /// Gives a file this mode and group. A group that we may not give is only a warning.
    pub fn apply_to_file(&self, file: &File, path: &Path) -> io::Result<()> {
        if let Some(gid) = self.group
            && let Err(error) = fchown(file, None, Some(Gid::from_raw(gid)))
        {
            tracing::warn!(
                "cannot give {} to group {gid}: {error}; others of that group cannot read it",
                path.display()
            );
        }
        // After the group, because a change of owner can clear mode bits.
        if self.file != 0o600 {
            file.set_permissions(Permissions::from_mode(self.file))?;
        }
        Ok(())
    }

    /// Creates one directory; its parent must exist. It is removed again if it cannot be given
    /// to its group.
    pub fn create_dir(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(path)?;
        let finish = || -> io::Result<()> {
            if let Some(gid) = self.group {
                chown(path, None, Some(Gid::from_raw(gid))).map_err(io::Error::from)?;
            }
            if self.dir != 0o700 {
                // A setgid bit that came from the parent stays.
                let inherited = std::fs::metadata(path)?.mode() & 0o2000;
                std::fs::set_permissions(path, Permissions::from_mode(self.dir | inherited))?;
            }
            Ok(())
        };
        finish().inspect_err(|_| {
            let _ = std::fs::remove_dir(path);
        })
    }

    /// Creates a directory and its missing parents. One that exists already is left as it is.
    pub fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        // The usual case: a failing mkdir would lock the parent in vain.
        if path.is_dir() {
            return Ok(());
        }
        match self.create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parent = path.parent().ok_or(error)?;
                self.create_dir_all(parent)?;
                match self.create_dir(path) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                    other => other,
                }
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_follow_the_source() {
        let modes = |mode, gid, is_dir| CreateModes::from_parts(mode, gid, is_dir, 100);
        let expect = |file, dir, group| CreateModes { file, dir, group };
        // A private directory.
        assert_eq!(modes(0o40700, 100, true), expect(0o600, 0o700, None));
        // Shared with a group that we are not in.
        assert_eq!(modes(0o40770, 7, true), expect(0o660, 0o770, Some(7)));
        // setgid does it by itself.
        assert_eq!(modes(0o42775, 7, true), expect(0o664, 0o775, None));
        // Group and others are equal: the group does not matter.
        assert_eq!(modes(0o40755, 7, true), expect(0o644, 0o755, None));
        // After a file: x where r or w is.
        assert_eq!(modes(0o100660, 7, false), expect(0o660, 0o770, Some(7)));
        // Never without access of our own.
        assert_eq!(modes(0o40000, 100, true), expect(0o600, 0o700, None));
    }

    #[test]
    fn created_things_have_the_mode_whatever_the_umask() {
        let root = tempfile::tempdir().unwrap();
        let modes = CreateModes {
            file: 0o664,
            dir: 0o775,
            group: None,
        };
        let dir = root.path().join("a/b");
        modes.create_dir_all(&dir).unwrap();
        modes.create_dir_all(&dir).unwrap();
        assert_eq!(dir.metadata().unwrap().mode() & 0o7777, 0o775);
        let file = dir.join("f");
        modes.create_new(&file).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o664);
        assert!(modes.create_new(&file).is_err());
        assert!(modes.create_dir_all(&file).is_err());
    }

    #[test]
    fn setgid_of_the_parent_is_kept() {
        let root = tempfile::tempdir().unwrap();
        std::fs::set_permissions(root.path(), Permissions::from_mode(0o2775)).unwrap();
        let modes = CreateModes::from_first([Path::new("/nonexistent"), root.path()]);
        let dir = root.path().join("d");
        modes.create_dir(&dir).unwrap();
        assert_eq!(dir.metadata().unwrap().mode() & 0o7777, 0o2775);
    }
}
