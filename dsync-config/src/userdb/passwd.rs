//! The system's users, and files that look like `/etc/passwd`.

use std::fs;
use std::io;
use std::path::Path;

use super::UserFields;
use super::fields::{group_id, user_id};
use crate::ConfigError;

/// Largest file of users that is read, in bytes.
const LARGEST: u64 = 256 * 1024 * 1024;

/// The file of the system's users, where they are listed.
const SYSTEM_FILE: &str = "/etc/passwd";

/// A user of this system, wherever it keeps them.
pub(super) fn system_user(name: &str) -> Result<Option<UserFields>, ConfigError> {
    let found = nix::unistd::User::from_name(name).map_err(|error| ConfigError::Userdb {
        userdb: "passwd".to_owned(),
        reason: format!("cannot look up {name}: {error}"),
    })?;
    Ok(found.map(|user| UserFields {
        uid: Some(user.uid.as_raw()),
        gid: Some(user.gid.as_raw()),
        home: Some(user.dir),
        groups_of: Some(user.name.clone()),
        name: user.name,
        ..UserFields::default()
    }))
}

/// The users in `/etc/passwd` with such a uid.
pub(super) fn system_users(is_wanted: impl Fn(u32) -> bool) -> Result<Vec<String>, ConfigError> {
    let text = read(Path::new(SYSTEM_FILE))?;
    let wanted = lines(&text).filter(|line| {
        let uid = line.split(':').nth(2).and_then(|uid| uid.parse().ok());
        uid.is_some_and(&is_wanted)
    });
    Ok(wanted.map(name_of).map(str::to_owned).collect())
}

/// All users of a file.
pub(super) fn file_users(path: &Path) -> Result<Vec<String>, ConfigError> {
    let text = read(path)?;
    Ok(lines(&text).map(name_of).map(str::to_owned).collect())
}

/// A user of a file: `user:password:uid:gid:gecos:home:shell:fields`, where the fields are words
/// `userdb_key=value`.
pub(super) fn file_user(path: &Path, name: &str) -> Result<Option<UserFields>, ConfigError> {
    let text = read(path)?;
    let Some(line) = lines(&text).find(|line| name_of(line) == name) else {
        return Ok(None);
    };
    parse(line).map(Some).map_err(|reason| ConfigError::Userdb {
        userdb: format!("passwd-file:{}", path.display()),
        reason: format!("user {name}: {reason}"),
    })
}

fn parse(line: &str) -> Result<UserFields, String> {
    let mut parts = line.splitn(8, ':');
    let name = parts.next().unwrap_or_default();
    let mut part = |skip: usize| parts.nth(skip).filter(|part| !part.is_empty());
    let (uid, gid, home, extra) = (part(1), part(0), part(1), part(1));
    let words = extra.unwrap_or_default().split_whitespace();
    let mut fields =
        UserFields::parse(name, words.filter_map(|word| word.strip_prefix("userdb_")))?;
    if let Some(uid) = uid.filter(|_| fields.uid.is_none()) {
        fields.uid = Some(user_id(uid)?);
    }
    if let Some(gid) = gid.filter(|_| fields.gid.is_none()) {
        fields.gid = Some(group_id(gid)?);
    }
    fields.home = fields.home.or(home.map(Into::into));
    Ok(fields)
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !name_of(line).is_empty() && !line.starts_with('#'))
}

fn name_of(line: &str) -> &str {
    line.split(':').next().unwrap_or_default()
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let read = || {
        if fs::metadata(path)?.len() > LARGEST {
            return Err(io::Error::other("it is larger than 256 MiB"));
        }
        fs::read_to_string(path)
    };
    read().map_err(|error| ConfigError::Userdb {
        userdb: path.display().to_string(),
        reason: format!("cannot be read: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# users\n\
        ann:{PLAIN}x:5000:5001::/srv/ann::userdb_mail=maildir:~/M userdb_mail_replica=tcp:h nologin\n\
        \n\
        bob:x\n\
        eve:x:nobody-at-all:1::/srv/eve\n";

    #[test]
    fn users_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        fs::write(&path, FILE).unwrap();
        assert_eq!(file_users(&path).unwrap(), ["ann", "bob", "eve"]);
        let ann = file_user(&path, "ann").unwrap().unwrap();
        assert_eq!((ann.uid, ann.gid), (Some(5000), Some(5001)));
        assert_eq!(ann.home, Some("/srv/ann".into()));
        assert_eq!(ann.mail.as_deref(), Some("maildir:~/M"));
        assert_eq!(ann.mail_replica.as_deref(), Some("tcp:h"));
        let bob = file_user(&path, "bob").unwrap().unwrap();
        assert_eq!(
            bob,
            UserFields {
                name: "bob".into(),
                ..UserFields::default()
            }
        );
        assert_eq!(file_user(&path, "joe").unwrap(), None);
        let text = file_user(&path, "eve").unwrap_err().to_string();
        assert!(
            text.contains("nobody-at-all") && text.contains("user eve"),
            "{text}"
        );
        assert!(file_users(Path::new("/no/such/file")).is_err());
    }

    #[test]
    fn users_of_the_system() {
        let root = system_user("root").unwrap().unwrap();
        assert_eq!((root.uid, root.gid), (Some(0), Some(0)));
        assert_eq!(system_user("no-such-user-here").unwrap(), None);
        assert!(
            system_users(|uid| uid == 0)
                .unwrap()
                .contains(&"root".to_owned())
        );
    }
}
