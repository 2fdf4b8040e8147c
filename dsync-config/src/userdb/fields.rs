//! What a source of users tells about one of them.

use std::path::PathBuf;

/// One user of a userdb.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserFields {
    /// The name, which may differ from the one that was looked up.
    pub name: String,
    /// `uid`
    pub uid: Option<u32>,
    /// `gid`
    pub gid: Option<u32>,
    /// `home`
    pub home: Option<PathBuf>,
    /// `mail`: location of the user's mail.
    pub mail: Option<String>,
    /// `mail_replica`: destination of `-d`.
    pub mail_replica: Option<String>,
    /// `noreplicate`
    pub no_replicate: bool,
    /// `system_groups_user`: whose supplementary groups the user has.
    pub groups_of: Option<String>,
}

impl UserFields {
    /// Reads `key=value` words; a word without `=` is a flag. Unknown keys are ignored.
    pub(super) fn parse<'a>(
        name: &str,
        words: impl Iterator<Item = &'a str>,
    ) -> Result<Self, String> {
        let mut fields = Self {
            name: name.to_owned(),
            ..Self::default()
        };
        let mut driver_and_path = (None, None);
        for word in words {
            let (key, value) = word.split_once('=').unwrap_or((word, "yes"));
            let text = || Some(value.to_owned()).filter(|value| !value.is_empty());
            match key {
                "uid" => fields.uid = Some(user_id(value)?),
                "gid" => fields.gid = Some(group_id(value)?),
                "home" => fields.home = text().map(PathBuf::from),
                "mail" | "mail_location" => fields.mail = text(),
                // Dovecot 2.4 has no locations.
                "mail_driver" => driver_and_path.0 = text(),
                "mail_path" => driver_and_path.1 = text(),
                "mail_replica" => fields.mail_replica = text(),
                "noreplicate" => fields.no_replicate = !matches!(value, "no" | "n" | "0" | "false"),
                "system_groups_user" => fields.groups_of = text(),
                "user" => text().into_iter().for_each(|name| fields.name = name),
                _ => {}
            }
        }
        if let (Some(driver), Some(path)) = driver_and_path {
            fields.mail.get_or_insert(format!("{driver}:{path}"));
        }
        Ok(fields)
    }
}

/// A number, or the name of a system user.
pub(crate) fn user_id(text: &str) -> Result<u32, String> {
    let by_name = || nix::unistd::User::from_name(text).ok().flatten();
    text.parse()
        .ok()
        .or_else(|| by_name().map(|user| user.uid.as_raw()))
        .ok_or_else(|| format!("{text:?} is neither a uid nor a system user"))
}

/// A number, or the name of a system group.
pub(crate) fn group_id(text: &str) -> Result<u32, String> {
    let by_name = || nix::unistd::Group::from_name(text).ok().flatten();
    text.parse()
        .ok()
        .or_else(|| by_name().map(|group| group.gid.as_raw()))
        .ok_or_else(|| format!("{text:?} is neither a gid nor a system group"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let words = "uid=5000 gid=root home=/srv/a mail=maildir:~/M mail_replica=tcp:h:1 noreplicate quota=x y";
        let fields = UserFields::parse("a", words.split(' ')).unwrap();
        let expected = UserFields {
            name: "a".into(),
            uid: Some(5000),
            gid: Some(0),
            home: Some("/srv/a".into()),
            mail: Some("maildir:~/M".into()),
            mail_replica: Some("tcp:h:1".into()),
            no_replicate: true,
            groups_of: None,
        };
        assert_eq!(fields, expected);
        let words = "user=b mail_driver=sdbox mail_path=~/mail noreplicate=no";
        let fields = UserFields::parse("a", words.split(' ')).unwrap();
        assert_eq!((fields.name.as_str(), fields.no_replicate), ("b", false));
        assert_eq!(fields.mail.as_deref(), Some("sdbox:~/mail"));
        assert!(UserFields::parse("a", ["uid=-1"].into_iter()).is_err());
        assert!(UserFields::parse("a", ["gid=no-such-group"].into_iter()).is_err());
    }
}
