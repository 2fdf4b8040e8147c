//! Who may touch a user's mail: nobody but the user.

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, geteuid, getgrouplist, setgid, setgroups, setuid};

use crate::userdb::group_id;
use crate::{
    ConfigError, FIRST_VALID_GID, FIRST_VALID_UID, LAST_VALID_GID, LAST_VALID_UID,
    MAIL_ACCESS_GROUPS, Settings, User,
};

/// Most supplementary groups that Linux gives a process.
const MOST_GROUPS: usize = 65536;

/// What this process has to become before it touches the mail of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// It is right as it is.
    Same,
    /// It is root, and has to become this for ever.
    Change {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
        /// System user whose supplementary groups count.
        groups_of: Option<String>,
        /// Further groups: `mail_access_groups`.
        access_groups: Vec<u32>,
    },
}

impl Identity {
    /// What this process has to become for this user.
    ///
    /// # Errors
    ///
    /// It cannot: it is neither root nor the user, or the settings do not permit the user's ids.
    pub fn of(user: &User, settings: &Settings) -> Result<Self, ConfigError> {
        Self::for_process(geteuid().as_raw(), user, settings)
    }

    fn for_process(own: u32, user: &User, settings: &Settings) -> Result<Self, ConfigError> {
        let not_permitted = |reason: String| ConfigError::NotPermitted {
            name: user.name.clone(),
            reason,
        };
        if own != 0 || !user.looked_up {
            return match user.uid {
                Some(uid) if uid != own => Err(not_permitted(format!(
                    "the mail belongs to uid {uid}, but this program runs as uid {own}; \
                     run it as root or as that user"
                ))),
                _ => Ok(Self::Same),
            };
        }
        let uid = user.uid.ok_or_else(|| {
            not_permitted("it is not known who owns the mail; set mail_uid".to_owned())
        })?;
        let gid = user.gid.ok_or_else(|| {
            not_permitted("it is not known which group owns the mail; set mail_gid".to_owned())
        })?;
        for (id, name, first, last) in [
            (uid, "UID", &FIRST_VALID_UID, &LAST_VALID_UID),
            (gid, "GID", &FIRST_VALID_GID, &LAST_VALID_GID),
        ] {
            let (low, high) = (settings.number(first), settings.number(last));
            if id == 0 || id < low || (high != 0 && id > high) {
                return Err(not_permitted(format!(
                    "Mail access for users with {name} {id} not permitted (see {} and {})",
                    first.name, last.name
                )));
            }
        }
        let words = settings.text(&MAIL_ACCESS_GROUPS).split([',', ' ']);
        let groups = words.filter(|word| !word.is_empty()).map(group_id);
        let groups: Result<Vec<u32>, String> = groups.collect();
        let access_groups = groups
            .map_err(|reason| not_permitted(format!("{}: {reason}", MAIL_ACCESS_GROUPS.name)))?;
        Ok(Self::Change {
            uid,
            gid,
            groups_of: user.groups_of.clone(),
            access_groups,
        })
    }

    /// Becomes it. There is no way back, and no other thread keeps the old rights.
    pub fn assume(&self) -> Result<(), ConfigError> {
        let Self::Change {
            uid,
            gid,
            groups_of,
            access_groups,
        } = self
        else {
            return Ok(());
        };
        let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
        let become_user = || {
            let mut all = groups(groups_of.as_deref(), gid)?;
            all.extend(access_groups.iter().copied().map(Gid::from_raw));
            setgroups(&all)?;
            setgid(gid)?;
            setuid(uid)?;
            // It must not be possible to come back.
            match setuid(Uid::from_raw(0)) {
                Err(_) => Ok(()),
                Ok(()) => Err(Errno::EPERM),
            }
        };
        become_user().map_err(|error: Errno| ConfigError::NotPermitted {
            name: uid.to_string(),
            reason: format!("cannot become uid {uid} with gid {gid}: {error}"),
        })
    }
}

fn groups(of: Option<&str>, gid: Gid) -> Result<Vec<Gid>, Errno> {
    let Some(name) = of.and_then(|name| std::ffi::CString::new(name).ok()) else {
        return Ok(vec![gid]);
    };
    let mut groups = getgrouplist(&name, gid)?;
    groups.truncate(MOST_GROUPS);
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Origin;

    fn user(uid: Option<u32>, gid: Option<u32>) -> User {
        User {
            name: "joe".into(),
            uid,
            gid,
            looked_up: true,
            ..User::default()
        }
    }

    #[test]
    fn root_never_stays_root() {
        let settings = Settings::default();
        let become_user = |uid, gid| Identity::for_process(0, &user(uid, gid), &settings);
        let expected = Identity::Change {
            uid: 5000,
            gid: 8,
            groups_of: None,
            access_groups: Vec::new(),
        };
        assert_eq!(become_user(Some(5000), Some(8)).unwrap(), expected);
        for (uid, gid, reason) in [
            (None, Some(8), "set mail_uid"),
            (Some(5000), None, "set mail_gid"),
            (Some(0), Some(8), "users with UID 0 not permitted"),
            (Some(499), Some(8), "users with UID 499 not permitted"),
            (Some(5000), Some(0), "users with GID 0 not permitted"),
        ] {
            let error = become_user(uid, gid).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
            assert_eq!(error.exit_code(), 77);
        }
    }

    #[test]
    fn root_is_refused_whatever_the_settings_say() {
        let mut settings = Settings::default();
        for setting in [
            "first_valid_uid=0",
            "first_valid_gid=0",
            "last_valid_uid=6000",
        ] {
            settings.assign(setting, &Origin::Argument("-o")).unwrap();
        }
        for uid in [0, 6001] {
            let user = user(Some(uid), Some(8));
            assert!(Identity::for_process(0, &user, &settings).is_err());
        }
    }

    #[test]
    fn groups_for_shared_mail() {
        for (text, expected) in [
            ("", Some(&[][..])),
            ("5001,root", Some(&[5001, 0])),
            ("5001, 5002", Some(&[5001, 5002])),
            ("no-such-group-here", None),
        ] {
            let mut settings = Settings::default();
            let setting = format!("mail_access_groups={text}");
            settings.assign(&setting, &Origin::Argument("-o")).unwrap();
            let user = user(Some(5000), Some(8));
            let groups = match Identity::for_process(0, &user, &settings) {
                Ok(Identity::Change { access_groups, .. }) => Some(access_groups),
                _ => None,
            };
            assert_eq!(groups.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn others_can_only_be_themselves() {
        let settings = Settings::default();
        for (uid, is_right) in [(None, true), (Some(1000), true), (Some(1001), false)] {
            let result = Identity::for_process(1000, &user(uid, None), &settings);
            assert_eq!(
                result.is_ok_and(|identity| identity == Identity::Same),
                is_right
            );
        }
        // Whoever started the program without -u stays what he is.
        let root = User {
            looked_up: false,
            ..user(None, None)
        };
        assert_eq!(
            Identity::for_process(0, &root, &settings).unwrap(),
            Identity::Same
        );
    }
}
